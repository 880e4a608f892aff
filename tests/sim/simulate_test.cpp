// The engine as a whole: what must hold for any accelerator that claims to be this one.
#include "sim/engine/simulate.h"

#include <gtest/gtest.h>

#include <unistd.h>
#include <csignal>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "sim/sweep/children.h"
#include "tests/sim/fixture.h"

namespace stoat::sim {
namespace {

SynthOptions small(Method method) {
  SynthOptions options;
  options.n_layers = 2;
  options.steps = 3;
  options.contexts.assign(1, 3000);
  options.method = method;
  options.budgets.assign(1, 64);
  options.participation = 100;
  options.group_correlation = 0.5;
  return options;
}

const Traffic& value(const DatapathResult& r) {
  return r.traffic[static_cast<std::size_t>(Part::kValue)];
}
const Traffic& key(const DatapathResult& r) {
  return r.traffic[static_cast<std::size_t>(Part::kKey)];
}

TEST(Simulation, IsTheSameTwice) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  EXPECT_EQ(simulated(trace, "gather_add"), simulated(trace, "gather_add"));
}

TEST(Simulation, SampledGatherReadsFewerRowsInLessTime) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  const DatapathResult mac = simulated(trace, "mac");
  const DatapathResult add = simulated(trace, "gather_add");
  EXPECT_EQ(key(mac), key(add));
  EXPECT_LT(value(add).requested.count() * 4, value(mac).requested.count());
  EXPECT_LT(add.time, mac.time);
  EXPECT_EQ(mac.steps, 3U);
  EXPECT_EQ(mac.layer_steps, 6U);
  EXPECT_EQ(mac.context_max, 3002U);
  EXPECT_EQ(add.value_draws, 3U * 2 * 8 * 64);
  EXPECT_EQ(mac.dense_kv, mac.attention_traffic().requested);
}

TEST(Simulation, EveryMethodRuns) {
  for (const Method method :
       {Method::kIid, Method::kStratified, Method::kSystematic, Method::kFlash}) {
    SynthOptions options = small(method);
    options.budgets.assign(1, 64);
    const DatapathResult r = simulated(synth_trace(options), "gather_add");
    EXPECT_EQ(r.value_draws, 3U * 2 * 8 * 64) << method_name(method);
  }
  EXPECT_GT(simulated(synth_trace(small(Method::kTopK)), "topk").time, Picoseconds(0));
}

TEST(Simulation, ContextsOfOneAndTwoTokensRun) {
  for (const std::uint32_t context : {1U, 2U, 256U, 257U}) {
    SynthOptions options = small(Method::kProp);
    options.contexts.assign(1, context);
    options.participation = 0;
    const TestTrace trace = synth_trace(options);
    EXPECT_EQ(simulated(trace, "mac").context_max, context + 2);
    EXPECT_GT(simulated(trace, "gather_add").cycles, CoreCycles(0));
  }
}

TEST(Simulation, SequencesOfABatchAddTheirTraffic) {
  SynthOptions one = small(Method::kProp);
  SynthOptions batch = small(Method::kProp);
  batch.contexts = {3000, 1000, 500};
  const DatapathResult r = simulated(synth_trace(batch), "mac");
  const std::uint64_t rows = 3 * (3000 + 1000 + 500) + 3 * (0 + 1 + 2);
  EXPECT_EQ(key(r).distinct_rows, rows * 2 * 2);  // KV heads, layers
  EXPECT_GT(r.time, simulated(synth_trace(one), "mac").time);
}

TEST(Simulation, MoreLanesNeverCostTimeAndFewCostMuch) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  const Picoseconds normal = simulated(trace, "mac").time;
  EXPECT_LE(simulated(trace, "mac", {"engine.lanes.dense=256"}).time, normal);
  // 4 lanes are compute-bound: 4 heads x 128 / 4 cycles a row, K and V.
  const DatapathResult slow = simulated(trace, "mac", {"engine.lanes.dense=4"});
  EXPECT_GT(slow.time.count(), normal.count() * 5);
}

TEST(Simulation, FewOutstandingBurstsCannotCoverTheLatency) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  const std::uint64_t normal = simulated(trace, "mac").time.count();
  EXPECT_GT(simulated(trace, "mac", {"engine.outstanding_bursts=4"}).time.count(), normal * 2);
  // More than enough helps nobody.
  EXPECT_NEAR(
      static_cast<double>(simulated(trace, "mac", {"engine.outstanding_bursts=256"}).time.count()),
      static_cast<double>(normal), 0.01 * static_cast<double>(normal));
}

TEST(Simulation, NarrowElementsHalveTheTraffic) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  const DatapathResult wide = simulated(trace, "mac");
  const DatapathResult narrow = simulated(trace, "mac", {"kv.element=fp8"});
  EXPECT_EQ(narrow.total_traffic().requested.count() * 2, wide.total_traffic().requested.count());
  EXPECT_LT(narrow.time, wide.time);
}

TEST(Simulation, RefreshCostsTime) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  const DatapathResult on = simulated(trace, "mac");
  const DatapathResult off = simulated(trace, "mac", {"memory.refresh=off"});
  EXPECT_GT(on.refreshes, 0U);
  EXPECT_EQ(off.refreshes, 0U);
  EXPECT_LT(off.time, on.time);
}

TEST(Simulation, ContiguousTilesGiveTheSameBytes) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  const DatapathResult dealt = simulated(trace, "gather_add");
  const DatapathResult blocks = simulated(trace, "gather_add", {"mapping.tiles=contiguous"});
  EXPECT_EQ(dealt.traffic, blocks.traffic);
}

TEST(Simulation, ASmallStashSpillsItsCodesToTheMemory) {
  const TestTrace trace = synth_trace(small(Method::kProp));
  const DatapathResult fits = simulated(trace, "gather_add");
  const DatapathResult spills = simulated(trace, "gather_add", {"engine.stash=0 B"});
  const std::uint64_t appended = fits.traffic[static_cast<std::size_t>(Part::kAppend)].bursts;
  EXPECT_EQ(fits.write_bursts, appended);
  // 3000, 3001, 3002 keys x 8 heads x 2 bytes x 2 layers.
  EXPECT_EQ(spills.traffic[static_cast<std::size_t>(Part::kSpillWrite)].requested,
            Bytes(9003ULL * 8 * 2 * 2));
  EXPECT_EQ(spills.events.total(Event::kStashWriteBits), 0U);
  EXPECT_GT(spills.events.at(Stage::kSelect, Event::kDramWriteBits), 0U);
}

TEST(Simulation, FeatureMajorKSavesTheUntouchedFeatures) {
  SynthOptions options = small(Method::kProp);
  options.contexts = {4096 - 2};
  options.score_kind = ScoreKind::kTernary;
  options.ternary.draws = 1;
  const TestTrace trace = synth_trace(options);
  const DatapathResult rows = simulated(trace, "ternary");
  const DatapathResult columns = simulated(trace, "ternary", {"mapping.k_layout=feature_major"});
  EXPECT_EQ(key(rows).requested,
            key(simulated(trace, "gather_add")).requested);  // no burst is saved
  EXPECT_LT(key(columns).requested, key(rows).requested);
  EXPECT_EQ(value(columns), value(rows));
  EXPECT_EQ(rows.touched_by_groups, columns.touched_by_groups);
}

TEST(Simulation, RefusesWhatDoesNotFit) {
  SynthOptions options = small(Method::kProp);
  options.n_q_heads = options.n_kv_heads = 3;
  EXPECT_THROW(simulated(synth_trace(options), "mac"), Error);  // 32 pseudo-channels / 3
  options.n_q_heads = 64;
  options.n_kv_heads = 2;
  try {
    simulated(synth_trace(options), "mac");
    FAIL() << "32 heads a group fit 4 KiB of queries and accumulators";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("engine.query_buffer"), std::string::npos);
  }
}

TEST(Children, PassOnErrorsAndNameTheSignal) {
  const auto run = [](std::function<std::string()> work) {
    return run_children({{"datapath x", [work](auto&) { return work(); }}}, 1,
                        [](std::uint64_t) {});
  };
  EXPECT_EQ(run([] { return std::string(100000, 'a'); }).at(0).size(), 100000U);
  try {
    run([]() -> std::string { throw Error(ExitCode::kDamaged, "torn"); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDamaged);
    EXPECT_STREQ(error.what(), "torn");
  }
  EXPECT_THROW(run([]() -> std::string { throw Bug("ours"); }), Bug);
  try {
    run([]() -> std::string {
      ::raise(SIGKILL);
      return "";
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kResource);
    EXPECT_NE(std::string(error.what()).find("datapath x"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("signal 9"), std::string::npos);
  }
}

TEST(Results, SurviveThePipe) {
  const DatapathResult r = simulated(synth_trace(small(Method::kProp)), "gather_add");
  EXPECT_EQ(result_from_json(to_json(r)), r);
}

}  // namespace
}  // namespace stoat::sim
