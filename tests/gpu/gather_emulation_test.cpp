// Select and gather, as the kernel is written, on the CPU (emulation/warps.h).
#include <gtest/gtest.h>

#include <cmath>

#include "models/attention/decode.h"
#include "models/sampling/ruler.h"
#include "tests/gpu/emulation/gather_case.h"

namespace stoat::emulation {
namespace {

using gpu::DecodeParams;
using gpu::ElementType;
using gpu::KvLayout;

// Every sampled method and top-k, for several cuts of the work and orders of the warps.
void expect_right(const BatchCase& of, std::uint32_t budget, std::initializer_list<Cut> cuts) {
  const Batch batch(of, 5);
  DecodeParams p = batch.params();
  p.budget = budget;
  p.method = Method::kProp;
  const ScoreResults scores = run_score(p, of.code_places, {of.blocks, 1, 256, 3});
  for (const Method method : {Method::kIid, Method::kStratified, Method::kSystematic, Method::kProp,
                              Method::kFlash, Method::kTopK}) {
    p.method = method;
    if (!shape_refusal(p).empty()) continue;  // flash with fewer samples than tiles
    for (const Cut cut : cuts) {
      // Top-k waits for the whole score pass, so that it never takes heads whole.
      if (method == Method::kTopK && cut.whole_sequences > 0) continue;
      const std::uint64_t seed = cut.blocks + budget;
      EXPECT_EQ(what_is_wrong(batch, of, p, scores, cut, {1, 1, 256, seed, seed % 2 == 0}), "")
          << method_name(method) << ", budget " << budget << ", " << cut.blocks << " blocks a head";
    }
  }
}

TEST(EmulatedGather, DrawsTheRowsOfTheCpuWithFewPoints) {
  for (const std::uint32_t budget : {1U, 20U, 64U})
    expect_right({.kv_heads = 1, .contexts = {700, 30}}, budget, {{1}, {2}});
}

TEST(EmulatedGather, DrawsTheRowsOfTheCpuWithManyPoints) {
  expect_right({.kv_heads = 1, .contexts = {1500}}, 500, {{1}, {3}, {8}});
  expect_right({.head_dim = 64, .group = 3, .contexts = {600}}, 1100, {{4}});
}

TEST(EmulatedGather, TakesHeadsWholeAndShared) {
  expect_right({.head_dim = 64, .kv_heads = 1, .contexts = {300, 520, 256}}, 96, {{2, 2}, {4, 1}});
}

TEST(EmulatedGather, AddsUpSharesWithoutAClusterWhereThereAreManyBlocks) {
  expect_right({.group = 1, .kv_heads = 1, .contexts = {600}}, 200, {{9}});
}

TEST(EmulatedGather, ReadsPagesAndBothElements) {
  expect_right({.element = ElementType::kFp16,
                .kv_heads = 1,
                .page_size = 16,
                .layout = KvLayout::kNhd,
                .contexts = {333, 17}},
               40, {{2}});
  expect_right({.element = ElementType::kFp16,
                .head_dim = 64,
                .group = 2,
                .page_size = 64,
                .contexts = {400}},
               300, {{2}});
}

TEST(EmulatedGather, PassesMaskedTiles) {
  expect_right({.head_dim = 64, .kv_heads = 1, .contexts = {600}, .damage = Damage::kMasked}, 50,
               {{2}});
}

TEST(EmulatedDense, AgreesWithDouble) {
  for (const BatchCase& of :
       {BatchCase{.contexts = {700, 1, 300}}, BatchCase{.element = ElementType::kFp16,
                                              .head_dim = 64,
                                              .group = 7,
                                              .kv_heads = 1,
                                              .page_size = 16,
                                              .layout = KvLayout::kNhd,
                                              .contexts = {333}}}) {
    const Batch batch(of, 5);
    DecodeParams p = batch.params();
    p.method = Method::kDense;
    for (const std::uint32_t blocks : {1U, 3U}) {
      const std::vector<float> out = run_dense(p, {blocks, 1, 256, blocks, blocks == 3});
      for (std::uint32_t s = 0; s < p.batch; ++s) {
        for (std::uint32_t h = 0; h < p.q_heads; ++h) {
          std::vector<double> logits(of.contexts[s]);
          for (std::uint32_t row = 0; row < of.contexts[s]; ++row)
            logits[row] = batch.score(s, h, row) / static_cast<double>(kLog2E);
          const std::vector<Bf16> values = batch.values(s, h / of.group);
          const std::vector<double> exact = gather_dense(
              softmax(logits), {values.data(), p.head_dim, of.contexts[s], p.head_dim});
          const auto first = out.begin() + (std::ptrdiff_t{s} * p.q_heads + h) * p.head_dim;
          EXPECT_LE(relative_error(std::vector<double>(first, first + p.head_dim), exact), 3e-3)
              << "sequence " << s << ", head " << h << ", " << blocks << " blocks";
        }
      }
    }
  }
}

TEST(EmulatedGather, BesideTheScorePassTakesEachSequenceWhenItIsSignalled) {
  const BatchCase of{.head_dim = 64, .kv_heads = 1, .contexts = {600, 30, 300, 1, 520}};
  const Batch batch(of, 5);
  DecodeParams p = batch.params();
  p.method = Method::kProp;
  p.budget = 96;
  for (const Cut cut : {Cut{1}, Cut{4}, Cut{2, 4}}) {
    for (const std::uint64_t seed : {0, 1}) {
      const DecodeResults got = run_decode(p, cut, {2, 1, 256, seed, seed == 1});
      EXPECT_TRUE(got.is_ready_again) << cut.blocks;
      EXPECT_EQ(what_is_wrong(batch, of, p, got.scores, got.gather), "") << cut.blocks;
    }
  }
}

TEST(EmulatedGather, RefusesDamagedAndEmptyHeads) {
  const BatchCase of{
      .head_dim = 64, .kv_heads = 1, .contexts = {400, 0, 400}, .damage = Damage::kNan};
  const Batch batch(of, 5);
  DecodeParams p = batch.params();
  p.method = Method::kProp;
  p.budget = 30;
  const GatherResults got = run_gather(p, run_score(p, of.code_places, {2}), {2}, {});
  EXPECT_EQ(got.status, gpu::kDamagedScore | gpu::kBadContext);
  for (const float value : got.out) ASSERT_TRUE(std::isnan(value));
  for (const std::uint16_t count : got.count) ASSERT_EQ(count, 0);
}

}  // namespace
}  // namespace stoat::emulation
