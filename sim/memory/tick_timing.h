// The timing rules of a standard in ticks of half a command cycle, from the start of one command to
// the start of the next. Used by the first-ready controller only.
//
// Delays from an activation to a column command count from the end of the activation command (that
// is where the reference results have it); a column command of several cycles counts from its last.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "models/dram/standard.h"

namespace stoat::sim {

using Tick = std::uint64_t;
inline constexpr Tick kNever = ~Tick{0};

struct TickTiming {
  explicit TickTiming(const DramStandard& s)
      : activate_bus(s.activate_bus_cycles),
        precharge_bus(s.precharge_bus_cycles),
        column_bus(s.column_bus_cycles),
        to_column{activate_bus + 2 * Tick{s.rcd_read}, activate_bus + 2 * Tick{s.rcd_write}},
        to_data{late(s) + 2 * Tick{s.read_latency + s.burst_cycles},
                late(s) + 2 * Tick{s.write_latency + s.burst_cycles}},
        to_precharge{2 * Tick{s.rtp}, to_data[1] + 2 * Tick{s.wr}},
        burst(2 * Tick{s.burst_cycles}),
        rp(2 * Tick{s.rp}),
        ras(2 * Tick{s.ras}),
        rc(2 * Tick{s.rc}),
        rrd_short(2 * Tick{s.rrd_short}),
        rrd_long(2 * Tick{s.rrd_long}),
        faw(2 * Tick{s.faw}),
        ppd(2 * Tick{s.ppd}),
        ccd_short(2 * Tick{s.ccd_short}),
        ccd_stack(2 * Tick{s.ccd_stack}),
        ccd_long{2 * Tick{s.ccd_long}, 2 * Tick{s.ccd_write_long}},
        read_to_write(2 * Tick{s.rtw}),
        write_to_read(to_data[1] + 2 * Tick{s.wtr_short}),
        write_to_read_group(to_data[1] + 2 * Tick{s.wtr_long}),
        refresh_interval(2 * Tick{s.refresh_interval}),
        refresh(2 * Tick{s.refresh_cycles}),
        refresh_bank_interval(2 * Tick{s.refresh_bank_interval()}),
        refresh_bank(2 * Tick{s.refresh_bank_cycles}),
        refresh_bank_spacing(2 * Tick{s.refresh_bank_spacing}),
        refresh_bank_activate(2 * Tick{s.refresh_bank_activate}),
        power_down_exit(2 * Tick{s.power_down_exit}),
        power_down_min(2 * Tick{s.power_down_min}) {}

  // [0] reads, [1] writes.
  Tick activate_bus, precharge_bus, column_bus;
  Tick to_column[2];     // ACT to RD, WR
  Tick to_data[2];       // RD, WR to the last beat
  Tick to_precharge[2];  // RD, WR to PRE
  Tick burst;            // on the data bus
  Tick rp, ras, rc, rrd_short, rrd_long, faw, ppd;
  Tick ccd_short, ccd_stack;
  Tick ccd_long[2];
  Tick read_to_write, write_to_read, write_to_read_group;
  Tick refresh_interval, refresh;  // 0: none
  Tick refresh_bank_interval, refresh_bank, refresh_bank_spacing, refresh_bank_activate;
  Tick power_down_exit, power_down_min;

 private:
  static Tick late(const DramStandard& s) {
    return s.column_bus_cycles > 2 ? s.column_bus_cycles - Tick{2} : 0;
  }
};

// Ticks to picoseconds, rounded down: time_of_cycles without its 128-bit division where 64 bits do.
class TickClock {
 public:
  explicit TickClock(Hertz ticks) : ticks_(ticks) {
    const std::uint64_t second = 1'000'000'000'000, common = std::gcd(second, ticks.count());
    numerator_ = second / common;
    denominator_ = ticks.count() / common;
  }
  Picoseconds time(Tick t) const {
    if (t >= ~std::uint64_t{0} / numerator_) return time_of_cycles(t, ticks_);
    return Picoseconds(t * numerator_ / denominator_);
  }

 private:
  Hertz ticks_;
  std::uint64_t numerator_ = 1, denominator_ = 1;
};

}  // namespace stoat::sim
