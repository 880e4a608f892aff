// Timing arithmetic of an engine: lanes that are free at some time, and windows that admit a
// bounded amount in flight. Plain numbers; the SystemC process asks these and waits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "models/error.h"
#include "models/units.h"

namespace stoat::sim {

struct Interval {
  Picoseconds begin{0}, end{0};
};

// A group of lanes that does one thing at a time, in order. Keeps its own books of busy and idle
// time.
class LaneUnit {
 public:
  explicit LaneUnit(Hertz clock) : clock_(clock) {}

  // Works `busy` cycles on data that starts to arrive at `first` and is complete at `last`; `tail`
  // of the cycles can only follow the last of it. Stalls inside the work count as idle.
  Interval run(Picoseconds first, Picoseconds last, CoreCycles busy, CoreCycles tail) {
    const Picoseconds begin = std::max(first, free_);
    const Picoseconds work = time_of_cycles_up(busy.count(), clock_);
    const Picoseconds end = std::max(begin + work, last + time_of_cycles_up(tail.count(), clock_));
    busy_cycles_ += busy;
    busy_time_ += work;
    idle_time_ += (begin - free_) + (end - begin - work);
    free_ = end;
    return {begin, end};
  }

  Picoseconds free_at() const { return free_; }
  CoreCycles busy_cycles() const { return busy_cycles_; }
  // Busy and idle must fill the time to `end` exactly.
  void check(Picoseconds end) const {
    STOAT_ENSURE(free_ <= end, "lanes work after the end of the simulation");
    STOAT_ENSURE(busy_time_ + idle_time_ + (end - free_) == end, "busy + idle = total");
  }

 private:
  Hertz clock_;
  Picoseconds free_{0}, busy_time_{0}, idle_time_{0};
  CoreCycles busy_cycles_{0};
};

// At most `capacity` units in flight. What was added releases its units at an even pace, the last
// of them at `end`.
class Window {
 public:
  explicit Window(std::uint64_t capacity) : capacity_(capacity) {}

  // The earliest time at which `need` units are free. A need above the capacity streams through:
  // one unit must be free.
  Picoseconds admits(std::uint64_t need) const {
    const std::uint64_t room = capacity_ - (need <= capacity_ ? need : 1);
    std::uint64_t behind = 0;  // units added after the entry looked at
    for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
      if (behind + entry->units > room) {
        const std::uint64_t may_remain = room - behind;
        const std::uint64_t before_end = entry->span.count() / entry->units * may_remain;
        return entry->end - std::min(entry->end, Picoseconds(before_end));
      }
      behind += entry->units;
    }
    return Picoseconds(0);
  }

  // `units` released evenly over `span`, which ends at `end`.
  void add(std::uint64_t units, Picoseconds end, Picoseconds span) {
    if (units == 0) return;
    if (units > capacity_) {
      span = Picoseconds(span.count() / units * capacity_);
      units = capacity_;
    }
    entries_.push_back({units, end, span});
    held_ += units;
    while (held_ - entries_.front().units >= capacity_) {
      held_ -= entries_.front().units;
      entries_.pop_front();
    }
  }

 private:
  struct Entry {
    std::uint64_t units;
    Picoseconds end, span;
  };
  std::uint64_t capacity_;
  std::uint64_t held_ = 0;
  std::deque<Entry> entries_;
};

}  // namespace stoat::sim
