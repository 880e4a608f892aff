#include "models/attention/decode.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <functional>

#include "models/error.h"

namespace stoat {

namespace {

using Vector = Eigen::VectorXd;
using ConstVectorMap = Eigen::Map<const Vector>;

// Blocks of rows are widened to double before they meet a matrix product.
constexpr std::uint32_t kBlockRows = 64;
using Block = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void widen(const KvRows& rows, std::uint32_t first, std::uint32_t count, Block& block) {
  block.resize(count, rows.head_dim);
  for (std::uint32_t i = 0; i < count; ++i) {
    const Bf16* source = rows.data + (first + i) * rows.row_stride;
    double* target = block.data() + static_cast<std::size_t>(i) * rows.head_dim;
    for (std::uint32_t d = 0; d < rows.head_dim; ++d)
      target[d] = static_cast<double>(to_float(source[d]));
  }
}

}  // namespace

std::vector<double> score(std::span<const double> q, const KvRows& keys, double scale) {
  STOAT_ENSURE(q.size() == keys.head_dim, "query and key rows have the same head_dim");
  std::vector<double> logits(keys.context_len);
  const ConstVectorMap query(q.data(), static_cast<Eigen::Index>(q.size()));
  Block block;
  for (std::uint32_t first = 0; first < keys.context_len; first += kBlockRows) {
    const std::uint32_t count = std::min(kBlockRows, keys.context_len - first);
    widen(keys, first, count, block);
    Eigen::Map<Vector>(logits.data() + first, count).noalias() = scale * (block * query);
  }
  return logits;
}

std::vector<double> softmax(std::span<const double> logits) {
  if (logits.empty())
    throw usage_error({"softmax"}, "no scores at all (context 0)", "a context of at least one row");
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) {
      throw damaged_error(
          {"attention scores"}, "the score of row " + std::to_string(i) + " is not finite",
          "finite scores", "look for NaN or infinity in the weights or the KV cache");
    }
  }
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(logits.size());
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) sum += p[i] = std::exp(logits[i] - max);
  for (double& value : p) value /= sum;
  return p;
}

std::vector<double> gather_dense(std::span<const double> p, const KvRows& values) {
  STOAT_ENSURE(p.size() == values.context_len, "one probability per row");
  std::vector<double> out(values.head_dim, 0.0);
  Eigen::Map<Vector> sum(out.data(), values.head_dim);
  Block block;
  for (std::uint32_t first = 0; first < values.context_len; first += kBlockRows) {
    const std::uint32_t count = std::min(kBlockRows, values.context_len - first);
    widen(values, first, count, block);
    sum.noalias() += block.transpose() * ConstVectorMap(p.data() + first, count);
  }
  return out;
}

std::vector<double> gather_selected(std::span<const RowCount> rows, std::span<const double> weights,
                                    const KvRows& values) {
  STOAT_ENSURE(rows.size() == weights.size(), "one weight per selected row");
  std::vector<double> out(values.head_dim, 0.0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    STOAT_ENSURE(rows[i].row < values.context_len, "selected rows lie in the context");
    const Bf16* source = values.data + rows[i].row * values.row_stride;
    for (std::uint32_t d = 0; d < values.head_dim; ++d)
      out[d] += weights[i] * static_cast<double>(to_float(source[d]));
  }
  return out;
}

SoftmaxStats softmax_stats(std::span<const double> logits, std::span<const double> p) {
  STOAT_ENSURE(!p.empty() && logits.size() == p.size(), "one probability per logit");
  SoftmaxStats stats;
  stats.max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - stats.max);
  stats.lse = stats.max + std::log(sum);
  double squares = 0;
  for (const double value : p) {
    if (value > 0) stats.entropy -= value * std::log(value);
    squares += value * value;
  }
  stats.participation = 1.0 / squares;
  std::vector<double> top(p.begin(), p.end());
  const std::size_t kept = std::min<std::size_t>(32, top.size());
  std::partial_sort(top.begin(), top.begin() + static_cast<std::ptrdiff_t>(kept), top.end(),
                    std::greater<>());
  for (std::size_t i = 0; i < kept; ++i) {
    if (i < 1) stats.mass_top1 += top[i];
    if (i < 8) stats.mass_top8 += top[i];
    stats.mass_top32 += top[i];
  }
  stats.mass_token0 = p[0];
  return stats;
}

double relative_error(std::span<const double> a, std::span<const double> b) {
  STOAT_ENSURE(a.size() == b.size(), "vectors of the same length");
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  if (difference == 0) return 0;
  return norm == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(difference / norm);
}

double total_variation(std::span<const float> logits_a, std::span<const float> logits_b) {
  STOAT_ENSURE(logits_a.size() == logits_b.size(), "distributions over the same vocabulary");
  const std::vector<double> a = softmax(std::vector<double>(logits_a.begin(), logits_a.end()));
  const std::vector<double> b = softmax(std::vector<double>(logits_b.begin(), logits_b.end()));
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::fabs(a[i] - b[i]);
  return sum / 2;
}

bool same_top1(std::span<const float> logits_a, std::span<const float> logits_b) {
  return std::max_element(logits_a.begin(), logits_a.end()) - logits_a.begin() ==
         std::max_element(logits_b.begin(), logits_b.end()) - logits_b.begin();
}

}  // namespace stoat
