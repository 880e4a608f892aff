// What the figures of a sweep share.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sim/sweep/figure.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {

// Of finite values; 0 without any.
double largest(const SweepReport& report, double SweepRow::*member);
double widest_context(const SweepReport& report);
// Every point's configuration and these values.
std::string csv_of(const SweepReport& report,
                   const std::vector<std::pair<std::string, double SweepRow::*>>& values);

Figure breakdown_figure(const SweepReport& report);
Figure bytes_figure(const SweepReport& report);
Figure tornado_figure(const SweepReport& report);
Figure parallel_figure(const SweepReport& report);

}  // namespace stoat::sim
