// Dense decoding by the specification (models/attention, double): one chunk of the pool a query
// head.
#include <cstdint>
#include <vector>

#include "models/attention/decode.h"
#include "models/llm/transformer.h"

namespace stoat {

DecodeAttention dense_attention(const ModelConfig& config, double scale, ThreadPool& pool) {
  const std::uint32_t heads = config.n_q_heads, group = config.group(), d = config.head_dim;
  return [heads, group, d, scale, &pool](std::uint32_t layer, std::span<const float> q,
                                         const KvCache& cache, std::uint32_t context_len,
                                         std::span<float> out) {
    pool.for_chunks(heads, [&](std::size_t head) {
      const auto kv_head = static_cast<std::uint32_t>(head) / group;
      const auto from = q.subspan(head * d, d);
      const std::vector<double> query(from.begin(), from.end());
      const auto weights = softmax(score(query, cache.keys(layer, kv_head, context_len), scale));
      const auto result = gather_dense(weights, cache.values(layer, kv_head, context_len));
      for (std::uint32_t j = 0; j < d; ++j) out[head * d + j] = static_cast<float>(result[j]);
    });
  };
}

}  // namespace stoat
