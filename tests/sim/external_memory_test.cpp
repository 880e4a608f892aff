// Another memory behind the engines' TLM-2.0 sockets: the example, whose times are known in closed
// form, speaks the four-phase protocol through the bridge.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sim/engine/external_example/example_memory.h"
#include "tests/sim/engine/blocking_memory.h"
#include "tests/sim/fixture.h"

namespace stoat::sim {
namespace {

constexpr double kBurst = 2 / 1.3;  // ns
constexpr double kLatency = 50;     // ns

DatapathResult external(const TestTrace& trace, const std::string& datapath,
                        const std::vector<std::string>& overrides = {}) {
  return simulated(trace, datapath, overrides, "hbm3", make_external_memory);
}

double nanoseconds(const DatapathResult& r) { return static_cast<double>(r.time.count()) * 1e-3; }

TEST(ExternalMemory, MovesTheSameBytesAndRows) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 4096));
  for (const char* datapath : {"mac", "gather_add"}) {
    const DatapathResult own = simulated(trace, datapath);
    const DatapathResult other = external(trace, datapath);
    EXPECT_EQ(other.traffic, own.traffic) << datapath;
    EXPECT_EQ(other.read_bursts, own.read_bursts);
    EXPECT_EQ(other.write_bursts, own.write_bursts);
    EXPECT_EQ(other.busy, own.busy);
    EXPECT_EQ(other.activates, 0U);  // it knows no rows
    EXPECT_EQ(other.events.total(Event::kMultiply), own.events.total(Event::kMultiply));
  }
}

TEST(ExternalMemory, StreamsAtItsRateAndPaysTheLatencyATile) {
  const TestTrace trace = synth_trace(llama_layer(Method::kDense, 8192));
  // 8 tiles of K and of V an engine, 2048 bursts each, one after the other.
  const double expected = 16 * (2048 * kBurst + kLatency);
  EXPECT_NEAR(nanoseconds(external(trace, "mac")), expected, 0.02 * expected);
  // Four bursts under way cannot cover 50 ns: four a round trip.
  const double few = 16.0 * 2048 / 4 * (kBurst + kLatency);
  EXPECT_NEAR(nanoseconds(external(trace, "mac", {"engine.outstanding_bursts=4"})), few,
              0.05 * few);
}

TEST(ExternalMemory, GathersRowsSideBySide) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 8192));
  SynthOptions fewer = llama_layer(Method::kProp, 8192);
  fewer.budgets.assign(1, 1);
  const TestTrace keys = synth_trace(fewer);  // the same keys, 4 rows a KV head
  // What the rows cost beyond the keys, 64 and 8 bursts (a row) under way.
  const auto rows_take = [&](const std::vector<std::string>& overrides) {
    return nanoseconds(external(trace, "gather_add", overrides)) -
           nanoseconds(external(keys, "gather_add", overrides));
  };
  const DatapathResult own = simulated(trace, "gather_add");
  EXPECT_EQ(external(trace, "gather_add", {"engine.outstanding_bursts=8"}).traffic, own.traffic);
  // About 128 rows an engine, each a round trip longer when it goes alone.
  const double rows =
      static_cast<double>(own.traffic[static_cast<std::size_t>(Part::kValue)].distinct_rows) / 32;
  const double longer = rows_take({"engine.outstanding_bursts=8"}) - rows_take({});
  EXPECT_GT(longer, 0.5 * rows * kLatency);
  EXPECT_LT(longer, 1.5 * rows * kLatency);
}

TEST(ExternalMemory, AModelThatOnlyBlocksTakesOneTransactionAtATime) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 1024));
  const DatapathResult own = simulated(trace, "mac");
  const DatapathResult slow = simulated(trace, "mac", {}, "hbm3", make_blocking_memory);
  EXPECT_EQ(slow.traffic, own.traffic);
  // A tile of K and one of V an engine, 2048 bursts each; the appended rows on one engine a head.
  EXPECT_NEAR(nanoseconds(slow), (2 * 2048 + 16) * 10.0, 0.02 * 2 * 2048 * 10);
}

TEST(ExternalMemory, IsTheSameTwice) {
  const TestTrace trace = synth_trace(llama_layer(Method::kFlash, 2048));
  EXPECT_EQ(external(trace, "gather_add"), external(trace, "gather_add"));
}

}  // namespace
}  // namespace stoat::sim
