// The memory as engines inside the stack see it: data rate and nothing else changes with the place.
//
// At the bank groups or in the banks, a pseudo-channel's banks together deliver several times what
// its bus carries (AttAcc, ASPLOS 2024: 3 and 9 times under the power limit; the logic die 1).
// Columns follow each other that much faster; activations, precharges and refreshes keep their
// times. The prices of a bit are the price list's (its row `placement`).
#pragma once

#include <cstdint>

#include "models/dram/standard.h"
#include "models/energy/price_list.h"
#include "sim/design_point.h"

namespace stoat::sim {

// models/arch/placement.csv
std::uint32_t internal_bandwidth(Placement placement);
DramStandard placed_standard(const DramStandard& standard, Placement placement);
// The memory of a design: placed, with its address order, refresh on or off. Throws Error when the
// order is no bijection or memory.controller.* does not fit the standard.
DramStandard designed_standard(const DramStandard& standard, const DesignPoint& point);
// Throws Error when the list prices DRAM bits for engines in another place, or lacks the prices of
// the formats that the design computes in (which rows are missing).
void check_prices(const DesignPoint& point, const PriceList& prices);

}  // namespace stoat::sim
