// The figures of the report, each a pure function of what was read. An empty figure means: nothing
// to draw.
#pragma once

#include "sim/sweep/figure.h"
#include "sim/sweep/report_data.h"

namespace stoat::sim {

Figure energy_figure(
    const ReportData& data);  // energy a token by stage, DRAM apart from the engine
Figure on_chip_figure(const ReportData& data);  // the part outside the DRAM, by component
Figure traffic_figure(
    const ReportData& data);                  // logical, requested and moved bytes a token, by part
Figure token_figure(const ReportData& data);  // weights, keys and values of a whole token
Figure access_figure(const TraceView& view,
                     const std::string& id);  // value rows read: position by step
Figure error_figure(const TraceView& view,
                    const std::string& id);  // output error by budget and layer

}  // namespace stoat::sim
