// Fast == plain, on thousands of random requests.
#include "tests/sim/memory/plain_channel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>

namespace stoat::sim {
namespace {

// Sequences with hits, conflicts, gaps, idle times over several refreshes, tiles, and writes.
class RandomRequests {
 public:
  RandomRequests(std::uint64_t seed, const DramStandard& standard)
      : random_(seed), standard_(standard), capacity_(standard.capacity().count()) {}

  MemoryRequest next(unsigned write_percent) {
    const std::uint64_t pace = below(100);
    if (pace < 40) {
      now_ += below(20'000);
    } else if (pace < 43) {
      now_ += below(12'000'000);
    }
    static constexpr std::uint64_t kSizes[] = {1, 1, 2, 2, 3, 8, 8, 8, 8, 32, 50, 200};
    const std::uint64_t burst = standard_.access_size.count();
    MemoryRequest request;
    request.pseudo_channel = static_cast<std::uint32_t>(below(standard_.pseudo_channels));
    request.size = Bytes(kSizes[below(std::size(kSizes))] * burst);
    const std::uint64_t span = below(3) == 0 ? 1 << 16 : capacity_;
    request.address = below((span - request.size.count()) / burst) * burst;
    if (below(4) == 0) request.address = request.address / 4096 * 4096;
    request.write = below(100) < write_percent;
    request.partial = request.write && below(3) == 0;
    request.arrival = Picoseconds(now_);
    return request;
  }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  std::mt19937_64 random_;
  const DramStandard& standard_;
  std::uint64_t capacity_;
  std::uint64_t now_ = 0;
};

void expect_equal(const DramStandard& standard, std::uint64_t seeds, int requests) {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const std::uint32_t queues[] = {0, 8, 64};
    const ChannelOptions options{queues[seed % 3]};
    DramChannel fast(standard, options);
    PlainChannel plain(standard, options);
    RandomRequests random(seed + 1, standard);
    const unsigned write_percent = seed % 2 == 0 ? 0 : 20;
    Picoseconds end{0};
    for (int i = 0; i < requests; ++i) {
      const MemoryRequest request = random.next(write_percent);
      const MemoryReply a = fast.access(request);
      const MemoryReply b = plain.access(request);
      ASSERT_EQ(a.first_data, b.first_data) << standard.name << " seed " << seed << " i " << i;
      ASSERT_EQ(a.done, b.done) << standard.name << " seed " << seed << " i " << i;
      ASSERT_GE(a.first_data, request.arrival);
      end = std::max(end, a.done);
    }
    fast.finish(end);
    plain.finish(end);
    ChannelCounts counts = fast.counts();
    counts.data_bus_busy = Picoseconds(0);  // the plain one does not count it
    ASSERT_EQ(counts, plain.counts()) << standard.name << " seed " << seed;
  }
}

TEST(FastAgainstPlain, AgreeOnHbm2) { expect_equal(read_dram_standard("hbm2_aligned"), 12, 400); }

TEST(FastAgainstPlain, AgreeOnHbm3) {
  expect_equal(read_dram_standard("hbm3_5200"), 12, 400);
  expect_equal(read_dram_standard("hbm3_6400"), 6, 400);
}

TEST(FastAgainstPlain, AgreeOnTheOtherStandards) {
  for (const char* name : {"hbm4_8000", "gddr6_14000", "ddr5_4800", "lpddr5x_7500"}) {
    expect_equal(read_dram_standard(name), 3, 300);
  }
}

TEST(FastAgainstPlain, AgreeWithRefreshEveryMomentAndOddTimings) {
  DramStandard odd = read_dram_standard("hbm3_5200");
  odd.name = "odd";
  odd.refresh_interval = 400;
  odd.refresh_cycles = 120;
  odd.refresh_bank_cycles = 0;
  odd.rrd_long = 9;
  odd.faw = 37;
  odd.ccd_long = 7;
  odd.ccd_write_long = 11;
  odd.ccd_stack = 5;
  odd.ccd_short = 3;
  odd.activate_bus_cycles = 5;
  odd.precharge_bus_cycles = 3;
  check_dram_standard(odd, "odd");
  expect_equal(odd, 12, 400);
}

TEST(FastAgainstPlain, AgreeOnOtherAddressOrders) {
  DramStandard standard = read_dram_standard("hbm3_5200");
  for (const char* order : {"column bank_group bank stack row", "bank_group column bank stack row",
                            "stack column:64 bank column bank_group row"}) {
    standard.address_order = order;
    expect_equal(standard, 3, 300);
  }
}

// The judge must be able to say no: one parameter off by one cycle is found.
TEST(FastAgainstPlain, ADifferenceOfOneCycleIsFound) {
  const DramStandard standard = read_dram_standard("hbm3_5200");
  std::uint32_t DramStandard::*const members[] = {&DramStandard::rcd_read,
                                                  &DramStandard::rcd_write,
                                                  &DramStandard::rp,
                                                  &DramStandard::ras,
                                                  &DramStandard::rc,
                                                  &DramStandard::rrd_short,
                                                  &DramStandard::rrd_long,
                                                  &DramStandard::faw,
                                                  &DramStandard::ccd_short,
                                                  &DramStandard::ccd_long,
                                                  &DramStandard::ccd_stack,
                                                  &DramStandard::ccd_write_long,
                                                  &DramStandard::rtp,
                                                  &DramStandard::wr,
                                                  &DramStandard::wtr_short,
                                                  &DramStandard::wtr_long,
                                                  &DramStandard::rtw,
                                                  &DramStandard::refresh_cycles,
                                                  &DramStandard::activate_bus_cycles,
                                                  &DramStandard::precharge_bus_cycles};
  for (auto member : members) {
    DramStandard other = standard;
    ++(other.*member);
    DramChannel fast(standard, {64});
    PlainChannel plain(other, {64});
    RandomRequests random(7, standard);
    bool differs = false;
    for (int i = 0; i < 3000 && !differs; ++i) {
      const MemoryRequest request = random.next(20);
      differs = fast.access(request).done != plain.access(request).done;
    }
    EXPECT_TRUE(differs) << "member number " << (&member - &members[0]);
  }
}

}  // namespace
}  // namespace stoat::sim
