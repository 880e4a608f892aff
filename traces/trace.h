// A trace in memory: what each decode step touched, as flat columns. The same words as the file
// (traces/README.md).
//
// A record is one query head of one layer at one step of one sequence. Order: step, sequence,
// layer, q_head.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/sampling/selection.h"
#include "models/sampling/ternary.h"

namespace stoat {

enum class RecordKind : std::uint8_t { kDense = 0, kSampled = 1 };
enum class ScoreKind : std::uint8_t { kExact = 0, kTernary = 1 };

// Everything that is the same for all records. Strings are UTF-8; empty = not known.
struct TraceHeader {
  std::string model_name;
  std::string model_config_hash;   // XXH3-128 of config.json
  std::string model_weights_hash;  // XXH3-128 of the weight files' headers
  std::string tokenizer;
  std::string prompt_hash;
  std::string origin = "capture";  // capture | synth
  std::uint64_t seed = 0;
  Method method = Method::kDense;
  std::vector<std::uint32_t> budgets;  // one for all layers, or [n_layers]; empty for dense
  ScoreKind score_kind = ScoreKind::kExact;
  TernaryOptions ternary;  // meaningful for kTernary
  std::string kv_dtype = "bf16";
  std::uint32_t row_bytes = 0;  // bytes of one K or V row of one KV head
  std::uint32_t n_layers = 0;
  std::uint32_t n_q_heads = 0;
  std::uint32_t n_kv_heads = 0;
  std::uint32_t head_dim = 0;
  // The rest of the language model, for "attention beside the whole token"; 0 = not known.
  std::uint64_t weight_bytes_per_token = 0;  // bytes of weights a decode step reads at batch 1

  std::uint32_t group() const { return n_kv_heads == 0 ? 0 : n_q_heads / n_kv_heads; }
  std::uint32_t budget_of_layer(std::uint32_t layer) const;  // 0 for dense
};

// Statistics a record may carry; a column is empty when it was not recorded. f32 [N] each.
struct StatColumns {
  std::vector<float> lse, max, entropy, mass_top1, mass_token0, participation;  // fast
  std::vector<float> mass_top8, mass_top32, output_error, twin_total_variation,
      twin_top1_agreement;  // full
};

// Columns of a run of whole steps (one step while recording; all steps, or a slice, when read
// back).
struct TraceRecords {
  // /records/  [N]
  std::vector<std::uint32_t> seq, step, context, budget;
  std::vector<std::uint16_t> layer, q_head, kv_head;
  std::vector<RecordKind> kind;
  // /value/    CSR
  std::vector<std::uint64_t> value_indptr{0};  // [N + 1]
  std::vector<std::uint32_t> row;              // [nnz]
  std::vector<std::uint16_t> count;            // [nnz]
  // /tile/     flash only, else indptr == {0} and the rest is empty
  std::vector<std::uint64_t> tile_indptr{0};  // [N + 1] or {0}
  std::vector<std::uint32_t> tile;
  std::vector<std::uint64_t> tile_mass;
  // /key/      ternary only
  std::vector<std::uint64_t> draw_indptr{0};  // [N + 1] or {0}
  std::vector<std::uint8_t> key_mask;         // [draws, head_dim / 8]
  std::vector<std::uint8_t> key_sign;         // [N, head_dim / 8]
  StatColumns stats;
  // /scores/   optional: codes of some records, from which any method and budget is re-drawn
  std::vector<std::uint64_t>
      score_record;  // [M] record index (absolute in a file; in a frame: within the frame)
  std::vector<std::uint64_t> score_indptr{0};       // [M + 1]
  std::vector<std::uint16_t> score_code;            // [sum of contexts]
  std::vector<std::uint64_t> score_tile_indptr{0};  // [M + 1]
  std::vector<std::int32_t> score_exponent;         // [sum of tiles]
  // /probe/    optional: output error against exact attention at other budgets, same method and
  // sites
  std::vector<std::uint32_t> probe_budget;  // [P]
  std::vector<float> probe_error;           // [N, P]
  // /tokens/   one a (step, sequence)
  std::vector<std::int32_t> token_id;

  std::size_t size() const { return step.size(); }
  bool empty() const { return step.empty(); }
};

// Appends one record with its selection. Flash tiles are appended when the selection holds any.
void append_record(TraceRecords& records, std::uint32_t seq, std::uint32_t step,
                   std::uint16_t layer, std::uint16_t q_head, std::uint16_t kv_head,
                   std::uint32_t context, RecordKind kind, std::uint32_t budget,
                   const Selection& selection);

// Appends later steps: indptr and score_record are moved to their new places. The same columns must
// be recorded in both.
void append_steps(TraceRecords& records, const TraceRecords& later);

// Checks that the columns fit together (sizes, indptr) and keep the rules of traces/validate.h.
// Throws Bug: this is for what our own code built.
void ensure_consistent(const TraceRecords& records, const TraceHeader& header);

}  // namespace stoat
