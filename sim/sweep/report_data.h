// What the report is made of: the files of `stoat sim` and what was found in the traces they name.
//
// Reads summary.csv, energy.csv, traffic.csv, steps.csv and manifest.json (columns:
// sim/sweep/results.h) and nothing of the simulator's insides. Checks that the energies add up to
// the total that the summary states.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/units.h"
#include "sim/sweep/report_manifest.h"
#include "sim/sweep/report_trace.h"

namespace stoat::sim {

struct EnergyRow {
  std::string stage, component, event;
  Uint128 count = 0, price = 0, energy = 0;  // energies in attojoules
  bool dram() const { return component.starts_with("dram"); }
};

struct TrafficRow {
  std::string part;  // key value spill_write spill_read
  double logical_rows = 0, distinct_rows = 0, logical_bytes = 0, requested_bytes = 0,
         moved_bytes = 0, bursts = 0;
};

// One datapath of one result directory.
struct ReportDatapath {
  std::string datapath;  // mac gather_add ternary ...
  std::string
      label;  // unique in the report: the datapath, with the directory's name where it occurs twice
  std::size_t run = 0;               // index into ReportData::runs
  std::optional<std::size_t> trace;  // index into ReportData::traces

  std::string method, budget, score_kind, model, dram, price_list, dram_boundary;
  double steps = 0, context_max = 0, energy_per_step = 0 /* J */, time_per_step = 0 /* s */;
  double achieved_bandwidth = 0, peak_bandwidth = 0;  // bytes/s
  double row_hit_share = 0;                           // 0..1
  double activates = 0, bursts = 0;
  double dense_kv_bytes = 0, weight_bytes = 0;  // per run of all steps | per token, 0 = not known
  std::vector<std::pair<std::string, std::string>>
      remarks;  // features touched, multiplications left ...
  std::vector<EnergyRow> energy;
  std::vector<TrafficRow> traffic;

  double logical_bytes() const;                           // a token
  double requested_bytes() const;                         // a token
  double moved_bytes() const;                             // a token
  double requested_bytes(const std::string& part) const;  // a token, of one part
};

struct ReportRun {
  std::string name;  // last part of the directory's path
  Manifest manifest;
};

struct ReportData {
  std::vector<ReportRun> runs;
  std::vector<ReportDatapath> datapaths;
  std::vector<TraceView> traces;
  std::vector<std::string> notes;  // what was looked for and not found

  const ReportDatapath* baseline() const;  // the mac datapath, or null
  const TraceView* trace_of(const ReportDatapath& datapath) const;
};

// `paths`: result directories, or directories that hold some. `traces`: further trace files;
// without any, *.h5 files in and beside the result directories are used when a manifest names their
// content hash. Throws Error.
ReportData read_report_data(const std::vector<std::string>& paths,
                            const std::vector<std::string>& traces);

}  // namespace stoat::sim
