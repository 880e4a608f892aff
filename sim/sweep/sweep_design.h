// What a report takes from a point's accelerator itself: lanes, clock and buffers, read again from
// its YAML file and the values that the sweep set.
//
// Area is a proxy, to order designs by: lanes of the datapath and on-chip memory (stash, row and
// query buffer) at the areas of models/arch/area_proxy.csv, times the engines. Exponential units,
// comparators, control, wires and the DRAM's own dies are not in it.
#pragma once

namespace stoat::sim {

struct SweepReport;

// Fills `area` and `peak_rate`; NaN for points whose accelerator is not found here, and no area
// where an accumulator has none in the table. Uses operations a cycle: two a multiply-accumulate
// lane.
void add_design_values(SweepReport& report);

}  // namespace stoat::sim
