// What the report shows of a trace: accesses binned to a map, error by layer and budget, agreement
// with dense, answers.
//
// Reads the trace in slices of steps, so memory does not grow with it. The answers come from the
// side file FILE.run.json that `stoat capture` writes beside a trace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "traces/trace.h"

namespace stoat::sim {

// Accesses to value rows, token position by decode step. A cell is draws per row and query head of
// a decode step.
struct AccessMap {
  bool by_head = false;  // a line is a query head (of a layer) instead of a step
  std::uint32_t rows_per_bin = 1, steps_per_bin = 1;
  std::uint32_t context = 0, steps = 0;    // extent
  std::vector<std::vector<double>> reads;  // [step bin][row bin]; NaN beyond the context
  double share_first = 0;                  // of all draws: on token 0
  double share_recent = 0;                 // on the last 64 rows of the context
  double share_even_recent = 0;            // what 64 rows would get if draws were even
  double distinct_share = 0;               // rows that a head reads at a step, of its context
  bool empty() const { return reads.empty(); }
};

// Relative output error against exact attention, of all records of a layer at one budget.
struct ProbePoint {
  std::uint32_t layer = 0, budget = 0;
  double low = 0, median = 0, high = 0;  // 10th, 50th, 90th percentile
  std::uint64_t records = 0;
};

struct LayerStats {
  std::uint32_t layer = 0;
  double participation = 0;  // mean of 1/sum p^2
  double mass_first = 0;     // mean softmax mass on token 0
};

struct TwinStats {  // against a teacher-forced dense twin, mean over steps
  double total_variation = 0, top1_agreement = 0;
  std::uint64_t steps = 0;
};

struct AnsweredQuestion {
  std::string kind, question, expected, answer;
  bool judged = false, correct = false;
};

struct TraceView {
  std::string name;  // file name
  std::string method, score_kind, budget, model, content_hash, origin, kv_dtype, prompt_hash;
  std::uint64_t seed = 0, records = 0;
  std::uint32_t steps = 0, layers = 0, query_heads = 0, kv_heads = 0, head_dim = 0;
  AccessMap map;                   // empty for dense traces
  std::vector<ProbePoint> probes;  // empty: no probe columns
  std::vector<LayerStats> layer_stats;
  std::optional<TwinStats> twin;       // empty: no --stats full
  std::optional<double> output_error;  // mean, --stats full
  std::vector<AnsweredQuestion> answers;
  std::uint64_t prompt_tokens = 0;  // from the side file
  bool side_file = false;

  std::uint64_t asked() const;  // judged questions
  std::uint64_t right() const;
};

// The map of records that are in memory, a step each. By head: lines are layer x query heads +
// head, over all steps. Empty without sampled records.
AccessMap access_map(const std::vector<TraceRecords>& steps, bool by_head);

// Throws Error for a trace or side file that is damaged; a missing side file is not an error.
TraceView read_trace_view(const std::string& path);

// Parses the side file's text into the view. `path` is for messages.
void read_side_file(const std::string& json, const std::string& path, TraceView& view);

}  // namespace stoat::sim
