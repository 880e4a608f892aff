// The ternary score kernel: draws equal to the CPU twin's with ==, so are codes wherever the order
// of additions cannot matter (elsewhere they are within 1), features that no head touches never
// looked at, and every gather behind it. Skipped without a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/gpu/attention_expect.h"
#include "tests/gpu/feature_case.h"
#include "tests/gpu/ternary_twin.h"

namespace stoat::gpu {
namespace {

using TernaryOnDevice = OnDevice;
using TernaryOnDeviceSmall = OnDevice;  // what compute-sanitizer runs

constexpr TernaryCoupling kCouplings[] = {TernaryCoupling::kIndependent, TernaryCoupling::kCoupled,
                                          TernaryCoupling::kGroupMean};

// Launch parameters with ternary scores that record their draws.
struct TernaryCase {
  const AttentionCase& on;
  TernaryOptions options;
  DeviceArray<std::uint16_t> features;
  DeviceArray<std::uint8_t> mask, sign;

  TernaryCase(const AttentionCase& on_, const TernaryOptions& options_)
      : on(on_), options(options_), features(features_of(on_)) {
    const std::size_t bytes =
        std::size_t{on.batch()} * on.shape().q_heads() * on.shape().head_dim / 8;
    mask = DeviceArray<std::uint8_t>(bytes * options.draws);
    sign = DeviceArray<std::uint8_t>(bytes);
  }
  DecodeParams params(Method method, std::uint32_t budget) const {
    DecodeParams p = params_of(on, method, budget);
    p.ternary = {options.draws,  options.coupling,    options.normaliser,
                 features.get(), feature_capacity(p), {mask.get(), sign.get()}};
    return p;
  }
  TernaryGroup group(std::uint32_t sequence, std::uint32_t kv_head) const {
    const std::uint32_t heads = on.shape().group;
    std::vector<float> q;
    for (std::uint32_t h = 0; h < heads; ++h) {
      for (const double x : on.query(sequence, kv_head * heads + h))
        q.push_back(static_cast<float>(x));
    }
    return draw_ternary(q, heads, on.shape().head_dim, options,
                        on.site(on.params(), sequence, kv_head * heads));
  }
};

std::string text_of(const TernaryOptions& options) {
  return std::string(coupling_name(options.coupling)) + " " +
         std::string(normaliser_name(options.normaliser)) + " B=" + std::to_string(options.draws);
}

// Codes that were compared, those of sums that no order of the additions rounds, those that differ.
struct Tally {
  std::size_t codes = 0, exact = 0, unequal = 0;
};

// The tensor cores add in an order of their own: codes are equal wherever that cannot matter, else
// within 1. Group-mean weights are multiplied one by one: all codes are equal.
void expect_codes(const TernaryCase& ternary, const TernaryScores& scores, const ScoreCodes& codes,
                  Tally& tally) {
  const ScoreCodes twin = encode_log2_scores(scores.x);
  const bool in_order = ternary.options.coupling == TernaryCoupling::kGroupMean;
  ASSERT_EQ(codes.code.size(), twin.code.size());
  ASSERT_EQ(codes.exponent, twin.exponent) << text_of(ternary.options);
  for (std::size_t row = 0; row < twin.code.size(); ++row) {
    const int difference = codes.code[row] - twin.code[row];
    const bool exact = in_order || scores.exact[row];
    ASSERT_LE(std::abs(difference), exact ? 0 : 1)
        << text_of(ternary.options) << ", context " << twin.code.size() << ", row " << row;
    ++tally.codes;
    tally.exact += exact ? 1 : 0;
    tally.unequal += difference != 0 ? 1 : 0;
  }
}

// Masks, signs and codes of every head against the twin; returns the share of features touched.
double expect_draws_and_codes(const TernaryCase& ternary, const Result& result) {
  const AttentionCase& on = ternary.on;
  const std::vector<std::uint8_t> mask = ternary.mask.to_host(), sign = ternary.sign.to_host();
  const std::uint32_t heads = on.shape().group;
  const float sm_scale = on.params().sm_scale;
  std::size_t touched = 0, features = 0;
  Tally tally;
  for (std::uint32_t s = 0; s < on.batch(); ++s) {
    for (std::uint32_t kv_head = 0; kv_head < on.shape().kv_heads; ++kv_head) {
      const TernaryGroup group = ternary.group(s, kv_head);
      touched += group.touched_by_group();
      features += group.head_dim;
      const std::size_t first = std::size_t{s} * on.shape().q_heads() + kv_head * heads;
      const auto mask_of =
          mask.begin() + static_cast<std::ptrdiff_t>(first * group.draws * group.head_dim / 8);
      const auto sign_of = sign.begin() + static_cast<std::ptrdiff_t>(first * group.head_dim / 8);
      EXPECT_TRUE(std::equal(group.mask.begin(), group.mask.end(), mask_of));
      EXPECT_TRUE(std::equal(group.sign.begin(), group.sign.end(), sign_of));
      for (std::uint32_t h = 0; h < heads; ++h) {
        expect_codes(ternary,
                     ternary_scores(group, ternary.options, h, on.keys(s, kv_head), sm_scale),
                     on.codes(result, s, kv_head * heads + h), tally);
      }
    }
  }
  const std::size_t most = ternary.options.draws <= 3 ? tally.codes * 9 / 10 : 0;
  EXPECT_GT(tally.exact, most) << text_of(ternary.options);
  EXPECT_LE(1000 * tally.unequal, tally.codes) << text_of(ternary.options);
  return static_cast<double>(touched) / static_cast<double>(features);
}

TEST_F(TernaryOnDeviceSmall, DrawsEqualTheTwinAndCodesFollowItForEveryChoice) {
  for (const ElementType element : {ElementType::kBf16, ElementType::kFp16}) {
    for (const std::uint32_t head_dim : {64U, 128U}) {
      Shape shape = shape_of({1, 7, 255, 257, 1000}, element == ElementType::kBf16 ? 3 : 7);
      shape.element = element;
      shape.head_dim = head_dim;
      AttentionCase on(shape, 80 + head_dim);
      on.upload();
      for (const TernaryCoupling coupling : kCouplings) {
        for (const TernaryNormaliser normaliser :
             {TernaryNormaliser::kMax, TernaryNormaliser::kPow2}) {
          for (const std::uint32_t draws : {1U, 2U, 3U, 64U}) {
            const TernaryCase ternary(on, {draws, coupling, normaliser});
            DecodeParams params = ternary.params(Method::kProp, 64);
            for (const std::uint32_t blocks : {0U, 1U}) {  // of one, a warp takes several chunks
              params.score_splits = blocks;
              const Result result = on.run(params, true);
              expect_draws_and_codes(ternary, result);
              expect_follows_codes(on, params, result);
              if (HasFailure()) return;
            }
          }
        }
      }
    }
  }
}

TEST_F(TernaryOnDevice, CodesFollowTheTwinInLongContextsForEveryGroup) {
  for (const std::uint32_t group : {1U, 3U, 4U, 7U, 8U}) {
    AttentionCase on(shape_of({1, 4096, 32769, 300}, group), 90 + group);
    on.upload();
    for (const std::uint32_t draws : {1U, 2U}) {
      const TernaryCase ternary(on, {draws, TernaryCoupling::kCoupled, TernaryNormaliser::kMax});
      const Result result = on.run(ternary.params(Method::kProp, 128), true);
      const double share = expect_draws_and_codes(ternary, result);
      std::printf("group %u, coupled, B=%u: %.3f of the features touched\n", group, draws, share);
      if (HasFailure()) return;
    }
  }
}

TEST_F(TernaryOnDeviceSmall, EveryGatherFollowsTernaryScores) {
  AttentionCase on(shape_of({700, 1, 3000}, 4), 81);
  on.upload();
  const TernaryCase ternary(on, {2, TernaryCoupling::kCoupled, TernaryNormaliser::kPow2});
  for (const Method method : selecting_methods()) {
    const DecodeParams params = ternary.params(method, 130);
    expect_follows_codes(on, params, on.run(params, true));
    if (HasFatalFailure()) return;
  }
}

TEST_F(TernaryOnDeviceSmall, PagesSplitsAndLayoutsDoNotChangeABit) {
  std::vector<float> first;
  for (const KvLayout layout : {KvLayout::kNhd, KvLayout::kHnd}) {
    for (const std::uint32_t page : {0U, 64U, 128U, 512U}) {
      for (const std::uint32_t splits : {0U, 1U, 3U}) {
        Shape shape = shape_of({257, 1, 2900, 64}, 4);
        shape.layout = layout;
        shape.page_size = page;
        AttentionCase on(shape, 82);
        on.upload();
        const TernaryCase ternary(on, {1, TernaryCoupling::kCoupled, TernaryNormaliser::kMax});
        DecodeParams params = ternary.params(Method::kProp, 64);
        params.score_splits = splits;
        const Result result = on.run(params, true);
        EXPECT_EQ(result.status, 0U);
        if (first.empty()) first = result.out;
        ASSERT_EQ(std::memcmp(first.data(), result.out.data(), first.size() * 4), 0)
            << "page " << page << ", splits " << splits;
      }
    }
  }
  ASSERT_FALSE(std::isnan(first[0]));
}

// Few blocks, so that a small batch is long enough for a gather beside the score pass, and warps
// take chunks of two tiles and, at the end, of one.
TEST_F(TernaryOnDeviceSmall, AGatherBesideTheScorePassReadsTheSameScores) {
  for (const std::uint32_t group : {3U, 4U}) {
    AttentionCase on(shape_of({1000, 257, 1, 2900, 64, 300, 2000, 511, 1, 700, 1800}, group), 88);
    on.device_contexts[4] = 2901;  // too long: a sequence without scores
    on.upload();
    for (const TernaryCoupling coupling :
         {TernaryCoupling::kIndependent, TernaryCoupling::kCoupled}) {
      const TernaryCase ternary(on, {1, coupling, TernaryNormaliser::kMax});
      DecodeParams params = ternary.params(Method::kProp, 64);
      params.gather_splits = 2;
      ASSERT_FALSE(choose_splits(params, device_multiprocessors()).beside);
      const Result after = on.run(params, true);
      EXPECT_EQ(after.status, kBadContext);
      for (const std::uint32_t splits : {1U, 3U, 11U}) {
        params.score_splits = splits;
        ASSERT_TRUE(choose_splits(params, device_multiprocessors()).beside);
        for (const bool whole_heads : {false, true}) {
          params.gather_splits = whole_heads ? 0 : 2;
          const Result beside = on.run(params, true);
          EXPECT_EQ(beside.status, kBadContext);
          for (std::uint32_t s = 0; s < on.batch(); ++s) {
            if (s == 4) continue;
            for (std::uint32_t head = 0; head < on.shape().q_heads(); ++head) {
              const std::size_t of_all = std::size_t{s} * on.shape().q_heads() + head;
              EXPECT_EQ(traced_rows(beside, of_all, 64), traced_rows(after, of_all, 64));
              EXPECT_EQ(on.codes(beside, s, head).code, on.codes(after, s, head).code);
              EXPECT_EQ(on.codes(beside, s, head).exponent, on.codes(after, s, head).exponent);
            }
          }
          if (!whole_heads) {
            ASSERT_EQ(std::memcmp(beside.out.data(), after.out.data(), after.out.size() * 4), 0)
                << splits << " blocks";
          }
          if (HasFailure()) return;
        }
      }
    }
  }
}

constexpr std::uint32_t kBehind = 5;

// Outputs of launches of other layers on one workspace: one after the other, each waited for, or
// behind each other in one graph, without a record and with sequences numbered by the launch, so
// that all starts as early as it may.
std::vector<float> run_behind(DecodeParams p, bool in_graph) {
  const std::size_t elements = std::size_t{p.batch} * p.q_heads * p.head_dim;
  const DeviceArray<float> out(kBehind * elements);
  const DeviceArray<std::uint32_t> status(std::vector<std::uint32_t>{0});
  p.kv_is_stable = in_graph;
  p.sequence_id = nullptr;
  p.ternary.sink = {};
  p.out = out.get();
  p.out_is_float = true;
  p.status = status.get();
  p.workspace_size = workspace_bytes(p, device_multiprocessors());
  const DeviceArray<std::uint8_t> workspace(p.workspace_size);
  p.workspace = workspace.get();
  prepare_workspace(p, nullptr);
  const auto launch = [&](std::uint32_t i, Stream stream) {
    p.layer = i;
    p.out = out.get() + i * elements;
    launch_decode(p, stream);
  };
  if (in_graph) {
    run_in_graph([&](Stream stream) {
      for (std::uint32_t i = 0; i < kBehind; ++i) launch(i, stream);
    });
  } else {
    for (std::uint32_t i = 0; i < kBehind; ++i) {
      launch(i, nullptr);
      cuda_check(cudaDeviceSynchronize());
    }
  }
  return out.to_host();
}

TEST_F(TernaryOnDeviceSmall, LaunchesBehindEachOtherGiveWhatSingleOnesGive) {
  for (const std::uint32_t batch : {1U, 8U, 9U, 40U}) {
    std::vector<std::uint32_t> contexts;
    for (std::uint32_t s = 0; s < batch; ++s) contexts.push_back(1 + s * 739 % 2900);
    contexts[batch / 2] = 2900;
    AttentionCase on(shape_of(contexts, 4), 89);
    if (batch > 1) on.device_contexts[batch - 1] = 2901;  // too long: the last has no scores
    on.upload();
    const TernaryCase ternary(on, {2, TernaryCoupling::kCoupled, TernaryNormaliser::kMax});
    for (const std::uint32_t blocks : {0U, 1U, 4U}) {
      DecodeParams params = ternary.params(Method::kProp, 96);
      params.score_splits = blocks;
      const std::vector<float> single = run_behind(params, false),
                               behind = run_behind(params, true);
      ASSERT_EQ(single.size(), behind.size());
      ASSERT_EQ(std::memcmp(single.data(), behind.data(), single.size() * sizeof(float)), 0)
          << "batch " << batch << ", " << blocks << " blocks";
      const std::size_t launch = single.size() / kBehind;
      EXPECT_NE(std::memcmp(&single[0], &single[launch], launch * sizeof(float)),
                0);  // other draws
    }
  }
}

TEST_F(TernaryOnDeviceSmall, FeaturesThatNoHeadTouchesAreNotLookedAt) {
  AttentionCase on(shape_of({1000}, 4, 1), 83);
  on.upload();
  for (const std::uint32_t draws : {1U, 2U}) {
    const TernaryCase ternary(on, {draws, TernaryCoupling::kCoupled, TernaryNormaliser::kMax});
    const DecodeParams params = ternary.params(Method::kProp, 64);
    const Result clean = on.run(params, true);
    const TernaryGroup group = ternary.group(0, 0);
    const std::size_t run = feature_capacity(params);
    std::uint32_t poisoned = 0;
    std::uint32_t last_touched = 0;
    for (std::uint32_t d = 0; d < 128; ++d) {
      bool any = false;
      for (std::uint32_t h = 0; h < 4; ++h) {
        for (std::uint32_t b = 0; b < draws; ++b) any |= group.touched(h, b, d);
      }
      if (any) {
        last_touched = d;
        continue;
      }
      cuda_check(cudaMemset(ternary.features.get() + d * run, 0xff, run * 2));
      ++poisoned;
    }
    ASSERT_GT(poisoned, 10U);
    const Result poisoned_result = on.run(params, true);
    EXPECT_EQ(poisoned_result.out, clean.out);
    EXPECT_EQ(poisoned_result.status, 0U);
    // A feature that is touched is looked at: the poison shows.
    cuda_check(cudaMemset(ternary.features.get() + last_touched * run, 0xff, run * 2));
    EXPECT_EQ(on.run(params, true).status, kDamagedScore);
  }
}

TEST_F(TernaryOnDeviceSmall, AnAllZeroQueryTouchesNothingAndScoresAllRowsAlike) {
  Shape shape = shape_of({700}, 4);
  shape.spread = 0;
  AttentionCase on(shape, 84);
  on.upload();
  for (const TernaryCoupling coupling : kCouplings) {
    const TernaryCase ternary(on, {1, coupling, TernaryNormaliser::kMax});
    const DecodeParams params = ternary.params(Method::kProp, 64);
    const Result result = on.run(params, true);
    expect_follows_codes(on, params, result);
    EXPECT_EQ(expect_draws_and_codes(ternary, result), 0);
  }
}

TEST_F(TernaryOnDeviceSmall, BadLengthsGiveNanAndAStatus) {
  AttentionCase on(shape_of({300, 600}, 3), 85);
  on.device_contexts[0] = 601;
  on.upload();
  const TernaryCase ternary(on, {1, TernaryCoupling::kCoupled, TernaryNormaliser::kMax});
  const Result result = on.run(ternary.params(Method::kProp, 64), true);
  EXPECT_EQ(result.status, kBadContext);
  EXPECT_TRUE(std::isnan(result.out[0]));
  EXPECT_FALSE(std::isnan(result.out[2 * 3 * 128]));
}

}  // namespace
}  // namespace stoat::gpu
