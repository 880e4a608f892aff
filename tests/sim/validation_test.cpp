// Published numbers, reproduced through the simulator's own counts and pricing (ids of
// validation_targets).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tests/sim/fixture.h"

namespace stoat::sim {
namespace {

const Traffic& value(const DatapathResult& r) {
  return r.traffic[static_cast<std::size_t>(Part::kValue)];
}

TEST(Validation, V01DenseLayerOfLlamaAt32kReads128MiB) {
  const DatapathResult r = simulated(synth_trace(llama_layer(Method::kDense)), "mac");
  EXPECT_EQ(r.attention_traffic().requested, Bytes(134217728));
  EXPECT_EQ(r.attention_traffic().moved, Bytes(134217728));
  // The new token's K and V, 256 B each a KV head, are counted apart.
  EXPECT_EQ(r.total_traffic().requested, Bytes(134217728 + 8 * 512));
  EXPECT_EQ(r.events.at(Stage::kScore, Event::kMultiply), 134217728U);  // 134.2 M MAC
}

// S = 128, group of four, flat attention: mean of distinct rows a group over `seeds` seeds of 8
// groups.
struct Rows {
  double distinct = 0, logical = 0;
  std::uint64_t worst = 0;
};
Rows rows_of_flat_attention(Method method, std::uint64_t seeds) {
  Rows rows;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const DatapathResult r = simulated(synth_trace(llama_layer(method, 32768, seed)), "gather_add");
    rows.distinct += static_cast<double>(value(r).distinct_rows) / static_cast<double>(8 * seeds);
    rows.logical += static_cast<double>(value(r).logical_rows) / static_cast<double>(8 * seeds);
    rows.worst = std::max(rows.worst, value(r).distinct_rows);
  }
  return rows;
}

TEST(Validation, V02SampledRowsOfAGroupStayBelowTheBoundAndNear508) {
  const Rows prop = rows_of_flat_attention(Method::kProp, 6);
  EXPECT_LE(prop.worst * 64, 8U * 32768);  // 1.5625 % = 1/64 of the rows of eight groups
  EXPECT_NEAR(prop.distinct, 508, 5.08);
}

TEST(Validation, V02TheMeanCountsTheUnionAndNotTheHeads) {
  // Independent draws: n (1 - (1 - 1/n)^512) = 508.02, standard deviation 2.0 a group; 96 groups, 6
  // standard errors.
  const Rows iid = rows_of_flat_attention(Method::kIid, 12);
  const double expected = 32768 * (1 - std::pow(1 - 1.0 / 32768, 512));
  EXPECT_NEAR(iid.distinct, expected, 1.25);
  EXPECT_GT(iid.logical - expected, 1.25);  // the twin that forgets the union is rejected
}

// Energy of arithmetic a value element, per use: one tile, so that no partial outputs are merged.
struct PerElement {
  Int128 energy = 0, elements = 0;
};
PerElement gather_energy(const std::string& datapath, const std::string& prices) {
  const DatapathResult r =
      simulated(synth_trace(llama_layer(Method::kProp, 200)), datapath, {"engine.repeats=adds"});
  const Int128 uses = datapath == "mac" ? static_cast<Int128>(value(r).logical_rows)
                                        : static_cast<Int128>(r.value_draws);
  return {energy_of(r, prices, Stage::kGather,
                    {Event::kMultiply, Event::kAccumulate, Event::kShiftAdd}),
          uses * 128};
}

TEST(Validation, V03ValueStageAt45nmCosts375TimesLessAnElement) {
  const PerElement dense = gather_energy("mac", "horowitz_45nm");
  const PerElement added = gather_energy("gather_add", "horowitz_45nm");
  // dense / added = 3.75 exactly, in integers.
  EXPECT_TRUE(dense.energy * added.elements * 4 == added.energy * dense.elements * 15);
  const PerElement dense32 = gather_energy("mac", "horowitz_45nm_fp32");
  const PerElement added32 = gather_energy("gather_add", "horowitz_45nm_fp32");
  EXPECT_TRUE(dense32.energy * added32.elements * 9 ==
              added32.energy * dense32.elements * 46);  // 5.11
}

// Score arithmetic of a ternary query that touches every feature in each of `draws` draws, over the
// dense one.
double score_ratio(std::uint32_t draws) {
  SynthOptions options = llama_layer(Method::kProp, 2000);
  options.score_kind = ScoreKind::kTernary;
  options.ternary = {draws, TernaryCoupling::kIndependent, TernaryNormaliser::kPow2};
  TestTrace trace = synth_trace(options);
  for (std::uint8_t& byte : trace.records.key_mask) byte = 0xff;
  const std::vector<Event> arithmetic = {Event::kMultiply, Event::kAccumulate, Event::kTernaryAdd};
  const Int128 dense = energy_of(simulated(trace, "mac"), "bitnet_7nm", Stage::kScore, arithmetic);
  const Int128 ternary =
      energy_of(simulated(trace, "ternary"), "bitnet_7nm", Stage::kScore, arithmetic);
  return static_cast<double>(dense) / static_cast<double>(ternary);
}

TEST(Validation, V10TernaryScoresCost71TimesLessArithmetic) {
  EXPECT_NEAR(score_ratio(1), 71.4, 71.4 * 0.005);
  EXPECT_NEAR(score_ratio(2), 71.4 / 2, 71.4 / 2 * 0.005);  // every draw is paid for
}

TEST(Validation, V15SampledGatherGainsMoreThanTheKernelAndLessThanTheBytesAllow) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp));
  const DatapathResult mac = simulated(trace, "mac");
  const DatapathResult add = simulated(trace, "gather_add");
  const auto gain = [](auto a, auto b) { return static_cast<double>(a) / static_cast<double>(b); };
  const double time = gain(mac.time.count(), add.time.count());
  const double bytes = gain(mac.total_traffic().moved.count(), add.total_traffic().moved.count());
  const double dram =
      gain(dram_energy(mac, "jouppi_7nm_hbm3"), dram_energy(add, "jouppi_7nm_hbm3"));
  for (const double each : {time, bytes, dram}) {
    EXPECT_GT(each, 1.50);
    EXPECT_LT(each, 1.97);
  }
  EXPECT_NEAR(bytes, 2 / (1 + 1.0 / 64), 0.005);
  // All energy also saves the value stage's arithmetic and buffers, so it may pass the bound of the
  // bytes, but not 2.
  const double energy =
      gain(total_energy(mac, "jouppi_7nm_hbm3"), total_energy(add, "jouppi_7nm_hbm3"));
  EXPECT_GT(energy, 1.50);
  EXPECT_LT(energy, 2.05);
}

double touched_percent(std::uint32_t draws, bool group) {
  SynthOptions options = llama_layer(Method::kProp, 64);
  options.n_layers = 32;
  options.budgets.assign(1, 8);
  options.score_kind = ScoreKind::kTernary;
  options.ternary = {draws, TernaryCoupling::kIndependent, TernaryNormaliser::kMax};
  const DatapathResult r = simulated(synth_trace(options), "ternary");
  const double touched = static_cast<double>(group ? r.touched_by_groups : r.touched_by_heads);
  return 100 * touched / static_cast<double>(group ? r.group_steps : r.head_steps) / 128;
}

TEST(Validation, V16GaussianQueriesTouch62PercentAHeadAnd98AGroup) {
  EXPECT_NEAR(touched_percent(4, false), 61.6, 1);
  EXPECT_NEAR(touched_percent(4, true), 97.8, 1);
  EXPECT_NEAR(touched_percent(1, false), 28.7, 1);
  EXPECT_NEAR(touched_percent(2, false), 44.1, 1);
  EXPECT_NEAR(touched_percent(8, false), 76.5, 1);
}

TEST(Validation, V21EnergyByPartSumsToTheTotalExactly) {
  SynthOptions options = llama_layer(Method::kProp, 3000);
  options.score_kind = ScoreKind::kTernary;
  const TestTrace trace = synth_trace(options);
  for (const char* datapath : {"mac", "gather_add", "ternary"}) {
    const DatapathResult r = simulated(trace, datapath, {"engine.stash=0 B"});
    for (const char* prices : {"jouppi_7nm_hbm3", "horowitz_45nm"}) {
      const PriceList list = PriceList::read(prices);
      const EnergyTable table = price(r.events, list);
      Int128 by_stage = 0, by_event = 0, by_hand = 0;
      for (const Stage stage : {Stage::kScore, Stage::kSelect, Stage::kGather, Stage::kAppend}) {
        by_stage += table.of_stage(stage).count();
      }
      for (std::size_t e = 0; e < kEvents; ++e) {
        const auto event = static_cast<Event>(e);
        by_event += table.of_event(event).count();
        by_hand += list.price(event).count() * static_cast<Int128>(r.events.total(event));
      }
      EXPECT_TRUE(by_stage == table.total().count());
      EXPECT_TRUE(by_event == table.total().count());
      EXPECT_TRUE(by_hand == table.total().count());
      EXPECT_TRUE(by_hand > 0);
    }
  }
}

}  // namespace
}  // namespace stoat::sim
