// Accumulators against plain arithmetic: bit by bit where that is defined, within the stated bound
// of the sum in double everywhere, and with twins that the bound must reject.
#include "models/arithmetic/accumulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "models/error.h"

namespace stoat {
namespace {

constexpr std::uint32_t kDim = 64;
constexpr AccumulatorFormat kReal[] = {AccumulatorFormat::kFp32, AccumulatorFormat::kBf16,
                                       AccumulatorFormat::kShared24};
constexpr Repeats kAllRepeats[] = {Repeats::kAdds, Repeats::kShiftAdds, Repeats::kMultiply};

struct Rows {
  std::vector<Bf16> values;
  std::vector<CountedRow> rows;
  std::uint32_t budget = 0;
  float largest = 0;
};

// n rows of normal values whose scale differs by rows, counts 1 to 9.
Rows random_rows(std::uint32_t n, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  Rows out;
  for (std::uint32_t i = 0; i < n * kDim; ++i) {
    const float scale = std::ldexp(1.0F, static_cast<int>(i / kDim % 5) - 2);
    out.values.push_back(to_bf16(scale * normal(engine)));
    out.largest = std::max(out.largest, std::fabs(to_float(out.values.back())));
  }
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto count = static_cast<std::uint32_t>(1 + engine() % 9);
    out.rows.push_back({out.values.data() + std::size_t{i} * kDim, count});
    out.budget += count;
  }
  return out;
}

std::vector<double> in_double(const Rows& rows) {
  std::vector<double> out(kDim, 0.0);
  for (const CountedRow& row : rows.rows) {
    for (std::uint32_t d = 0; d < kDim; ++d) {
      out[d] += row.count * static_cast<double>(to_float(row.values[d]));
    }
  }
  for (double& value : out) value /= rows.budget;
  return out;
}

double worst(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference = std::max(difference, std::fabs(a[i] - b[i]));
  return difference;
}

// Round to nearest even with 8 significant bits, straight from double, normal numbers only.
float bf16_from_double(double value) {
  if (value == 0) return 0;
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);  // [0.5, 1)
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8));
}

TEST(Accumulator, Fp32IsTheFloatLoopBitByBit) {
  const Rows rows = random_rows(128, 1);
  const auto out =
      gather_counted(rows.rows, kDim, 128, AccumulatorFormat::kFp32, Repeats::kAdds, {});
  for (std::uint32_t d = 0; d < kDim; ++d) {
    float sum = 0;
    for (const CountedRow& row : rows.rows) {
      for (std::uint32_t i = 0; i < row.count; ++i) sum += to_float(row.values[d]);
    }
    EXPECT_EQ(out[d], static_cast<double>(sum) / 128);
  }
}

TEST(Accumulator, Bf16RoundsEverySumOnce) {
  std::mt19937_64 engine(2);
  std::normal_distribution<float> normal;
  Accumulator lane(AccumulatorFormat::kBf16, Repeats::kAdds);
  double expected = 0;
  for (int i = 0; i < 20000; ++i) {
    const Bf16 v = to_bf16(std::ldexp(normal(engine), i % 23 - 11));
    lane.add(v);
    expected = static_cast<double>(bf16_from_double(expected + static_cast<double>(to_float(v))));
    ASSERT_EQ(lane.value(), expected) << "addition " << i;
  }
}

TEST(Accumulator, RepeatsAgreeWhereNothingIsRounded) {
  // Multiples of 1/8 below 16: exact in fp32, in 24 bits under their shared exponent, and as int32.
  const SharedExponent shared = shared_exponent(15.875F, 4096);
  for (std::uint32_t count = 1; count < 300; ++count) {
    for (const AccumulatorFormat format :
         {AccumulatorFormat::kFp32, AccumulatorFormat::kShared24, AccumulatorFormat::kInt32}) {
      const float value = format == AccumulatorFormat::kInt32 ? -113.0F : -11.375F;
      for (const Repeats repeats : kAllRepeats) {
        Accumulator lane(format, repeats, shared);
        lane.add(to_bf16(value), count);
        EXPECT_EQ(lane.value(), static_cast<double>(value) * count)
            << accumulator_name(format) << " " << repeats_name(repeats);
      }
    }
  }
}

TEST(Accumulator, EveryFormatStaysWithinItsBound) {
  for (std::uint64_t seed = 10; seed < 30; ++seed) {
    const Rows rows = random_rows(8 + 16 * static_cast<std::uint32_t>(seed % 8), seed);
    const SharedExponent shared = shared_exponent(rows.largest, rows.budget);
    const std::vector<double> exact = in_double(rows);
    for (const AccumulatorFormat format : kReal) {
      for (const Repeats repeats : kAllRepeats) {
        const auto out = gather_counted(rows.rows, kDim, rows.budget, format, repeats, shared);
        const double bound =
            gather_error_bound(rows.rows, kDim, rows.budget, format, repeats, shared);
        EXPECT_LE(worst(out, exact), bound) << accumulator_name(format) << " " << seed;
        EXPECT_GT(bound, 0);
      }
    }
  }
}

TEST(Accumulator, TheBoundsTellTheFormatsApart) {
  const Rows rows = random_rows(128, 5);
  const SharedExponent shared = shared_exponent(rows.largest, rows.budget);
  const std::vector<double> exact = in_double(rows);
  const auto error = [&](AccumulatorFormat format) {
    return worst(gather_counted(rows.rows, kDim, rows.budget, format, Repeats::kShiftAdds, shared),
                 exact);
  };
  const auto bound = [&](AccumulatorFormat format) {
    return gather_error_bound(rows.rows, kDim, rows.budget, format, Repeats::kShiftAdds, shared);
  };
  // bf16 sums are not within the bound of fp32, nor of the 24 bits; a dropped row is in none's.
  EXPECT_GT(error(AccumulatorFormat::kBf16), bound(AccumulatorFormat::kFp32));
  EXPECT_GT(error(AccumulatorFormat::kBf16), bound(AccumulatorFormat::kShared24));
  EXPECT_LT(bound(AccumulatorFormat::kShared24), bound(AccumulatorFormat::kBf16) / 10);
  Rows dropped = rows;
  dropped.rows.pop_back();
  const auto out = gather_counted(dropped.rows, kDim, rows.budget, AccumulatorFormat::kShared24,
                                  Repeats::kShiftAdds, shared);
  EXPECT_GT(worst(out, exact), bound(AccumulatorFormat::kShared24));
}

TEST(Accumulator, TheSharedExponentIsTheSmallestThatHolds) {
  const Bf16 largest = to_bf16(1.9921875F);
  for (const std::uint32_t budget : {1U, 2U, 128U, 129U, 4096U}) {
    const SharedExponent shared = shared_exponent(to_float(largest), budget);
    Accumulator lane(AccumulatorFormat::kShared24, Repeats::kAdds, shared);
    EXPECT_NO_THROW(lane.add(largest, budget));
    Accumulator twin(AccumulatorFormat::kShared24, Repeats::kAdds,
                     {shared.unit_exponent - 2});  // two bits too greedy
    EXPECT_THROW(twin.add(largest, budget), Bug);
  }
  EXPECT_THROW(shared_exponent(std::numeric_limits<float>::infinity(), 4), Error);
  EXPECT_EQ(shared_exponent(0.0F, 128), SharedExponent{});
}

TEST(Accumulator, Shared24CutsTowardsZero) {
  Accumulator lane(AccumulatorFormat::kShared24, Repeats::kAdds, {0});
  lane.add(to_bf16(2.75F));
  lane.add(to_bf16(-1.75F));
  EXPECT_EQ(lane.value(), 1.0);
}

TEST(Accumulator, AnIntegerAccumulatorRefusesFractionsAndOverflow) {
  Accumulator lane(AccumulatorFormat::kInt32, Repeats::kMultiply);
  EXPECT_THROW(lane.add(to_bf16(0.5F)), Bug);
  for (int i = 0; i < 256; ++i) lane.add(to_bf16(127.0F), 65535);
  EXPECT_EQ(lane.value(), 256.0 * 127 * 65535);
  EXPECT_THROW(for (int i = 0; i < 4; ++i) lane.add(to_bf16(127.0F), 65535), Bug);
}

TEST(Accumulator, WeightedSumsOfADenseLane) {
  Rows rows = random_rows(200, 7);
  std::vector<double> weights, exact(kDim, 0.0);
  double total = 0;
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    weights.push_back(static_cast<double>(to_float(to_bf16(1.0F / static_cast<float>(i + 1)))));
    total += weights.back();
    for (std::uint32_t d = 0; d < kDim; ++d) {
      exact[d] += weights[i] * static_cast<double>(to_float(rows.rows[i].values[d]));
    }
  }
  const double most = total * static_cast<double>(rows.largest);
  const SharedExponent shared = shared_exponent(rows.largest, 8);  // the weights sum to less than 8
  const auto error = [&](AccumulatorFormat format) {
    return worst(gather_weighted(rows.rows, weights, kDim, format, shared), exact);
  };
  EXPECT_LE(error(AccumulatorFormat::kFp32), 200 * 0x1p-24 * most);
  EXPECT_LE(error(AccumulatorFormat::kBf16), 200 * 0x1p-8 * most);
  EXPECT_LE(error(AccumulatorFormat::kShared24), 200 * std::ldexp(1.0, shared.unit_exponent));
  EXPECT_GT(error(AccumulatorFormat::kBf16), 10 * error(AccumulatorFormat::kFp32));
}

TEST(Accumulator, NamesReadBackAndTyposAreNamed) {
  for (std::size_t i = 0; i < kAccumulatorFormats; ++i) {
    const auto format = static_cast<AccumulatorFormat>(i);
    EXPECT_EQ(accumulator_from_name(accumulator_name(format)), format);
  }
  for (const Repeats each : kAllRepeats) EXPECT_EQ(repeats_from_name(repeats_name(each)), each);
  try {
    accumulator_from_name("shared42");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'shared24'?"), std::string::npos);
  }
}

}  // namespace
}  // namespace stoat
