// Exact causal attention of a chunk of new tokens over the KV cache, in fp32: blocks of queries by
// tiles of keys.
//
// A row's result depends on its position only, not on how the text was cut in chunks nor on the
// number of threads: key tiles are fixed by absolute position and each row runs its own online
// softmax over them in order.
#pragma once

#include <cstdint>
#include <span>

#include "models/llm/config.h"
#include "models/llm/kv_cache.h"
#include "models/thread_pool.h"

namespace stoat {

// q: after rotary embedding, unscaled; token t's head h starts at q + t * q_stride + h * head_dim.
// Tokens stand at positions start .. start + tokens - 1, whose K and V are in the cache already.
// out: [tokens, q_heads * head_dim].
void prefill_attention(const ModelConfig& config, std::uint32_t layer, const float* q,
                       std::size_t q_stride, const KvCache& cache, std::uint32_t start,
                       std::uint32_t tokens, float scale, std::span<float> out, ThreadPool& pool);

}  // namespace stoat
