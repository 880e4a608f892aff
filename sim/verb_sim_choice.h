// Which datapaths a trace allows, and what is to be said about a trace and a design.
#pragma once

#include <string>
#include <vector>

#include "sim/datapath/catalog.h"
#include "sim/design_point.h"
#include "sim/verb_sim_output.h"
#include "traces/trace.h"

namespace stoat::sim {

// "all" or one name. What cannot run goes to `notes` for all, and is an Error for one.
std::vector<const Datapath*> choose(const std::string& wanted, const TraceHeader& header,
                                    std::vector<std::string>& notes);
void add_notes(const TraceHeader& header, const DesignPoint& point, SimReport& report);

}  // namespace stoat::sim
