// The transformer on the CPU: exact prefill, and decode steps with any attention.
//
// Llama, Qwen2, Qwen3 from safetensors; fp32 arithmetic on bf16/fp16/fp32 weights (kept as fp32),
// bf16 KV cache. Results do not depend on the number of threads (fixed chunks, design decision 4).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/llm/config.h"
#include "models/llm/kv_cache.h"
#include "models/thread_pool.h"

namespace stoat {

// Attention of one layer at one decode step. q: [q_heads, head_dim] after rotary embedding (and q
// norm), unscaled; the cache already holds the newest token's K and V; context_len counts it. out:
// [q_heads, head_dim].
using DecodeAttention =
    std::function<void(std::uint32_t layer, std::span<const float> q, const KvCache& cache,
                       std::uint32_t context_len, std::span<float> out)>;

class Transformer {
 public:
  // Reads config.json and the safetensors of a Hugging Face model folder. Throws Error for
  // everything that does not fit, NaN or infinity in weights included.
  static Transformer load(const std::string& folder, ThreadPool& pool);
  ~Transformer();
  Transformer(Transformer&&) noexcept;

  const ModelConfig& config() const;
  std::uint64_t weight_bytes_per_token()
      const;                         // bytes of weights one decode step reads, as stored
  std::string weights_hash() const;  // XXH3-128 of the safetensors headers

  KvCache make_cache(std::uint32_t capacity) const;

  // Exact attention over all tokens, in chunks. Appends to the cache; returns the logits of the
  // last token [vocab]. Progress (tokens done) is reported after each chunk when given. Throws
  // Error for ids outside the vocabulary, for more tokens than max_position_embeddings, for NaN or
  // infinity in the logits.
  std::vector<float> prefill(std::span<const std::int32_t> tokens, KvCache& cache,
                             const std::function<void(std::uint32_t)>& progress = {});

  // One token. Returns the logits of the next [vocab].
  std::vector<float> decode(std::int32_t token, KvCache& cache, const DecodeAttention& attention);

  // 1 / sqrt(head_dim) (times what the config's rope scaling asks for).
  double attention_scale() const;

 private:
  struct State;
  explicit Transformer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Exact attention of all heads in double on the fixed chunks of `pool`: a DecodeAttention for dense
// decoding and twins.
DecodeAttention dense_attention(const ModelConfig& config, double scale, ThreadPool& pool);

}  // namespace stoat
