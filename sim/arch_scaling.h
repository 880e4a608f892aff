// Prices at a node for which there is no table: the tables of 45 and 7 nm, both scaled to it by
// Stillmaker & Baas. Where the two disagree is the band; neither end is a measurement.
#pragma once

#include <string>
#include <vector>

#include "models/energy/events.h"

namespace stoat::sim {

struct ScaledPrice {
  Event event = Event::kMultiply;
  std::string width;
  double table_45_pj = 0, table_7_pj = 0;  // as published
  double from_45_pj = 0, from_7_pj = 0;    // scaled to the node
};

// node: "14 HP", "65"; volts of the supply there. Operations that both tables list in one width.
// Throws Error for a node that has a table of its own (7, 45) or that the equations do not know.
std::vector<ScaledPrice> scaled_prices(const std::string& node, double volts);

}  // namespace stoat::sim
