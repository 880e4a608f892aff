// Samplers against their laws, with error rates, fixed seeds and evil twins that the same test must
// reject.
//
// Hypotheses: E[count_i] = S w_i / Z (all samplers); variance of a set's count: S p (1 - p) for
// iid, the sum over strata of p_s (1 - p_s) for stratified, frac (1 - frac) a row for systematic.
// Level 1e-6 a test, Bonferroni inside. STOAT_FRESH_SEED in the environment replaces the fixed seed
// (printed) for nightly runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <numeric>

#include "models/sampling/points.h"
#include "models/sampling/ruler.h"
#include "models/sampling/selection.h"
#include "tests/models/sampling/statistics.h"

namespace stoat {
namespace {

using test::bonferroni;
using test::chi_squared_p_value;
using test::kLevel;
using test::normal_p_value;

constexpr std::uint32_t kRows = 600;  // three tiles
constexpr std::uint32_t kDraws = 40000;

std::uint64_t base_seed() {
  static const std::uint64_t seed = [] {
    const char* fresh = std::getenv("STOAT_FRESH_SEED");
    const std::uint64_t value = fresh == nullptr ? 20260510 : std::strtoull(fresh, nullptr, 10);
    if (fresh != nullptr) std::cout << "STOAT_FRESH_SEED=" << value << "\n";
    return value;
  }();
  return seed;
}

DrawSite replicate(std::uint32_t n) { return DrawSite{base_seed(), 0, n, 2, 7}; }

// A ruler with unequal rows: weights fall by a factor of about 8 over the context, tiles differ.
const ScoreCodes& skewed() {
  static const ScoreCodes codes = [] {
    std::vector<float> logits(kRows);
    for (std::uint32_t i = 0; i < kRows; ++i)
      logits[i] = -0.0035F * static_cast<float>(i) + 0.3F * static_cast<float>(i % 7);
    return encode_scores(logits);
  }();
  return codes;
}
const Ruler& ruler() {
  static const Ruler instance(skewed());
  return instance;
}
double share(std::uint32_t row) {
  return static_cast<double>(ruler().end(row) - ruler().begin(row)) /
         static_cast<double>(ruler().total());
}

using Sampler = std::function<Selection(std::uint32_t budget, const DrawSite&)>;

Sampler real(Method method) {
  return [method](std::uint32_t budget, const DrawSite& site) {
    return select_rows(method, skewed(), ruler(), budget, site);
  };
}

// Rows by their points: how twins are written.
Selection from_points(std::vector<std::uint64_t> points, std::uint32_t budget) {
  std::sort(points.begin(), points.end());
  Selection selection;
  std::uint32_t row = 0;
  for (const std::uint64_t point : points) {
    while (point >= budget * ruler().end(row)) ++row;
    if (!selection.rows.empty() && selection.rows.back().row == row) {
      ++selection.rows.back().count;
    } else {
      selection.rows.push_back({row, 1});
    }
  }
  return selection;
}

// Bernoulli z-tests of every row's mean count under systematic sampling: the count is floor or ceil
// of S p.
double systematic_p_value(const Sampler& sampler, std::uint32_t budget) {
  std::vector<std::uint64_t> sums(kRows, 0);
  for (std::uint32_t n = 0; n < kDraws; ++n) {
    for (const RowCount& entry : sampler(budget, replicate(n)).rows) sums[entry.row] += entry.count;
  }
  std::vector<double> p_values;
  for (std::uint32_t row = 0; row < kRows; ++row) {
    const double mean = budget * share(row);
    const double fraction = mean - std::floor(mean);
    const double deviation = std::sqrt(kDraws * fraction * (1 - fraction));
    const double error = static_cast<double>(sums[row]) - kDraws * mean;
    if (deviation < 3) continue;  // too few events for the normal law
    p_values.push_back(normal_p_value(error / deviation));
  }
  EXPECT_GT(p_values.size(), kRows / 2);
  return bonferroni(p_values);
}

// Chi-squared of pooled counts in 60 cells of ten rows (iid: multinomial with kDraws * S draws).
double iid_p_value(const Sampler& sampler, std::uint32_t budget) {
  std::vector<double> observed(60, 0), expected(60, 0);
  for (std::uint32_t row = 0; row < kRows; ++row)
    expected[row / 10] += static_cast<double>(kDraws) * budget * share(row);
  for (std::uint32_t n = 0; n < kDraws; ++n) {
    for (const RowCount& entry : sampler(budget, replicate(n)).rows)
      observed[entry.row / 10] += entry.count;
  }
  double statistic = 0;
  for (std::size_t i = 0; i < 60; ++i)
    statistic += (observed[i] - expected[i]) * (observed[i] - expected[i]) / expected[i];
  return chi_squared_p_value(statistic, 59);
}

// Dispersion of the count of the even rows: sum over replicates of (count - mean)^2 / variance,
// about chi-squared(kDraws).
double dispersion_p_value(const Sampler& sampler, std::uint32_t budget, double variance) {
  double mean = 0;
  for (std::uint32_t row = 0; row < kRows; row += 2) mean += budget * share(row);
  double statistic = 0;
  for (std::uint32_t n = 0; n < kDraws; ++n) {
    double count = 0;
    for (const RowCount& entry : sampler(budget, replicate(n)).rows)
      count += entry.row % 2 == 0 ? entry.count : 0;
    statistic += (count - mean) * (count - mean) / variance;
  }
  return chi_squared_p_value(statistic, kDraws);
}

double even_share() {
  double p = 0;
  for (std::uint32_t row = 0; row < kRows; row += 2) p += share(row);
  return p;
}

// Probability that the draw of stratum s falls into an even row.
double stratum_even_share(std::uint32_t s, std::uint32_t budget) {
  const std::uint64_t begin = s * ruler().total();
  const std::uint64_t end = begin + ruler().total();
  double length = 0;
  for (std::uint32_t row = 0; row < kRows; row += 2) {
    const std::uint64_t first = std::max(begin, budget * ruler().begin(row));
    const std::uint64_t last = std::min(end, budget * ruler().end(row));
    if (last > first) length += static_cast<double>(last - first);
  }
  return length / static_cast<double>(ruler().total());
}

// Per stratum: does the draw fall into even rows with the right probability? z-tests over strata,
// and one over all of them.
double stratified_p_value(const std::function<std::uint64_t(std::uint32_t, const DrawSite&)>& point,
                          std::uint32_t budget) {
  std::vector<std::uint32_t> even_in(budget, 0);
  std::uint64_t lower_half = 0;
  for (std::uint32_t n = 0; n < kDraws; ++n) {
    for (std::uint32_t s = 0; s < budget; ++s) {
      const std::uint64_t p = point(s, replicate(n));
      lower_half += p % ruler().total() < ruler().total() / 2 ? 1 : 0;
      std::uint32_t low = 0, high = kRows - 1;
      while (low < high) {
        const std::uint32_t middle = (low + high) / 2;
        if (p < budget * ruler().end(middle)) {
          high = middle;
        } else {
          low = middle + 1;
        }
      }
      even_in[s] += low % 2 == 0 ? 1 : 0;
    }
  }
  std::vector<double> p_values;
  for (std::uint32_t s = 0; s < budget; ++s) {
    const double p = stratum_even_share(s, budget);
    p_values.push_back(normal_p_value((even_in[s] - kDraws * p) / std::sqrt(kDraws * p * (1 - p))));
  }
  // All strata together: half of the draws lie in the lower half of their stratum.
  const double draws = static_cast<double>(kDraws) * budget;
  p_values.push_back(
      normal_p_value((static_cast<double>(lower_half) - draws / 2) / std::sqrt(draws / 4)));
  return bonferroni(p_values);
}

TEST(Systematic, MeanCountsAreBudgetTimesProbability) {
  EXPECT_GT(systematic_p_value(real(Method::kSystematic), 400), kLevel);
}
TEST(Prop, MeanCountsAreBudgetTimesProbability) {
  EXPECT_GT(systematic_p_value(real(Method::kProp), 400), kLevel);
}
TEST(OneHot, BudgetOneDrawsRowsWithTheirProbability) {
  EXPECT_GT(iid_p_value(real(Method::kProp), 1), kLevel);
}

TEST(Systematic, AnOffsetThatMissesTwoPercentOfTheRulerIsRejected) {
  const Sampler twin = [](std::uint32_t budget, const DrawSite& site) {
    const std::uint64_t total = ruler().total();
    return select_systematic_at(ruler(), budget,
                                mulhi64(draw_u64(site, Purpose::kValue, 0), total - total / 50));
  };
  EXPECT_LT(systematic_p_value(twin, 400), kLevel);
}

// The published prop: tile budgets by largest remainder, then systematic inside the tile. With 40
// samples on three tiles no budget is off by more than 0.5, under 2 % of S * p of the tiles.
TEST(Prop, LargestRemainderTileBudgetsAreRejected) {
  const Sampler twin = [](std::uint32_t budget, const DrawSite& site) {
    std::vector<std::uint32_t> tile_budget(ruler().tiles());
    std::vector<std::pair<std::uint64_t, std::uint32_t>> remainders;
    std::uint32_t given = 0;
    for (std::uint32_t t = 0; t < ruler().tiles(); ++t) {
      const std::uint64_t mass = budget * ruler().tile_mass(t);
      tile_budget[t] = static_cast<std::uint32_t>(mass / ruler().total());
      given += tile_budget[t];
      remainders.emplace_back(mass % ruler().total(), t);
    }
    std::sort(remainders.rbegin(), remainders.rend());
    for (std::size_t i = 0; given < budget; ++i, ++given) ++tile_budget[remainders[i].second];
    Selection selection;
    for (std::uint32_t t = 0; t < ruler().tiles(); ++t) {
      const SystematicPoints points = systematic_points(site, ruler().tile_weight(t), t);
      std::uint32_t row = t * kTileRows;
      for (std::uint32_t s = 0; s < tile_budget[t]; ++s) {
        while (points.point(s) >= tile_budget[t] * ruler().prefix_end(row)) ++row;
        if (!selection.rows.empty() && selection.rows.back().row == row) {
          ++selection.rows.back().count;
        } else {
          selection.rows.push_back({row, 1});
        }
      }
    }
    return selection;
  };
  double worst = 0;
  for (std::uint32_t t = 0; t < ruler().tiles(); ++t) {
    const double expected =
        400.0 * static_cast<double>(ruler().tile_mass(t)) / static_cast<double>(ruler().total());
    worst = std::max(worst, std::fabs(std::rint(expected) - expected) / expected);
  }
  ASSERT_LT(worst, 0.02) << "this twin would be too easy";
  // Tile totals of the twin are constants: test them as one Bernoulli each.
  const auto tile_p_value = [](const Sampler& sampler) {
    std::vector<std::uint64_t> sums(ruler().tiles(), 0);
    for (std::uint32_t n = 0; n < kDraws; ++n) {
      for (const RowCount& entry : sampler(400, replicate(n)).rows)
        sums[entry.row / kTileRows] += entry.count;
    }
    std::vector<double> p_values;
    for (std::uint32_t t = 0; t < ruler().tiles(); ++t) {
      const double mean =
          400.0 * static_cast<double>(ruler().tile_mass(t)) / static_cast<double>(ruler().total());
      const double fraction = mean - std::floor(mean);
      p_values.push_back(normal_p_value((static_cast<double>(sums[t]) - kDraws * mean) /
                                        std::sqrt(kDraws * fraction * (1 - fraction))));
    }
    return bonferroni(p_values);
  };
  EXPECT_GT(tile_p_value(real(Method::kProp)), kLevel);
  EXPECT_LT(tile_p_value(twin), kLevel);
}

TEST(Iid, PooledCountsAreMultinomial) {
  EXPECT_GT(iid_p_value(real(Method::kIid), 32), kLevel);
  EXPECT_GT(dispersion_p_value(real(Method::kIid), 32, 32 * even_share() * (1 - even_share())),
            kLevel);
}

TEST(Iid, UniformsThatMissTwoPercentOfTheRulerAreRejected) {
  const Sampler twin = [](std::uint32_t budget, const DrawSite& site) {
    std::vector<std::uint64_t> points(budget);
    const std::uint64_t total = ruler().total() - ruler().total() / 50;
    for (std::uint32_t s = 0; s < budget; ++s)
      points[s] = budget * mulhi64(draw_u64(site, Purpose::kValue, s), total);
    return from_points(points, budget);
  };
  EXPECT_LT(iid_p_value(twin, 32), kLevel);
}

TEST(Iid, OneUniformReusedForTwoDrawsIsRejected) {
  const Sampler twin = [](std::uint32_t budget, const DrawSite& site) {
    std::vector<std::uint64_t> points(budget);
    for (std::uint32_t s = 0; s < budget; ++s) {
      points[s] =
          budget * mulhi64(draw_u64(site, Purpose::kValue, s == 1 ? 0 : s), ruler().total());
    }
    return from_points(points, budget);
  };
  EXPECT_LT(dispersion_p_value(twin, 32, 32 * even_share() * (1 - even_share())), kLevel);
}

TEST(Stratified, EveryStratumDrawsFromItsOwnRows) {
  const auto point = [](std::uint32_t s, const DrawSite& site) {
    return StratifiedPoints{site, ruler().total()}.point(s);
  };
  EXPECT_GT(stratified_p_value(point, 32), kLevel);
  double variance = 0;
  for (std::uint32_t s = 0; s < 32; ++s)
    variance += stratum_even_share(s, 32) * (1 - stratum_even_share(s, 32));
  EXPECT_GT(dispersion_p_value(real(Method::kStratified), 32, variance), kLevel);
}

// Independence of the strata: how many draws fall into the lower half of their stratum is
// binomial(S, 1/2).
double independence_p_value(
    const std::function<std::uint64_t(std::uint32_t, const DrawSite&)>& point,
    std::uint32_t budget) {
  double statistic = 0;
  for (std::uint32_t n = 0; n < kDraws; ++n) {
    double low = 0;
    for (std::uint32_t s = 0; s < budget; ++s) {
      low += point(s, replicate(n)) % ruler().total() < ruler().total() / 2 ? 1 : 0;
    }
    statistic += (low - budget / 2.0) * (low - budget / 2.0) / (budget / 4.0);
  }
  return chi_squared_p_value(statistic, kDraws);
}

TEST(Stratified, TheStrataAreIndependent) {
  const auto point = [](std::uint32_t s, const DrawSite& site) {
    return StratifiedPoints{site, ruler().total()}.point(s);
  };
  EXPECT_GT(independence_p_value(point, 32), kLevel);
}

TEST(Stratified, OneUniformReusedForTwoOfTheStrataIsRejected) {
  const auto twin = [](std::uint32_t s, const DrawSite& site) {
    return s * ruler().total() +
           mulhi64(draw_u64(site, Purpose::kValue, s == 1 ? 0 : s), ruler().total());
  };
  EXPECT_LT(independence_p_value(twin, 32), kLevel);
}

TEST(Stratified, StrataThatMissTwoPercentAreRejected) {
  const auto twin = [](std::uint32_t s, const DrawSite& site) {
    const std::uint64_t total = ruler().total();
    return s * total + mulhi64(draw_u64(site, Purpose::kValue, s), total - total / 50);
  };
  EXPECT_LT(stratified_p_value(twin, 32), kLevel);
}

// flash: each tile's draws are systematic on the tile's own ruler, and the remainder is dealt
// fairly.
double flash_p_value(const Sampler& sampler, std::uint32_t budget) {
  std::vector<std::uint64_t> sums(kRows, 0);
  for (std::uint32_t n = 0; n < kDraws; ++n) {
    for (const RowCount& entry : sampler(budget, replicate(n)).rows) sums[entry.row] += entry.count;
  }
  std::vector<double> p_values;
  for (std::uint32_t row = 0; row < kRows; ++row) {
    const std::uint32_t tile = row / kTileRows;
    const double p = static_cast<double>(ruler().prefix_end(row) - ruler().prefix_begin(row)) /
                     static_cast<double>(ruler().tile_weight(tile));
    const double mean = p * budget / ruler().tiles();  // budget a multiple of the tiles
    const double fraction = mean - std::floor(mean);
    const double deviation = std::sqrt(kDraws * fraction * (1 - fraction));
    if (deviation < 3) continue;
    p_values.push_back(
        normal_p_value((static_cast<double>(sums[row]) - kDraws * mean) / deviation));
  }
  EXPECT_GT(p_values.size(), kRows / 2);
  return bonferroni(p_values);
}

TEST(Flash, MeanCountsAreTheTilesBudgetTimesProbability) {
  EXPECT_GT(flash_p_value(real(Method::kFlash), 300), kLevel);
}

TEST(Flash, TileOffsetsThatMissTwoPercentAreRejected) {
  const Sampler twin = [](std::uint32_t budget, const DrawSite& site) {
    Selection selection;
    for (std::uint32_t t = 0; t < ruler().tiles(); ++t) {
      const std::uint64_t total = ruler().tile_weight(t);
      const SystematicPoints points{
          total, mulhi64(draw_u64(site, Purpose::kValue, t), total - total / 50)};
      std::uint32_t row = t * kTileRows;
      for (std::uint32_t s = 0; s < budget / 3; ++s) {
        while (points.point(s) >= budget / 3 * ruler().prefix_end(row)) ++row;
        if (!selection.rows.empty() && selection.rows.back().row == row) {
          ++selection.rows.back().count;
        } else {
          selection.rows.push_back({row, 1});
        }
      }
    }
    return selection;
  };
  EXPECT_LT(flash_p_value(twin, 300), kLevel);
}

}  // namespace
}  // namespace stoat
