// The statistic that judges the kernels' bias, on the CPU's sampler: it passes the right one and
// rejects its evil twins. Level: 6 standard errors of a sum of more than 100 pairs of components,
// better than 1e-6; the seed is fixed.
#include "gpu/bench/bias_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>

#include "models/attention/decode.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kContext = 2048, kHeads = 6, kDim = 64, kBudget = 32;
constexpr std::uint32_t kBatches = 64, kDrawsABatch = 128;
constexpr double kZ = 6;

class BiasStatistic : public testing::Test {
 protected:
  struct Head {
    std::unique_ptr<Ruler> ruler;
    std::vector<Bf16> v;  // [context, dim]
    KvRows values() const { return {v.data(), kDim, kContext, kDim}; }
  };

  BiasStatistic() {
    for (Head& head : heads_) {
      std::vector<float> logits(kContext);
      for (float& x : logits) x = 2.5F * normal_(random_);
      head.ruler = std::make_unique<Ruler>(encode_scores(logits));
      for (std::uint32_t i = 0; i < kContext * kDim; ++i)
        head.v.push_back(to_bf16(normal_(random_)));
      append(expected_, gather_dense(expected_weights(*head.ruler), head.values()));
    }
  }

  static void append(std::vector<double>& all, const std::vector<double>& one) {
    all.insert(all.end(), one.begin(), one.end());
  }

  using Draw = std::function<Selection(const Ruler&, std::uint64_t uniform)>;

  // uniform_of(batch, draw, head): 64 bits.
  BiasSums sums_of(const Draw& draw, const std::function<std::uint64_t()>& uniform) const {
    BiasSums sums;
    sums.batches = kBatches;
    sums.draws_a_batch = kDrawsABatch;
    sums.elements = expected_.size();
    sums.sum.resize(kBatches * expected_.size());
    for (std::uint32_t b = 0; b < kBatches; ++b) {
      double error = 0;
      for (std::uint32_t i = 0; i < kDrawsABatch; ++i) {
        for (std::uint32_t h = 0; h < kHeads; ++h) {
          const Selection selection = draw(*heads_[h].ruler, uniform());
          std::vector<double> weights;
          for (const RowCount& row : selection.rows)
            weights.push_back(static_cast<double>(row.count) / kBudget);
          const std::vector<double> out =
              gather_selected(selection.rows, weights, heads_[h].values());
          for (std::uint32_t d = 0; d < kDim; ++d) {
            const double difference = out[d] - expected_[h * kDim + d];
            sums.sum[b * expected_.size() + h * kDim + d] += out[d];
            error += difference * difference;
          }
        }
      }
      sums.square_error.push_back(error);
    }
    return sums;
  }

  BiasEstimate estimate(const char* name, const Draw& draw) {
    const BiasEstimate found =
        estimate_bias(sums_of(draw, [this] { return random_(); }), expected_);
    std::printf("%-28s bias %9.2e (raw %.2e, floor %.2e), z %6.1f\n", name, found.bias(), found.raw,
                found.floor, found.z());
    return found;
  }

  std::mt19937_64 random_{20261122};
  std::normal_distribution<float> normal_;
  Head heads_[kHeads];
  std::vector<double> expected_;
};

Selection systematic(const Ruler& ruler, std::uint64_t uniform, double reach = 1) {
  const auto offset =
      static_cast<std::uint64_t>(reach * static_cast<double>(mulhi64(uniform, ruler.total())));
  return select_systematic_at(ruler, kBudget, offset);
}

// Tile budgets fixed by largest remainder, one uniform offset: as published.
Selection largest_remainder(const Ruler& ruler, std::uint64_t uniform) {
  Selection selection;
  const std::vector<std::uint32_t> budgets = largest_remainder_budgets(ruler, kBudget);
  for (std::uint32_t tile = 0; tile < ruler.tiles(); ++tile) {
    std::uint32_t row = tile * kTileRows;
    for (std::uint32_t s = 0; s < budgets[tile]; ++s) {
      const std::uint64_t mass = ruler.tile_weight(tile);
      const std::uint64_t point = s * mass + mulhi64(uniform, mass);
      while (point >= budgets[tile] * ruler.prefix_end(row)) ++row;
      if (!selection.rows.empty() && selection.rows.back().row == row)
        ++selection.rows.back().count;
      else
        selection.rows.push_back({row, 1});
    }
  }
  return selection;
}

TEST_F(BiasStatistic, PassesTheUnbiasedSampler) {
  const BiasEstimate found =
      estimate("systematic", [](const Ruler& r, std::uint64_t u) { return systematic(r, u); });
  EXPECT_LT(std::fabs(found.z()), kZ);
  EXPECT_NEAR(found.raw / found.floor, 1, 0.3);
}

TEST_F(BiasStatistic, RejectsAnOffsetThatMissesTheLastTwoPercent) {
  const BiasEstimate found = estimate("offset in [0, 0.98 Z)", [](const Ruler& r, std::uint64_t u) {
    return systematic(r, u, 0.98);
  });
  EXPECT_GT(found.z(), kZ);
}

TEST_F(BiasStatistic, RejectsLargestRemainderBudgetsAndPredictsTheirBias) {
  const BiasEstimate found = estimate("largest remainder", largest_remainder);
  EXPECT_GT(found.z(), kZ);
  std::vector<double> mean;
  for (const Head& head : heads_)
    append(mean, gather_dense(largest_remainder_weights(*head.ruler, kBudget), head.values()));
  EXPECT_NEAR(found.bias(), relative_error(mean, expected_), 0.02 * found.bias());
}

TEST_F(BiasStatistic, RejectsSeedsThatRepeatFromBatchToBatch) {
  BiasSums sums = sums_of([](const Ruler& r, std::uint64_t u) { return systematic(r, u); },
                          [this] { return random_(); });
  for (std::size_t b = 1; b < kBatches; ++b)
    std::copy_n(sums.sum.begin(), sums.elements,
                sums.sum.begin() + static_cast<std::ptrdiff_t>(b * sums.elements));
  EXPECT_GT(estimate_bias(sums, expected_).z(), kZ);
}

TEST_F(BiasStatistic, FollowsFromTheNormsOfItsBatches) {
  const BiasEstimate found =
      estimate("systematic", [](const Ruler& r, std::uint64_t u) { return systematic(r, u); });
  double own = 0;
  for (const double norm2 : found.batch_norm2) own += norm2;
  EXPECT_EQ(found.squared, (found.sum_norm2 - own) / (kBatches * (kBatches - 1.0)));
}

}  // namespace
}  // namespace stoat::gpu
