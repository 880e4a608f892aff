// Normal numbers and the solver of synth_logits.h. Standard normals come from a table of quantiles
// indexed by 16 random bits: fast, and free of the libm's last bits in everything that is drawn.
#include "traces/synth_logits.h"

#include <algorithm>
#include <cmath>

#include "models/sampling/philox.h"

namespace stoat {

namespace {

constexpr std::uint64_t kSynthKey =
    0x73796e7468657469ULL;  // "syntheti": never the stream of the draws
constexpr std::uint32_t kQuantiles = 65536;
constexpr double kMaxSigma = 64;
constexpr double kSolverTolerance = 1e-3;
constexpr int kMaxSolverSteps = 60;

// Quantile (k + 1/2) / 65536 of the standard normal, by Newton's method from the quantile before.
const std::vector<float>& normal_quantiles() {
  static const std::vector<float> table = [] {
    std::vector<float> t(kQuantiles);
    double x = 0;
    for (std::uint32_t k = kQuantiles / 2; k < kQuantiles; ++k) {
      const double tail = (kQuantiles - k - 0.5) / kQuantiles;
      for (int i = 0; i < 6; ++i) {
        const double density = std::exp(-0.5 * x * x) * 0.3989422804014327;
        x += (0.5 * std::erfc(x * 0.7071067811865476) - tail) / density;
      }
      t[k] = static_cast<float>(x);
      t[kQuantiles - 1 - k] = static_cast<float>(-x);
    }
    return t;
  }();
  return table;
}

}  // namespace

std::array<std::uint32_t, 3> stream_of(StreamKind kind, std::uint32_t seq, std::uint32_t step,
                                       std::uint32_t layer, std::uint32_t head) {
  return {(seq << 2) | kind, step, (layer << 16) | head};
}

void fill_normals(std::uint64_t seed, std::array<std::uint32_t, 3> stream, std::vector<float>& g) {
  const std::uint64_t key = seed ^ kSynthKey;
  const std::vector<float>& quantile = normal_quantiles();
  for (std::size_t i = 0; i < g.size(); i += 8) {
    const PhiloxBlock block =
        philox4x32_10({{stream[0], stream[1], stream[2], static_cast<std::uint32_t>(i / 8)}},
                      static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32));
    const std::size_t last = std::min<std::size_t>(8, g.size() - i);
    for (std::size_t k = 0; k < last; ++k) {
      g[i + k] = quantile[(block.word[k / 2] >> (16 * (k % 2))) & 0xffffU];
    }
  }
}

Softmax softmax_of(const std::vector<float>& shape, double sigma) {
  Softmax s;
  const float top = *std::max_element(shape.begin(), shape.end());
  s.max = sigma * static_cast<double>(top);
  for (const float x : shape) {
    const double below = sigma * (static_cast<double>(x) - static_cast<double>(top));
    const double e = std::exp(below);
    s.sum += e;
    s.squares += e * e;
    s.weighted += below * e;
    s.weighted_squares += below * e * e;
  }
  return s;
}

double solve_sigma(const std::vector<float>& shape, double target, double start) {
  if (target <= 0 || target >= static_cast<double>(shape.size())) return 0;
  double low = 0;
  double high = kMaxSigma;
  double sigma = start;
  for (int i = 0; i < kMaxSolverSteps; ++i) {
    const Softmax s = softmax_of(shape, sigma);
    const double excess = std::log(s.participation() / target);
    if (std::abs(excess) < kSolverTolerance) break;
    (excess > 0 ? low : high) = sigma;
    const double slope = 2 * (s.weighted / s.sum - s.weighted_squares / s.squares) / sigma;
    sigma -= excess / slope;
    if (!(sigma > low && sigma < high)) sigma = 0.5 * (low + high);
  }
  return sigma;
}

}  // namespace stoat
