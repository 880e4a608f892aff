// The answers an architect asks for first: the energy budget of the study, closed forms where
// nothing contends and the contention named where something does, what waiting for the whole row's
// mass costs, placements, formats, the append.
#include <gtest/gtest.h>

#include <cstdint>

#include "models/dram/standard.h"
#include "models/error.h"
#include "sim/engine/placement.h"
#include "tests/sim/fixture.h"

namespace stoat::sim {
namespace {

const Traffic& part(const DatapathResult& r, Part which) {
  return r.traffic[static_cast<std::size_t>(which)];
}

const std::vector<Event> kDram = {Event::kDramActivate, Event::kDramReadBits,
                                  Event::kDramWriteBits};
const std::vector<Event> kArithmetic = {Event::kMultiply, Event::kAccumulate, Event::kShiftAdd,
                                        Event::kScale};
const std::vector<Event> kBuffers = {Event::kRowBufferWriteBits, Event::kRowBufferReadBits,
                                     Event::kAccumulatorBits};

double microjoules(const DatapathResult& r, Stage stage, const std::vector<Event>& events,
                   const std::string& prices = "jouppi_7nm_hbm3") {
  return static_cast<double>(energy_of(r, prices, stage, events)) * 1e-12;
}

double microseconds(const DatapathResult& r) { return static_cast<double>(r.time.count()) * 1e-6; }

void expect_within(double value, double expected, double share, const char* what) {
  EXPECT_NEAR(value, expected, expected * share) << what;
}

// Llama-3.1-8B, 32k tokens, one layer, one token; HBM3 3.59 pJ/bit, 7 nm operations.
TEST(Budget, OfTheDenseLayerWithin5Percent) {
  const DatapathResult r = simulated(synth_trace(llama_layer(Method::kDense)), "mac");
  expect_within(microjoules(r, Stage::kScore, kDram), 1927, 0.05, "K from DRAM");
  expect_within(microjoules(r, Stage::kGather, kDram), 1927, 0.05, "V from DRAM");
  expect_within(microjoules(r, Stage::kScore, kArithmetic), 79, 0.05, "scores");
  expect_within(microjoules(r, Stage::kGather, kArithmetic), 79, 0.05, "values");
  expect_within(microjoules(r, Stage::kSelect, {Event::kExp}), 0.214, 0.05, "exponentials");
  const double total = static_cast<double>(total_energy(r, "jouppi_7nm_hbm3")) * 1e-12;
  const double buffers =
      microjoules(r, Stage::kScore, kBuffers) + microjoules(r, Stage::kGather, kBuffers);
  expect_within(total - buffers, 4012, 0.05, "all that the budget holds");
  // What differs: the budget has no row buffer and no accumulator memory.
  EXPECT_GT(buffers / total, 0.05);
  EXPECT_LT(buffers / total, 0.10);
}

TEST(Budget, OfTheSampledLayerWithin5Percent) {
  const DatapathResult r = simulated(synth_trace(llama_layer(Method::kProp)), "gather_add");
  expect_within(microjoules(r, Stage::kScore, kDram), 1927, 0.05, "K from DRAM");
  expect_within(microjoules(r, Stage::kGather, kDram), 33, 0.05, "V from DRAM");
  expect_within(microjoules(r, Stage::kGather, {Event::kAccumulate, Event::kShiftAdd}), 0.2, 0.05,
                "values");
  expect_within(microjoules(r, Stage::kSelect, {Event::kStashWriteBits, Event::kStashReadBits}),
                4.7, 0.05, "stash");
  const double sampler = microjoules(
      r, Stage::kSelect, {Event::kPrefixAdd, Event::kThresholdCompare, Event::kRandomDraw});
  // One addition and one comparison a key would be 0.09; a 16-wide prefix network has 42 a 16 keys.
  EXPECT_GT(sampler, 0.08);
  EXPECT_LT(sampler, 0.13);
  const double total = static_cast<double>(total_energy(r, "jouppi_7nm_hbm3")) * 1e-12;
  double buffers = 0;
  for (const Stage stage : {Stage::kScore, Stage::kGather}) {
    buffers += microjoules(r, stage, kBuffers);
  }
  expect_within(total - buffers, 2050, 0.05, "all that the budget holds");
}

constexpr double kPeak = 665.6e3;  // bytes a microsecond
constexpr double kKeys = 67108864;

TEST(ClosedForms, HoldWithin2PercentWhereNothingContends) {
  const std::vector<std::string> calm = {"memory.refresh=off"};
  const TestTrace prop = synth_trace(llama_layer(Method::kProp));
  expect_within(microseconds(simulated(prop, "mac", calm)), 2 * kKeys / kPeak, 0.02, "mac");
  // K, then per engine 32 tiles x 256 keys x 4 heads through 16 comparators (more than the rows
  // need), and two exchanges.
  const double scan = 32 * 256 * 4 / 16 * 1e-3;
  const DatapathResult add = simulated(prop, "gather_add", calm);
  const double rows = static_cast<double>(part(add, Part::kValue).moved.count()) / kPeak;
  ASSERT_LT(rows, scan);
  expect_within(microseconds(add), kKeys / kPeak + scan + 0.2, 0.02, "gather_add");
  // With 64 comparators the rows' transfer is what remains.
  std::vector<std::string> wide = calm;
  wide.emplace_back("engine.lanes.comparators=64");
  expect_within(microseconds(simulated(prop, "gather_add", wide)), kKeys / kPeak + rows + 0.2, 0.02,
                "gather_add, 64 comparators");
  SynthOptions options = llama_layer(Method::kProp);
  options.score_kind = ScoreKind::kTernary;
  options.ternary = {4, TernaryCoupling::kIndependent, TernaryNormaliser::kPow2};
  expect_within(microseconds(simulated(synth_trace(options), "ternary", calm)),
                kKeys / kPeak + scan + 0.2, 0.02, "ternary");
}

TEST(ClosedForms, ContentionIsNamedWhereTheyDoNotHold) {
  const TestTrace prop = synth_trace(llama_layer(Method::kProp));
  const double ideal = 2 * kKeys / kPeak;
  // Refresh: 350 of every 3900 ns.
  expect_within(microseconds(simulated(prop, "mac")), ideal / (1 - 350.0 / 3900), 0.02, "refresh");
  // Lanes: 16 of the 42 that keep up. 2 x 32768 x 128 x 4 / 4 engines / 16 lanes at 1 GHz.
  const DatapathResult slow = simulated(prop, "mac", {"engine.lanes.dense=16"});
  expect_within(microseconds(slow), 2.0 * 32768 * 128 * 4 / 4 / 16 * 1e-3, 0.02, "lanes");
  const UnitUse& score = slow.units[static_cast<std::size_t>(Unit::kScore)];
  EXPECT_GT(score.busy.count(), Uint128{slow.time.count()} * slow.engines * 98 / 100);
  // Contiguous tiles and a sink: the engine that holds the sink's tile gathers alone.
}

TEST(Pipelining, WaitingForTheWholeMassCostsTimeThatFlashDoesNotPay) {
  SynthOptions options = llama_layer(Method::kProp);
  const DatapathResult prop = simulated(synth_trace(options), "gather_add");
  options.method = Method::kFlash;
  const DatapathResult flash = simulated(synth_trace(options), "gather_add");
  EXPECT_LT(flash.time, prop.time);
  // Both read the same K and about as many rows; what prop pays is the exchange of masses and rows
  // that no score hides: less than 3 % of the step at 32k.
  const double share = microseconds(prop) / microseconds(flash) - 1;
  EXPECT_GT(share, 0.002);
  EXPECT_LT(share, 0.03);
  // A long exchange is paid twice by prop (masses, outputs) and once by flash (outputs).
  const std::vector<std::string> slow = {"engine.exchange_latency=10 us"};
  options.method = Method::kProp;
  const double prop_more =
      microseconds(simulated(synth_trace(options), "gather_add", slow)) - microseconds(prop);
  options.method = Method::kFlash;
  const double flash_more =
      microseconds(simulated(synth_trace(options), "gather_add", slow)) - microseconds(flash);
  EXPECT_NEAR(prop_more, 2 * 9.9, 1);
  EXPECT_NEAR(flash_more, 9.9, 1);
}

TEST(Pipelining, AFullQueueBlocksTheScoreLanes) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 8192));
  const auto blocked = [&](const std::vector<std::string>& overrides) {
    return simulated(trace, "gather_add", overrides, "hbm3_bank")
        .units[static_cast<std::size_t>(Unit::kScore)]
        .blocked.count();
  };
  EXPECT_EQ(blocked({}), 0U);
  // 1024 exponentials a tile on one lane, and a tile every 350 ns.
  const std::uint64_t short_queue =
      blocked({"engine.lanes.exp=1", "engine.queue_tiles=1", "engine.lanes.dense=4096"});
  const std::uint64_t long_queue =
      blocked({"engine.lanes.exp=1", "engine.queue_tiles=4", "engine.lanes.dense=4096"});
  EXPECT_GT(long_queue, 0U);
  EXPECT_GT(short_queue, long_queue);
}

TEST(Pipelining, ASingleBufferIsFilledAndEmptiedInTurns) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 4096));
  const DatapathResult two = simulated(trace, "mac");
  const DatapathResult one = simulated(trace, "mac", {"engine.double_buffer=off"});
  EXPECT_EQ(one.traffic, two.traffic);
  EXPECT_EQ(one.events.total(Event::kMultiply), two.events.total(Event::kMultiply));
  EXPECT_EQ(one.busy, two.busy);
  // 16 rows fill in 197 ns and empty in 128, one after the other, and every block pays the latency.
  EXPECT_GT(microseconds(one), 1.5 * microseconds(two));
  EXPECT_LT(microseconds(one), 2.5 * microseconds(two));
}

TEST(Placement, V11BandwidthInsideTheStackIsAttAccs) {
  EXPECT_EQ(internal_bandwidth(Placement::kBank), 9U);
  EXPECT_EQ(internal_bandwidth(Placement::kBankGroup), 3U);
  EXPECT_EQ(internal_bandwidth(Placement::kLogicDie), 1U);
  for (const char* name : {"hbm3_5200", "hbm3_6400", "gddr6_14000", "lpddr5x_7500"}) {
    const DramStandard plain = read_dram_standard(name);
    const DramStandard bank = placed_standard(plain, Placement::kBank);
    EXPECT_EQ(bank.peak_bytes_per_second(), 9 * plain.peak_bytes_per_second()) << name;
    const auto ns = [](const DramStandard& s, std::uint32_t cycles) {
      return static_cast<double>(cycles) / static_cast<double>(s.command_clock.count());
    };
    EXPECT_DOUBLE_EQ(ns(bank, bank.rc), ns(plain, plain.rc));
    EXPECT_DOUBLE_EQ(ns(bank, bank.refresh_interval), ns(plain, plain.refresh_interval));
    EXPECT_DOUBLE_EQ(ns(bank, bank.read_latency), ns(plain, plain.read_latency));
  }
}

TEST(Placement, InTheBankTheArithmeticShows) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 8192));
  const DatapathResult beside = simulated(trace, "mac");
  const DatapathResult bank = simulated(trace, "mac", {}, "hbm3_bank");
  EXPECT_EQ(bank.attention_traffic().moved, beside.attention_traffic().moved);
  EXPECT_LT(bank.time.count() * 4, beside.time.count());
  const auto share = [](const DatapathResult& r, const std::string& prices) {
    double arithmetic = 0;
    for (const Stage stage : {Stage::kScore, Stage::kGather}) {
      arithmetic += microjoules(r, stage, kArithmetic, prices);
    }
    return arithmetic * 1e12 / static_cast<double>(total_energy(r, prices));
  };
  EXPECT_GT(share(bank, "jouppi_7nm_hbm3_bank"), 3 * share(beside, "jouppi_7nm_hbm3"));
}

TEST(Formats, TheAccumulatorDecidesTheGainAnOperation) {
  // One tile, nothing merged: energy of arithmetic an element and use.
  const auto element = [](const char* datapath, const std::vector<std::string>& overrides) {
    std::vector<std::string> all = overrides;
    all.emplace_back("engine.repeats=adds");
    const DatapathResult r = simulated(synth_trace(llama_layer(Method::kProp, 200)), datapath, all);
    std::vector<Event> events = {Event::kMultiply, Event::kMultiplyInt8};
    for (std::size_t i = 0; i < kAccumulatorFormats; ++i) {
      events.push_back(accumulate_event(static_cast<AccumulatorFormat>(i)));
    }
    const bool dense = std::string(datapath) == "mac";
    const auto uses =
        static_cast<double>(dense ? part(r, Part::kValue).logical_rows : r.value_draws);
    return static_cast<double>(energy_of(r, "rtl_asap7", Stage::kGather, events)) / uses / 128e6;
  };
  const double dense = element("mac", {});
  EXPECT_NEAR(dense / element("gather_add", {}), 1.63, 0.01);
  EXPECT_NEAR(dense / element("gather_add", {"engine.accumulator.gather_add=shared24"}), 5.8, 0.05);
  // Like for like, a dense lane may also accumulate in 24 bits.
  EXPECT_NEAR(element("mac", {"engine.accumulator.dense=shared24"}) /
                  element("gather_add", {"engine.accumulator.gather_add=shared24"}),
              3.24, 0.05);
  const std::vector<std::string> int8 = {"kv.element=int8", "engine.accumulator.dense=int32",
                                         "engine.accumulator.gather_add=int32"};
  EXPECT_NEAR(element("mac", int8) / element("gather_add", int8), 0.1302 / 0.03186, 0.01);
}

TEST(Append, IsWrittenOnceALayerAndCountedApart) {
  SynthOptions options = llama_layer(Method::kProp, 3000);
  options.n_layers = 2;
  options.steps = 3;
  const TestTrace trace = synth_trace(options);
  const DatapathResult with = simulated(trace, "gather_add");
  const DatapathResult without = simulated(trace, "gather_add", {"kv.append=off"});
  EXPECT_EQ(with.attention_traffic(), without.attention_traffic());
  EXPECT_EQ(part(with, Part::kAppend).requested, Bytes(3ULL * 2 * 8 * 512));
  EXPECT_EQ(part(with, Part::kAppend).moved, part(with, Part::kAppend).requested);
  EXPECT_EQ(with.events.at(Stage::kAppend, Event::kDramWriteBits), 3U * 2 * 8 * 512 * 8);
  EXPECT_EQ(without.events.at(Stage::kAppend, Event::kDramWriteBits), 0U);
  EXPECT_GT(with.time, without.time);
  // Feature-major K: 2 bytes into each of 128 bursts, which HBM3 must read before it writes them.
  const DatapathResult columns = simulated(trace, "gather_add", {"mapping.k_layout=feature_major"});
  EXPECT_EQ(part(columns, Part::kAppend).requested, part(with, Part::kAppend).requested);
  EXPECT_EQ(part(columns, Part::kAppend).moved, Bytes(3ULL * 2 * 8 * (2 * 128 * 32 + 256)));
  EXPECT_EQ(columns.events.at(Stage::kAppend, Event::kDramReadBits), 3U * 2 * 8 * 128 * 32 * 8);
}

TEST(Engines, FewerAHeadTakeLongerAndMoveTheSame) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 8192));
  const DatapathResult four = simulated(trace, "gather_add");
  const DatapathResult one = simulated(trace, "gather_add", {"mapping.engines_per_head=1"});
  EXPECT_EQ(one.attention_traffic().requested, four.attention_traffic().requested);
  expect_within(microseconds(one), 4 * microseconds(four), 0.1, "one engine of four");
  EXPECT_THROW(simulated(trace, "mac", {"mapping.engines_per_head=5"}), Error);
  const DatapathResult stacks = simulated(trace, "gather_add", {"memory.stacks=2"});
  EXPECT_EQ(stacks.engines, 64U);
  EXPECT_LT(stacks.time, four.time);
}

TEST(Presets, RunAndKeepTheBytes) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 4096));
  const DatapathResult hbm3 = simulated(trace, "gather_add");
  for (const char* arch : {"lpddr5x", "gddr6_bank", "hbm3_bank", "h200_like"}) {
    const DatapathResult r = simulated(trace, "gather_add", {}, arch);
    EXPECT_EQ(part(r, Part::kKey).requested, part(hbm3, Part::kKey).requested) << arch;
    EXPECT_EQ(part(r, Part::kValue).requested, part(hbm3, Part::kValue).requested) << arch;
  }
}

TEST(TopK, ReadsTheRowsAndTheUnitsDifferInTheStash) {
  const TestTrace trace = synth_trace(llama_layer(Method::kTopK, 8192));
  const DatapathResult radix = simulated(trace, "topk", {"engine.topk=radix"});
  const DatapathResult heap = simulated(trace, "topk", {"engine.topk=heap"});
  const DatapathResult network = simulated(trace, "topk", {"engine.topk=bitonic"});
  EXPECT_EQ(radix.traffic, heap.traffic);
  EXPECT_EQ(radix.traffic, network.traffic);
  EXPECT_GT(radix.time, heap.time);  // four passes come after the scores
  EXPECT_GT(network.events.total(Event::kThresholdCompare),
            3 * heap.events.total(Event::kThresholdCompare));
  EXPECT_GT(radix.events.total(Event::kStashReadBits), 0U);
}

}  // namespace
}  // namespace stoat::sim
