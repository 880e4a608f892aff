// See arch_scaling.h.
#include "sim/arch_scaling.h"

#include "models/energy/price_list.h"
#include "models/energy/technology_scaling.h"
#include "models/error.h"
#include "models/units.h"

namespace stoat::sim {
namespace {

constexpr double kAttoPerPico = 1e6;

// Where the tables stand: Horowitz at 45 nm and 0.9 V [quoted]; the 7 nm table names no supply,
// 0.7 V is the node's nominal one [assumption].
const TechnologyPoint k45{45, "HP", 0.9};
const TechnologyPoint k7{7, "HP", 0.7};

TechnologyPoint parse_node(const std::string& text, double volts) {
  const std::size_t blank = text.find(' ');
  const std::string number = text.substr(0, blank);
  TechnologyPoint point;
  point.node_nm = static_cast<unsigned>(parse_count(number, "--node", 1000));
  if (blank != std::string::npos) point.flavour = text.substr(blank + 1);
  point.volts = volts;
  return point;
}

}  // namespace

std::vector<ScaledPrice> scaled_prices(const std::string& node, double volts) {
  const TechnologyPoint to = parse_node(node, volts);
  if (to.node_nm == 7 || to.node_nm == 45) {
    throw usage_error({"--node " + node}, "this node has a table", "a node without one",
                      "--set energy.prices=" +
                          std::string(to.node_nm == 7 ? "jouppi_7nm_hbm3" : "horowitz_45nm"));
  }
  const PriceList old_list = PriceList::read("horowitz_45nm_fp32");
  const PriceList new_list = PriceList::read("jouppi_7nm_hbm3");
  std::vector<ScaledPrice> prices;
  for (std::size_t e = 0; e < kEvents; ++e) {
    const auto event = static_cast<Event>(e);
    if (!old_list.has(event) || !new_list.has(event)) continue;
    if (old_list.width(event) != new_list.width(event)) continue;
    if (!old_list.source(event).starts_with("Horowitz")) continue;
    ScaledPrice price;
    price.event = event;
    price.width = old_list.width(event);
    price.table_45_pj = static_cast<double>(old_list.price(event).count()) / kAttoPerPico;
    price.table_7_pj = static_cast<double>(new_list.price(event).count()) / kAttoPerPico;
    price.from_45_pj = scale_energy(price.table_45_pj, k45, to);
    price.from_7_pj = scale_energy(price.table_7_pj, k7, to);
    prices.push_back(price);
  }
  return prices;
}

}  // namespace stoat::sim
