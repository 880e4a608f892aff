// The first-ready controller: reference cases to the nanosecond, what each option does, power-down,
// partial writes, and what is refused.
#include "sim/memory/controller.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "models/error.h"
#include "models/table.h"

namespace stoat::sim {
namespace {

struct Burst {
  std::uint32_t pseudo_channel, group, bank, row, column;
};

struct Result {
  std::uint64_t ns = 0;
  ChannelCounts counts;
};

// All bursts at time 0, in order.
Result run(const DramStandard& standard, const ControllerOptions& options,
           const std::vector<Burst>& bursts, bool write = false, bool partial = false) {
  DramController controller(standard, options);
  for (const Burst& b : bursts) {
    const BankAddress where{0, b.group, b.bank, b.row, b.column};
    controller.submit({b.pseudo_channel, controller.address_map().encode(where),
                       standard.access_size, write, Picoseconds(0), partial});
  }
  controller.drain();
  controller.finish(controller.last_data());
  return {controller.last_data().count() / 1000, controller.counts()};
}

DramStandard hbm2() { return read_dram_standard("hbm2_aligned_norefresh"); }

std::vector<Burst> banks_of(std::uint32_t n, std::uint32_t pseudo_channels) {
  std::vector<Burst> bursts;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t k = i / pseudo_channels;
    bursts.push_back({i % pseudo_channels, k % 4, k / 4, 5, 0});
  }
  return bursts;
}

std::vector<Burst> two_rows_interleaved() {
  std::vector<Burst> bursts;
  for (std::uint32_t i = 0; i < 16; ++i) bursts.push_back({0, 0, 0, i % 2, i / 2});
  return bursts;
}

TEST(Controller, EqualsThreeSimulatorsOnTheMicroCases) {
  const Table table =
      Table::read(std::string(STOAT_TEST_SOURCE_DIR) + "/tests/sim/memory/micro_cases.csv",
                  {"case", "bursts", "reference_ns", "trace"});
  ASSERT_EQ(table.size(), 8U);
  for (std::size_t row = 0; row < table.size(); ++row) {
    std::istringstream trace(table.text(row, "trace"));
    std::vector<Burst> bursts;
    for (std::string burst; trace >> burst;) {
      std::istringstream fields(burst);
      std::uint32_t f[6] = {};
      char dot = 0;
      for (std::uint32_t& field : f) fields >> field >> dot;
      bursts.push_back({f[1], f[2], f[3], f[4], f[5]});
    }
    EXPECT_EQ(bursts.size(), table.integer(row, "bursts"));
    EXPECT_EQ(run(hbm2(), {}, bursts).ns, table.integer(row, "reference_ns"))
        << table.text(row, "case");
  }
}

// A read of a bank n activations later: 32 ns after its activation.
TEST(Controller, ActivationsFollowTheWindowAndTheSharedRowBus) {
  EXPECT_EQ(run(hbm2(), {}, banks_of(5, 1)).ns, 16U + 32) << "tFAW";
  EXPECT_EQ(run(hbm2(), {}, banks_of(16, 1)).ns, 60U + 32) << "tRRD and tFAW";
  EXPECT_EQ(run(hbm2(), {}, banks_of(32, 2)).ns, 62U + 32) << "two pseudo-channels in turn";
}

TEST(Controller, ReadsAClosedHbm3BankInTheReferenceTime) {
  // The reference says 34.0 ns; ours is 1.5 + 31 + 20 + 2 = 54.5 cycles of 0.625 ns.
  DramController controller(read_dram_standard("hbm3_6400"), {});
  controller.submit({0, 0, Bytes(32)});
  controller.drain();
  EXPECT_EQ(controller.last_data().count(), 34'062U);
}

TEST(Controller, RowHitsOvertakeUpToTheCap) {
  // ACT 0, RD 16 ... 44, PRE 49, ACT 63, RD 79 ... 107, data 123.
  ControllerOptions options;
  const Result free = run(hbm2(), options, two_rows_interleaved());
  EXPECT_EQ(free.ns, 123U);
  EXPECT_EQ(free.counts.activates, 2U);
  options.row_hit_cap = 4;
  const Result four = run(hbm2(), options, two_rows_interleaved());
  EXPECT_EQ(four.counts.activates, 4U);
  EXPECT_EQ(four.counts.row_hits, 12U);
  options.row_hit_cap = 1;
  const Result one = run(hbm2(), options, two_rows_interleaved());
  EXPECT_EQ(one.counts.activates, 16U);
  EXPECT_EQ(one.ns, 15U * 48 + 32) << "a conflict each";
  options.queue_bursts = 1;
  options.row_hit_cap = 0;
  EXPECT_EQ(run(hbm2(), options, two_rows_interleaved()).counts.activates, 16U)
      << "a queue of one entry has nothing to choose from";
}

TEST(Controller, AFullBankDoesNotHoldUpAnother) {
  std::vector<Burst> bursts;
  for (std::uint32_t i = 0; i < 8; ++i) bursts.push_back({0, 0, 0, i, 0});
  bursts.push_back({0, 1, 0, 5, 0});
  DramController controller(hbm2(), {});
  for (const Burst& b : bursts) {
    controller.submit(
        {0, controller.address_map().encode({0, b.group, b.bank, b.row, b.column}), Bytes(32)});
  }
  controller.drain();
  const std::vector<Completion> done = controller.take_completions();
  ASSERT_EQ(done.size(), 9U);
  EXPECT_EQ(done[1].id, 8U);
  EXPECT_EQ(done[1].done.count(), 36'000U);
  EXPECT_EQ(done[8].done.count(), 368'000U);
}

TEST(Controller, PagePoliciesCloseRowsWhenTheySay) {
  const std::vector<Burst> one = {{0, 0, 0, 5, 0}};
  const auto precharges_by = [&](PagePolicy policy, std::uint32_t timeout, std::uint64_t ns) {
    ControllerOptions options;
    options.page_policy = policy;
    options.page_timeout = timeout;
    DramController controller(hbm2(), options);
    controller.submit({0, 0, Bytes(32)});
    controller.drain();
    controller.finish(Picoseconds(1000 * ns));
    return controller.counts().precharges;
  };
  EXPECT_EQ(precharges_by(PagePolicy::kOpen, 0, 10'000), 0U);
  EXPECT_EQ(precharges_by(PagePolicy::kClosed, 0, 34), 0U) << "tRAS";
  EXPECT_EQ(precharges_by(PagePolicy::kClosed, 0, 35), 1U);
  EXPECT_EQ(precharges_by(PagePolicy::kTimeout, 100, 116), 0U) << "100 ns after the read at 16";
  EXPECT_EQ(precharges_by(PagePolicy::kTimeout, 100, 117), 1U);
}

TEST(Controller, WritesWaitAndGoTogether) {
  // Alternating reads and writes of open rows: with watermarks the bus turns a few times only.
  const DramStandard standard = hbm2();
  const auto time = [&](std::uint32_t high, std::uint32_t low) {
    ControllerOptions options;
    options.write_high = high;
    options.write_low = low;
    DramController controller(standard, options);
    for (std::uint32_t i = 0; i < 512; ++i) {
      const BankAddress where{0, i / 2 % 4, i % 2, 0, i / 8 % 32};
      controller.submit({0, controller.address_map().encode(where), Bytes(32), i % 2 == 1});
    }
    controller.drain();
    controller.finish(controller.last_data());
    EXPECT_EQ(controller.counts().read_bursts, 256U);
    EXPECT_EQ(controller.counts().write_bursts, 256U);
    return controller.last_data().count();
  };
  EXPECT_LT(time(32, 4), time(2, 1)) << "fewer turnarounds";
  EXPECT_GE(time(32, 4), 512U * 2000) << "the data bus";
}

TEST(Controller, PartialWritesAreMaskedOrReadChangedAndWrittenBack) {
  const std::vector<Burst> one = {{0, 0, 0, 5, 0}};
  const Result masked = run(hbm2(), {}, one, true, true);
  EXPECT_EQ(masked.counts.read_bursts, 0U);
  EXPECT_EQ(masked.counts.write_bursts, 1U);
  const DramStandard hbm3 = read_dram_standard("hbm3_5200");
  const Result changed = run(hbm3, {}, one, true, true);
  EXPECT_EQ(changed.counts.read_bursts, 1U);
  EXPECT_EQ(changed.counts.write_bursts, 1U);
  EXPECT_EQ(changed.counts.activates, 1U);
  // ACT 1.5 + tRCD 26 + RL 17 + 2, then WL 9 + 2, in cycles of 1.3 GHz.
  EXPECT_EQ(changed.ns, (46'500ULL + 11'000) * 10 / 13 / 1000);
}

TEST(Controller, AnIdleChannelPowersDownAndPaysToWake) {
  ControllerOptions options;
  options.power_down_after = 100;
  DramController controller(hbm2(), options);
  controller.submit({0, 0, Bytes(32)});
  controller.submit({0, 64, Bytes(32), false, Picoseconds(1'000'000)});
  controller.drain();
  // Read at 16, down from 116; awake 8 ns after 1000; RL 14 + burst 2.
  EXPECT_EQ(controller.last_data().count(), 1'024'000U);
  controller.finish(Picoseconds(1'050'000));
  const ChannelCounts counts = controller.counts(0);
  EXPECT_EQ(counts.power_downs, 1U);
  EXPECT_EQ(counts.active_down.count(), 884'000U) << "the row stays open";
  EXPECT_EQ(counts.active_standby.count(), 1'050'000U - 884'000);
  EXPECT_EQ(counts.precharge_down.count() + counts.precharge_standby.count(), 0U);
  EXPECT_EQ(controller.counts(1).precharge_down.count(), 884'000U);
}

TEST(Controller, RefreshesOfBothKindsComeInTime) {
  const DramStandard standard = read_dram_standard("hbm3_5200");
  const auto refreshed = [&](RefreshMode mode, bool stagger) {
    ControllerOptions options;
    options.refresh = mode;
    options.stagger_refresh = stagger;
    DramController controller(standard, options);
    controller.finish(Picoseconds(39'010'000));  // 10 tREFI
    return controller.counts();
  };
  EXPECT_EQ(refreshed(RefreshMode::kAllBank, false).refreshes, 20U) << "two pseudo-channels";
  EXPECT_EQ(refreshed(RefreshMode::kAllBank, true).refreshes, 19U) << "one half an interval late";
  const ChannelCounts banks = refreshed(RefreshMode::kPerBank, false);
  EXPECT_EQ(banks.refreshes, 0U);
  EXPECT_EQ(banks.bank_refreshes / 2, 39'010'000ULL * 13 / 10'000 / (5070 / 32));
  EXPECT_EQ(refreshed(RefreshMode::kNone, false).refreshes, 0U);
}

TEST(Controller, RefusesWhatIsNoControllerAndNoRequest) {
  const DramStandard standard = read_dram_standard("hbm3_5200");
  const auto refusal = [&](const ControllerOptions& options) {
    try {
      DramController controller(standard, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      return std::string(error.what());
    }
    return std::string();
  };
  ControllerOptions options;
  EXPECT_EQ(refusal(options), "");
  options.queue_bursts = 0;
  EXPECT_NE(refusal(options).find("queue of 0"), std::string::npos);
  options = {};
  options.write_high = 4;
  options.write_low = 4;
  EXPECT_NE(refusal(options).find("watermarks 4 and 4"), std::string::npos);
  options.write_high = 65;
  EXPECT_NE(refusal(options).find("queue of 64"), std::string::npos);
  options = {};
  options.page_policy = PagePolicy::kTimeout;
  EXPECT_NE(refusal(options).find("timeout of 0"), std::string::npos);

  DramController controller(standard, {});
  controller.submit({0, 0, Bytes(32), false, Picoseconds(1000)});
  const std::uint64_t capacity = standard.capacity().count();
  EXPECT_THROW(controller.submit({0, 0, Bytes(32), false, Picoseconds(999)}), Bug);
  EXPECT_THROW(controller.submit({0, 0, Bytes(0), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(controller.submit({0, 16, Bytes(32), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(controller.submit({2, 0, Bytes(32), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(controller.submit({0, capacity, Bytes(32), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(controller.finish(Picoseconds(1'000'000)), Bug) << "requests are left";
  controller.drain();
  EXPECT_THROW(controller.finish(Picoseconds(2000)), Bug) << "before the last data";
  controller.advance(Picoseconds(1'000'000));
  EXPECT_THROW(controller.submit({0, 0, Bytes(32), false, Picoseconds(900'000)}), Bug)
      << "a request of the past";
}

}  // namespace
}  // namespace stoat::sim
