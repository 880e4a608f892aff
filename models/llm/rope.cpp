// theta^(-2j/d), then "linear" (all divided by the factor), "llama3" (long waves divided, short
// ones kept, between them a linear blend) or "yarn" (the same with a ramp over the pair's index;
// Peng et al., arXiv 2309.00071), after Hugging Face transformers' modeling_rope_utils.
#include "models/llm/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace stoat {
namespace {

// Share of pair j that is divided by the factor: 0 below the ramp, 1 above it.
double yarn_share(const RopeConfig& rope, std::uint32_t head_dim, std::uint32_t j) {
  const auto pair_of = [&](double rotations) {
    return head_dim * std::log(rope.original_max_position / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(rope.theta));
  };
  double low = pair_of(rope.beta_fast), high = pair_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;
  return std::clamp((j - low) / (high - low), 0.0, 1.0);
}

}  // namespace

std::vector<float> rope_frequencies(const RopeConfig& rope, std::uint32_t head_dim) {
  std::vector<float> frequencies(head_dim / 2);
  for (std::uint32_t j = 0; j < head_dim / 2; ++j) {
    double f = std::pow(rope.theta, -2.0 * j / head_dim);
    if (rope.kind == RopeConfig::Kind::kLinear) f /= rope.factor;
    if (rope.kind == RopeConfig::Kind::kLlama3) {
      const double wavelength = 2.0 * std::numbers::pi / f;
      const double low = rope.original_max_position / rope.low_freq_factor;
      const double high = rope.original_max_position / rope.high_freq_factor;
      if (wavelength > low) {
        f /= rope.factor;
      } else if (wavelength >= high) {
        const double smooth = (rope.original_max_position / wavelength - rope.low_freq_factor) /
                              (rope.high_freq_factor - rope.low_freq_factor);
        f = (1.0 - smooth) * f / rope.factor + smooth * f;
      }
    }
    if (rope.kind == RopeConfig::Kind::kYarn) {
      const double share = yarn_share(rope, head_dim, j);
      f = share * f / rope.factor + (1.0 - share) * f;
    }
    frequencies[j] = static_cast<float>(f);
  }
  return frequencies;
}

void rope_angles(std::span<const float> frequencies, std::uint32_t position, float factor,
                 std::span<float> cos, std::span<float> sin) {
  for (std::size_t j = 0; j < frequencies.size(); ++j) {
    const float angle = static_cast<float>(position) * frequencies[j];
    cos[j] = static_cast<float>(std::cos(static_cast<double>(angle))) * factor;
    sin[j] = static_cast<float>(std::sin(static_cast<double>(angle))) * factor;
  }
}

}  // namespace stoat
