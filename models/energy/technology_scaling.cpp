// See technology_scaling.h; coefficients in technology_scaling.csv.
#include "models/energy/technology_scaling.h"

#include "models/data_path.h"
#include "models/error.h"
#include "models/table.h"

namespace stoat {

double energy_factor(const TechnologyPoint& point) {
  const std::string path = data_path("energy/technology_scaling.csv");
  const Table table =
      Table::read(path, {"node_nm", "flavour", "energy_a2", "energy_a1", "energy_a0", "source"});
  const std::string wanted = std::to_string(point.node_nm) + " nm " + point.flavour;
  if (!(point.volts >= 0.3 && point.volts <= 2.0)) {
    throw usage_error({path}, wanted + " at " + std::to_string(point.volts) + " V",
                      "a supply of 0.3 to 2 V");
  }
  std::size_t found = table.size();
  std::string known;
  for (std::size_t row = 0; row < table.size(); ++row) {
    const std::string& flavour = table.text(row, "flavour");
    known += (known.empty() ? "" : ", ") + table.text(row, "node_nm") + " " + flavour;
    if (table.integer(row, "node_nm") != point.node_nm) continue;
    if (!point.flavour.empty() && point.flavour != flavour) continue;
    if (found != table.size()) {
      throw usage_error({path}, wanted + "is ambiguous", "a flavour: HP or LP");
    }
    found = row;
  }
  if (found == table.size())
    throw usage_error({path}, wanted + " is not listed", "one of " + known);
  const double factor = table.number(found, "energy_a2") * point.volts * point.volts +
                        table.number(found, "energy_a1") * point.volts +
                        table.number(found, "energy_a0");
  if (!(factor > 0)) {
    throw usage_error(table.place(found), "the factor is not positive at this voltage",
                      "a voltage inside the fit");
  }
  return factor;
}

double scale_energy(double picojoules, const TechnologyPoint& from, const TechnologyPoint& to) {
  return picojoules * energy_factor(to) / energy_factor(from);
}

}  // namespace stoat
