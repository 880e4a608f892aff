// The CPU twin of the ternary score kernel: the same draws (models/sampling/ternary.h), the same
// fp32 additions (gpu/attention/ternary_score.h) one after the other. Not a test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "gpu/attention/ternary_score.h"
#include "models/attention/decode.h"

namespace stoat::gpu {

// Scores of one head of a drawn group, [context_len].
struct TernaryScores {
  std::vector<float> x;  // in units of log2
  // No order of the additions rounds: products are multiples of a unit of which 2^24 are more than
  // the sum of their magnitudes.
  std::vector<bool> exact;
};

inline TernaryScores ternary_scores(const TernaryGroup& group, const TernaryOptions& options,
                                    std::uint32_t head, const KvRows& keys, float sm_scale) {
  const std::uint32_t d = group.head_dim;
  std::vector<std::uint32_t> features;
  std::vector<float> weights;
  for (std::uint32_t f = 0; f < d; ++f) {
    std::uint32_t count = 0;
    for (std::uint32_t b = 0; b < group.draws; ++b) count += group.touched(head, b, f) ? 1U : 0U;
    if (count == 0) continue;
    const bool negative = (group.sign[head * d / 8 + f / 8] >> (f % 8) & 1) != 0;
    features.push_back(f);
    weights.push_back(options.coupling == TernaryCoupling::kGroupMean
                          ? group.effective[std::size_t{head} * d + f]
                          : (negative ? -1.0F : 1.0F) * static_cast<float>(count));
  }
  const float scale =
      ternary_scale(group.normaliser[head], group.draws, options.coupling, sm_scale);
  TernaryScores scores;
  for (std::uint32_t row = 0; row < keys.context_len; ++row) {
    const Bf16* k = keys.data + row * keys.row_stride;
    float sum = 0;
    double magnitudes = 0, unit = INFINITY;
    for (std::size_t i = 0; i < features.size(); ++i) {
      const float key = to_float(k[features[i]]);
      sum = ternary_add(sum, weights[i], key);
      if (key == 0) continue;
      int exponent = 0;
      const auto digits = static_cast<std::uint32_t>(std::frexp(std::fabs(key), &exponent) * 256);
      magnitudes += std::fabs(static_cast<double>(weights[i]) * key);
      unit = std::min(unit, std::ldexp(digits & (~digits + 1), exponent - 8));
    }
    scores.x.push_back(sum * scale);
    scores.exact.push_back(magnitudes < std::ldexp(unit, 24));
  }
  return scores;
}

// Codes of finite scores in units of log2.
inline ScoreCodes encode_log2_scores(std::span<const float> x) {
  ScoreCodes codes;
  for (std::size_t first = 0; first < x.size(); first += kTileRows) {
    const std::span<const float> tile =
        x.subspan(first, std::min<std::size_t>(kTileRows, x.size() - first));
    const std::int32_t exponent = tile_exponent(*std::max_element(tile.begin(), tile.end()));
    codes.exponent.push_back(exponent);
    for (const float score : tile) codes.code.push_back(encode_score(exponent, score));
  }
  return codes;
}

}  // namespace stoat::gpu
