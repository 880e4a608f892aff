#include "gpu/bench/bias_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/error.h"

namespace stoat::gpu {

namespace {

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

double BiasEstimate::bias() const { return std::copysign(std::sqrt(std::fabs(squared)), squared); }

BiasEstimate estimate_bias(const BiasSums& sums, std::span<const double> reference) {
  const std::size_t n = sums.elements, batches = sums.batches;
  STOAT_ENSURE(batches >= 2 && reference.size() == n && sums.sum.size() == batches * n,
               "two batches or more, of the reference's shape");
  const double scale = 1 / dot(reference, reference);
  std::vector<double> d(sums.sum), total(n);
  for (std::size_t b = 0; b < batches; ++b) {
    for (std::size_t i = 0; i < n; ++i) {
      d[b * n + i] = d[b * n + i] / sums.draws_a_batch - reference[i];
      total[i] += d[b * n + i];
    }
  }
  const auto batch = [&](std::size_t b) { return std::span<const double>(d).subspan(b * n, n); };
  BiasEstimate estimate;
  double pair_squares = 0;
  for (std::size_t b = 0; b < batches; ++b) {
    estimate.batch_norm2.push_back(scale * dot(batch(b), batch(b)));
    for (std::size_t c = 0; c < b; ++c) {
      const double product = scale * dot(batch(b), batch(c));
      pair_squares += product * product;
    }
  }
  const auto count = static_cast<double>(batches);
  const double own = std::accumulate(estimate.batch_norm2.begin(), estimate.batch_norm2.end(), 0.0);
  estimate.sum_norm2 = scale * dot(total, total);
  estimate.squared = (estimate.sum_norm2 - own) / (count * (count - 1));
  const double pairs = count * (count - 1) / 2;
  estimate.standard_error = std::sqrt(pair_squares / pairs / pairs);
  estimate.raw = std::sqrt(estimate.sum_norm2) / count;
  estimate.floor =
      std::sqrt(std::max(0.0, own - estimate.sum_norm2 / count) / (count * (count - 1)));
  return estimate;
}

DrawError draw_error_of(std::span<const double> squares) {
  const auto n = static_cast<double>(squares.size());
  const double mean = std::accumulate(squares.begin(), squares.end(), 0.0) / n;
  double spread = 0;
  for (const double square : squares) spread += (square - mean) * (square - mean);
  DrawError error;
  error.rms = std::sqrt(mean);
  if (mean > 0) error.standard_error = std::sqrt(spread / (n - 1) / n) / (2 * error.rms);
  return error;
}

DrawError draw_error(const BiasSums& sums, std::span<const double> exact) {
  std::vector<double> means(sums.square_error);
  for (double& value : means) value /= sums.draws_a_batch * dot(exact, exact);
  return draw_error_of(means);
}

std::vector<double> expected_weights(const Ruler& ruler) {
  std::vector<double> weights(ruler.rows());
  for (std::uint32_t row = 0; row < ruler.rows(); ++row)
    weights[row] =
        static_cast<double>(ruler.end(row) - ruler.begin(row)) / static_cast<double>(ruler.total());
  return weights;
}

std::vector<std::uint32_t> largest_remainder_budgets(const Ruler& ruler, std::uint32_t budget) {
  std::vector<std::uint32_t> budgets(ruler.tiles()), order(ruler.tiles());
  std::vector<double> remainder(ruler.tiles());
  std::uint32_t left = budget;
  for (std::uint32_t t = 0; t < ruler.tiles(); ++t) {
    const double share =
        budget * (static_cast<double>(ruler.tile_mass(t)) / static_cast<double>(ruler.total()));
    budgets[t] = static_cast<std::uint32_t>(share);
    remainder[t] = share - std::floor(share);
    left -= budgets[t];
    order[t] = t;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return remainder[a] > remainder[b]; });
  for (std::uint32_t i = 0; i < left; ++i) ++budgets[order[i]];
  return budgets;
}

std::vector<double> largest_remainder_weights(const Ruler& ruler, std::uint32_t budget) {
  const std::vector<std::uint32_t> budgets = largest_remainder_budgets(ruler, budget);
  std::vector<double> weights = expected_weights(ruler);
  for (std::uint32_t row = 0; row < ruler.rows(); ++row) {
    const std::uint32_t tile = row / kTileRows;
    if (ruler.tile_mass(tile) == 0) continue;
    weights[row] *=
        static_cast<double>(budgets[tile]) / budget *
        (static_cast<double>(ruler.total()) / static_cast<double>(ruler.tile_mass(tile)));
  }
  return weights;
}

}  // namespace stoat::gpu
