// The weights of a transformer as fp32 panels (kernels.h), read from safetensors and checked to be
// finite.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "models/llm/config.h"
#include "models/llm/safetensors.h"
#include "models/thread_pool.h"

namespace stoat {

// A matrix [columns, k] (one or several tensors on top of each other) in panels of 32 output
// columns, with its bias.
struct Matrix {
  std::size_t columns = 0;
  std::size_t k = 0;
  std::vector<float> panels;  // [ceil(columns / 32), k, 32]
  std::vector<float> bias;    // [columns], empty without bias
};

struct LayerWeights {
  std::vector<float> attention_norm;  // [hidden_size]
  std::vector<float> mlp_norm;        // [hidden_size]
  std::vector<float> q_norm, k_norm;  // [head_dim], qwen3 only
  Matrix qkv;                         // [(q_heads + 2 kv_heads) * head_dim, hidden_size]
  Matrix o;                           // [hidden_size, q_heads * head_dim]
  Matrix gate_up;                     // [2 * intermediate_size, hidden_size]
  Matrix down;                        // [hidden_size, intermediate_size]
};

struct Weights {
  std::vector<float>
      embedding;  // [vocab_size, hidden_size]; empty when tied (then read from `head`)
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;      // [hidden_size]
  Matrix head;                        // [vocab_size, hidden_size]
  std::uint64_t bytes_per_token = 0;  // as stored, read by one decode step
  std::string hash;  // XXH3-128 over name, type, shape and XXH64 of the bytes of every tensor

  // Row `token` of the embedding. out: [hidden_size]
  void embed(std::int32_t token, std::span<float> out) const;
};

// One tensor of the model that a configuration describes, by its Hugging Face name.
struct TensorWish {
  std::string name;
  std::vector<std::uint64_t> shape;
};
// The tensors of a layer, in the order of their use; biases and norms only where the model has
// them.
struct LayerWishes {
  TensorWish attention_norm, mlp_norm, q, k, v, o, gate, up, down;
  std::vector<TensorWish> qkv_bias, o_bias, qk_norm;  // empty, or of q, k, v; o; q, k
};
LayerWishes layer_wishes(const ModelConfig& config, std::uint32_t layer);
TensorWish embedding_wish(const ModelConfig& config);
TensorWish head_wish(const ModelConfig& config);  // the embedding where it is tied
TensorWish final_norm_wish(const ModelConfig& config);

// Throws Error for a tensor that is not in `used`: it would change the result if it were
// understood.
void refuse_unexpected(const ModelTensors& tensors, const std::set<std::string>& used,
                       const ModelConfig& config);
// XXH3-128 over name, type, shape and XXH64 of the bytes of every tensor.
std::string weights_hash(const ModelTensors& tensors, ThreadPool& pool);

// Throws Error naming file and tensor: missing, unexpected, wrong shape or type, NaN or infinity.
Weights read_weights(const std::string& folder, const ModelConfig& config, ThreadPool& pool);

}  // namespace stoat
