// Room for row commands: the row-command bus that the pseudo-channels of a channel share, and the
// activation windows (tRRD, tFAW) of one pseudo-channel.
//
// Both keep the sorted commands that can still matter, so that a later request may use a gap that
// earlier ones left. Time is in ticks of half a command cycle.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "models/dram/standard.h"
#include "sim/memory/column_slots.h"

namespace stoat::sim {

// A sorted list whose front is dropped as time goes on.
template <class Entry>
class SortedWindow {
 public:
  std::size_t begin() const { return head_; }
  std::size_t end() const { return entries_.size(); }
  const Entry& operator[](std::size_t index) const { return entries_[index]; }
  void insert(std::size_t index, const Entry& entry) {
    entries_.insert(entries_.begin() + static_cast<std::ptrdiff_t>(index), entry);
  }
  template <class Predicate>
  void drop_front_while(Predicate old) {
    while (head_ < entries_.size() && old(entries_[head_])) ++head_;
    if (head_ > 64 && head_ * 2 > entries_.size()) {
      entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
  }

 private:
  std::vector<Entry> entries_;
  std::size_t head_ = 0;
};

class RowCommandBus {
 public:
  // The first tick >= from at which a command of `length` ticks fits (0: needs no bus).
  Tick first_free(Tick from, Tick length) const {
    for (std::size_t i = after(from); i < window_.end(); ++i) {
      if (from + length <= window_[i].start) break;
      from = std::max(from, window_[i].end);
    }
    return from;
  }
  void take(Tick start, Tick length) {
    if (length > 0) window_.insert(after(start), {start, start + length});
  }
  void forget_before(Tick t) {
    window_.drop_front_while([t](const Interval& interval) { return interval.end <= t; });
  }

 private:
  struct Interval {
    Tick start, end;
  };
  // The first interval that ends after t (all are disjoint).
  std::size_t after(Tick t) const {
    std::size_t i = window_.end();
    while (i > window_.begin() && window_[i - 1].end > t) --i;
    return i;
  }
  SortedWindow<Interval> window_;
};

class ActivationWindow {
 public:
  explicit ActivationWindow(const DramStandard& standard)
      : groups_(standard.bank_groups),
        length_(standard.activate_bus_cycles),
        short_(Tick{2} * standard.rrd_short),
        long_(Tick{2} * standard.rrd_long),
        faw_(Tick{2} * standard.faw) {}

  // The first tick >= from at which an activation keeps tRRD and tFAW with every other one, before
  // and after it, and finds the bus free.
  Tick first_fit(Tick from, std::uint32_t stack, std::uint32_t group,
                 const RowCommandBus& bus) const {
    const std::uint32_t lane = stack * groups_ + group;
    while (true) {
      const Tick spaced = after_window(after_neighbours(bus.first_free(from, length_), lane));
      if (spaced == from) return from;
      from = spaced;
    }
  }
  void take(Tick at, std::uint32_t stack, std::uint32_t group) {
    window_.insert(position(at), {at, stack * groups_ + group});
  }
  // No later activation will be placed before t.
  void forget_before(Tick t) {
    const Tick reach = std::max(faw_, long_);
    window_.drop_front_while([t, reach](const Activation& a) { return a.at + reach <= t; });
  }

 private:
  struct Activation {
    Tick at;
    std::uint32_t lane;
  };
  // The first activation after t.
  std::size_t position(Tick t) const {
    std::size_t i = window_.end();
    while (i > window_.begin() && window_[i - 1].at > t) --i;
    return i;
  }
  Tick spacing(std::size_t i, std::uint32_t lane) const {
    return window_[i].lane == lane ? long_ : short_;
  }
  // Moves t past every activation nearer than tRRD.
  Tick after_neighbours(Tick t, std::uint32_t lane) const {
    std::size_t i = position(t);
    for (std::size_t k = i; k > window_.begin() && window_[k - 1].at + long_ > t; --k) {
      t = std::max(t, window_[k - 1].at + spacing(k - 1, lane));
    }
    for (; i < window_.end() && window_[i].at < t + long_; ++i) {
      const Tick gap = spacing(i, lane);
      if (window_[i].at < t + gap && t < window_[i].at + gap) t = window_[i].at + gap;
    }
    return t;
  }
  // Moves t so that no five activations lie within tFAW (to where the next question is worth it).
  Tick after_window(Tick t) const {
    const std::size_t i = position(t);
    const std::size_t before = i - window_.begin(), later = window_.end() - i;
    // k earlier ones and 4 - k later ones around t.
    for (std::size_t k = 0; k < 4; ++k) {
      if (before < k || later < 4 - k) continue;
      const Tick low = k > 0 ? window_[i - k].at : t;
      if (window_[i + 3 - k].at < low + faw_) return window_[i].at + short_;
    }
    if (before >= 4) t = std::max(t, window_[i - 4].at + faw_);
    return t;
  }

  std::uint32_t groups_;
  Tick length_, short_, long_, faw_;
  SortedWindow<Activation> window_;
};

}  // namespace stoat::sim
