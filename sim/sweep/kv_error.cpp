// Rounding a fixed draw of normal numbers.
#include "sim/sweep/kv_error.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "models/error.h"
#include "traces/synth_logits.h"

namespace stoat::sim {
namespace {

constexpr std::size_t kRow = 128, kRows = 512;

double to_e4m3(double x) {  // 3 bits of mantissa, smallest normal exponent -6, largest 448
  if (x == 0) return 0;
  const int exponent = std::max(-6, std::ilogb(x));
  const double step = std::ldexp(1.0, exponent - 3);
  return std::clamp(std::nearbyint(x / step) * step, -448.0, 448.0);
}

}  // namespace

double kv_rounding_error(KvElement element) {
  if (element == KvElement::kBf16) return 0;
  std::vector<float> row(kRow);
  double error = 0, squares = 0;
  for (std::uint32_t r = 0; r < kRows; ++r) {
    fill_normals(1, stream_of(kQuery, 0, 0, 0, r), row);
    float largest = 0;
    for (const float x : row) largest = std::max(largest, std::abs(x));
    const double step = static_cast<double>(largest) / 127;
    for (const float each : row) {
      const auto x = static_cast<double>(each);
      const double rounded =
          element == KvElement::kFp8 ? to_e4m3(x) : std::nearbyint(x / step) * step;
      error += (rounded - x) * (rounded - x);
      squares += x * x;
    }
  }
  return std::round(std::sqrt(error / squares) * 1e6) / 1e6;
}

}  // namespace stoat::sim
