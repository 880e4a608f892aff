// Timing arithmetic of an engine against cases computed by hand.
#include "sim/engine/lane_unit.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace stoat::sim {
namespace {

constexpr Hertz kGigahertz{1000000000};
Picoseconds ns(std::uint64_t n) { return Picoseconds(n * 1000); }

TEST(LaneUnit, StartsWithTheFirstDataAndEndsAfterTheLast) {
  LaneUnit lanes(kGigahertz);
  const Interval slow_data = lanes.run(ns(10), ns(100), CoreCycles(20), CoreCycles(2));
  EXPECT_EQ(slow_data.begin, ns(10));
  EXPECT_EQ(slow_data.end, ns(102));
  const Interval slow_lanes = lanes.run(ns(50), ns(60), CoreCycles(20), CoreCycles(2));
  EXPECT_EQ(slow_lanes.begin, ns(102));
  EXPECT_EQ(slow_lanes.end, ns(122));
  EXPECT_EQ(lanes.busy_cycles(), CoreCycles(40));
  EXPECT_NO_THROW(lanes.check(ns(122)));
  EXPECT_NO_THROW(lanes.check(ns(200)));
  EXPECT_THROW(lanes.check(ns(121)), Bug);
}

TEST(LaneUnit, TellsStarvedFromBlockedFromIdle) {
  LaneUnit lanes(kGigahertz);
  lanes.begin_work(ns(5));                                          // idle 5
  lanes.run(ns(15), ns(20), CoreCycles(10), CoreCycles(0));         // starved 10, busy 10
  lanes.run(ns(20), ns(22), CoreCycles(4), CoreCycles(0), ns(31));  // blocked 6, busy 4
  const Interval last = lanes.run(ns(30), ns(50), CoreCycles(5), CoreCycles(1));  // stalls for data
  EXPECT_EQ(last.begin, ns(35));
  EXPECT_EQ(last.end, ns(51));
  EXPECT_EQ(lanes.busy(), ns(19));
  EXPECT_EQ(lanes.starved(), ns(10 + 11));
  EXPECT_EQ(lanes.blocked(), ns(6));
  EXPECT_NO_THROW(lanes.check(ns(60)));
}

TEST(Window, AdmitsWhenEnoughUnitsAreFree) {
  Window window(64);
  EXPECT_EQ(window.admits(8), ns(0));
  window.add(64, ns(100), ns(64));      // one unit a nanosecond, the last at 100
  EXPECT_EQ(window.admits(1), ns(37));  // 63 may remain
  EXPECT_EQ(window.admits(8), ns(44));
  EXPECT_EQ(window.admits(64), ns(100));
  EXPECT_EQ(window.admits(2048), ns(37));  // streams through: one free unit is enough
}

TEST(Window, CountsAllThatIsInFlight) {
  Window window(16);
  window.add(8, ns(10), ns(8));
  window.add(8, ns(20), ns(8));
  EXPECT_EQ(window.admits(8), ns(10));
  EXPECT_EQ(window.admits(9), ns(13));  // one of the second batch must be out
  window.add(8, ns(30), ns(8));
  EXPECT_EQ(window.admits(8), ns(20));
}

TEST(Window, AStreamLongerThanTheWindowHoldsItsTailOnly) {
  Window window(64);
  window.add(2048, ns(3000), ns(2048));
  EXPECT_EQ(window.admits(1), ns(2937));
}

}  // namespace
}  // namespace stoat::sim
