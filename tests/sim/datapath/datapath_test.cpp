// Stages against counts computed by hand for small shares.
#include <gtest/gtest.h>

#include <cstdint>

#include "models/error.h"

#include "sim/datapath/catalog.h"
#include "sim/datapath/stage.h"

namespace stoat::sim {
namespace {

EngineShape shape_of(const std::vector<std::string>& overrides = {}) {
  EngineShape shape;
  shape.point = read_design_point("hbm3", overrides);
  shape.head_dim = 128;
  shape.engines = 4;
  shape.access = Bytes(32);
  return shape;
}

// 300 rows: tiles of 256 and 44; both owned by engine 0; four heads; rows 3 and 260 drawn.
EngineWork small_work() {
  EngineWork work;
  work.context = 300;
  work.heads = 4;
  work.method = Method::kProp;
  work.budget = 8;
  work.tiles = {{0, 0, 256}, {1, 1, 44}};
  work.rows = {{3, 0}, {260, 1}};
  work.counts = {5, 8, 0, 0,   // row 3
                 3, 0, 8, 8};  // row 260
  work.value_base = 1 << 20;
  return work;
}

std::uint64_t count(const StageEvents& events, Event event) {
  return events[static_cast<std::size_t>(event)];
}

TEST(ScoreMac, MultipliesEveryKeyOnceAHead) {
  const StagePlan plan = kScoreMac.plan(small_work(), shape_of());
  EXPECT_EQ(count(plan.events, Event::kMultiply), 300U * 128 * 4);
  EXPECT_EQ(count(plan.events, Event::kAccumulate), 300U * 128 * 4);
  EXPECT_EQ(count(plan.events, Event::kScale), 128U * 4);  // folding into q
  EXPECT_EQ(count(plan.events, Event::kRowBufferWriteBits), 300U * 256 * 8);
  // q once, then once a block of 16 rows: 16 + 3 blocks.
  EXPECT_EQ(count(plan.events, Event::kAccumulatorBits), (1U + 19) * 128 * 4 * 16);
  ASSERT_EQ(plan.items.size(), 2U);
  EXPECT_EQ(plan.items[0].busy, CoreCycles(256 * 128 * 4 / 64));
  EXPECT_EQ(plan.items[0].tail, CoreCycles(1));
  ASSERT_EQ(plan.items[0].fetches.size(), 1U);
  EXPECT_EQ(plan.items[0].fetches[0].size, Bytes(65536));
  EXPECT_EQ(plan.items[1].fetches[0].address, 65536U);
  EXPECT_EQ(plan.items[1].fetches[0].size, Bytes(44 * 256));
}

TEST(ScoreMac, OnlyTheFirstEngineOfAHeadFoldsTheScale) {
  EngineWork work = small_work();
  work.engine = 1;
  EXPECT_EQ(count(kScoreMac.plan(work, shape_of()).events, Event::kScale), 0U);
}

TEST(ScoreMac, NarrowElementsHalveTheBytesAndNotTheWork) {
  const StagePlan plan = kScoreMac.plan(small_work(), shape_of({"kv.element=fp8"}));
  EXPECT_EQ(plan.items[0].fetches[0].size, Bytes(32768));
  EXPECT_EQ(count(plan.events, Event::kMultiply), 300U * 128 * 4);
}

TernaryShare two_features() {
  TernaryShare share;
  share.options = {2, TernaryCoupling::kIndependent, TernaryNormaliser::kPow2};
  share.touched = {2, 1, 1, 0};
  share.touches = {3, 1, 2, 0};
  share.in_union.assign(128, 0);
  share.in_union[4] = share.in_union[5] = share.in_union[9] = 1;
  share.union_size = 3;
  return share;
}

TEST(ScoreTernary, AddsEachTouchAndMultipliesNothingAKey) {
  EngineWork work = small_work();
  const TernaryShare share = two_features();
  work.ternary = &share;
  const StagePlan plan = kScoreTernary.plan(work, shape_of());
  EXPECT_EQ(count(plan.events, Event::kTernaryAdd), 300U * 6);
  EXPECT_EQ(count(plan.events, Event::kMultiply), 0U);
  EXPECT_EQ(count(plan.events, Event::kScale), 128U * 4);
  EXPECT_EQ(count(plan.events, Event::kRandomDraw), 2U * 128 * 4);
  EXPECT_EQ(plan.items[0].busy, CoreCycles(256 * 6 / 64));
  // Token-major: every burst holds touched features, the whole tile moves.
  EXPECT_EQ(plan.items[0].fetches[0].size, Bytes(65536));
}

TEST(ScoreTernary, AnOrdinaryMaximumLeavesOneMultiplicationAKeyAndHead) {
  EngineWork work = small_work();
  TernaryShare share = two_features();
  share.options.normaliser = TernaryNormaliser::kMax;
  work.ternary = &share;
  EXPECT_EQ(count(kScoreTernary.plan(work, shape_of()).events, Event::kScale), 128U * 4 + 300U * 4);
  share.options = {3, TernaryCoupling::kIndependent,
                   TernaryNormaliser::kPow2};  // B not a power of two
  EXPECT_EQ(count(kScoreTernary.plan(work, shape_of()).events, Event::kScale), 128U * 4 + 300U * 4);
}

TEST(ScoreTernary, GroupMeanMultipliesEveryTouchedFeature) {
  EngineWork work = small_work();
  TernaryShare share = two_features();
  share.options.coupling = TernaryCoupling::kGroupMean;
  work.ternary = &share;
  const StagePlan plan = kScoreTernary.plan(work, shape_of());
  EXPECT_EQ(count(plan.events, Event::kMultiply), 300U * 4);
  EXPECT_EQ(count(plan.events, Event::kTernaryAdd), 0U);
}

TEST(ScoreTernary, FeatureMajorReadsOnlyTouchedFeaturesInRuns) {
  EngineWork work = small_work();
  const TernaryShare share = two_features();
  work.ternary = &share;
  const StagePlan plan = kScoreTernary.plan(work, shape_of({"mapping.k_layout=feature_major"}));
  ASSERT_EQ(plan.items[0].fetches.size(), 2U);  // features 4..5, 9
  EXPECT_EQ(plan.items[0].fetches[0].address, 4U * 512);
  EXPECT_EQ(plan.items[0].fetches[0].size, Bytes(1024));
  EXPECT_EQ(plan.items[0].fetches[1].address, 9U * 512);
  // The last tile has 44 rows: 88 bytes a feature in three bursts.
  ASSERT_EQ(plan.items[1].fetches.size(), 3U);
  EXPECT_EQ(plan.items[1].fetches[0].requested, Bytes(88));
  EXPECT_EQ(plan.items[1].fetches[0].size, Bytes(96));
}

TEST(SelectSampled, ScansOnlyTilesWithDraws) {
  EngineWork work = small_work();
  work.counts = {8, 8, 8, 8, 0, 0, 0, 0};
  work.rows.pop_back();
  work.counts.resize(4);
  const SelectPlan plan = kSelectSampled.plan(work, shape_of());
  EXPECT_FALSE(plan.streams);
  EXPECT_EQ(count(plan.events, Event::kMaxCompare), 300U * 4);
  EXPECT_EQ(count(plan.events, Event::kExp), 300U * 4 + 256 * 4);
  EXPECT_EQ(count(plan.events, Event::kStashWriteBits), 300U * 4 * 16);
  EXPECT_EQ(count(plan.events, Event::kStashReadBits), 256U * 4 * 16);
  // 16-wide prefix networks: 2 * 16 - 2 - 4 additions and 16 of the running sum; then the tiles.
  EXPECT_EQ(count(plan.events, Event::kPrefixAdd), 256U / 16 * 42 * 4 + 2 * 4);
  EXPECT_EQ(count(plan.events, Event::kScale), 4U);  // a head's offset is a word times the mass
  EXPECT_EQ(count(plan.events, Event::kThresholdCompare), 256U * 4 + 2 * 4 + 32);
  EXPECT_EQ(count(plan.events, Event::kRandomDraw), 4U);  // one offset a head
  EXPECT_EQ(plan.scored[0], CoreCycles(256 * 4 / 16));
  EXPECT_EQ(plan.scan[0], CoreCycles(256 * 4 / 16));
  EXPECT_EQ(plan.scan[1], CoreCycles(0));
  EXPECT_TRUE(plan.spill_writes.empty());
}

TEST(SelectSampled, IndependentDrawsNeedOneRandomWordAPoint) {
  EngineWork work = small_work();
  work.method = Method::kIid;
  EXPECT_EQ(count(kSelectSampled.plan(work, shape_of()).events, Event::kRandomDraw), 8U * 4);
  work.method = Method::kFlash;
  EXPECT_TRUE(kSelectSampled.plan(work, shape_of()).streams);
}

TEST(SelectSampled, SpillsTheCodesThatDoNotFit) {
  const SelectPlan plan = kSelectSampled.plan(small_work(), shape_of({"engine.stash=2 KiB"}));
  ASSERT_EQ(plan.spill_writes.size(), 1U);  // 256 x 4 x 16 bit fit, the second tile does not
  EXPECT_EQ(plan.spill_writes[0].fetches[0].requested, Bytes(44 * 4 * 2));
  ASSERT_EQ(plan.spill_reads.size(), 1U);
  EXPECT_EQ(count(plan.events, Event::kStashWriteBits), 256U * 4 * 16);
}

TEST(GatherMac, ReadsEveryRowAndNormalisesOnce) {
  const StagePlan plan = kGatherMac.plan(small_work(), shape_of());
  EXPECT_EQ(count(plan.events, Event::kMultiply), 300U * 128 * 4);
  EXPECT_EQ(plan.items[0].logical_rows, 1024U);
  EXPECT_EQ(plan.items[0].rows, 256U);
  // One active engine: this engine's slice of the outputs is normalised, nothing is merged.
  EXPECT_EQ(count(plan.events, Event::kScale), 128U);
  EXPECT_EQ(count(plan.events, Event::kAccumulate), 300U * 128 * 4);
}

TEST(GatherAdd, ReadsTheUnionAndAddsEveryUse) {
  const StagePlan plan = kGatherAdd.plan(small_work(), shape_of({"engine.repeats=adds"}));
  ASSERT_EQ(plan.items.size(), 2U);
  EXPECT_EQ(plan.items[0].fetches[0].address, (1U << 20) + 3 * 256);
  EXPECT_EQ(plan.items[1].fetches[0].address, (1U << 20) + 260 * 256);
  EXPECT_EQ(plan.items[0].logical_rows, 2U);
  EXPECT_EQ(plan.items[1].logical_rows, 3U);
  EXPECT_EQ(count(plan.events, Event::kAccumulate), (5U + 8 + 3 + 8 + 8) * 128);
  EXPECT_EQ(count(plan.events, Event::kMultiply), 0U);
  EXPECT_EQ(count(plan.events, Event::kScale), 0U);  // 1/8 is a shift
  EXPECT_EQ(plan.items[0].busy, CoreCycles(13 * 128 / 16));
}

TEST(GatherAdd, RepeatsCostOneShiftAddASetBit) {
  const StagePlan plan = kGatherAdd.plan(small_work(), shape_of());
  // 5 = 101: one addition, one shifted. 8 = 1000: one shifted. 3 = 11: one and one.
  EXPECT_EQ(count(plan.events, Event::kAccumulate), (1U + 0 + 1 + 0 + 0) * 128);
  EXPECT_EQ(count(plan.events, Event::kShiftAdd), (1U + 1 + 1 + 1 + 1) * 128);
  EXPECT_EQ(plan.items[0].busy, CoreCycles(3 * 128 / 16));
}

TEST(GatherAdd, RepeatsMayMultiply) {
  const StagePlan plan = kGatherAdd.plan(small_work(), shape_of({"engine.repeats=multiply"}));
  EXPECT_EQ(count(plan.events, Event::kMultiply), 5U * 128);
  EXPECT_EQ(count(plan.events, Event::kAccumulate), 5U * 128);
}

TEST(GatherAdd, ABudgetThatIsNoPowerOfTwoNeedsAFinalScale) {
  EngineWork work = small_work();
  work.budget = 12;
  EXPECT_EQ(count(kGatherAdd.plan(work, shape_of()).events, Event::kScale),
            128U);  // a quarter of 512
}

TEST(Gather, SlicesOfTheMergeCoverAllOutputsOnce) {
  std::uint64_t adds = 0;
  for (std::uint32_t engine = 0; engine < 4; ++engine) {
    EngineWork work = small_work();
    work.rows.clear();
    work.counts.clear();
    work.engine = engine;
    work.active_engines = 3;
    adds += count(kGatherAdd.plan(work, shape_of()).events, Event::kAccumulate);
  }
  EXPECT_EQ(adds, 128U * 4 * 2);
}

TEST(Catalog, HoldsTheThesis) {
  const Datapath& mac = datapath_from_name("mac");
  const Datapath& add = datapath_from_name("gather_add");
  const Datapath& ternary = datapath_from_name("ternary");
  EXPECT_EQ(add.score, mac.score);
  EXPECT_NE(add.gather, mac.gather);
  EXPECT_EQ(ternary.select, add.select);
  EXPECT_EQ(ternary.gather, add.gather);
  EXPECT_NE(ternary.score, add.score);
  EXPECT_THROW(datapath_from_name("gather"), Error);
}

}  // namespace
}  // namespace stoat::sim
