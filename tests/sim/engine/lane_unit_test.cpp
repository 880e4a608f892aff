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

TEST(Credits, AreThereAtOnceWhileFewAreTaken) {
  Credits credits(64);
  EXPECT_EQ(credits.when(64, ns(3)), ns(3));
  EXPECT_EQ(credits.take(60), 60U);
  EXPECT_EQ(credits.when(4, ns(5)), ns(5));
  EXPECT_EQ(credits.when(5, ns(5)), Credits::kUnknown);  // nobody has said when
}

TEST(Credits, ComeBackInTheOrderOfTheirTimes) {
  Credits credits(16);
  credits.take(16);
  credits.give(8, ns(20));
  credits.give(4, ns(10));  // said later, free earlier
  EXPECT_EQ(credits.when(4, ns(0)), ns(10));
  EXPECT_EQ(credits.when(5, ns(0)), ns(20));
  EXPECT_EQ(credits.when(13, ns(0)), Credits::kUnknown);
  EXPECT_EQ(credits.when(4, ns(15)), ns(15));
  credits.take(4);
  EXPECT_EQ(credits.when(1, ns(16)), ns(20));
  EXPECT_EQ(credits.when(8, ns(30)), ns(30));
}

TEST(Credits, ANeedAboveTheirNumberWaitsForAllOfThem) {
  Credits credits(8);
  EXPECT_EQ(credits.take(2048), 8U);
  EXPECT_EQ(credits.when(1, ns(0)), Credits::kUnknown);
  credits.give(8, ns(7));
  EXPECT_EQ(credits.when(2048, ns(0)), ns(7));
  EXPECT_EQ(credits.when(2048, ns(9)), ns(9));
  EXPECT_NO_THROW(credits.take(8));
  EXPECT_THROW(credits.take(1), Bug);  // overdrawn
}

}  // namespace
}  // namespace stoat::sim
