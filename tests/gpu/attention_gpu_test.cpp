// The attention kernels against models/attention: codes near those of exact scores, and given the
// codes, counts equal to the CPU's with ==; outputs against the double reference. Skipped without a
// device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "tests/gpu/attention_expect.h"

namespace stoat::gpu {
namespace {

class AttentionOnDevice : public OnDevice {};
// Small shapes of every kernel: what compute-sanitizer runs.
class AttentionOnDeviceSmall : public AttentionOnDevice {};

const std::vector<std::uint32_t> kContexts{1, 2, 255, 256, 257, 1000, 4096, 32769};
const std::vector<std::uint32_t> kSmallContexts{1, 2, 255, 256, 257, 1000};
const std::vector<Method> kSampled{Method::kIid, Method::kStratified, Method::kSystematic,
                                   Method::kProp, Method::kFlash};

void expect_dense_near_double(const AttentionCase& on) {
  const Result result = on.run(params_of(on, Method::kDense, 0), false);
  EXPECT_EQ(result.status, 0U);
  double worst = 0, worst_lse = 0;
  for_heads(on, [&](std::uint32_t s, std::uint32_t h, std::size_t head) {
    const std::vector<double> logits = on.logits(s, h), p = softmax(logits);
    const std::vector<double> exact = gather_dense(p, on.values(s, h / on.shape().group));
    const double error = relative_error(head_of(on, result, head), exact);
    EXPECT_LE(error, 3e-3) << "context " << on.shape().contexts[s] << ", head " << h;
    const double lse_error =
        std::fabs(static_cast<double>(result.lse[head]) - softmax_stats(logits, p).lse);
    EXPECT_LE(lse_error, 1e-4) << "context " << on.shape().contexts[s] << ", head " << h;
    worst = std::max(worst, error);
    worst_lse = std::max(worst_lse, lse_error);
  });
  std::printf("dense, group %u, head_dim %u: worst relative error %.2e, lse %.1e\n",
              on.shape().group, on.shape().head_dim, worst, worst_lse);
}

// Position of every row on the axis of scores in steps of 1/2048: e * 2048 - code.
void expect_codes_near_exact(const AttentionCase& on, const Result& result) {
  std::uint64_t rows = 0, same = 0, near = 0;
  for_heads(on, [&](std::uint32_t s, std::uint32_t h, std::size_t) {
    const std::vector<double> exact = on.logits(s, h);
    const ScoreCodes cpu = encode_scores(std::vector<float>(exact.begin(), exact.end()));
    const ScoreCodes gpu = on.codes(result, s, h);
    for (std::size_t i = 0; i < cpu.code.size(); ++i) {
      const std::int64_t difference =
          (std::int64_t{cpu.exponent[i / kTileRows]} - gpu.exponent[i / kTileRows]) * 2048 -
          (std::int64_t{cpu.code[i]} - gpu.code[i]);
      ++rows;
      if (cpu.code[i] == 65535 || gpu.code[i] == 65535) {
        // At the end of the range a step of the tile's exponent changes what is cut off.
        ASSERT_EQ(cpu.code[i] >= 63487, gpu.code[i] >= 61439) << i;
        ++near;
        continue;
      }
      same += difference == 0 ? 1 : 0;
      near += std::abs(difference) <= 1 ? 1 : 0;
      ASSERT_LE(std::abs(difference), 2) << "row " << i << " of context " << cpu.code.size();
    }
  });
  EXPECT_GE(static_cast<double>(near), 0.999 * static_cast<double>(rows));
  std::printf("codes: %.4f %% equal, %.5f %% within 1, of %llu\n",
              100.0 * static_cast<double>(same) / static_cast<double>(rows),
              100.0 * static_cast<double>(near) / static_cast<double>(rows),
              static_cast<unsigned long long>(rows));
}

// Masses, counts (==) and outputs of one sampled launch, given its own codes.
void expect_selection_of_codes(const AttentionCase& on, const DecodeParams& params,
                               const Result& result) {
  EXPECT_EQ(result.status, 0U);
  EXPECT_EQ(result.lost, 0U);
  double worst = 0;
  for_heads(on, [&](std::uint32_t s, std::uint32_t h, std::size_t head) {
    const ScoreCodes codes = on.codes(result, s, h);
    const Ruler ruler(codes);
    for (std::uint32_t t = 0; t < ruler.tiles(); ++t)
      ASSERT_EQ(result.mass[head * on.tiles_capacity() + t], ruler.tile_weight(t)) << "tile " << t;
    const Selection expected =
        select_rows(params.method, codes, ruler, params.budget, on.site(params, s, h));
    ASSERT_EQ(traced_rows(result, head, params.budget), expected.rows)
        << method_name(params.method) << ", budget " << params.budget << ", context "
        << codes.code.size() << ", head " << h;
    const std::vector<double> weights = selection_weights(params.method, codes, expected);
    const std::vector<double> gathered =
        gather_selected(expected.rows, weights, on.values(s, h / on.shape().group));
    const double error = relative_error(head_of(on, result, head), gathered);
    worst = std::max(worst, error);
    // Outputs are fp32 here: far inside the 3e-3 that a 16-bit output may have.
    ASSERT_LE(error, 2e-5) << method_name(params.method) << ", budget " << params.budget;
    const std::vector<double> logits = on.logits(s, h);
    ASSERT_NEAR(static_cast<double>(result.lse[head]), softmax_stats(logits, softmax(logits)).lse,
                5e-4);
  });
  std::printf("%s, S=%u, group %u: counts equal, worst error against their gather %.1e\n",
              std::string(method_name(params.method)).c_str(), params.budget, on.shape().group,
              worst);
}

void expect_all_sampled(const AttentionCase& on, const std::vector<std::uint32_t>& budgets) {
  bool codes_checked = false;
  for (const std::uint32_t budget : budgets) {
    for (const Method method : kSampled) {
      const DecodeParams params = params_of(on, method, budget);
      if (!shape_refusal(params).empty()) continue;  // flash with fewer samples than tiles
      const Result result = on.run(params, true);
      expect_selection_of_codes(on, params, result);
      if (!codes_checked) expect_codes_near_exact(on, result);
      codes_checked = true;
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

Shape shape_of(const std::vector<std::uint32_t>& contexts, std::uint32_t group,
               std::uint32_t kv_heads = 2) {
  Shape shape;
  shape.contexts = contexts;
  shape.group = group;
  shape.kv_heads = kv_heads;
  return shape;
}

TEST_F(AttentionOnDeviceSmall, EveryMethodAgreesWithTheReference) {
  for (const ElementType element : {ElementType::kBf16, ElementType::kFp16}) {
    for (const std::uint32_t head_dim : {64U, 128U}) {
      Shape shape = shape_of(kSmallContexts, element == ElementType::kBf16 ? 3 : 7, 1);
      shape.element = element;
      shape.head_dim = head_dim;
      AttentionCase on(shape, 11 + head_dim);
      on.upload();
      expect_dense_near_double(on);
      expect_all_sampled(on, {1, 130});
    }
  }
}

TEST_F(AttentionOnDevice, DenseAgreesWithTheDoubleReference) {
  for (const std::uint32_t group : {1U, 3U, 4U, 7U, 8U}) {
    AttentionCase on(shape_of(kContexts, group), group);
    on.upload();
    expect_dense_near_double(on);
  }
}

TEST_F(AttentionOnDevice, CountsEqualTheCpusGivenTheCodes) {
  for (const std::uint32_t group : {1U, 3U, 4U, 7U, 8U}) {
    AttentionCase on(shape_of(kContexts, group), 100 + group);
    on.upload();
    expect_all_sampled(on, {1, 128, 2048});
    if (HasFatalFailure()) return;
  }
}

TEST_F(AttentionOnDeviceSmall, LayoutsAndPagesDoNotChangeABit) {
  const Method methods[] = {Method::kDense, Method::kProp};
  for (const Method method : methods) {
    std::vector<float> first;
    for (const KvLayout layout : {KvLayout::kNhd, KvLayout::kHnd}) {
      for (const std::uint32_t page : {0U, 1U, 16U, 64U}) {
        Shape shape = shape_of({257, 1, 1000, 64}, 4);
        shape.layout = layout;
        shape.page_size = page;
        AttentionCase on(shape, 5);
        on.upload();
        const Result result = on.run(params_of(on, method, 64), method == Method::kProp);
        EXPECT_EQ(result.status, 0U);
        if (first.empty()) first = result.out;
        ASSERT_EQ(std::memcmp(first.data(), result.out.data(), first.size() * 4), 0)
            << method_name(method) << ", page " << page;
      }
    }
    ASSERT_FALSE(std::isnan(first[0]));
  }
}

TEST_F(AttentionOnDevice, ASequenceDrawsTheSameAloneAndInABatchForAnySplit) {
  Shape batch_shape = shape_of({5000, 300, 5000}, 4);
  AttentionCase batch(batch_shape, 77);
  batch.sequence_id = {40, 41, 42};
  batch.upload();
  Shape alone_shape = shape_of({5000}, 4);
  AttentionCase alone(alone_shape, 77);
  alone.sequence_id = {40};
  alone.copy_sequence(batch, 0);
  alone.upload();
  const DecodeParams one = params_of(alone, Method::kProp, 200);
  const Result expected = alone.run(one, true);
  const std::size_t heads = alone.shape().q_heads();
  for (const std::uint32_t splits : {0U, 1U, 3U, 7U}) {
    DecodeParams params = params_of(batch, Method::kProp, 200);
    params.score_splits = splits;
    params.gather_splits = splits;
    const Result result = batch.run(params, true);
    for (std::size_t h = 0; h < heads; ++h) {
      EXPECT_EQ(batch.codes(result, 0, static_cast<std::uint32_t>(h)).code,
                alone.codes(expected, 0, static_cast<std::uint32_t>(h)).code);
      EXPECT_EQ(traced_rows(result, h, 200), traced_rows(expected, h, 200)) << splits;
    }
    // Another sequence of the batch does not repeat these draws.
    EXPECT_NE(traced_rows(result, 2 * heads, 200), traced_rows(result, 0, 200));
  }
}

TEST_F(AttentionOnDevice, TwoRunsAreByteIdentical) {
  AttentionCase on(shape_of({9000, 1, 4097}, 4), 3);
  on.upload();
  for (const Method method : {Method::kDense, Method::kProp, Method::kIid, Method::kFlash}) {
    DecodeParams params = params_of(on, method, 512);
    params.score_splits = method == Method::kDense ? 13 : 0;
    params.gather_splits = 5;
    const Result a = on.run(params, false), b = on.run(params, false);
    EXPECT_EQ(std::memcmp(a.out.data(), b.out.data(), a.out.size() * 4), 0) << method_name(method);
    EXPECT_EQ(a.code, b.code);
    EXPECT_EQ(a.lse, b.lse);
    // The 16-bit outputs are the rounded floats.
    const Result narrow = on.run(params, false, false);
    for (std::size_t i = 0; i < a.out.size(); ++i)
      ASSERT_EQ(narrow.bits[i], to_bf16(a.out[i]).bits) << i;
  }
}

TEST_F(AttentionOnDeviceSmall, DamagedScoresAndLengthsGiveNanAndAStatus) {
  const auto run_with = [](Method method, auto change) {
    AttentionCase on(shape_of({300, 600}, 3), 9);
    change(on);
    on.upload();
    return on.run(params_of(on, method, 64), method != Method::kDense);
  };
  const std::size_t per_sequence = 2 * 3 * 128;
  const auto expect_first_nan = [&](const Result& result, bool whole_sequence) {
    EXPECT_TRUE(std::isnan(result.out[0]));
    EXPECT_TRUE(std::isnan(result.lse[0]));
    EXPECT_EQ(std::isnan(result.out[per_sequence / 2]), whole_sequence);  // the other KV head
    EXPECT_FALSE(std::isnan(result.out[per_sequence]));
  };
  for (const Method method : {Method::kProp, Method::kDense}) {
    const bool dense = method == Method::kDense;
    const Result damaged =
        run_with(method, [](AttentionCase& on) { on.set_key(0, 0, 7, std::nanf("")); });
    expect_first_nan(damaged, false);
    if (!dense) {
      EXPECT_EQ(damaged.status, kDamagedScore);
    }
    const Result empty = run_with(method, [](AttentionCase& on) { on.device_contexts[0] = 0; });
    expect_first_nan(empty, true);
    EXPECT_EQ(empty.status, kBadContext);
    const Result too_long =
        run_with(method, [](AttentionCase& on) { on.device_contexts[0] = 601; });
    expect_first_nan(too_long, true);
    EXPECT_EQ(too_long.status, kBadContext);
  }
}

TEST_F(AttentionOnDeviceSmall, EqualScoresAndBudgetsAboveTheContextWork) {
  Shape shape = shape_of({1, 256, 700}, 4);
  shape.spread = 0;  // all queries are 0, so all scores are
  AttentionCase on(shape, 21);
  on.upload();
  expect_dense_near_double(on);
  expect_all_sampled(on, {3, 1000});
}

TEST_F(AttentionOnDeviceSmall, ATraceThatIsTooSmallCountsWhatItLost) {
  AttentionCase on(shape_of({1000}, 4), 13);
  on.upload();
  const DecodeParams params = params_of(on, Method::kProp, 64);
  const Result whole = on.run(params, true);
  const Result cut = on.run(params, true, true, 20);
  std::uint32_t lost = 0;
  for (std::size_t head = 0; head < 8; ++head) {
    for (std::size_t s = 20; s < 64; ++s) lost += whole.count[head * 64 + s] > 0 ? 1 : 0;
  }
  EXPECT_GT(lost, 0U);
  EXPECT_EQ(cut.lost, 2 * lost);  // run() launches twice
  EXPECT_EQ(cut.status, kTraceOverflow);
  EXPECT_EQ(whole.status, 0U);
  EXPECT_EQ(whole.out, cut.out);
}

}  // namespace
}  // namespace stoat::gpu
