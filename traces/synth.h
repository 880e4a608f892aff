// Traces without any model: attention weights of a chosen participation ratio 1 / sum p^2, real
// draws from them.
//
// Logits are sigma * (g + 2 * exp(-age / recency) + 3 * [row < sinks]) with g standard normal,
// fixed for a (layer, head, row) within a step: log-normal weights, whose participation falls as
// sigma grows from 0 (flat: every row equal). sigma is solved for every record, so each has the
// asked participation within 0.1 %. Everything is keyed by the seed (Philox), so equal options give
// equal traces.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "traces/trace.h"

namespace stoat {

struct SynthOptions {
  std::uint32_t n_layers = 1;
  std::uint32_t n_q_heads = 8;
  std::uint32_t n_kv_heads = 2;
  std::uint32_t head_dim = 128;
  std::string model_name = "synthetic";
  std::uint64_t weight_bytes_per_token = 0;
  std::string kv_dtype = "bf16";              // bf16 fp16 fp8 int8
  std::vector<std::uint32_t> contexts{1024};  // one a sequence, at step 0; grows by one a step
  std::uint32_t steps = 1;
  Method method = Method::kProp;
  std::vector<std::uint32_t> budgets{128};  // one, or one a layer; ignored for dense
  double participation = 0;                 // target of 1 / sum p^2; 0 = flat
  std::uint32_t sinks = 0;                  // first rows that draw attention
  double recency = 0;                       // decay length in tokens; 0 = none
  double group_correlation = 0;             // of the logits of the heads of one KV group, 0 to 1
  std::uint64_t seed = 1;
  ScoreKind score_kind = ScoreKind::kExact;
  TernaryOptions ternary;  // Gaussian queries, for kTernary
  bool scores = false;     // keep the codes (/scores)
};

struct SynthSummary {
  std::uint64_t records = 0;
  double mean_participation = 0;  // achieved, mean over records
  double min_participation = 0;
  double max_participation = 0;
  double mean_distinct_rows = 0;  // a record
  double mean_union_rows = 0;     // a KV group of a record's layer and step
  double mean_sigma = 0;
  std::uint64_t missed_records =
      0;  // participation off by more than 1 %: too few rows, or too sharp
  std::uint64_t clipped_sinks = 0;  // records with fewer rows than sinks
};

TraceHeader synth_header(const SynthOptions& options);

// One step at a time through `sink`. Throws Error (usage) for options that make no sense.
SynthSummary synthesize(const SynthOptions& options,
                        const std::function<void(const TraceRecords&)>& sink);
// All steps in memory (tests, small traces).
TraceRecords synthesize_records(const SynthOptions& options, SynthSummary* summary = nullptr);

}  // namespace stoat
