// The ends of the range on the device: a context of 1, budgets above it, 2^20 rows, infinite and
// equal scores, one-hot, every page size, and score records. Skipped without a device.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/gpu/attention_expect.h"

namespace stoat::gpu {
namespace {

using EdgesOnDevice = OnDevice;
using EdgesOnDeviceSmall = OnDevice;  // what compute-sanitizer runs

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST_F(EdgesOnDeviceSmall, AContextOfOneIsItsOnlyRowForEveryMethod) {
  for (const ElementType element : {ElementType::kBf16, ElementType::kFp16}) {
    Shape shape = shape_of({1, 1, 1}, 5);
    shape.element = element;
    AttentionCase on(shape, 60);
    on.upload();
    std::vector<Method> methods = selecting_methods();
    methods.push_back(Method::kDense);
    for (const Method method : methods) {
      for (const std::uint32_t budget : {1U, 2U, 4096U}) {
        DecodeParams params = params_of(on, method, budget);
        const Result result = on.run(params, method != Method::kDense);
        EXPECT_EQ(result.status, 0U);
        for_heads(on, [&](std::uint32_t s, std::uint32_t h, std::size_t head) {
          const KvRows values = on.values(s, h / 5);
          for (std::uint32_t d = 0; d < 128; ++d)
            ASSERT_FLOAT_EQ(result.out[head * 128 + d], to_float(values.data[d]))
                << method_name(method);
        });
      }
    }
  }
}

TEST_F(EdgesOnDeviceSmall, EveryMethodTakesBudgetsAboveTheContext) {
  for (const float spread : {3.0F, 0.0F}) {  // 0: all scores are equal
    Shape shape = shape_of({1, 3, 256, 700}, 4);
    shape.spread = spread;
    AttentionCase on(shape, 61);
    on.upload();
    for (const Method method : selecting_methods()) {
      for (const std::uint32_t budget : {701U, 4096U}) {
        DecodeParams params = params_of(on, method, budget);
        expect_follows_codes(on, params, run_recorded(on, params));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(EdgesOnDeviceSmall, OneSampleIsOneHotAndTheSameForEverySampler) {
  AttentionCase on(shape_of({900, 1, 257}, 4), 62);
  on.upload();
  const Result first = on.run(params_of(on, Method::kSystematic, 1), true);
  for (const Method method : {Method::kIid, Method::kStratified, Method::kProp}) {
    DecodeParams params = params_of(on, method, 1);
    const Result result = on.run(params, true);
    EXPECT_EQ(result.row, first.row) << method_name(method);
    EXPECT_EQ(result.out, first.out) << method_name(method);
  }
  for_heads(on, [&](std::uint32_t s, std::uint32_t h, std::size_t head) {
    const KvRows values = on.values(s, h / 4);
    for (std::uint32_t d = 0; d < 128; ++d)
      ASSERT_EQ(first.out[head * 128 + d], to_float(values.data[first.row[head] * 128 + d]));
  });
}

TEST_F(EdgesOnDeviceSmall, InfiniteKeysMaskARowOrDamageTheHead) {
  AttentionCase on(shape_of({700, 300}, 8, 1), 63);
  for (std::uint32_t row = 256; row < 512; ++row) on.set_key(0, 0, row, kInf);
  on.set_key(0, 0, 7, kInf);
  on.upload();
  for (const Method method : selecting_methods()) {
    DecodeParams params = params_of(on, method, 64);
    const Result result = run_recorded(on, params);
    EXPECT_EQ(result.status, kDamagedScore) << method_name(method);
    for (std::uint32_t h = 0; h < 8; ++h) {
      const bool minus = on.query(0, h)[0] < 0;
      ASSERT_EQ(std::isnan(result.out[h * 128]), !minus) << method_name(method);
      ASSERT_EQ(std::isnan(result.lse[h]), !minus) << method_name(method);
      if (minus) expect_head_follows_codes(on, params, result, 0, h);
      expect_head_follows_codes(on, params, result, 1, h);  // the other sequence is untouched
    }
  }
}

TEST_F(EdgesOnDeviceSmall, ASequenceWithoutAFiniteScoreIsRefused) {
  AttentionCase on(shape_of({300}, 8, 1), 64);
  for (std::uint32_t row = 0; row < 300; ++row) on.set_key(0, 0, row, kInf);
  on.upload();
  for (const Method method : selecting_methods()) {
    DecodeParams params = params_of(on, method, 64);
    const Result result = on.run(params, true);
    EXPECT_EQ(result.status, kDamagedScore | kNoFiniteScore) << method_name(method);
    for (const float x : result.out) ASSERT_TRUE(std::isnan(x));
  }
}

TEST_F(EdgesOnDeviceSmall, PageSizesAndLayoutsDoNotChangeABit) {
  for (const Method method : {Method::kTopK, Method::kFlash, Method::kDense}) {
    for (const ElementType element : {ElementType::kBf16, ElementType::kFp16}) {
      std::vector<float> first;
      for (const KvLayout layout : {KvLayout::kNhd, KvLayout::kHnd}) {
        for (const std::uint32_t page : {0U, 1U, 2U, 8U, 16U, 32U, 64U, 256U, 1024U}) {
          Shape shape = shape_of({257, 1, 1000, 64}, 4);
          shape.layout = layout;
          shape.page_size = page;
          shape.element = element;
          AttentionCase on(shape, 65);
          on.upload();
          const Result result = on.run(params_of(on, method, 64), method != Method::kDense);
          EXPECT_EQ(result.status, 0U);
          if (first.empty()) first = result.out;
          ASSERT_EQ(std::memcmp(first.data(), result.out.data(), first.size() * 4), 0)
              << method_name(method) << ", page " << page;
        }
      }
      ASSERT_FALSE(std::isnan(first[0]));
    }
  }
}

TEST_F(EdgesOnDevice, AMillionRowsAgreeWithTheReference) {
  Shape shape = shape_of({kMaxContext}, 2, 1);
  shape.head_dim = 64;
  AttentionCase on(shape, 66);
  on.upload();
  const Result dense = on.run(params_of(on, Method::kDense, 0), false);
  for (std::uint32_t h = 0; h < 2; ++h) {
    const std::vector<double> p = softmax(on.logits(0, h));
    EXPECT_LE(relative_error(head_of(on, dense, h), gather_dense(p, on.values(0, 0))), 3e-3);
  }
  for (const Method method : {Method::kProp, Method::kIid, Method::kTopK, Method::kFlash}) {
    for (const std::uint32_t budget : {128U, 4096U}) {
      const DecodeParams params = params_of(on, method, budget);
      if (!shape_refusal(params).empty()) continue;  // flash with fewer samples than tiles
      expect_follows_codes(on, params, run_recorded(on, params));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(EdgesOnDeviceSmall, ScoreRecordsAreTheCodesOfTheChosenHeads) {
  AttentionCase on(shape_of({700, 1, 300}, 3), 67);
  on.upload();
  const std::size_t tiles = on.tiles_capacity(), heads = 3 * 6;
  const Result stored =
      on.run(params_of(on, Method::kProp, 64), true);  // its codes are those of the workspace
  for (const Method method : {Method::kProp, Method::kTopK}) {
    for (const bool chosen : {false, true}) {
      DecodeParams params = params_of(on, method, 64);
      params.gather_splits = 2;
      const Result plain = on.run(params, true);
      DeviceArray<std::uint16_t> code(heads * tiles * kTileRows);
      DeviceArray<std::int32_t> exponent(heads * tiles);
      const DeviceArray<std::uint8_t> choice(std::vector<std::uint8_t>{0, 1});
      params.scores = {code.get(), exponent.get(), chosen ? choice.get() : nullptr};
      Result recorded = on.run(params, true);
      EXPECT_EQ(recorded.out, plain.out);
      recorded.code = code.to_host();
      recorded.exponent = exponent.to_host();
      for_heads(on, [&](std::uint32_t s, std::uint32_t h, std::size_t head) {
        if (chosen && h < 3) {
          for (std::size_t i = 0; i < tiles * kTileRows; ++i)
            ASSERT_EQ(recorded.code[head * tiles * kTileRows + i], 0xffff);
          ASSERT_EQ(recorded.exponent[head * tiles], -1);  // as the memory was before
          return;
        }
        const ScoreCodes a = on.codes(stored, s, h), b = on.codes(recorded, s, h);
        ASSERT_EQ(a.code, b.code);
        ASSERT_EQ(a.exponent, b.exponent);
      });
    }
  }
}

}  // namespace
}  // namespace stoat::gpu
