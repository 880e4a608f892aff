// What holds exactly: published Philox vectors, the ruler's integers, counts over every offset, two
// levels equal one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>

#include "models/error.h"
#include "models/sampling/philox.h"
#include "models/sampling/points.h"
#include "models/sampling/ruler.h"
#include "models/sampling/selection.h"

namespace stoat {
namespace {

__extension__ using Wide = unsigned __int128;

// Gaussian logits with the given spread; reproducible.
std::vector<float> random_logits(std::uint32_t rows, double spread, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<float> logits(rows);
  for (float& logit : logits) {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(engine()) / 4294967296.0;
    logit = static_cast<float>((sum - 6) * spread);
  }
  return logits;
}

DrawSite site_of(std::uint64_t seed) { return DrawSite{seed, 3, 77, 5, 9}; }

TEST(Philox, MatchesThePublishedVectors) {
  // Random123 known-answer tests, philox4x32 10 rounds.
  const auto check = [](PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1,
                        std::array<std::uint32_t, 4> expected) {
    const PhiloxBlock out = philox4x32_10(counter, key0, key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out.word[i], expected[static_cast<std::size_t>(i)]);
  };
  check({{0, 0, 0, 0}}, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const std::uint32_t ones = 0xffffffff;
  check({{ones, ones, ones, ones}}, ones, ones, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0,
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST(Philox, EveryFieldOfTheSiteChangesTheDraw) {
  std::set<std::uint64_t> seen;
  const auto add = [&](const DrawSite& site, Purpose purpose, std::uint32_t draw) {
    seen.insert(draw_u64(site, purpose, draw));
  };
  const DrawSite base = site_of(1);
  add(base, Purpose::kValue, 0);
  add(base, Purpose::kValue, 1);
  add(base, Purpose::kTileRemainder, 0);
  for (const DrawSite& other :
       {DrawSite{2, 3, 77, 5, 9}, DrawSite{1 | (std::uint64_t{1} << 40), 3, 77, 5, 9},
        DrawSite{1, 4, 77, 5, 9}, DrawSite{1, 3, 78, 5, 9}, DrawSite{1, 3, 77, 6, 9},
        DrawSite{1, 3, 77, 5, 10}}) {
    add(other, Purpose::kValue, 0);
  }
  EXPECT_EQ(seen.size(), 9U);
}

TEST(Ruler, WeightsArePureFunctionsOfTheCode) {
  const std::uint32_t* lut = weight_lut();
  EXPECT_EQ(weight_of_code(0, lut), 1U << 24);
  EXPECT_EQ(weight_of_code(2048, lut), 1U << 23);
  EXPECT_EQ(weight_of_code(1024, lut), 11863283U);  // rint(2^24 / sqrt 2)
  EXPECT_EQ(weight_of_code(65535, lut), 0U);
  for (std::uint32_t code = 1; code < 65536; ++code) {
    EXPECT_LE(weight_of_code(static_cast<std::uint16_t>(code), lut),
              weight_of_code(static_cast<std::uint16_t>(code - 1), lut));
  }
}

TEST(Ruler, TotalVariationFromTheSoftmaxIsBelowTheDesignsBound) {
  for (const double spread : {0.5, 2.0, 4.0}) {
    const std::vector<float> logits = random_logits(20000, spread, 7);
    const Ruler ruler(encode_scores(logits));
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    double distance = 0;
    for (std::uint32_t row = 0; row < ruler.rows(); ++row) {
      const double weight = static_cast<double>(ruler.end(row) - ruler.begin(row)) /
                            static_cast<double>(ruler.total());
      distance += std::fabs(weight - std::exp(static_cast<double>(logits[row])) / sum) / 2;
    }
    EXPECT_LT(distance, 1.1e-4)
        << "spread " << spread;  // a code is off by at most ln 2 / 4096 = 1.7e-4, 8.5e-5 on average
  }
}

TEST(Ruler, BoundariesCoverTheWholeLengthWithoutGaps) {
  const Ruler ruler(encode_scores(random_logits(1000, 6.0, 3)));
  EXPECT_EQ(ruler.begin(0), 0U);
  for (std::uint32_t row = 0; row + 1 < ruler.rows(); ++row)
    EXPECT_EQ(ruler.end(row), ruler.begin(row + 1));
  EXPECT_EQ(ruler.end(999), ruler.total());
}

TEST(Ruler, StrangeScoresAreDefinedOrRefused) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THROW(encode_scores(std::vector<float>{}), Error);
  EXPECT_THROW(encode_scores(std::vector<float>{1, std::nanf("")}), Error);
  EXPECT_THROW(encode_scores(std::vector<float>{1, infinity}), Error);
  EXPECT_THROW(encode_scores(std::vector<float>{-infinity, -infinity}), Error);
  EXPECT_THROW(encode_scores(std::vector<float>{3e38F}), Error);
  // A masked row and a wholly masked tile are never drawn.
  std::vector<float> logits(600, -infinity);
  logits[300] = 1.0F;
  logits[310] = 1.0F;
  const ScoreCodes codes = encode_scores(logits);
  EXPECT_EQ(codes.exponent[0], kMaskedTile);
  for (const Method method :
       {Method::kIid, Method::kStratified, Method::kSystematic, Method::kProp, Method::kFlash}) {
    const Selection selection = select_rows(method, codes, 64, site_of(5));
    for (const RowCount& entry : selection.rows) EXPECT_TRUE(entry.row == 300 || entry.row == 310);
  }
  // All equal: every row owns the same length.
  const Ruler flat(encode_scores(std::vector<float>(512, -3.25F)));
  for (std::uint32_t row = 0; row < 512; ++row)
    EXPECT_EQ(flat.end(row) - flat.begin(row), flat.total() / 512);
  // Huge but finite scores.
  EXPECT_NO_THROW(Ruler(encode_scores(std::vector<float>{-7e8F, 7e8F})));
}

TEST(Selection, CountsSumToTheBudgetAndRowsIncrease) {
  for (const std::uint32_t rows : {1U, 2U, 255U, 256U, 257U, 3000U}) {
    const ScoreCodes codes = encode_scores(random_logits(rows, 3.0, rows));
    for (const Method method :
         {Method::kIid, Method::kStratified, Method::kSystematic, Method::kProp, Method::kFlash}) {
      for (const std::uint32_t budget : {1U, 7U, 128U, 5000U}) {
        if (method == Method::kFlash && budget < codes.exponent.size()) {
          EXPECT_THROW(select_rows(method, codes, budget, site_of(1)), Error);
          continue;
        }
        const Selection selection = select_rows(method, codes, budget, site_of(budget));
        std::uint64_t sum = 0;
        std::int64_t last = -1;
        for (const RowCount& entry : selection.rows) {
          EXPECT_GT(static_cast<std::int64_t>(entry.row), last);
          EXPECT_LT(entry.row, rows);
          EXPECT_GE(entry.count, 1);
          last = entry.row;
          sum += entry.count;
        }
        EXPECT_EQ(sum, budget) << method_name(method) << " rows " << rows;
        double weight = 0;
        for (const double w : selection_weights(method, codes, selection)) weight += w;
        EXPECT_NEAR(weight, 1.0, 1e-12);
      }
    }
  }
}

// Counts change only where an offset meets a boundary, so the classes between these offsets are all
// offsets there are.
std::vector<std::uint64_t> critical_offsets(const Ruler& ruler, std::uint32_t budget) {
  std::set<std::uint64_t> offsets{0};
  for (std::uint32_t row = 0; row < ruler.rows(); ++row) {
    offsets.insert(
        static_cast<std::uint64_t>(static_cast<Wide>(budget) * ruler.begin(row) % ruler.total()));
  }
  return {offsets.begin(), offsets.end()};
}

using SelectAt = Selection (*)(const Ruler&, std::uint32_t, std::uint64_t);

// Sum over all Z offsets of the count of each row, exactly.
std::vector<Wide> counts_over_all_offsets(const Ruler& ruler, std::uint32_t budget,
                                          SelectAt select) {
  const std::vector<std::uint64_t> offsets = critical_offsets(ruler, budget);
  std::vector<Wide> sums(ruler.rows(), 0);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const std::uint64_t next = i + 1 < offsets.size() ? offsets[i + 1] : ruler.total();
    for (const RowCount& entry : select(ruler, budget, offsets[i]).rows) {
      sums[entry.row] += static_cast<Wide>(entry.count) * (next - offsets[i]);
    }
  }
  return sums;
}

TEST(Selection, ExpectedCountsAreExactOverEveryOffset) {
  for (const std::uint32_t rows : {1U, 300U, 700U}) {
    for (const std::uint32_t budget : {1U, 3U, 64U, 1000U}) {
      const Ruler ruler(encode_scores(random_logits(rows, 4.0, rows + budget)));
      const std::vector<Wide> sums = counts_over_all_offsets(ruler, budget, &select_systematic_at);
      for (std::uint32_t row = 0; row < rows; ++row) {
        // E[count] = budget * w / Z, so the sum over Z offsets is budget * w.
        EXPECT_TRUE(sums[row] == static_cast<Wide>(budget) * (ruler.end(row) - ruler.begin(row)))
            << "row " << row;
      }
    }
  }
}

TEST(Selection, TwoLevelsEqualOneOverEveryOffset) {
  for (const double spread : {0.3, 3.0, 20.0}) {  // 20: whole tiles are shifted out
    const Ruler ruler(encode_scores(random_logits(900, spread, 11)));
    for (const std::uint32_t budget : {1U, 5U, 128U, 2048U}) {
      for (const std::uint64_t offset : critical_offsets(ruler, budget)) {
        for (const std::uint64_t o : {offset, offset == 0 ? ruler.total() - 1 : offset - 1}) {
          ASSERT_EQ(select_systematic_at(ruler, budget, o), select_prop_at(ruler, budget, o))
              << "offset " << o;
        }
      }
    }
  }
}

// The evil twin: truncates every weight instead of the cumulative sum, so tiles and rows disagree
// about a few units.
Selection truncated_weights_at(const Ruler& ruler, std::uint32_t budget, std::uint64_t offset) {
  Selection selection;
  std::uint32_t tile = 0;
  for (std::uint32_t s = 0; s < budget; ++s) {
    const std::uint64_t point = s * ruler.total() + offset;
    while (point >= budget * ruler.tile_begin(tile + 1)) ++tile;
    std::uint64_t residual = point - budget * ruler.tile_begin(tile);
    std::uint32_t row = tile * kTileRows;
    const std::uint32_t last = std::min(ruler.rows(), row + kTileRows) - 1;
    while (row < last) {
      const std::uint64_t weight =
          scaled_mass(ruler.prefix_end(row) - ruler.prefix_begin(row), ruler.shift(tile));
      if (residual < budget * weight) break;
      residual -= budget * weight;
      ++row;
    }
    if (!selection.rows.empty() && selection.rows.back().row == row) {
      ++selection.rows.back().count;
    } else {
      selection.rows.push_back({row, 1});
    }
  }
  return selection;
}

TEST(Selection, TruncatingTheWeightsInsteadOfTheSumIsCaught) {
  const Ruler ruler(encode_scores(random_logits(900, 20.0, 11)));
  bool differs = false;
  for (const std::uint64_t offset : critical_offsets(ruler, 128)) {
    differs = differs || !(truncated_weights_at(ruler, 128, offset) ==
                           select_systematic_at(ruler, 128, offset));
  }
  EXPECT_TRUE(differs);
}

TEST(Selection, PropIsSystematicSampling) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const auto rows = static_cast<std::uint32_t>(1 + (seed * 97) % 4000);
    const ScoreCodes codes = encode_scores(
        random_logits(rows, 0.1 + static_cast<double>(seed % 8), static_cast<std::uint32_t>(seed)));
    const Ruler ruler(codes);
    const Selection one = select_rows(Method::kSystematic, codes, ruler, 128, site_of(seed));
    ASSERT_EQ(one, select_rows(Method::kProp, codes, ruler, 128, site_of(seed)));
    EXPECT_TRUE(counts_within_one(ruler, one, 128));
  }
}

// "one-hot" needs no method of its own.
TEST(Selection, OneSampleIsTheSameRowForEverySampler) {
  std::set<std::uint32_t> rows;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const ScoreCodes codes = encode_scores(random_logits(900, 2.0, 5));
    const Selection one = select_rows(Method::kSystematic, codes, 1, site_of(seed));
    ASSERT_EQ(one.rows.size(), 1U);
    for (const Method method : {Method::kIid, Method::kStratified, Method::kProp})
      ASSERT_EQ(one, select_rows(method, codes, 1, site_of(seed)));
    rows.insert(one.rows[0].row);
  }
  EXPECT_GT(rows.size(), 20U);
}

TEST(Selection, FloorOrCeilCheckCatchesAMovedCount) {
  const ScoreCodes codes = encode_scores(random_logits(500, 1.0, 2));
  const Ruler ruler(codes);
  Selection selection = select_rows(Method::kSystematic, codes, ruler, 4000, site_of(4));
  ASSERT_TRUE(counts_within_one(ruler, selection, 4000));
  selection.rows[10].count = static_cast<std::uint16_t>(selection.rows[10].count + 2);
  selection.rows[20].count = static_cast<std::uint16_t>(selection.rows[20].count - 2);
  EXPECT_FALSE(counts_within_one(ruler, selection, 4000));
}

TEST(Selection, FlashSpreadsItsBudgetOverTiles) {
  const ScoreCodes codes = encode_scores(random_logits(1500, 2.0, 8));  // 6 tiles
  const Ruler ruler(codes);
  std::vector<std::uint64_t> extra(6, 0);
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const std::vector<std::uint32_t> budgets = flash_budgets(ruler, 20, site_of(seed));
    std::uint32_t sum = 0;
    for (std::size_t t = 0; t < 6; ++t) {
      EXPECT_TRUE(budgets[t] == 3 || budgets[t] == 4);
      extra[t] += budgets[t] - 3;
      sum += budgets[t];
    }
    ASSERT_EQ(sum, 20U);
  }
  for (const std::uint64_t count : extra)
    EXPECT_NEAR(static_cast<double>(count), 1000.0, 130.0);  // 5 standard deviations
}

TEST(Selection, TopKTakesTheLargestScoresOnce) {
  const std::vector<float> logits = random_logits(700, 3.0, 21);
  const ScoreCodes codes = encode_scores(logits);
  const Selection selection = select_rows(Method::kTopK, codes, 50, site_of(0));
  ASSERT_EQ(selection.rows.size(), 50U);
  float smallest_kept = 1e9F;
  std::set<std::uint32_t> kept;
  for (const RowCount& entry : selection.rows) {
    EXPECT_EQ(entry.count, 1);
    kept.insert(entry.row);
    smallest_kept = std::min(smallest_kept, logits[entry.row]);
  }
  for (std::uint32_t row = 0; row < 700; ++row) {
    if (kept.contains(row)) continue;
    EXPECT_LE(logits[row], smallest_kept + 0.001F);  // a code's step is ln 2 / 2048
  }
  EXPECT_EQ(select_rows(Method::kTopK, codes, 5000, site_of(0)).rows.size(), 700U);
}

TEST(Selection, BadBudgetsAreRefused) {
  const ScoreCodes codes = encode_scores(random_logits(10, 1.0, 1));
  EXPECT_THROW(select_rows(Method::kProp, codes, 0, site_of(0)), Error);
  EXPECT_THROW(select_rows(Method::kProp, codes, 65536, site_of(0)), Error);
  EXPECT_THROW(select_rows(Method::kDense, codes, 1, site_of(0)), Bug);
  EXPECT_THROW(method_from_name("porp"), Error);
  for (const std::string& name : method_names())
    EXPECT_EQ(method_name(method_from_name(name)), name);
}

}  // namespace
}  // namespace stoat
