// Same engine, same memory, same scratchpad: only the named stages differ.
#include "sim/datapath/catalog.h"

#include "models/error.h"

namespace stoat::sim {

const std::vector<Datapath>& datapaths() {
  static const std::vector<Datapath> table = {
      {"mac", &kScoreMac, &kSelectSoftmax, &kGatherMac},
      {"gather_add", &kScoreMac, &kSelectSampled, &kGatherAdd},
      {"ternary", &kScoreTernary, &kSelectSampled, &kGatherAdd},
      {"topk", &kScoreMac, &kSelectTopK, &kGatherWeighted},  // the deterministic rival
  };
  return table;
}

const Datapath& datapath_from_name(std::string_view name) {
  std::vector<std::string> known{"all"};
  for (const Datapath& each : datapaths()) {
    if (each.name == name) return each;
    known.emplace_back(each.name);
  }
  throw usage_error({}, "unknown datapath '" + std::string(name) + "'", "a datapath or all",
                    nearest_name_hint(name, known));
}

}  // namespace stoat::sim
