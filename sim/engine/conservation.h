// What must hold in every run, release builds too (design section 8). Throws Bug when it does not.
#pragma once

#include "models/dram/standard.h"
#include "sim/datapath/catalog.h"
#include "sim/datapath/work.h"
#include "sim/engine/layer_step.h"
#include "sim/engine/result.h"

namespace stoat::sim {

// `recount`: what must have been fetched, counted from the records alone.
void check_conservation(const DatapathResult& result, const Recount& recount,
                        const Datapath& datapath, const EngineShape& shape,
                        const DramStandard& dram);

}  // namespace stoat::sim
