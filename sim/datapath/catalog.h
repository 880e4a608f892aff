// The study's thesis as a table: which stage does what in which datapath.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/datapath/stage.h"

namespace stoat::sim {

struct Datapath {
  std::string_view name;
  const ScoreStage* score;
  const SelectStage* select;
  const GatherStage* gather;
};

const std::vector<Datapath>& datapaths();
// Throws Error naming the nearest datapath.
const Datapath& datapath_from_name(std::string_view name);

}  // namespace stoat::sim
