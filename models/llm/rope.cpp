// theta^(-2j/d), then "linear" (all divided by the factor) or "llama3" (long waves divided, short
// ones kept, between them a linear blend), after Hugging Face transformers' modeling_rope_utils.
#include "models/llm/rope.h"

#include <cmath>
#include <numbers>

namespace stoat {

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
    frequencies[j] = static_cast<float>(f);
  }
  return frequencies;
}

void rope_angles(std::span<const float> frequencies, std::uint32_t position, std::span<float> cos,
                 std::span<float> sin) {
  for (std::size_t j = 0; j < frequencies.size(); ++j) {
    const float angle = static_cast<float>(position) * frequencies[j];
    cos[j] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sin[j] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

}  // namespace stoat
