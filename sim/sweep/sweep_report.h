// One HTML page about a sweep, from its results.csv, failed.csv, skipped.csv and manifest.json, and
// nothing of the simulator's insides: a folder with these files can be shown anywhere.
//
// The page is made like that of single simulations (report.h): offline, equal bytes for equal
// files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/sweep/figure.h"
#include "sim/sweep/report_trace.h"

namespace stoat::sim {

// A finished point. Numbers are NaN where the file says nothing.
struct SweepRow {
  std::string datapath, method, budget_text, element;
  std::string label;   // what tells it from the others, but for the context: "gather_add, S=128"
  std::string others;  // what must be equal for a fair comparison with dense
  std::string design;  // the same without the context
  double context = 0, budget = 0;
  double energy = 0, time = 0;                      // J and s a step
  double error = 0, error_low = 0, error_high = 0;  // total_error, with a standard error
  double bandwidth = 0, row_hits = 0;               // percent
  double token_share = 0, token_saving = 0;         // percent
  double logical = 0, requested = 0, moved = 0;     // bytes a step
  double rows_drawn = 0, rows_logical = 0, rows_distinct = 0, bursts = 0;  // a step; rows of V
  double operations = 0, intensity = 0, rate = 0;  // a step; a byte moved; a second
  double peak_bytes = 0, peak_rate = 0;            // a second: memory, multiply-accumulate lanes
  double select_energy = 0, select_cycles = 0;     // J a step; cycles a step and engine
  double rows_fetched = 0;                         // K and V, a step
  double participation = 0;                        // 1 / sum p^2, mean
  double engines = 0, area = 0;                    // mm2, see sweep_design.h
  std::vector<double> components;  // J a step, in the order of SweepReport::components
  int dense = -1;                  // row of the dense baseline, -1: none
  bool front = false;              // no other point is better in energy and error
};

// What a kernel took on a GPU, one layer and step: a line of `stoat-bench decode`'s JSON.
struct MeasuredKernel {
  std::string datapath, method, element;  // of the point that computes the same
  std::uint32_t budget = 0, batch = 0, context = 0, query_heads = 0, kv_heads = 0, head_dim = 0;
  double low = 0, median = 0, high = 0;  // seconds; 10th and 90th percentile
};

struct Measurements {
  std::string file, gpu, kernels;  // file name without folder; hash of the kernels' sources
  std::vector<MeasuredKernel> rows;
};

// Which rows of the cache a point reads.
struct SweepAccess {
  AccessMap map;
  std::string label;
  std::string absent;  // why there is no map
};

struct SweepReport {
  std::string name;
  std::string base;  // accelerator of the points that name none
  std::vector<std::pair<std::string, std::string>> constants;  // the sweep's `set`
  std::vector<std::string> columns;                            // of results.csv
  std::vector<std::vector<std::string>> cells;                 // [rows][columns]
  std::vector<std::string> varying;  // columns whose cells differ, configuration only
  std::vector<std::string> components;
  std::vector<SweepRow> rows;
  std::vector<std::vector<std::string>> failed;  // header first
  std::vector<std::pair<std::string, std::string>> provenance;
  std::vector<std::pair<std::string, std::string>> price_lists;  // name, hash
  SweepAccess access{{}, {}, "the sweep's records were not asked for."};
  Measurements measured;
  std::size_t points = 0, skipped = 0, invalid = 0, missing = 0;

  const std::string& cell(std::size_t row, std::string_view column) const;  // "" when absent
};

// Is there a sweep's answer in this folder?
bool holds_sweep(const std::string& folder);
// Throws Error for files that do not fit together.
SweepReport read_sweep_report(const std::string& folder);
// The JSON of scripts/gpu-results.sh (gpu/results). Throws Error for a file of another kind.
Measurements read_measurements(const std::string& path);

// The widest context at which a sampled point has a dense one beside it; 0: none.
double compared_context(const SweepReport& report);
// There, of a kind: the cheapest point with an error of at most a quarter, else the one with the
// smallest error; rivals of the sampled one's design first. Null when there is none.
enum class Champion : std::uint8_t { kSampled, kNarrowDense, kTopK };
const SweepRow* sweep_champion(const SweepReport& report, Champion kind);

// In reading order; those without data are empty. An empty one with a title says in its caption
// what it would have needed.
std::vector<Figure> sweep_figures(const SweepReport& report);
std::string sweep_sentence(const SweepReport& report);
std::string sweep_report_html(const SweepReport& report, std::string_view plotly);
// For the terminal.
std::string sweep_answer_text(const SweepReport& report);
std::string sweep_answer_json(const SweepReport& report, const std::string& path);

}  // namespace stoat::sim
