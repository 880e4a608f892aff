// Scaling an energy between technology nodes: Stillmaker & Baas, Integration 58 (2017) 74-81.
//
// energy factor = a2 V^2 + a1 V + a0; an energy scales by the ratio of factors. The equations
// overstate the saving from 45 to 7 nm by 2-7x against the one published pair of real units
// (models/energy/README.md): use a table where there is one, and print a band otherwise.
#pragma once

#include <string>

namespace stoat {

struct TechnologyPoint {
  unsigned node_nm = 0;
  std::string flavour;  // bulk, HP or LP; empty: the only one of the node
  double volts = 0;
};

// Of the shipped table. Throws Error (usage) for a node or flavour that is not in it, for a voltage
// outside 0.3 to 2 V, and where the polynomial is not positive.
double energy_factor(const TechnologyPoint& point);

// What `picojoules` at `from` become at `to`.
double scale_energy(double picojoules, const TechnologyPoint& from, const TechnologyPoint& to);

}  // namespace stoat
