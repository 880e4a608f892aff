// Reference cases to the nanosecond, counts, and what the channel refuses.
#include "sim/memory/channel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <sstream>

#include "models/error.h"
#include "models/table.h"

namespace stoat::sim {
namespace {

TEST(Channel, EqualsThreeSimulatorsOnTheMicroCases) {
  const Table table =
      Table::read(std::string(STOAT_TEST_SOURCE_DIR) + "/tests/sim/memory/micro_cases.csv",
                  {"case", "bursts", "reference_ns", "trace"});
  ASSERT_EQ(table.size(), 8U);
  const DramStandard standard = read_dram_standard("hbm2_aligned_norefresh");
  for (std::size_t row = 0; row < table.size(); ++row) {
    DramChannel channel(standard);
    std::istringstream trace(table.text(row, "trace"));
    Picoseconds end{0};
    std::uint64_t bursts = 0;
    for (std::string burst; trace >> burst; ++bursts) {
      std::istringstream fields(burst);
      std::uint32_t field[6] = {};
      char dot = 0;
      for (int i = 0; i < 6; ++i) fields >> field[i] >> dot;
      const BankAddress where{0, field[2], field[3], field[4], field[5]};
      const MemoryReply reply =
          channel.access({field[1], channel.address_map().encode(where), Bytes(32)});
      end = std::max(end, reply.done);
    }
    channel.finish(end);
    EXPECT_EQ(bursts, table.integer(row, "bursts")) << table.text(row, "case");
    EXPECT_EQ(end.count(), 1000 * table.integer(row, "reference_ns")) << table.text(row, "case");
  }
}

// The reference for HBM3-6.4 says 34.0 ns; ours is 1.5 + 31 + 20 + 2 = 54.5 cycles of 0.625 ns.
TEST(Channel, ReadsAClosedHbm3BankInTheReferenceTime) {
  DramChannel channel(read_dram_standard("hbm3_6400"));
  EXPECT_EQ(channel.access({0, 0, Bytes(32)}).done.count(), 34'062U);
}

TEST(Channel, CountsWhatARequestMoves) {
  DramChannel channel(read_dram_standard("hbm2_aligned"));
  const MemoryReply tile = channel.access({0, 0, Bytes(65536)});
  const MemoryReply again = channel.access({1, 4096, Bytes(256), true, tile.done});
  channel.finish(again.done + Picoseconds(10'000'000));
  const ChannelCounts zero = channel.counts(0), one = channel.counts(1);
  EXPECT_EQ(zero.read_bursts, 2048U);
  EXPECT_EQ(zero.bytes_moved, Bytes(65536));
  EXPECT_EQ(zero.row_hits + zero.row_misses, 2048U);
  EXPECT_GE(zero.activates, 64U);
  EXPECT_EQ(zero.activates, tile.activates);
  EXPECT_EQ(zero.data_bus_busy.count(), 2048U * 2000);
  EXPECT_EQ(one.write_bursts, 8U);
  EXPECT_EQ(one.activates, 1U);
  EXPECT_EQ(one.row_hits, 7U);
  EXPECT_EQ(zero.refreshes, one.refreshes) << "both pseudo-channels refresh at once";
  EXPECT_EQ(zero.refreshes, (again.done.count() + 10'000'000 - 1) / 3'900'000);
  ChannelCounts sum = zero;
  sum += one;
  EXPECT_EQ(channel.counts(), sum);
}

TEST(Channel, ATileEqualsItsPiecesSentAtOnce) {
  for (const char* name : {"hbm2_aligned", "hbm3_5200"}) {
    const DramStandard standard = read_dram_standard(name);
    DramChannel whole(standard, {64}), pieces(standard, {64});
    const MemoryReply tile = whole.access({0, 1 << 20, Bytes(65536)});
    MemoryReply last;
    for (std::uint64_t at = 0; at < 65536; at += 256) {
      const MemoryReply reply = pieces.access({0, (1 << 20) + at, Bytes(256)});
      last.done = std::max(last.done, reply.done);
    }
    EXPECT_EQ(tile.done, last.done) << name;
    EXPECT_EQ(whole.counts(), pieces.counts()) << name;
  }
}

TEST(Channel, OneRequestNeverDelaysAnOlderOne) {
  // By construction: a reply is final. A younger request may finish earlier, from another bank.
  DramChannel channel(read_dram_standard("hbm2_aligned_norefresh"));
  channel.access({0, 0, Bytes(32)});
  const std::uint64_t other_row = 16 * 1024;  // same bank, next row
  const MemoryReply conflict = channel.access({0, other_row, Bytes(32)});
  const MemoryReply younger = channel.access({0, 256, Bytes(32)});
  EXPECT_EQ(conflict.done.count(), 80'000U);
  EXPECT_EQ(younger.done.count(), 36'000U) << "its activation and slot come before the conflict's";
}

TEST(Channel, ACompletionTimeIsAnArrivalTimeAgain) {
  // Times are rounded down to picoseconds, so that an arrival derived from one is not a tick late.
  const DramStandard standard = read_dram_standard("hbm3_5200");
  DramChannel channel(standard);
  MemoryReply reply = channel.access({0, 0, Bytes(32)});
  const std::uint64_t start = cycles_until(reply.done, Hertz(2'600'000'000));
  for (std::uint64_t i = 1; i < 500; ++i) {
    reply = channel.access({0, 32 * (i % 8), Bytes(32), false, reply.done});
    ASSERT_EQ(cycles_until(reply.done, Hertz(2'600'000'000)), start + i * 2 * (17 + 2)) << i;
    if (start + (i + 2) * 38 > 2 * 5070) break;
  }
}

TEST(Channel, RefusesWhatNoRequestMayBe) {
  const DramStandard standard = read_dram_standard("hbm3_5200");
  DramChannel channel(standard);
  channel.access({0, 0, Bytes(32), false, Picoseconds(1000)});
  const std::uint64_t capacity = standard.capacity().count();
  EXPECT_THROW(channel.access({0, 0, Bytes(32), false, Picoseconds(999)}), Bug);
  EXPECT_THROW(channel.access({0, 0, Bytes(0), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(channel.access({0, 16, Bytes(32), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(channel.access({0, 0, Bytes(48), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(channel.access({2, 0, Bytes(32), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(channel.access({0, capacity, Bytes(32), false, Picoseconds(1000)}), Bug);
  EXPECT_THROW(channel.access({0, capacity - 32, Bytes(64), false, Picoseconds(1000)}), Bug);
  EXPECT_NO_THROW(channel.access({0, capacity - 32, Bytes(32), false, Picoseconds(1000)}));
  EXPECT_THROW(channel.finish(Picoseconds(1000)), Bug) << "before the last data";
}

}  // namespace
}  // namespace stoat::sim
