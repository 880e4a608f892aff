// Which rows of the cache a sweep's point reads: its records are made once more, from its trace or
// its seed, where the sweep's file and trace are at hand. Results hold no rows, only counts.
#pragma once

#include <string>

#include "sim/sweep/sweep_report.h"

namespace stoat::sim {

// Of the point that the answer's sentence is about, else of the first sampled one. Never throws for
// what is missing: `report.access.absent` says it.
void add_access(const std::string& folder, SweepReport& report);

}  // namespace stoat::sim
