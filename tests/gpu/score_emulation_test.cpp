// The score kernel's own text on the CPU (emulation/warps.h), against scores in double.
#include <gtest/gtest.h>

#include "tests/gpu/emulation/score_case.h"

namespace stoat::emulation {
namespace {

using gpu::ElementType;
using gpu::KvLayout;

// For copies that land early and late, and several orders of the warps.
void expect_right(const BatchCase& of) {
  for (const std::uint64_t seed : {0, 1, 2}) {
    for (const bool late : {false, true})
      EXPECT_EQ(what_is_wrong(of, {1, 1, 256, seed, late}), "")
          << "seed " << seed << ", late " << late;
  }
}

TEST(EmulatedScorePass, HasTheCodesOfContiguousCachesInBothLayouts) {
  expect_right({.contexts = {700, 1500}, .blocks = 3});
  expect_right({.layout = KvLayout::kNhd, .contexts = {257, 1, 600}, .kv_is_stable = false});
  expect_right({.kv_heads = 3, .layout = KvLayout::kNhd, .contexts = {900}});
}

TEST(EmulatedScorePass, HasTheCodesOfEveryElementHeadAndGroup) {
  expect_right({.element = ElementType::kFp16,
                .head_dim = 64,
                .group = 8,
                .kv_heads = 1,
                .contexts = {513, 255, 1024}});
  expect_right({.head_dim = 64, .group = 1, .kv_heads = 3, .contexts = {300, 40}});
  expect_right({.element = ElementType::kFp16, .group = 3, .contexts = {333}});
  expect_right({.group = 7, .kv_heads = 1, .contexts = {290}, .blocks = 1});
}

TEST(EmulatedScorePass, HasTheCodesOfPagesOfEverySize) {
  expect_right({.group = 7, .kv_heads = 1, .page_size = 1, .contexts = {290}, .blocks = 1});
  expect_right({.element = ElementType::kFp16,
                .head_dim = 64,
                .group = 6,
                .page_size = 16,
                .contexts = {600, 17}});
  expect_right({.group = 2, .page_size = 64, .contexts = {1000, 65, 512}});
  expect_right({.group = 5,
                .kv_heads = 1,
                .page_size = 512,
                .layout = KvLayout::kNhd,
                .contexts = {1500, 513}});
}

TEST(EmulatedScorePass, HandsOutEveryTileOnceForAnyNumberOfBlocks) {
  for (const std::uint32_t blocks : {1U, 2U, 5U, 8U})
    expect_right({.head_dim = 64,
                  .kv_heads = 1,
                  .contexts = {30, 400, 256, 100, 512, 1, 2, 255},
                  .blocks = blocks});
}

TEST(EmulatedScorePass, TakesEmptySequencesAndBlocksWithoutATile) {
  expect_right({.contexts = {600, 0, 300}});
  expect_right({.kv_heads = 1, .contexts = {100, 0, 300}, .blocks = 8});
}

TEST(EmulatedScorePass, MarksDamagedAndMaskedTiles) {
  for (const Damage damage : {Damage::kNan, Damage::kMasked, Damage::kHuge})
    expect_right({.head_dim = 64, .contexts = {600, 700}, .damage = damage});
}

TEST(EmulatedScorePass, SignalsEverySequenceWhereCodesShareTheirPlaces) {
  expect_right({.head_dim = 64, .contexts = {300, 400, 500, 100}, .blocks = 3, .code_places = 2});
}

TEST(EmulatedScorePass, IsFoundWrongWithoutBarriersAndWithoutCopies) {
  const BatchCase of{.contexts = {700, 1500}, .blocks = 3};
  EXPECT_NE(what_is_wrong(of, {1, 1, 256, 0, false, Fault::kBarriersLetPass}), "");
  EXPECT_NE(what_is_wrong(of, {1, 1, 256, 0, true, Fault::kBarriersLetPass}), "");
  EXPECT_NE(what_is_wrong(of, {1, 1, 256, 0, true, Fault::kCopiesNeverLand}), "");
}

}  // namespace
}  // namespace stoat::emulation
