// Top-k on the device against models/sampling: rows equal with ==, ties broken alike, weights the
// softmax of the codes. Skipped without a device.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/gpu/attention_expect.h"

namespace stoat::gpu {
namespace {

using TopKOnDevice = OnDevice;
using TopKOnDeviceSmall = OnDevice;  // what compute-sanitizer runs

void expect_topk(const AttentionCase& on, const std::vector<std::uint32_t>& budgets) {
  for (const std::uint32_t budget : budgets) {
    const DecodeParams params = params_of(on, Method::kTopK, budget);
    expect_follows_codes(on, params, on.run(params, true));
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST_F(TopKOnDeviceSmall, SelectsTheRowsOfTheCpu) {
  for (const ElementType element : {ElementType::kBf16, ElementType::kFp16}) {
    for (const std::uint32_t head_dim : {64U, 128U}) {
      Shape shape = shape_of({1, 2, 255, 256, 257, 1000}, element == ElementType::kBf16 ? 3 : 7, 1);
      shape.element = element;
      shape.head_dim = head_dim;
      AttentionCase on(shape, 31 + head_dim);
      on.upload();
      expect_topk(on, {1, 130, 999, 1000, 1001});
    }
  }
}

TEST_F(TopKOnDevice, SelectsTheRowsOfTheCpuInLongContexts) {
  for (const std::uint32_t group : {1U, 4U, 8U}) {
    AttentionCase on(shape_of({1, 257, 4096, 32769}, group), 40 + group);
    on.upload();
    expect_topk(on, {1, 128, 2048, 4096});
  }
}

TEST_F(TopKOnDeviceSmall, BreaksTiesByTheLowerRow) {
  Shape shape = shape_of({1, 256, 700, 3000}, 4);
  shape.spread = 0;  // all queries are 0, so all scores are
  AttentionCase on(shape, 50);
  on.upload();
  expect_topk(on, {3, 257, 1000});
  const Result result = on.run(params_of(on, Method::kTopK, 300), true);
  for (std::uint32_t s = 0; s < 300; ++s) EXPECT_EQ(result.row[3 * 8 * 300 + s], s);
}

TEST_F(TopKOnDeviceSmall, OrdersMaskedRowsLast) {
  // K is infinite in feature 0 of rows 256 to 511 and of row 7: minus infinity for a head whose
  // query is negative there, damaged for the others.
  AttentionCase on(shape_of({700}, 8, 1), 51);
  for (std::uint32_t row = 256; row < 512; ++row)
    on.set_key(0, 0, row, std::numeric_limits<float>::infinity());
  on.set_key(0, 0, 7, std::numeric_limits<float>::infinity());
  on.upload();
  for (const std::uint32_t budget : {100U, 500U, 700U, 900U}) {
    const DecodeParams params = params_of(on, Method::kTopK, budget);
    const Result result = on.run(params, true);
    std::uint32_t masked = 0;
    for (std::uint32_t h = 0; h < 8; ++h) {
      const bool minus = on.query(0, h)[0] < 0;
      masked += minus ? 1 : 0;
      EXPECT_EQ(std::isnan(result.out[h * 128]), !minus);
      if (minus) expect_head_follows_codes(on, params, result, 0, h);
    }
    ASSERT_GT(masked, 0U);
    ASSERT_LT(masked, 8U);
    EXPECT_EQ(result.status, kDamagedScore);
  }
}

TEST_F(TopKOnDevice, RowsDoNotDependOnTheSplitAndRunsAreByteIdentical) {
  AttentionCase on(shape_of({9000, 1, 4097}, 4), 52);
  on.upload();
  Result first;
  for (const std::uint32_t splits : {1U, 3U, 7U}) {
    DecodeParams params = params_of(on, Method::kTopK, 500);
    params.score_splits = params.gather_splits = splits;
    const Result a = on.run(params, true), b = on.run(params, true);
    EXPECT_EQ(std::memcmp(a.out.data(), b.out.data(), a.out.size() * 4), 0);
    EXPECT_EQ(a.lse, b.lse);
    if (first.row.empty()) first = a;
    EXPECT_EQ(a.row, first.row);
    EXPECT_EQ(a.count, first.count);
  }
}

TEST_F(TopKOnDeviceSmall, ATraceThatIsTooSmallCountsWhatItLost) {
  AttentionCase on(shape_of({1000, 30}, 4), 53);
  on.upload();
  const DecodeParams params = params_of(on, Method::kTopK, 64);
  const Result whole = on.run(params, true), cut = on.run(params, true, true, 20);
  EXPECT_EQ(cut.lost, 2 * 8 * (44 + 10U));  // run() launches twice
  EXPECT_EQ(cut.status, kTraceOverflow);
  EXPECT_EQ(whole.status, 0U);
  EXPECT_EQ(whole.out, cut.out);
}

}  // namespace
}  // namespace stoat::gpu
