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
