// The engine on the first-ready controller: what memory.controller.*, the address map and pages do
// to a whole layer step, and that no choice loses or repeats a byte.
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>

#include "models/error.h"
#include "sim/engine/layer_step.h"
#include "sim/engine/simulate.h"
#include "sim/memory/address_map.h"
#include "tests/sim/fixture.h"

namespace stoat::sim {
namespace {

double microseconds(const DatapathResult& r) { return static_cast<double>(r.time.count()) * 1e-6; }

DatapathResult with(const TestTrace& trace, const std::string& setting,
                    const std::string& datapath = "gather_add") {
  return simulated(trace, datapath, {setting});
}

TEST(FirstReadyEngine, MovesTheSameBytesAsTheReservedModelInAboutTheSameTime) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 8192));
  for (const char* datapath : {"mac", "gather_add"}) {
    const DatapathResult first = simulated(trace, datapath);
    const DatapathResult reserved = simulated(trace, datapath, {"memory.model=reserved"});
    EXPECT_EQ(first.traffic, reserved.traffic) << datapath;
    EXPECT_EQ(first.busy, reserved.busy) << datapath;
    EXPECT_EQ(first.read_bursts, reserved.read_bursts) << datapath;
    EXPECT_NEAR(microseconds(first), microseconds(reserved), 0.02 * microseconds(reserved));
    EXPECT_NE(first.time, reserved.time) << "two models that agree to the picosecond are one";
    EXPECT_GT(first.active_standby.count(), 0U);
    EXPECT_EQ(reserved.active_standby.count(), 0U);  // it has no states
  }
}

TEST(FirstReadyEngine, AShortQueueHidesLessLatency) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 4096));
  const double normal = microseconds(simulated(trace, "gather_add"));
  EXPECT_GT(microseconds(with(trace, "memory.controller.queue=8")), 1.3 * normal);
  EXPECT_GT(microseconds(with(trace, "memory.controller.queue=1")), 2 * normal);
  EXPECT_NEAR(microseconds(with(trace, "memory.controller.queue=1024")), normal, 0.01 * normal);
  // One queue for both pseudo-channels, as long as two.
  EXPECT_NEAR(microseconds(
                  simulated(trace, "gather_add",
                            {"memory.controller.queue_of=channel", "memory.controller.queue=128"})),
              normal, 0.02 * normal);
}

TEST(FirstReadyEngine, RefreshABankAtATimeCostsLess) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 32768));
  const DatapathResult all = simulated(trace, "gather_add");
  const DatapathResult banks = with(trace, "memory.controller.refresh=per_bank");
  const DatapathResult none = with(trace, "memory.refresh=off");
  EXPECT_LT(none.time, banks.time);
  EXPECT_LT(banks.time, all.time);
  EXPECT_EQ(banks.refreshes, 0U);
  EXPECT_GT(banks.bank_refreshes, 0U);
  // 32 refreshes of a bank are priced as one of all.
  EXPECT_EQ(banks.events.total(Event::kDramRefresh), (banks.bank_refreshes + 31) / 32);
  EXPECT_EQ(none.refreshes + none.bank_refreshes, 0U);
}

TEST(FirstReadyEngine, IdleChannelsArePoweredDown) {
  SynthOptions options = llama_layer(Method::kProp, 512);  // two of four engines a head have tiles
  const TestTrace trace = synth_trace(options);
  const DatapathResult on = simulated(trace, "gather_add", {"kv.append=off"});
  const DatapathResult down =
      simulated(trace, "gather_add", {"kv.append=off", "memory.controller.power_down_after=50 ns"});
  EXPECT_EQ(on.power_downs, 0U);
  EXPECT_GT(down.power_downs, 7U);
  const Picoseconds off = down.active_down + down.precharge_down;
  EXPECT_GT(static_cast<double>(off.count()), 0.3 * 32 * static_cast<double>(down.time.count()));
  EXPECT_LT(down.events.total(Event::kDramBackgroundNs), on.events.total(Event::kDramBackgroundNs));
}

TEST(FirstReadyEngine, PagePoliciesAndCapsRun) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 4096));
  const DatapathResult open = simulated(trace, "gather_add");
  for (const char* setting :
       {"memory.controller.page_policy=closed", "memory.controller.page_policy=timeout",
        "memory.controller.row_hit_cap=1", "memory.controller.row_hit_cap=0",
        "memory.controller.refresh_order=staggered", "memory.controller.write_high=64"}) {
    const DatapathResult r = with(trace, setting);
    EXPECT_EQ(r.traffic, open.traffic) << setting;
    EXPECT_NEAR(microseconds(r), microseconds(open), 0.1 * microseconds(open)) << setting;
  }
}

TEST(FirstReadyEngine, TheAddressMapIsAnAxis) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 4096));
  const DatapathResult chunks = simulated(trace, "gather_add");
  // Banks of one group side by side: columns are held to half rate by tCCD_L.
  const DatapathResult rows = with(trace, "memory.map=column bank stack bank_group row");
  EXPECT_EQ(chunks.traffic, rows.traffic);
  EXPECT_GT(microseconds(rows), 1.5 * microseconds(chunks));
  EXPECT_THROW(with(trace, "memory.map=column bank stack row"), Error);
  EXPECT_THROW(with(trace, "memory.map=column column bank_group bank stack row"), Error);
}

TEST(FirstReadyEngine, RefusesSettingsThatContradictThemselves) {
  const TestTrace trace = synth_trace(llama_layer(Method::kProp, 512));
  for (const char* setting :
       {"memory.controller.queue=0", "memory.model=fastest", "memory.controller.page_policy=shut",
        "memory.controller.power_down_after=50", "mapping.page_rows=48"}) {
    EXPECT_THROW(with(trace, setting), Error) << setting;
  }
  EXPECT_THROW(
      simulated(trace, "gather_add",
                {"memory.controller.page_policy=timeout", "memory.controller.page_timeout=0 ns"}),
      Error);
  EXPECT_THROW(
      simulated(trace, "gather_add", {"mapping.page_rows=16", "mapping.k_layout=feature_major"}),
      Error);
}

// ---- pages

AddressPlan plan_of(std::uint32_t page_rows, std::uint32_t sequences, std::uint32_t context,
                    EngineShape& shape) {
  const DesignPoint point =
      read_design_point("hbm3", {"mapping.page_rows=" + std::to_string(page_rows)});
  const DramStandard dram = read_dram_standard(point.dram);
  shape = engine_shape(point, dram, synth_header(llama_layer(Method::kProp, context)));
  return make_address_plan(shape, dram, context, sequences, 0, 2, 4);
}

TEST(Pages, EveryRowOfEverySequenceHasAPlaceOfItsOwn) {
  for (const std::uint32_t page : {1U, 16U, 256U, 1024U}) {
    EngineShape shape;
    const AddressPlan plan = plan_of(page, 3, 5000, shape);
    std::set<std::uint64_t> places;
    for (std::uint32_t sequence = 0; sequence < 3; ++sequence) {
      for (std::uint32_t layer = 0; layer < 2; ++layer) {
        EngineWork work;
        work.pages = plan.pages_of(sequence);
        const std::uint64_t base = plan.key_base(sequence, layer);
        for (std::uint64_t row = 0; row < std::uint64_t{plan.slots} * 256; ++row) {
          for (const std::uint64_t part : {base, base + plan.region_bytes}) {
            const std::uint64_t at = work.row_address(part, row, shape);
            EXPECT_TRUE(places.insert(at).second) << "two rows at " << at;
            EXPECT_LE(at + shape.row_bytes().count(), plan.spill_base);
          }
        }
      }
    }
    EXPECT_EQ(places.size(), 3U * 2 * 2 * plan.slots * 256);
  }
}

TEST(Pages, ScatterASequenceAndMoveTheSameBytes) {
  EngineShape shape;
  const AddressPlan plan = plan_of(16, 2, 8192, shape);
  std::uint64_t neighbours = 0;
  for (std::size_t i = 1; i < plan.pages.size(); ++i)
    neighbours += plan.pages[i] == plan.pages[i - 1] + 1 ? 1 : 0;
  EXPECT_LT(neighbours, plan.pages.size() / 10);
  SynthOptions options = llama_layer(Method::kProp, 4096);
  options.contexts = {4096, 1000};
  const TestTrace trace = synth_trace(options);
  const DatapathResult whole = simulated(trace, "mac");
  for (const char* setting : {"mapping.page_rows=16", "mapping.page_rows=256"}) {
    const DatapathResult paged = with(trace, setting, "mac");
    EXPECT_EQ(paged.traffic, whole.traffic) << setting;
    EXPECT_EQ(paged.busy, whole.busy) << setting;
    EXPECT_NEAR(microseconds(paged), microseconds(whole), 0.05 * microseconds(whole)) << setting;
  }
  // A page of one row costs an activation every few rows.
  EXPECT_GT(with(trace, "mapping.page_rows=1", "mac").activates, 2 * whole.activates);
}

}  // namespace
}  // namespace stoat::sim
