// One unit of work: one KV head and 64 tokens, all query heads of its group (so K and V are
// unpacked once for them).
#include "models/llm/prefill_attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "models/llm/kernels.h"

namespace stoat {
namespace {

constexpr std::uint32_t kQueryBlock = 64;  // tokens

const std::uint16_t* raw(const KvRows& rows, std::size_t first) {
  static_assert(sizeof(Bf16) == sizeof(std::uint16_t));
  return &rows.data[first * rows.row_stride].bits;
}

}  // namespace

void prefill_attention(const ModelConfig& config, std::uint32_t layer, const float* q,
                       std::size_t q_stride, const KvCache& cache, std::uint32_t start,
                       std::uint32_t tokens, float scale, std::span<float> out, ThreadPool& pool) {
  const Kernels& kernels = best_kernels();
  const std::size_t d = config.head_dim, group = config.group();
  const std::size_t wide = (d + kPanel - 1) / kPanel * kPanel;
  const std::size_t blocks = (tokens + kQueryBlock - 1) / kQueryBlock;
  pool.for_chunks(blocks * config.n_kv_heads, [&](std::size_t unit) {
    // The last blocks see the most keys: start with them.
    const std::size_t block = blocks - 1 - unit / config.n_kv_heads;
    const auto kv_head = static_cast<std::uint32_t>(unit % config.n_kv_heads);
    const auto first = static_cast<std::uint32_t>(block * kQueryBlock);
    const std::uint32_t count = std::min(kQueryBlock, tokens - first);
    const std::uint32_t context = start + first + count;
    const std::size_t rows = count * group;  // row = token * group + head of the group
    std::vector<float> queries(rows * d), logits(rows * kKeyTile), sums(rows * wide, 0.0F),
        mass(rows, 0.0F);
    std::vector<float> maxima(rows, -std::numeric_limits<float>::infinity());
    std::vector<float> keys(kKeyTile * d), values(kKeyTile * wide);
    for (std::size_t r = 0; r < rows; ++r) {
      const float* from = q + (first + r / group) * q_stride + (kv_head * group + r % group) * d;
      for (std::size_t j = 0; j < d; ++j) queries[r * d + j] = from[j] * scale;
    }
    const KvRows k_rows = cache.keys(layer, kv_head, context),
                 v_rows = cache.values(layer, kv_head, context);
    for (std::uint32_t tile = 0; tile < context; tile += kKeyTile) {
      const std::size_t present = std::min<std::size_t>(kKeyTile, context - tile);
      kernels.pack_keys(raw(k_rows, tile), k_rows.row_stride, present, d, keys.data());
      kernels.gemm(queries.data(), d, rows, keys.data(), d, kKeyTile, logits.data(), kKeyTile,
                   false);
      for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t seen = start + first + r / group + 1;  // keys at or before this token
        kernels.softmax_tile(&logits[r * kKeyTile],
                             seen > tile ? std::min(kKeyTile, seen - tile) : 0, &maxima[r],
                             &mass[r], &sums[r * wide], wide);
      }
      kernels.pack_values(raw(v_rows, tile), v_rows.row_stride, present, d, values.data());
      kernels.gemm(logits.data(), kKeyTile, rows, values.data(), kKeyTile, wide, sums.data(), wide,
                   true);
    }
    for (std::size_t r = 0; r < rows; ++r) {
      float* to = &out[((first + r / group) * config.n_q_heads + kv_head * group + r % group) * d];
      for (std::size_t j = 0; j < d; ++j) to[j] = sums[r * wide + j] / mass[r];
    }
  });
}

}  // namespace stoat
