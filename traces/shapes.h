// Language-model shapes by name (models/llm/shapes.csv), and what a decode step of such a model
// must read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stoat {

struct ModelShape {
  std::string name;
  std::uint32_t n_layers = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::uint32_t hidden = 0, intermediate = 0, vocab = 0;
  bool qkv_bias = false;           // qwen2
  bool qk_norm = false;            // qwen3
  bool tied = false;               // one matrix for embedding and output
  std::uint64_t weight_bytes = 0;  // as the table says; equals decode_weight_bytes(*this, 2)
  std::string source;
};

// All rows of the table, or of another one of its form. Throws Error for a row that contradicts
// itself.
std::vector<ModelShape> model_shapes(const std::string& path = {});
// Throws Error naming the nearest name.
ModelShape model_shape(const std::string& name);

// Parameters of the model (embedding and output matrix once each, or once together where tied).
std::uint64_t parameter_count(const ModelShape& shape);
// Bytes of weights that one decode step at batch 1 reads: all layers, the last norm, the output
// matrix and one row of the embedding.
std::uint64_t decode_weight_bytes(const ModelShape& shape, std::uint32_t bytes_per_weight);

}  // namespace stoat
