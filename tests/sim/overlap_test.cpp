// Heads of a batch on one engine: the next one is scored while this one's rows are gathered, and
// what prop pays for waiting until it knows the whole row's mass.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/fixture.h"

namespace stoat::sim {
namespace {

double microseconds(const DatapathResult& r) { return static_cast<double>(r.time.count()) * 1e-6; }

TestTrace batch(Method method, std::uint32_t sequences, std::uint32_t context) {
  SynthOptions options = llama_layer(method, context);
  options.contexts.assign(sequences, context);
  return synth_trace(options);
}

TEST(Overlap, TheNextHeadIsScoredWhileThisOnesRowsAreGathered) {
  const TestTrace trace = batch(Method::kProp, 8, 2048);
  const DatapathResult turns = simulated(trace, "gather_add", {"engine.heads_in_flight=1"});
  const DatapathResult two = simulated(trace, "gather_add");
  EXPECT_EQ(two.traffic, turns.traffic);
  EXPECT_EQ(two.busy, turns.busy);
  // In turns every sequence pays two exchanges and the rows' latency; side by side only the last.
  EXPECT_GT(microseconds(turns), microseconds(two) + 6 * 0.2);
  const DatapathResult one = simulated(batch(Method::kProp, 1, 2048), "gather_add");
  EXPECT_NEAR(microseconds(turns), 8 * microseconds(one), 0.1 * microseconds(turns));
  // More than two bring nothing more: the data bus is the bound.
  EXPECT_NEAR(microseconds(simulated(trace, "gather_add", {"engine.heads_in_flight=4"})),
              microseconds(two), 0.03 * microseconds(two));
  EXPECT_LT(microseconds(two),
            1.08 * static_cast<double>((two.bus_bound + two.refresh_time).count()) * 1e-6);
}

TEST(Overlap, HidesWhatPropWaitsForBehindTheNextSequence) {
  const auto waits = [](std::uint32_t sequences, const std::vector<std::string>& overrides) {
    return microseconds(simulated(batch(Method::kProp, sequences, 4096), "gather_add", overrides)) -
           microseconds(simulated(batch(Method::kFlash, sequences, 4096), "gather_add", overrides));
  };
  const std::vector<std::string> slow = {"engine.exchange_latency=2 us"};
  const std::vector<std::string> slow_turns = {"engine.exchange_latency=2 us",
                                               "engine.heads_in_flight=1"};
  const double alone = waits(1, slow);
  EXPECT_GT(alone, 1.5);  // one exchange more than flash
  EXPECT_GT(waits(4, slow_turns), 4 * 1.5);
  EXPECT_LT(waits(4, slow), 2 * alone);  // hidden but for the last
}

TEST(Overlap, AFullStashHoldsTheNextHeadBack) {
  const TestTrace trace = batch(Method::kProp, 4, 4096);  // 4 tiles an engine, 2 KiB of codes each
  const DatapathResult wide = simulated(trace, "gather_add");
  const DatapathResult tight = simulated(trace, "gather_add", {"engine.stash=8 KiB"});
  EXPECT_EQ(tight.traffic, wide.traffic);  // nothing spills: a head's codes fit
  EXPECT_GT(tight.time, wide.time);
  EXPECT_LE(tight.time.count(),
            simulated(trace, "gather_add", {"engine.heads_in_flight=1"}).time.count() * 101 / 100);
}

TEST(Overlap, SequencesOfUnequalLengthAndEveryMethodRun) {
  for (const Method method : {Method::kProp, Method::kFlash, Method::kIid, Method::kTopK}) {
    SynthOptions options = llama_layer(method, 3000);
    options.contexts = {3000, 200, 1, 2600};
    options.n_layers = 2;
    options.budgets.assign(1, 64);
    const TestTrace trace = synth_trace(options);
    const char* datapath = method == Method::kTopK ? "topk" : "gather_add";
    const DatapathResult turns = simulated(trace, datapath, {"engine.heads_in_flight=1"});
    for (const char* setting :
         {"engine.heads_in_flight=3", "engine.queue_tiles=1", "engine.stash=0 B",
          "engine.row_buffer=256 B", "engine.outstanding_bursts=1", "engine.double_buffer=off",
          "memory.model=reserved"}) {
      const DatapathResult r = simulated(trace, datapath, {setting});
      EXPECT_EQ(r.traffic[0], turns.traffic[0]) << setting;
      EXPECT_EQ(r.traffic[1], turns.traffic[1]) << setting;
      EXPECT_EQ(r.value_draws, turns.value_draws) << setting;
    }
  }
}

TEST(Overlap, IsTheSameTwice) {
  const TestTrace trace = batch(Method::kProp, 3, 1000);
  EXPECT_EQ(simulated(trace, "gather_add", {"engine.stash=1 KiB"}),
            simulated(trace, "gather_add", {"engine.stash=1 KiB"}));
}

}  // namespace
}  // namespace stoat::sim
