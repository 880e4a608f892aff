// What follows from an accelerator by arithmetic: bandwidth, engines, what covers what, prices
// against synthesis. For `stoat arch explain`; nothing here is simulated.
#pragma once

#include <string>
#include <vector>

#include "models/dram/standard.h"
#include "models/energy/price_list.h"
#include "sim/design_point.h"

namespace stoat::sim {

struct Fact {
  std::string name, value, how;  // how: the formula with its numbers, or the source
};

struct FactShape {  // of the language model that facts are derived for
  std::string model;
  std::uint32_t q_heads = 0, kv_heads = 0, head_dim = 0, context = 0, budget = 0;
};
// A row of models/llm/shapes.csv. Throws Error naming the nearest.
FactShape fact_shape(const std::string& model, std::uint32_t context, std::uint32_t budget);

std::vector<Fact> derived_facts(const DesignPoint& point, const DramStandard& dram,
                                const FactShape& shape);

// V17: the list's prices against our own synthesis of the same units at the list's node.
struct CrossCheck {
  std::string unit, events, verdict, source;
  double table_pj = 0, synthesis_pj = 0, glitch_pj = 0;  // glitch: upper bound; 0 = none
};
std::vector<CrossCheck> cross_checks(const PriceList& prices);

}  // namespace stoat::sim
