#include "gpu/bench/bias_truth.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <thread>
#include <utility>

namespace stoat::gpu {

namespace {

constexpr std::size_t kHeadDim = BiasRegime::kHeadDim, kElements = BiasRegime::kElements;
constexpr std::uint32_t kOffsets = 1024;

// Calls work(head) for every query head, on all processors.
void for_heads(const std::function<void(std::uint32_t)>& work) {
  std::atomic<std::uint32_t> next = 0;
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < std::max(1U, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (std::uint32_t head = next++; head < BiasRegime::kQHeads; head = next++) work(head);
    });
  }
}

void put(std::vector<double>& all, std::uint32_t head, const std::vector<double>& one) {
  std::copy(one.begin(), one.end(), all.begin() + static_cast<std::ptrdiff_t>(head * kHeadDim));
}

}  // namespace

BiasTruth::BiasTruth(const BiasRegime& regime, const BiasDevice& device)
    : regime_(regime),
      device_(device),
      heads_(BiasRegime::kQHeads),
      exact_(kElements),
      expected_(kElements) {
  for_heads([&](std::uint32_t head) {
    Head& h = heads_[head];
    std::vector<double> q(kHeadDim);
    for (std::size_t i = 0; i < kHeadDim; ++i)
      q[i] = static_cast<double>(to_float(device.q[head * kHeadDim + i]));
    // The kernels' scale is an fp32 number.
    const auto scale = static_cast<double>(1.0F / std::sqrt(static_cast<float>(kHeadDim)));
    const std::vector<double> logits = score(q, rows(device.k, head), scale);
    std::vector<double> p = softmax(logits);
    h.participation = softmax_stats(logits, p).participation;
    h.ruler =
        std::make_unique<Ruler>(encode_scores(std::vector<float>(logits.begin(), logits.end())));
    put(exact_, head, gather_dense(p, rows(device.v, head)));
    put(expected_, head, gather_dense(expected_weights(*h.ruler), rows(device.v, head)));
    for (std::size_t i = 1; i < p.size(); ++i) p[i] += p[i - 1];
    h.cumulative = std::move(p);
  });
}

KvRows BiasTruth::rows(const std::vector<Bf16>& tensor, std::uint32_t head) const {
  const std::uint32_t kv_head = head / (BiasRegime::kQHeads / BiasRegime::kKvHeads);
  return {tensor.data() + kv_head * kHeadDim, BiasRegime::kKvHeads * kHeadDim, regime_.context,
          static_cast<std::uint32_t>(kHeadDim)};
}

double BiasTruth::participation() const {
  std::vector<double> all;
  for (const Head& head : heads_) all.push_back(head.participation);
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

double BiasTruth::largest_remainder_bias(std::uint32_t budget) const {
  std::vector<double> mean(kElements);
  for_heads([&](std::uint32_t head) {
    put(mean, head,
        gather_dense(largest_remainder_weights(*heads_[head].ruler, budget),
                     rows(device_.v, head)));
  });
  return relative_error(mean, exact_);
}

double BiasTruth::systematic_square(std::uint32_t head, std::uint32_t budget, double offset) const {
  const std::vector<double>& cumulative = heads_[head].cumulative;
  std::vector<RowCount> drawn;
  for (std::uint32_t s = 0; s < budget; ++s) {
    const double point = (s + offset) / budget * cumulative.back();
    const auto found = std::upper_bound(cumulative.begin(), cumulative.end() - 1, point);
    const auto row = static_cast<std::uint32_t>(found - cumulative.begin());
    if (!drawn.empty() && drawn.back().row == row)
      ++drawn.back().count;
    else
      drawn.push_back({row, 1});
  }
  std::vector<double> weights;
  for (const RowCount& r : drawn) weights.push_back(static_cast<double>(r.count) / budget);
  const std::vector<double> out = gather_selected(drawn, weights, rows(device_.v, head));
  double square = 0;
  for (std::size_t i = 0; i < kHeadDim; ++i) {
    const double d = out[i] - exact_[head * kHeadDim + i];
    square += d * d;
  }
  return square;
}

DrawError BiasTruth::systematic_error(std::uint32_t budget) const {
  std::vector<double> squares(std::size_t{BiasRegime::kQHeads} * kOffsets);
  for_heads([&](std::uint32_t head) {
    for (std::uint32_t o = 0; o < kOffsets; ++o)
      squares[std::size_t{head} * kOffsets + o] =
          systematic_square(head, budget, (o + 0.5) / kOffsets);
  });
  double norm2 = 0;
  for (const double x : exact_) norm2 += x * x;
  std::vector<double> draws(kOffsets);
  // Heads draw independently: a draw of all heads takes another offset of each.
  for (std::uint32_t o = 0; o < kOffsets; ++o) {
    for (std::uint32_t head = 0; head < BiasRegime::kQHeads; ++head)
      draws[o] += squares[std::size_t{head} * kOffsets + (o + 389 * head) % kOffsets] / norm2;
  }
  return draw_error_of(draws);
}

}  // namespace stoat::gpu
