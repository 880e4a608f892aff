// A DRAM standard: organisation, timing and clock, read from one CSV (`name,value,unit,source`) in
// models/dram/. A set that contradicts itself is refused by the name of the broken rule.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/units.h"

namespace stoat {

// All t* in cycles of the command clock unless said otherwise.
struct DramStandard {
  std::string name;    // "hbm3_5200"
  std::string source;  // file it was read from
  std::string hash;

  Hertz command_clock{0};
  std::uint32_t channels = 0;         // of the stack or module
  std::uint32_t pseudo_channels = 0;  // a channel; they share its row-command bus
  std::uint32_t stack_ids = 1;        // SID / ranks
  std::uint32_t bank_groups = 0;      // a stack ID
  std::uint32_t banks_per_group = 0;
  Bytes row_size{0};     // of a pseudo-channel
  Bytes access_size{0};  // one burst
  std::uint32_t rows_per_bank = 0;
  std::uint32_t burst_cycles = 0;  // data bus cycles of one burst
  std::string address_order;       // default order of sim/memory/address_map.h

  std::uint32_t read_latency = 0, write_latency = 0;
  std::uint32_t rcd_read = 0, rcd_write = 0, rp = 0, ras = 0, rc = 0;
  std::uint32_t rrd_short = 0, rrd_long = 0, faw = 0;
  std::uint32_t ccd_short = 0, ccd_long = 0, ccd_stack = 0;  // ccd_stack: between stack IDs
  std::uint32_t rtp = 0, wr = 0, wtr_short = 0, wtr_long = 0, rtw = 0;
  std::uint32_t refresh_interval = 0, refresh_cycles = 0;  // tREFI, tRFC all-bank; 0 = no refresh
  std::uint32_t ccd_write_long = 0;  // between writes of a bank group, at least ccd_long
  std::uint32_t ppd = 0;             // between precharges of a pseudo-channel
  // Per-bank refresh: one command refreshes `refresh_bank_set` banks and is due every
  // refresh_bank_interval(). Spacing: to the next one; activate: to an activation of another bank.
  std::uint32_t refresh_bank_cycles = 0, refresh_bank_set = 1;
  std::uint32_t refresh_bank_spacing = 0, refresh_bank_activate = 0;
  std::uint32_t power_down_exit = 0, power_down_min = 0;  // tXP, tCKE
  std::uint32_t masked_write = 0;  // 1: part of a burst can be written; 0: read, change, write back
  std::uint32_t command_buses = 2;  // 2: rows and columns apart; 1: one bus for both
  // On the command buses that the pseudo-channels of a channel share; in HALF cycles. Refresh
  // commands take as long as a precharge.
  std::uint32_t activate_bus_cycles = 0, precharge_bus_cycles = 0, column_bus_cycles = 0;

  std::uint64_t peak_bytes_per_second() const;        // of one pseudo-channel
  std::uint64_t stack_peak_bytes_per_second() const;  // of all pseudo-channels
  std::uint32_t pseudo_channels_total() const { return channels * pseudo_channels; }
  std::uint32_t banks() const {  // a pseudo-channel
    return stack_ids * bank_groups * banks_per_group;
  }
  std::uint32_t refresh_bank_sets() const { return banks() / refresh_bank_set; }
  std::uint32_t refresh_bank_interval() const { return refresh_interval / refresh_bank_sets(); }
  Bytes capacity() const {  // of one pseudo-channel
    return Bytes(std::uint64_t{banks()} * rows_per_bank * row_size.count());
  }
};

// Names of models/dram, sorted.
std::vector<std::string> shipped_dram_standards();
// A path or the name of a shipped standard. Throws Error naming a missing row, and the rule broken
// by a set that contradicts itself (tRC < tRAS + tRP, tFAW < tRRD_S, row size not a multiple of the
// burst, zero banks ...).
DramStandard read_dram_standard(const std::string& name_or_path);

// The rules alone, for a set changed in memory (a sweep). `place` names it in the message.
void check_dram_standard(const DramStandard& standard, const std::string& place);

}  // namespace stoat
