// The checks of gpu/attention/params.h for every layer's budget, and what no kernel does yet.
#include "gpu/cuda_refusal.h"

#include <filesystem>
#include <vector>

#include "gpu/attention/params.h"
#include "models/error.h"

namespace stoat {

std::string cuda_refusal(const ModelConfig& config, const RecordingOptions& recording,
                         const CudaWork& work) {
  const bool ternary = recording.score_kind == ScoreKind::kTernary;
  if (ternary && recording.method == Method::kDense)
    return "dense attention over ternary scores runs on the CPU only: the device's dense kernel "
           "computes its own, exact scores";
  if (!recording.accumulators.empty())
    return "--accumulator models the formats of an accelerator, on the CPU only";
  if (config.hidden_size % 8 != 0 || config.intermediate_size % 8 != 0)
    return "hidden_size and intermediate_size must be multiples of 8 on the device";
  gpu::DecodeParams p;
  p.batch = work.sequences;
  p.q_heads = config.n_q_heads;
  p.kv_heads = config.n_kv_heads;
  p.head_dim = config.head_dim;
  p.max_context = p.kv_capacity = work.largest_context;
  p.page_size = work.page_size;
  p.method = recording.method;
  if (ternary) {
    p.ternary.draws = recording.ternary.draws;
    p.ternary.capacity = (work.largest_context + 7) / 8 * 8;
  }
  std::vector<std::uint32_t> budgets = recording.probe_budgets;
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer)
    budgets.push_back(recording.budget_of_layer(layer));
  for (const std::uint32_t budget : budgets) {
    p.budget = budget;
    if (std::string why = gpu::shape_refusal(p); !why.empty()) return why;
  }
  return "";
}

ModelShape shape_from(const std::string& name_or_file) {
  if (!std::filesystem::is_regular_file(name_or_file)) return model_shape(name_or_file);
  const std::vector<ModelShape> shapes = model_shapes(name_or_file);
  if (shapes.size() != 1)
    throw usage_error({name_or_file}, std::to_string(shapes.size()) + " shapes", "one row");
  return shapes.front();
}

ModelConfig config_of_shape(const ModelShape& shape) {
  ModelConfig c;
  c.architecture = shape.qkv_bias  ? Architecture::kQwen2
                   : shape.qk_norm ? Architecture::kQwen3
                                   : Architecture::kLlama;
  c.n_layers = shape.n_layers;
  c.hidden_size = shape.hidden;
  c.n_q_heads = shape.n_q_heads;
  c.n_kv_heads = shape.n_kv_heads;
  c.head_dim = shape.head_dim;
  c.intermediate_size = shape.intermediate;
  c.vocab_size = shape.vocab;
  c.max_position_embeddings = gpu::kMaxContext;
  c.tie_word_embeddings = shape.tied;
  c.attention_bias = shape.qkv_bias;
  c.qk_norm = shape.qk_norm;
  c.rope.theta = 500000;
  c.hash = "random";
  return c;
}

}  // namespace stoat
