// Timing arithmetic of an engine: lanes that are free at some time, and credits for a bounded
// amount in flight. Plain numbers; the SystemC processes ask these and wait.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>

#include "models/error.h"
#include "models/units.h"

namespace stoat::sim {

struct Interval {
  Picoseconds begin{0}, end{0};
};

// A group of lanes that does one thing at a time, in order. Keeps its own books: every picosecond
// is busy, starved (has work and waits for its data), blocked (data is there, the next stage's
// queue is full) or idle (between pieces of work).
class LaneUnit {
 public:
  explicit LaneUnit(Hertz clock) : clock_(clock) {}

  // From here on waiting is for data.
  void begin_work(Picoseconds t) {
    if (t > free_) {
      idle_ += t - free_;
      free_ = t;
    }
  }
  // Works `busy` cycles on data that starts to arrive at `first` and is complete at `last`; `tail`
  // of the cycles can only follow the last of it. Not before `room`, when the next stage takes the
  // result.
  Interval run(Picoseconds first, Picoseconds last, CoreCycles busy, CoreCycles tail,
               Picoseconds room = Picoseconds(0)) {
    const Picoseconds fed = std::max(first, free_);
    const Picoseconds begin = std::max(fed, room);
    const Picoseconds work = time_of_cycles_up(busy.count(), clock_);
    const Picoseconds end = std::max(begin + work, last + time_of_cycles_up(tail.count(), clock_));
    busy_cycles_ += busy;
    busy_ += work;
    starved_ += (fed - free_) + (end - begin - work);
    blocked_ += begin - fed;
    free_ = end;
    return {begin, end};
  }

  Picoseconds free_at() const { return free_; }
  CoreCycles busy_cycles() const { return busy_cycles_; }
  Picoseconds busy() const { return busy_; }
  Picoseconds starved() const { return starved_; }
  Picoseconds blocked() const { return blocked_; }
  // The four must fill the time to `end` exactly.
  void check(Picoseconds end) const {
    STOAT_ENSURE(free_ <= end, "lanes work after the end of the simulation");
    STOAT_ENSURE(busy_ + starved_ + blocked_ + idle_ + (end - free_) == end,
                 "busy + starved + blocked + idle = total");
  }

 private:
  Hertz clock_;
  Picoseconds free_{0}, busy_{0}, starved_{0}, blocked_{0}, idle_{0};
  CoreCycles busy_cycles_{0};
};

// A bounded number of units: taken at once, given back at times that become known while they are
// in use.
class Credits {
 public:
  explicit Credits(std::uint64_t capacity) : capacity_(capacity) {}

  // The earliest time, not before `now`, at which `need` units are free; kUnknown while too few
  // of those in use have a time. A need above the capacity waits for all of it.
  Picoseconds when(std::uint64_t need, Picoseconds now) {
    settle(now);
    need = std::min(need, capacity_);
    if (used_ + need <= capacity_) return now;
    std::uint64_t missing = used_ + need - capacity_;
    for (const Gift& gift : gifts_) {
      if (gift.units >= missing) return gift.at;
      missing -= gift.units;
    }
    return kUnknown;
  }
  // Returns the units taken, to be given back.
  std::uint64_t take(std::uint64_t units) {
    units = std::min(units, capacity_);
    used_ += units;
    STOAT_ENSURE(used_ <= capacity_, "credits are not overdrawn");
    return units;
  }
  void give(std::uint64_t units, Picoseconds at) {
    if (units == 0) return;
    auto place = gifts_.end();
    while (place != gifts_.begin() && std::prev(place)->at > at) --place;
    gifts_.insert(place, {at, units});
  }
  static constexpr Picoseconds kUnknown{~std::uint64_t{0}};

 private:
  struct Gift {
    Picoseconds at;
    std::uint64_t units;
  };
  void settle(Picoseconds now) {
    while (!gifts_.empty() && gifts_.front().at <= now) {
      used_ -= gifts_.front().units;
      gifts_.pop_front();
    }
  }

  std::uint64_t capacity_;
  std::uint64_t used_ = 0;
  std::deque<Gift> gifts_;  // by time
};

}  // namespace stoat::sim
