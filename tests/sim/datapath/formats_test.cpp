// The axes of the stages: accumulator formats, merged ternary draws, the cost of each sampler,
// top-k units, the append of the new token. Counts computed by hand.
#include <gtest/gtest.h>

#include <cstdint>

#include "sim/datapath/catalog.h"
#include "sim/datapath/stage.h"
#include "sim/datapath/stash.h"

namespace stoat::sim {
namespace {

EngineShape shape_of(const std::vector<std::string>& overrides = {}) {
  EngineShape shape;
  shape.point = read_design_point("hbm3", overrides);
  shape.head_dim = 128;
  shape.engines = shape.stride = 4;
  shape.access = Bytes(32);
  return shape;
}

// Tiles of 256 and 44 rows on engine 0, four heads; rows 3 and 260 drawn.
EngineWork small_work(Method method = Method::kProp) {
  EngineWork work;
  work.context = 300;
  work.heads = 4;
  work.method = method;
  work.budget = 8;
  work.tiles = {{0, 0, 256}, {1, 1, 44}};
  work.rows = {{3, 0}, {260, 1}};
  work.counts = {5, 8, 0, 0, 3, 0, 8, 8};
  work.value_base = 1 << 20;
  return work;
}

std::uint64_t count(const StageEvents& events, Event event) {
  return events[static_cast<std::size_t>(event)];
}

TEST(Formats, MoveTheSameOperationsToOtherEvents) {
  const StagePlan plain = kGatherAdd.plan(small_work(), shape_of());
  const StagePlan fixed =
      kGatherAdd.plan(small_work(), shape_of({"engine.accumulator.gather_add=shared24"}));
  EXPECT_EQ(count(fixed.events, Event::kAccumulate), 0U);
  EXPECT_EQ(count(fixed.events, Event::kAccumulateShared24),
            count(plain.events, Event::kAccumulate));
  EXPECT_EQ(count(fixed.events, Event::kShiftAddShared24), count(plain.events, Event::kShiftAdd));
  // 24 bits of 32 move to and from the accumulator memory.
  EXPECT_EQ(count(fixed.events, Event::kAccumulatorBits) * 4,
            count(plain.events, Event::kAccumulatorBits) * 3);
  EXPECT_EQ(fixed.items[0].busy, plain.items[0].busy);
}

TEST(Formats, AnInt8CacheOnIntegerLanesHasIntegerProducts) {
  const std::vector<std::string> int8 = {"kv.element=int8", "engine.accumulator.dense=int32",
                                         "engine.accumulator.gather_add=int32"};
  const StagePlan dense = kScoreMac.plan(small_work(), shape_of(int8));
  EXPECT_EQ(count(dense.events, Event::kMultiplyInt8), 300U * 128 * 4);
  EXPECT_EQ(count(dense.events, Event::kAccumulateInt32), 300U * 128 * 4);
  EXPECT_EQ(count(dense.events, Event::kMultiply), 0U);
  // The scale of int8 values is multiplied at the end, even for S = 8.
  EXPECT_EQ(count(kGatherAdd.plan(small_work(), shape_of(int8)).events, Event::kScale), 128U);
}

TEST(Formats, EveryFormatHasItsOwnEventsAndAdditionsSumThem) {
  EventCounts events;
  for (std::size_t i = 0; i < kAccumulatorFormats; ++i) {
    const auto format = static_cast<AccumulatorFormat>(i);
    for (const Event event :
         {accumulate_event(format), ternary_add_event(format), shift_add_event(format)}) {
      EXPECT_EQ(events.at(Stage::kGather, event), 0U) << event_name(event);
      events.at(Stage::kGather, event) = 1;
    }
    if (format != AccumulatorFormat::kFp32) {
      EXPECT_EQ(event_name(accumulate_event(format)),
                "accumulate_" + std::string(accumulator_name(format)));
      EXPECT_EQ(event_name(shift_add_event(format)),
                "shift_add_" + std::string(accumulator_name(format)));
    }
  }
  EXPECT_EQ(additions(events, Stage::kGather), 3 * kAccumulatorFormats);
}

// Four draws: head 0 touches a feature 3 times and another once, head 1 one feature 4 times.
TernaryShare four_draws() {
  TernaryShare share;
  share.options = {4, TernaryCoupling::kIndependent, TernaryNormaliser::kPow2};
  share.touched = {2, 1, 0, 0};
  share.touches = {4, 4, 0, 0};
  share.plain_bits = {2, 0, 0, 0};    // 3 = 11, 1 = 1
  share.shifted_bits = {1, 1, 0, 0};  // 3 = 11, 4 = 100
  share.in_union.assign(128, 0);
  share.in_union[4] = share.in_union[5] = share.in_union[9] = 1;
  share.union_size = 3;
  return share;
}

TEST(TernaryDraws, MergedCountsAddOncePerSetBit) {
  EngineWork work = small_work();
  const TernaryShare share = four_draws();
  work.ternary = &share;
  const StagePlan passes = kScoreTernary.plan(work, shape_of());
  EXPECT_EQ(count(passes.events, Event::kTernaryAdd), 300U * 8);
  EXPECT_EQ(count(passes.events, Event::kRowBufferReadBits), 4 * 300U * 256 * 8);  // every pass
  const StagePlan merged =
      kScoreTernary.plan(work, shape_of({"engine.ternary_draws=merged_shift_adds"}));
  EXPECT_EQ(count(merged.events, Event::kTernaryAdd), 300U * 2);
  EXPECT_EQ(count(merged.events, Event::kShiftAdd), 300U * 2);
  EXPECT_EQ(count(merged.events, Event::kMultiply), 0U);
  EXPECT_EQ(count(merged.events, Event::kRowBufferReadBits), 300U * 256 * 8);
  EXPECT_EQ(merged.items[0].busy, CoreCycles(256 * 4 / 64));
  const StagePlan products =
      kScoreTernary.plan(work, shape_of({"engine.ternary_draws=merged_multiply"}));
  EXPECT_EQ(count(products.events, Event::kMultiply), 300U * 3);
  EXPECT_EQ(count(products.events, Event::kTernaryAdd), 0U);
}

SelectPlan sampled(Method method, const std::vector<std::string>& overrides = {}) {
  return kSelectSampled.plan(small_work(method), shape_of(overrides));
}

TEST(SamplerCost, DiffersBySamplerInWordsProductsAndSorting) {
  const SelectPlan systematic = sampled(Method::kSystematic);
  const SelectPlan stratified = sampled(Method::kStratified);
  const SelectPlan iid = sampled(Method::kIid);
  EXPECT_EQ(count(systematic.events, Event::kRandomDraw), 4U);
  EXPECT_EQ(count(stratified.events, Event::kRandomDraw), 4U * 8);
  EXPECT_EQ(count(iid.events, Event::kRandomDraw), 4U * 8);
  EXPECT_EQ(count(systematic.events, Event::kScale), 4U);
  EXPECT_EQ(count(stratified.events, Event::kScale), 4U * 8);
  // Sorting 8 points: 4 comparators in 3 * 4 / 2 layers, a head.
  EXPECT_EQ(count(iid.events, Event::kThresholdCompare) -
                count(stratified.events, Event::kThresholdCompare),
            4U * 24);
  EXPECT_EQ(iid.prelude, CoreCycles(4 * 24 / 16));
  EXPECT_EQ(stratified.prelude, CoreCycles(0));
}

TEST(SamplerCost, SortingNetworks) {
  EXPECT_EQ(sorting_compares(1), 0U);
  EXPECT_EQ(sorting_compares(2), 1U);
  EXPECT_EQ(sorting_compares(4), 6U);
  EXPECT_EQ(sorting_compares(5), sorting_compares(8));
  EXPECT_EQ(sorting_compares(128), 64U * 28);
}

TEST(TopKUnits, OnlyTheRadixUnitStoresScores) {
  EngineWork work = small_work(Method::kTopK);
  const SelectPlan radix = kSelectTopK.plan(work, shape_of({"engine.topk=radix"}));
  EXPECT_EQ(count(radix.events, Event::kStashWriteBits), 300U * 4 * 16);
  EXPECT_EQ(count(radix.events, Event::kThresholdCompare), 300U * 4 * 4);
  EXPECT_EQ(count(radix.events, Event::kExp), 5U);  // the winners' weights
  EXPECT_TRUE(radix.ranked.empty());

  const SelectPlan heap = kSelectTopK.plan(work, shape_of({"engine.topk=heap"}));
  // k + k (H(300) - H(8)) = 8 + 28.5, so 37 entries pass through a heap of 8.
  const std::uint64_t inserts = 37;
  EXPECT_EQ(count(heap.events, Event::kThresholdCompare), 300U * 4 + 2 * 4 * inserts * 4 + 8 * 4);
  EXPECT_EQ(count(heap.events, Event::kStashWriteBits), 4 * inserts * 4 * 48);
  EXPECT_TRUE(heap.spill_writes.empty());
  EXPECT_EQ(heap.ranked.size(), 2U);

  const SelectPlan network = kSelectTopK.plan(work, shape_of({"engine.topk=bitonic"}));
  // 38 chunks of 8: sort 24, keep 8, merge 12; then the candidates.
  EXPECT_EQ(count(network.events, Event::kThresholdCompare), 38U * 44 * 4 + 8 * 4);
  EXPECT_EQ(network.ranked[0], CoreCycles(32 * 44 * 4 / 16));
}

TEST(Append, WritesOneRowOfKAndVAtTheOwnerOnly) {
  const std::vector<Fetch> rows = append_fetches(small_work(), shape_of());
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].address, 299U * 256);
  EXPECT_EQ(rows[1].address, (1U << 20) + 299 * 256);
  EXPECT_EQ(rows[0].requested, Bytes(256));
  EngineWork other = small_work();
  other.tiles.pop_back();  // the newest row is another engine's
  EXPECT_TRUE(append_fetches(other, shape_of()).empty());
  EXPECT_TRUE(append_fetches(small_work(), shape_of({"kv.append=off"})).empty());
}

TEST(Append, FeatureMajorTakesABurstAFeature) {
  const std::vector<Fetch> columns =
      append_fetches(small_work(), shape_of({"mapping.k_layout=feature_major"}));
  ASSERT_EQ(columns.size(), 129U);
  std::uint64_t requested = 0, moved = 0;
  for (const Fetch& fetch : columns) {
    requested += fetch.requested.count();
    moved += fetch.size.count();
  }
  EXPECT_EQ(requested, 512U);
  EXPECT_EQ(moved, 128U * 32 + 256);
  EXPECT_EQ(columns[1].address, 65536U + 512 + 64);  // row 43 of tile 1, feature 1
}

}  // namespace
}  // namespace stoat::sim
