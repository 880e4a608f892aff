// Every timing parameter from both sides: a probe that arrives at the gate waits for nothing, one
// cycle earlier it waits one cycle, and the gate moves with its parameter. Aligned HBM2 (1 GHz: one
// cycle is 1 ns), values of other parameters lowered or raised where they would hide the gate.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>

#include "sim/memory/channel.h"

namespace stoat::sim {
namespace {

struct Access {
  BankAddress where;
  std::uint64_t ns;
  bool write = false;
  std::uint32_t pseudo_channel = 0;
};

struct Gate {
  std::string name;
  std::uint32_t DramStandard::*parameter;
  std::uint32_t value;  // of the parameter, and of its step by one cycle
  std::uint32_t step;
  std::function<void(DramStandard&)> change;
  std::vector<Access> before;
  Access probe;           // its ns is the gate: the first arrival that waits for nothing
  std::uint64_t latency;  // of the probe then
};

DramStandard base() { return read_dram_standard("hbm2_aligned_norefresh"); }

std::uint64_t done_ns(const DramStandard& standard, const Gate& gate, std::uint64_t arrival) {
  DramChannel channel(standard);
  const auto send = [&](const Access& access, std::uint64_t ns) {
    return channel.access({access.pseudo_channel, channel.address_map().encode(access.where),
                           Bytes(32), access.write, Picoseconds(1000 * ns)});
  };
  for (const Access& access : gate.before) send(access, access.ns);
  return send(gate.probe, arrival).done.count() / 1000;
}

constexpr BankAddress at(std::uint32_t group, std::uint32_t bank, std::uint32_t row,
                         std::uint32_t column, std::uint32_t stack = 0) {
  return {stack, group, bank, row, column};
}

const auto kNone = [](DramStandard&) {};

std::vector<Gate> gates() {
  using S = DramStandard;
  const Access first = {at(0, 0, 5, 0), 0};  // ACT 0, RD 16, data 32
  std::vector<Gate> g;
  g.push_back({"tRAS", &S::ras, 34, 1, kNone, {first}, {at(0, 0, 6, 0), 34}, 46});
  g.push_back({"tRC", &S::rc, 60, 1, kNone, {first}, {at(0, 0, 6, 0), 46}, 46});
  g.push_back({"tRTP", &S::rtp, 40, 1, kNone, {first}, {at(0, 0, 6, 0), 56}, 46});
  g.push_back({"tRRD_S", &S::rrd_short, 4, 1, kNone, {first}, {at(1, 0, 5, 0), 4}, 32});
  g.push_back({"tRRD_L", &S::rrd_long, 6, 1, kNone, {first}, {at(0, 1, 5, 0), 6}, 32});
  g.push_back({"tFAW",
               &S::faw,
               40,
               1,
               kNone,
               {first, {at(1, 0, 5, 0), 0}, {at(2, 0, 5, 0), 0}, {at(3, 0, 5, 0), 0}},
               {at(0, 1, 5, 0), 40},
               32});
  g.push_back({"tCCD_L", &S::ccd_long, 4, 1, kNone, {first}, {at(0, 0, 5, 1), 20}, 16});
  g.push_back({"tCCD_S",
               &S::ccd_short,
               2,
               1,
               [](S& s) { s.ccd_long = s.ccd_write_long = 6; },
               {first, {at(1, 0, 5, 0), 0}, {at(0, 0, 5, 1), 100}},
               {at(1, 0, 5, 1), 102},
               16});
  g.push_back({"tCCD_R",
               &S::ccd_stack,
               3,
               1,
               [](S& s) { s.stack_ids = 2; },
               {first, {at(1, 0, 5, 0, 1), 0}, {at(0, 0, 5, 1), 100}},
               {at(1, 0, 5, 1, 1), 103},
               16});
  g.push_back({"tRCDRD",
               &S::rcd_read,
               34,
               1,
               kNone,
               {{at(0, 0, 5, 0), 0, true}},
               {at(0, 0, 5, 1), 36},
               16});
  g.push_back({"tRCDWR", &S::rcd_write, 30, 1, kNone, {first}, {at(0, 0, 5, 1), 32, true}, 6});
  // WR 16, its data ends at 22.
  g.push_back({"tWR", &S::wr, 16, 1, kNone, {{at(0, 0, 5, 0), 0, true}}, {at(0, 0, 6, 0), 38}, 46});
  const std::vector<Access> write = {{at(1, 0, 5, 0), 0}, {at(0, 0, 5, 0), 100, true}};  // WR 116
  g.push_back({"tWTR_S", &S::wtr_short, 6, 1, kNone, write, {at(1, 0, 5, 1), 128}, 16});
  g.push_back({"tWTR_L", &S::wtr_long, 8, 1, kNone, write, {at(0, 0, 5, 1), 130}, 16});
  g.push_back({"tRTW",
               &S::rtw,
               14,
               1,
               kNone,
               {first, {at(0, 0, 5, 1), 100}},
               {at(0, 0, 5, 2), 114, true},
               6});
  // The other pseudo-channel's row commands.
  g.push_back({"ACT on the shared bus",
               &S::activate_bus_cycles,
               4,
               2,
               [](S& s) { s.rrd_short = 8; },
               {first},
               {at(0, 0, 5, 0), 2, false, 1},
               32});
  g.push_back({"PRE on the shared bus",
               &S::precharge_bus_cycles,
               2,
               2,
               kNone,
               {first, {at(0, 0, 6, 0), 100}},
               {at(0, 0, 5, 0), 101, false, 1},
               32});
  // A column command would stand at 3900: refresh first, from 3900 to 4160.
  g.push_back({"tRFC",
               &S::refresh_cycles,
               260,
               1,
               [](S& s) { s.refresh_interval = 3900; },
               {{at(0, 0, 5, 0), 3800}, {at(0, 0, 5, 1), 3900}},
               {at(1, 0, 5, 0), 4164},
               32});
  return g;
}

TEST(ChannelGates, BlockOneCycleBeforeAndOpenOnTime) {
  for (const Gate& gate : gates()) {
    SCOPED_TRACE(gate.name);
    DramStandard standard = base();
    gate.change(standard);
    standard.*gate.parameter = gate.value;
    const std::uint64_t t = gate.probe.ns;
    EXPECT_EQ(done_ns(standard, gate, t), t + gate.latency) << "ready at the gate";
    EXPECT_EQ(done_ns(standard, gate, t - 1), t + gate.latency) << "blocked one cycle before";
    EXPECT_EQ(done_ns(standard, gate, t + 1), t + 1 + gate.latency) << "nothing later";
    standard.*gate.parameter += gate.step;
    // A longer ACT also delays the column command after it.
    const std::uint64_t own = gate.parameter == &DramStandard::activate_bus_cycles ? 1 : 0;
    const std::uint64_t latency = gate.latency + own;
    EXPECT_EQ(done_ns(standard, gate, t), t + 1 + latency) << "the gate moves with its parameter";
  }
}

// Delays inside one access: each cycle more is one cycle later, exactly.
TEST(ChannelGates, DelaysInsideAnAccessAddUp) {
  struct Delay {
    const char* name;
    std::uint32_t DramStandard::*parameter;
    bool write, conflict;
  };
  const Delay delays[] = {{"tRCDRD", &DramStandard::rcd_read, false, false},
                          {"tRCDWR", &DramStandard::rcd_write, true, false},
                          {"RL", &DramStandard::read_latency, false, false},
                          {"WL", &DramStandard::write_latency, true, false},
                          {"burst, read", &DramStandard::burst_cycles, false, false},
                          {"burst, write", &DramStandard::burst_cycles, true, false},
                          {"tRP", &DramStandard::rp, false, true}};
  for (const Delay& delay : delays) {
    SCOPED_TRACE(delay.name);
    for (std::uint32_t more = 0; more < 5; ++more) {
      DramStandard standard = base();
      standard.*delay.parameter += more;
      DramChannel channel(standard);
      std::uint64_t start = 0;
      if (delay.conflict) {
        channel.access({0, channel.address_map().encode(at(0, 0, 6, 0)), Bytes(32)});
        start = 500;
      }
      const MemoryReply reply = channel.access({0, channel.address_map().encode(at(0, 0, 5, 0)),
                                                Bytes(32), delay.write, Picoseconds(1000 * start)});
      const std::uint64_t expected = start + (delay.write ? 22 : 32) + (delay.conflict ? 14 : 0);
      EXPECT_EQ(reply.done.count(), 1000 * (expected + more));
    }
  }
}

TEST(ChannelGates, RefreshComesBeforeAColumnCommandThatIsDue) {
  DramStandard standard = base();
  standard.refresh_interval = 3900;
  standard.refresh_cycles = 260;
  const auto done = [&](std::uint64_t arrival_ps, ChannelCounts& counts) {
    DramChannel channel(standard);
    channel.access({0, 0, Bytes(32), false, Picoseconds(3'800'000)});
    const MemoryReply reply = channel.access({0, 32, Bytes(32), false, Picoseconds(arrival_ps)});
    channel.finish(reply.done);
    counts = channel.counts(0);
    return reply.done.count();
  };
  ChannelCounts counts;
  EXPECT_EQ(done(3'899'500, counts), 3'915'500U) << "half a cycle before: read first";
  EXPECT_EQ(counts.activates, 1U);
  EXPECT_EQ(done(3'900'000, counts), 4'192'000U) << "refresh 3900-4160, ACT 4160, RD 4176";
  EXPECT_EQ(counts.activates, 2U);
  EXPECT_EQ(counts.refreshes, 1U);
  EXPECT_EQ(counts.precharges, 1U);
  EXPECT_EQ(done(4'160'000, counts), 4'192'000U);
  EXPECT_EQ(done(4'160'500, counts), 4'192'500U) << "nothing later";
}

TEST(ChannelGates, RefreshWaitsForThePrechargeOfOpenRows) {
  DramStandard standard = base();
  standard.refresh_interval = 3900;
  standard.refresh_cycles = 260;
  DramChannel channel(standard);
  channel.access({0, 0, Bytes(32), false, Picoseconds(3'880'000)});  // ACT 3880, RD 3896
  // PRE from 3914 (tRAS), refresh from 3928 to 4188.
  const MemoryReply reply = channel.access({0, 256, Bytes(32), false, Picoseconds(3'900'000)});
  EXPECT_EQ(reply.done.count(), 4'220'000U);
}

TEST(ChannelGates, TheQueueHoldsBackTheNextBurst) {
  for (std::uint32_t entries = 1; entries <= 3; ++entries) {
    DramChannel channel(base(), {entries});
    MemoryReply last;
    // Four bank groups: activations at 0, 4, 8, 12 when the queue lets them.
    for (std::uint64_t i = 0; i <= entries; ++i) last = channel.access({0, 256 * i, Bytes(32)});
    // The entry of the first burst is free at 32: one closed-bank read from there.
    EXPECT_EQ(last.done.count(), 64'000U) << entries;
  }
}

}  // namespace
}  // namespace stoat::sim
