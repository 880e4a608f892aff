// Products with few rows (gpu/llm/skinny.cu) against plain loops in double. Needs a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/gpu/llm_product_case.h"

namespace stoat::gpu {
namespace {

TEST_F(LlmProduct, SkinnyProductsEqualDouble) {
  struct Case {
    std::uint32_t rows, columns, k;
  };
  for (const Case c :
       {Case{1, 16, 64}, Case{1, 40, 72}, Case{3, 6144, 256}, Case{8, 100, 1032},
        Case{9, 6400, 200}, Case{16, 48, 2056}, Case{16, 2200, 4096}, Case{16, 2200, 4104},
        Case{13, 2130, 1800}, Case{8, 4360, 1024}, Case{5, 8, 3080}, Case{10, 4360, 1016},
        Case{15, 8, 2048}, Case{16, 6400, 2056}, Case{8, 6144, 2056}}) {
    const auto x = random_bf16(std::size_t{c.rows} * c.k),
               w = random_bf16(std::size_t{c.columns} * c.k);
    const DeviceMemory dx = upload(x), dw = upload(w);
    const DeviceMemory y = poisoned<float>(std::size_t{c.rows} * c.columns);
    SkinnyParams p = params_of(dx, dw, c.rows, c.columns, c.k);
    p.y = y.as<float>();
    p.read_once = c.k % 1024 == 0;
    multiply(p);
    std::vector<double> want(std::size_t{c.rows} * c.columns);
    for (std::size_t i = 0; i < want.size(); ++i)
      want[i] = product(x, w, i / c.columns, i % c.columns, c.k);
    EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6)
        << c.rows << " " << c.columns << " " << c.k;
  }
}

TEST_F(LlmProduct, ANormedProductDividesByTheRootMeanSquare) {
  const std::uint32_t k = 144;
  for (const auto& [rows, columns] : {std::pair{5U, 64U}, {13U, 4360U}}) {
    const auto hidden = random_floats(std::size_t{rows} * k, 3);
    const auto w = random_bf16(std::size_t{columns} * k);
    std::vector<float> squares(rows * 9);
    std::vector<Bf16> x(hidden.size());
    std::vector<double> scale(rows);
    for (std::size_t i = 0; i < hidden.size(); ++i) {
      squares[i / k * 9 + i % k / 16] += hidden[i] * hidden[i];
      x[i] = to_bf16(hidden[i]);
      scale[i / k] += static_cast<double>(hidden[i]) * static_cast<double>(hidden[i]) / k;
    }
    const DeviceMemory dx = upload(x), dw = upload(w), ds = upload(squares);
    const DeviceMemory y = poisoned<float>(rows * columns);
    SkinnyParams p = params_of(dx, dw, rows, columns, k);
    p.square_sums = ds.as<float>();
    p.square_tiles = 9;
    p.norm_width = k;
    p.norm_eps = 1e-5F;
    p.y = y.as<float>();
    multiply(p);
    std::vector<double> want(rows * columns);
    for (std::size_t i = 0; i < want.size(); ++i)
      want[i] = product(x, w, i / columns, i % columns, k) / std::sqrt(scale[i / columns] + 1e-5);
    EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6);
  }
}

TEST_F(LlmProduct, ResidualEndAddsAndPreparesTheNextNorm) {
  // One unit of 16 columns a block, or several, two of them side by side; of the last one half may
  // lie past the columns.
  for (const auto& [rows, columns] : {std::pair{2U, 56U},
                                      {16U, 56U},
                                      {16U, 48U},
                                      {9U, 40U},
                                      {16U, 4360U},
                                      {3U, 4360U},
                                      {12U, 2136U}}) {
    const bool biased = columns != 2136;
    const std::uint32_t k = 128, tiles = (columns + 15) / 16;
    const auto x = random_bf16(std::size_t{rows} * k), w = random_bf16(std::size_t{columns} * k);
    const auto before = random_floats(std::size_t{rows} * columns);
    const auto bias = random_floats(columns), norm = random_floats(columns);
    const DeviceMemory dx = upload(x), dw = upload(w), dbias = upload(bias), dnorm = upload(norm);
    const DeviceMemory y = upload(before), next = poisoned<Bf16>(before.size());
    const DeviceMemory squares = poisoned<float>(rows * tiles + 1);  // one that stays as it is
    SkinnyParams p = params_of(dx, dw, rows, columns, k);
    p.end = SkinnyEnd::kResidual;
    p.y = y.as<float>();
    if (biased) p.bias = dbias.as<float>();
    p.next_norm = dnorm.as<float>();
    p.next = next.as<void>();
    p.next_square_sums = squares.as<float>();
    multiply(p);
    std::vector<double> want(before.size()), want_next(before.size()), want_squares(rows * tiles);
    for (std::size_t i = 0; i < want.size(); ++i) {
      const std::size_t r = i / columns, c = i % columns;
      want[i] = static_cast<double>(before[i]) + product(x, w, r, c, k);
      if (biased) want[i] += static_cast<double>(bias[c]);
      want_next[i] = want[i] * static_cast<double>(norm[c]);
      want_squares[r * tiles + c / 16] += want[i] * want[i];
    }
    EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6);
    EXPECT_LT(distance(want_next, widened(download<Bf16>(next, want.size()))), 3e-3);
    EXPECT_LT(distance(want_squares, download<float>(squares, want_squares.size())), 1e-6);
    EXPECT_TRUE(std::isnan(download<float>(squares, want_squares.size() + 1).back()));
  }
}

TEST_F(LlmProduct, SwiGluEndTakesGatesAndUpsInTurn) {
  struct Case {
    std::uint32_t rows, middle, k;
  };
  for (const auto& [rows, middle, k] : {Case{3, 24, 64}, Case{16, 2200, 1032}}) {
    const auto x = random_bf16(std::size_t{rows} * k),
               w = random_bf16(std::size_t{2} * middle * k, 0.2F);
    const DeviceMemory dx = upload(x), dw = upload(w), next = poisoned<Bf16>(rows * middle);
    SkinnyParams p = params_of(dx, dw, rows, 2 * middle, k);
    p.end = SkinnyEnd::kSwiGlu;
    p.next = next.as<void>();
    multiply(p);
    std::vector<double> want(rows * middle);
    for (std::size_t i = 0; i < want.size(); ++i) {
      const std::size_t r = i / middle, c = i % middle, at = c / 8 * 16 + c % 8;
      const double gate = product(x, w, r, at, k), up = product(x, w, r, at + 8, k);
      want[i] = gate / (1 + std::exp(-gate)) * up;
    }
    EXPECT_LT(distance(want, widened(download<Bf16>(next, want.size()))), 3e-3);
  }
}

}  // namespace
}  // namespace stoat::gpu
