// `stoat sim --dram-prices SET --boundary B`: the memory's commands and background states of a run,
// priced by a set of models/dram/energy within a named boundary. Beside the price list, never added
// to it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/dram/energy.h"
#include "models/dram/standard.h"
#include "sim/design_point.h"
#include "sim/engine/result.h"

namespace stoat::sim {

class DramPricing {
 public:
  // set: a name or path, empty: nothing is priced. Throws Error for a boundary that is none, for
  // the reserved model (it counts no states), and when what will happen has no price.
  DramPricing(const std::string& set, const std::string& boundary, const DesignPoint& point,
              const DramStandard& dram);

  bool wanted() const { return wanted_; }
  // Lines below the table, a column a datapath; empty when not wanted.
  std::string text(const std::vector<DatapathResult>& results) const;
  nlohmann::ordered_json json(const std::vector<DatapathResult>& results) const;

 private:
  DramEnergy priced(const DatapathResult& result) const;

  bool wanted_ = false;
  DramPrices prices_;
  EnergyBoundary boundary_ = EnergyBoundary::kDie;
  std::uint64_t burst_bits_ = 0;
};

}  // namespace stoat::sim
