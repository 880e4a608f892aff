// Every variant of the kernels gives the same bits; the bits are right.
#include "models/llm/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>

#include "models/bf16.h"

namespace stoat {
namespace {

std::vector<float> normal(std::size_t n, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (float& v : values) v = distribution(generator);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// rows, k, columns: below, at and above every tile size.
class Gemm : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(Gemm, IsTheProductAndTheSameBitsInEveryVariant) {
  const auto [rows_, k_, columns_] = GetParam();
  const std::size_t rows = rows_, k = k_, columns = columns_, ldx = k + 3, ldy = columns + 5;
  const auto x = normal(rows * ldx, 1), w = normal(columns * k, 2), before = normal(rows * ldy, 3);
  std::vector<float> panels((columns + kPanel - 1) / kPanel * k * kPanel);
  for (std::size_t c = 0; c < columns; ++c) {
    for (std::size_t j = 0; j < k; ++j)
      panels[(c / kPanel * k + j) * kPanel + c % kPanel] = w[c * k + j];
  }
  for (const bool accumulate : {false, true}) {
    std::vector<float> first;
    for (const Kernels* kernels : runnable_kernels()) {
      auto y = before;
      kernels->gemm(x.data(), ldx, rows, panels.data(), k, columns, y.data(), ldy, accumulate);
      if (first.empty()) first = y;
      EXPECT_TRUE(same_bits(y, first)) << kernels->name;
    }
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < ldy; ++c) {
        if (c >= columns) {
          ASSERT_EQ(first[r * ldy + c], before[r * ldy + c]) << "wrote beside the matrix";
          continue;
        }
        double want = accumulate ? before[r * ldy + c] : 0, size = std::abs(want);
        for (std::size_t j = 0; j < k; ++j) {
          want += static_cast<double>(x[r * ldx + j]) * w[c * k + j];
          size += std::abs(static_cast<double>(x[r * ldx + j]) * w[c * k + j]);
        }
        ASSERT_NEAR(first[r * ldy + c], want, size * 0x1p-24 * static_cast<double>(k + 1))
            << r << "," << c;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Gemm,
                         testing::Combine(testing::Values(1, 4, 6, 12, 13, 29),
                                          testing::Values(1, 7, 256, 257, 600),
                                          testing::Values(1, 31, 32, 33, 96, 101)));

TEST(Kernels, ExponentialIsWithinTwoUlpAndZeroFarBelow) {
  std::vector<float> x;
  for (int i = -87000; i <= 88000; i += 7) x.push_back(static_cast<float>(i) * 1e-3F);
  x.insert(x.end(), {0.0F, -0.0F, -87.31F, -100.0F, -std::numeric_limits<float>::infinity()});
  std::vector<float> first;
  for (const Kernels* kernels : runnable_kernels()) {
    std::vector<float> y(x.size());
    kernels->exponential(x.data(), x.size(), y.data());
    if (first.empty()) first = y;
    EXPECT_TRUE(same_bits(y, first)) << kernels->name;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = x[i] < -87.3F ? 0.0 : std::exp(static_cast<double>(x[i]));
    ASSERT_NEAR(first[i], want, want * 0x1p-22) << "exp(" << x[i] << ")";
  }
  const float zero = 0.0F;
  float one = 0.0F, nan = std::nanf(""), still = 0.0F;
  best_kernels().exponential(&zero, 1, &one);
  EXPECT_EQ(one, 1.0F);
  best_kernels().exponential(&nan, 1, &still);
  EXPECT_TRUE(std::isnan(still));
}

TEST(Kernels, OnlineSoftmaxOverTilesIsTheSoftmax) {
  constexpr std::size_t kKeys = 3 * kKeyTile - 50, kWidth = 32;
  auto logits = normal(3 * kKeyTile, 4);
  for (std::size_t i = 0; i < logits.size(); ++i)
    logits[i] = 10 * logits[i] + 0.1F * static_cast<float>(i);
  std::vector<float> first;
  for (const Kernels* kernels : runnable_kernels()) {
    auto s = logits;
    float maximum = -std::numeric_limits<float>::infinity(), sum = 0;
    std::vector<float> out(kWidth, 0.0F);
    double total = 0, top = -1e30;
    for (std::size_t i = 0; i < kKeys; ++i) top = std::max(top, static_cast<double>(logits[i]));
    for (std::size_t i = 0; i < kKeys; ++i) total += std::exp(logits[i] - top);
    double weighted = 0;  // of value i + 1 at key i
    for (std::size_t tile = 0; tile < 3; ++tile) {
      const std::size_t visible = std::min(kKeyTile, kKeys - tile * kKeyTile);
      kernels->softmax_tile(&s[tile * kKeyTile], visible, &maximum, &sum, out.data(), kWidth);
      for (std::size_t i = 0; i < kKeyTile; ++i) {
        const float p = s[tile * kKeyTile + i];
        if (i >= visible) {
          ASSERT_EQ(p, 0.0F);
        }
        for (float& o : out) o += p * static_cast<float>(tile * kKeyTile + i + 1);
      }
    }
    for (std::size_t i = 0; i < kKeys; ++i)
      weighted += std::exp(logits[i] - top) * static_cast<double>(i + 1) / total;
    EXPECT_EQ(maximum, static_cast<float>(top));
    EXPECT_NEAR(sum, total, total * 1e-6);
    EXPECT_NEAR(out[5] / sum, weighted, weighted * 1e-6);
    out.push_back(sum);
    if (first.empty()) first = out;
    EXPECT_TRUE(same_bits(out, first)) << kernels->name;
  }
}

TEST(Kernels, ATileThatARowDoesNotSeeChangesNothing) {
  for (const Kernels* kernels : runnable_kernels()) {
    auto s = normal(kKeyTile, 5);
    float maximum = 1.5F, sum = 2.5F;
    auto out = normal(32, 6);
    const auto before = out;
    kernels->softmax_tile(s.data(), 0, &maximum, &sum, out.data(), 32);
    EXPECT_EQ(maximum, 1.5F);
    EXPECT_EQ(sum, 2.5F);
    EXPECT_TRUE(same_bits(out, before));
    EXPECT_EQ(s, std::vector<float>(kKeyTile, 0.0F));
  }
}

TEST(Kernels, PackedKeysAndValuesAreTheRows) {
  for (const std::size_t d : {6, 32, 40, 128}) {
    const std::size_t count = 77, stride = d + 8, wide = (d + kPanel - 1) / kPanel * kPanel;
    std::vector<std::uint16_t> rows(kKeyTile * stride);
    for (std::size_t i = 0; i < rows.size(); ++i)
      rows[i] = to_bf16(static_cast<float>(i % 8191) - 4000).bits;
    for (const Kernels* kernels : runnable_kernels()) {
      std::vector<float> keys(kKeyTile * d, -1.0F), values(kKeyTile * wide, -1.0F);
      kernels->pack_keys(rows.data(), stride, count, d, keys.data());
      kernels->pack_values(rows.data(), stride, count, d, values.data());
      for (std::size_t i = 0; i < kKeyTile; ++i) {
        for (std::size_t j = 0; j < wide; ++j) {
          const float want = i < count && j < d ? to_float(Bf16{rows[i * stride + j]}) : 0.0F;
          ASSERT_EQ(values[(j / kPanel * kKeyTile + i) * kPanel + j % kPanel], want)
              << kernels->name;
          if (j < d) {
            ASSERT_EQ(keys[(i / kPanel * d + j) * kPanel + i % kPanel], want) << kernels->name;
          }
        }
      }
    }
  }
}

TEST(Kernels, NormAndGateAreRightAndTheSameBitsInEveryVariant) {
  for (const std::size_t n : {1, 15, 16, 17, 48, 384, 1000}) {
    const auto x = normal(n, 7), w = normal(n, 8);
    std::vector<float> norm_first, gate_first;
    for (const Kernels* kernels : runnable_kernels()) {
      std::vector<float> norm(n), gate(n);
      kernels->rms_norm(x.data(), w.data(), n, 1e-5F, norm.data());
      kernels->silu_times(x.data(), w.data(), n, gate.data());
      if (norm_first.empty()) norm_first = norm, gate_first = gate;
      EXPECT_TRUE(same_bits(norm, norm_first)) << kernels->name;
      EXPECT_TRUE(same_bits(gate, gate_first)) << kernels->name;
    }
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    for (std::size_t i = 0; i < n; ++i) {
      const double norm = x[i] / std::sqrt(squares / static_cast<double>(n) + 1e-5) * w[i];
      const double gate = x[i] / (1 + std::exp(-static_cast<double>(x[i]))) * w[i];
      EXPECT_NEAR(norm_first[i], norm, std::abs(norm) * 1e-6);
      EXPECT_NEAR(gate_first[i], gate, std::abs(gate) * 1e-6);
    }
  }
}

}  // namespace
}  // namespace stoat
