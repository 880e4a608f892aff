// What `stoat sim` says: the table on the terminal, the manifest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/dram/standard.h"
#include "models/energy/price_list.h"
#include "sim/design_point.h"
#include "sim/sweep/results.h"
#include "traces/trace.h"

namespace stoat::sim {

struct SimReport {
  RunDescription run;
  std::vector<DatapathResult> results;
  std::vector<std::string> notes;
};

std::string terminal_table(const SimReport& report, const PriceList& prices);
std::string summary_json(const SimReport& report, const ResultTables& tables);

struct ManifestInput {
  std::vector<std::string> command_line;
  std::string trace_path, trace_hash;
  const TraceHeader& header;
  const DesignPoint& point;
  const DramStandard& dram;
  const PriceList& prices;
  const ResultTables& tables;
  std::uint32_t first_step, end_step, first_layer, end_layer;
};
std::string manifest_json(const ManifestInput& input, const SimReport& report);

}  // namespace stoat::sim
