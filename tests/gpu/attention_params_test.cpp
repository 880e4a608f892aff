// What a GPU launch refuses, and how much scratch memory it asks for. Needs no GPU.
#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "gpu/attention/params.h"
#include "models/error.h"

namespace stoat::gpu {
namespace {

DecodeParams llama(Method method, std::uint32_t budget) {
  DecodeParams params;
  params.batch = 4;
  params.q_heads = 32;
  params.kv_heads = 8;
  params.head_dim = 128;
  params.max_context = params.kv_capacity = 32768;
  params.sm_scale = 0.088F;
  params.method = method;
  params.budget = budget;
  return params;
}

std::string refusal_after(void (*change)(DecodeParams&), Method method = Method::kProp) {
  DecodeParams params = llama(method, 128);
  change(params);
  return shape_refusal(params);
}

TEST(GpuDecodeParams, AcceptTheShapesOfTheKernels) {
  for (const Method method : {Method::kDense, Method::kIid, Method::kStratified,
                              Method::kSystematic, Method::kProp, Method::kFlash, Method::kTopK}) {
    for (const std::uint32_t head_dim : {64U, 128U}) {
      for (std::uint32_t group = 1; group <= 8; ++group) {
        DecodeParams params = llama(method, 128);
        params.head_dim = head_dim;
        params.q_heads = group * params.kv_heads;
        EXPECT_EQ(shape_refusal(params), "");
      }
    }
  }
}

TEST(GpuDecodeParams, RefuseWhatTheKernelsCannotDoWithTheReason) {
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.head_dim = 96; }).find("head_dim is 96"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.q_heads = 72; }).find("a group of 9"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.q_heads = 33; }).find("no multiple"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.batch = 257; }).find("batch is 257"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.budget = 0; }).find("budget is 0"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.budget = 4097; }).find("budget is 4097"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.kv_capacity = 100; }).find("kv_capacity"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.page_size = 48; }).find("power of two"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.max_context = (1U << 20) + 1; }).find("max_con"),
            std::string::npos);
  EXPECT_NE(refusal_after([](DecodeParams& p) { p.layer = 65536; }).find("layer"),
            std::string::npos);
  EXPECT_NE(
      refusal_after([](DecodeParams& p) { p.budget = 127; }, Method::kFlash).find("128 tiles"),
      std::string::npos);
}

std::string ternary_refusal_after(void (*change)(DecodeParams&)) {
  DecodeParams params = llama(Method::kProp, 128);
  params.ternary.draws = 2;
  params.ternary.capacity = 32768;
  change(params);
  return shape_refusal(params);
}

TEST(GpuDecodeParams, RefuseTernaryScoresThatTheKernelCannotDoWithTheReason) {
  EXPECT_EQ(ternary_refusal_after([](DecodeParams&) {}), "");
  EXPECT_EQ(ternary_refusal_after([](DecodeParams& p) { p.method = Method::kTopK; }), "");
  EXPECT_EQ(ternary_refusal_after([](DecodeParams& p) { p.page_size = 64; }), "");
  EXPECT_EQ(ternary_refusal_after([](DecodeParams& p) { p.page_size = 1024; }), "");
  for (const std::uint32_t page : {1U, 16U, 32U}) {
    DecodeParams params = llama(Method::kProp, 128);
    params.page_size = page;
    EXPECT_EQ(shape_refusal(params), "");
    params.ternary.draws = 1;
    EXPECT_NE(shape_refusal(params).find("at least 64"), std::string::npos) << page;
  }
  EXPECT_NE(
      ternary_refusal_after([](DecodeParams& p) { p.ternary.draws = 65; }).find("draws is 65"),
      std::string::npos);
  EXPECT_NE(ternary_refusal_after([](DecodeParams& p) { p.method = Method::kDense; }).find("exact"),
            std::string::npos);
  EXPECT_NE(
      ternary_refusal_after([](DecodeParams& p) { p.ternary.capacity = 32760; }).find("32760"),
      std::string::npos);
  EXPECT_NE(ternary_refusal_after([](DecodeParams& p) { p.ternary.capacity = 32772; }).find("of 8"),
            std::string::npos);
  EXPECT_NE(ternary_refusal_after([](DecodeParams& p) {
              p.ternary.capacity = (1U << 24) + 8;
            }).find("at most 16777216"),
            std::string::npos);
}

TEST(GpuDecodeParams, RefuseIncompleteSinks) {
  alignas(256) static unsigned char memory[256];
  auto* words = reinterpret_cast<std::uint32_t*>(memory);
  DecodeParams params = llama(Method::kProp, 128);
  params.q = params.k = params.v = params.out = params.workspace = memory;
  params.status = words;
  params.context_len = words;
  ASSERT_EQ(refusal(params), "");
  params.scores.code = reinterpret_cast<std::uint16_t*>(memory);
  EXPECT_NE(refusal(params).find("code and exponent"), std::string::npos);
  params.scores.exponent = reinterpret_cast<std::int32_t*>(memory);
  EXPECT_EQ(refusal(params), "");
  params.method = Method::kDense;
  EXPECT_NE(refusal(params).find("stores no scores"), std::string::npos);
  params.method = Method::kProp;
  params.ternary.draws = 1;
  params.ternary.capacity = 32768;
  EXPECT_NE(refusal(params).find("k_features"), std::string::npos);
  params.ternary.k_features = memory;
  EXPECT_EQ(refusal(params), "");
  params.ternary.sink.mask = memory;
  EXPECT_NE(refusal(params).find("mask and sign"), std::string::npos);
  params.ternary.sink.sign = memory;
  EXPECT_EQ(refusal(params), "");
  params.ternary.k_features = memory + 8;
  EXPECT_NE(refusal(params).find("16 bytes"), std::string::npos);
}

TEST(GpuDecodeParams, TheLargestRulerFitsExactly) {
  DecodeParams params = llama(Method::kProp, kMaxGpuBudget);
  params.max_context = params.kv_capacity = kMaxContext;
  EXPECT_EQ(shape_refusal(params), "");
}

TEST(GpuDecodeParams, RefuseMissingPointers) {
  DecodeParams params = llama(Method::kProp, 128);
  EXPECT_NE(refusal(params).find("must not be null"), std::string::npos);
  alignas(256) static unsigned char memory[256];
  params.q = params.k = params.v = memory;
  params.out = memory;
  params.status = reinterpret_cast<std::uint32_t*>(memory);
  EXPECT_NE(refusal(params).find("context_len"), std::string::npos);
  params.context_len = reinterpret_cast<std::uint32_t*>(memory);
  EXPECT_NE(refusal(params).find("workspace"), std::string::npos);
  params.workspace = memory;
  EXPECT_EQ(refusal(params), "");
  params.k = memory + 2;
  EXPECT_NE(refusal(params).find("16 bytes"), std::string::npos);
  params.k = memory;
  params.page_size = 16;
  EXPECT_NE(refusal(params).find("indptr"), std::string::npos);
  params.page_size = 0;
  params.trace.row = reinterpret_cast<std::uint32_t*>(memory);
  EXPECT_NE(refusal(params).find("trace"), std::string::npos);
}

TEST(GpuDecodeParams, CodesHaveAsManyPlacesAsStayInTheCache) {
  DecodeParams params = llama(Method::kProp, 128);
  EXPECT_EQ(code_places(params), 4U);  // 2 MB a sequence
  params.max_context = 4096;
  EXPECT_EQ(code_places(params), 32U);
  params.max_context = 131072;
  EXPECT_EQ(code_places(params), 2U);  // one that is written, one that is read
}

TEST(GpuDecodeParams, SplitsFillTheDeviceAndNeverExceedTheWork) {
  const Splits four = choose_splits(llama(Method::kProp, 128), 132);
  EXPECT_EQ(four.score, 264U);          // blocks at once, through the batch
  EXPECT_EQ(four.whole_sequences, 3U);  // a block a head beside the score pass,
  EXPECT_EQ(four.gather, 4U);           // and 128 blocks for the last sequence
  const Splits large = choose_splits(llama(Method::kProp, 1024), 132);
  EXPECT_EQ(large.whole_sequences, 1U);  // whole heads take longer: the last three are shared
  EXPECT_EQ(large.gather, 4U);
  const Splits largest = choose_splits(llama(Method::kProp, 2048), 132);
  EXPECT_EQ(largest.whole_sequences, 1U);
  EXPECT_EQ(largest.gather, 4U);
  EXPECT_EQ(choose_splits(llama(Method::kTopK, 128), 132).gather, 2U);
  DecodeParams many = llama(Method::kDense, 0);
  many.batch = 64;
  EXPECT_EQ(choose_splits(many, 132).score, 8U);  // 16 tiles a block, in several waves
  many.batch = 16;
  EXPECT_EQ(choose_splits(many, 132).score, 2U);  // one wave of 256 blocks
  many.method = Method::kProp;
  many.budget = 128;
  EXPECT_EQ(choose_splits(many, 132).score, 264U);
  many.budget = 1024;
  EXPECT_EQ(choose_splits(many, 132).score, 240U);  // room for a gather that takes as long
  DecodeParams one = llama(Method::kProp, 1024);
  one.batch = 1;
  for (const auto& [context, blocks] : {std::pair{32768U, 8U}, {8192U, 4U}, {4096U, 8U}}) {
    one.max_context = context;
    EXPECT_EQ(choose_splits(one, 132).gather, blocks) << context;
  }
  DecodeParams tiny = llama(Method::kProp, 1);
  tiny.batch = 1;
  tiny.max_context = 300;
  EXPECT_EQ(choose_splits(tiny, 132).score, 2U * tiny.kv_heads);  // two tiles a KV head
  EXPECT_EQ(choose_splits(tiny, 132).gather, 1U);
  tiny.score_splits = 1;
  EXPECT_EQ(choose_splits(tiny, 132).score, 1U);
}

TEST(GpuDecodeParams, TernaryWarpsTakeTilesThroughTheBatch) {
  DecodeParams params = llama(Method::kProp, 128);
  params.ternary.draws = 1;
  params.ternary.capacity = params.max_context;
  Splits splits = choose_splits(params, 132);
  EXPECT_EQ(splits.score, 264U);
  EXPECT_EQ(splits.chunk_tiles, 2U);
  EXPECT_EQ(splits.chunked, 4U);  // 4096 tiles, the first two of a warp are nearly all
  EXPECT_FALSE(splits.beside);
  params.batch = 1;
  splits = choose_splits(params, 132);
  EXPECT_EQ(splits.score, 128U);  // a tile a warp
  EXPECT_EQ(splits.chunk_tiles, 1U);
  params.batch = 16;
  splits = choose_splits(params, 132);
  EXPECT_EQ(splits.score, 264U);
  EXPECT_EQ(splits.chunk_tiles, 2U);
  EXPECT_EQ(splits.chunked, 14U);  // the last two sequences tile by tile
  EXPECT_TRUE(splits.beside);
  params.ternary.coupling = TernaryCoupling::kGroupMean;
  EXPECT_FALSE(choose_splits(params, 132).beside);  // no room for the gather
  params.max_context = 300;
  EXPECT_EQ(choose_splits(params, 132).score, 32U);
  params.score_splits = 2;
  EXPECT_EQ(choose_splits(params, 132).score, 2U);
}

TEST(GpuDecodeParams, TheWorkspaceHoldsItsPartsWithoutOverlap) {
  const DecodeParams params = llama(Method::kProp, 128);
  const Splits splits = choose_splits(params, 132);
  const WorkspaceLayout layout = workspace_layout(params, splits);
  const std::size_t heads = 4 * 32, tiles = heads * 128;
  EXPECT_GE(layout.counter, layout.lut + 8192);
  EXPECT_GE(layout.code, layout.counter + heads * 4);
  EXPECT_GE(layout.exponent, layout.code + tiles * 512);
  EXPECT_GE(layout.mass, layout.exponent + tiles * 4);
  EXPECT_GE(layout.partial, layout.mass + tiles * 8);
  EXPECT_GE(layout.bytes, layout.partial + heads * splits.gather * 128 * 4);
  EXPECT_EQ(layout.bytes, workspace_bytes(params, 132));
  DecodeParams bad = params;
  bad.head_dim = 80;
  EXPECT_THROW(workspace_bytes(bad, 132), Error);
}

}  // namespace
}  // namespace stoat::gpu
