// Decode attention on the CPU that also writes down what it touched: score, select, gather of
// models/attention in double, one query head at a time, recorded as a frame of trace records per
// step.
//
// It is the specification with a notebook, not a fast kernel. Heads run on fixed chunks, so neither
// the output nor the records depend on the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/arithmetic/accumulator.h"
#include "models/llm/transformer.h"
#include "models/thread_pool.h"
#include "traces/trace.h"

namespace stoat {

struct RecordingOptions {
  Method method = Method::kProp;
  std::vector<std::uint32_t> budgets;  // one, or [n_layers]; empty for dense
  ScoreKind score_kind = ScoreKind::kExact;
  TernaryOptions ternary;
  bool full_stats = false;         // error against exact attention, mass of the top 8 and 32
  std::vector<bool> score_layers;  // [n_layers]: which layers keep their codes; empty: none
  std::vector<std::uint32_t> probe_budgets;     // output error at these budgets too
  std::vector<AccumulatorFormat> accumulators;  // what each costs on these values
  std::uint64_t seed = 0;

  std::uint32_t budget_of_layer(std::uint32_t layer) const;  // 0 for dense
};

// Ternary: how many features the score stage touched, summed over heads and over KV groups.
struct TouchedFeatures {
  std::uint64_t by_heads = 0;
  std::uint64_t heads = 0;
  std::uint64_t by_groups = 0;
  std::uint64_t groups = 0;
};

// What summing value rows in a format costs: ||lane - double|| / ||double|| of an output, over
// query heads, layers and steps.
struct AccumulatorError {
  AccumulatorFormat format = AccumulatorFormat::kFp32;
  double mean = 0, worst = 0;
};

class RecordingAttention {
 public:
  RecordingAttention(const ModelConfig& config, double scale, RecordingOptions options,
                     ThreadPool& pool);
  ~RecordingAttention();
  RecordingAttention(const RecordingAttention&) = delete;
  RecordingAttention& operator=(const RecordingAttention&) = delete;

  // Begins step `step`; drops what an unfinished step left.
  void begin_step(std::uint32_t step);
  // What follows is of this sequence, to which the step feeds `token`. Sequences come in order.
  void begin_sequence(std::uint32_t sequence, std::int32_t token);
  // The callback for Transformer::decode; refers to this object.
  DecodeAttention callback();
  // What the dense twin said about the next token; fills its columns for the sequence's records.
  void set_twin(double total_variation, bool top1_agrees);
  // The frame of the step, moved out.
  TraceRecords take_records();

  const TouchedFeatures& touched() const;
  std::vector<AccumulatorError> accumulator_errors() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoat
