// The slow plain version of DramChannel: every command is kept, and every new one tries tick after
// tick until no rule against any other command is broken. Judges the fast one with ==.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "sim/memory/channel.h"

namespace stoat::sim {

class PlainChannel {
 public:
  PlainChannel(const DramStandard& standard, const ChannelOptions& options)
      : s_(standard),
        ticks_(Hertz(2 * standard.command_clock.count())),
        map_(standard),
        queue_bursts_(options.queue_bursts),
        lanes_(standard.pseudo_channels) {
    for (Lane& lane : lanes_) lane.refresh_due = 2 * std::uint64_t{s_.refresh_interval};
  }

  MemoryReply access(const MemoryRequest& request) {
    Lane& lane = lanes_[request.pseudo_channel];
    const std::uint64_t arrival = cycles_until(request.arrival, ticks_);
    std::uint64_t first = 0, last = 0;
    for (std::uint64_t at = 0; at < request.size.count(); at += s_.access_size.count()) {
      const BankAddress where = map_.decode(request.address + at);
      std::uint64_t data = 0;
      if (request.partial && s_.masked_write == 0) data = enter(lane, where, false, arrival, 0);
      data = enter(lane, where, request.write, arrival, data);
      if (at == 0) first = data;
      last = std::max(last, data);
    }
    return {time_of_cycles(first, ticks_), time_of_cycles(last, ticks_), 0};
  }

  void finish(Picoseconds end) {
    const std::uint64_t last = cycles_until(end, ticks_);
    for (Lane& lane : lanes_) {
      while (s_.refresh_interval > 0 && lane.refresh_due < last) refresh(lane);
    }
  }

  ChannelCounts counts() const {
    ChannelCounts sum;
    for (const Lane& lane : lanes_) sum += lane.counts;
    return sum;
  }

 private:
  struct Column {
    BankAddress where;
    bool write;
  };
  struct Bank {
    bool open = false;
    std::uint32_t row = 0;
    bool activated = false;
    std::uint64_t activate_at = 0;
    std::vector<std::pair<std::uint64_t, bool>> columns;  // since the activation: tick, write
  };
  struct Lane {  // a pseudo-channel
    std::map<std::uint64_t, Column> columns;
    std::map<std::uint64_t, std::uint32_t> activations;  // tick -> stack and bank group
    std::map<std::uint32_t, Bank> banks;
    std::vector<std::uint64_t> data;
    std::uint64_t entered = 0, refresh_due = 0, refreshed = 0;
    ChannelCounts counts;
  };

  // One burst into the queue and to its data; no command before `ready`.
  std::uint64_t enter(Lane& lane, const BankAddress& where, bool write, std::uint64_t arrival,
                      std::uint64_t ready) {
    lane.entered = std::max(lane.entered, arrival);
    const std::size_t number = lane.data.size();
    if (queue_bursts_ > 0 && number >= queue_bursts_) {
      lane.entered = std::max(lane.entered, lane.data[number - queue_bursts_]);
    }
    lane.data.push_back(burst(lane, where, write, std::max(lane.entered, ready)));
    return lane.data.back();
  }

  std::uint32_t group(const BankAddress& w) const {
    return w.stack * s_.bank_groups + w.bank_group;
  }

  // A column command of several cycles counts from its last.
  std::uint64_t late() const { return s_.column_bus_cycles > 2 ? s_.column_bus_cycles - 2 : 0; }

  bool precharge_fits(const Bank& bank, std::uint64_t t) const {
    if (t < bank.activate_at + 2 * s_.ras) return false;
    for (const auto& [at, write] : bank.columns) {
      const std::uint64_t gap =
          write ? late() + 2 * (s_.write_latency + s_.burst_cycles + s_.wr) : 2 * s_.rtp;
      if (t < at + gap) return false;
    }
    return true;
  }

  bool bus_fits(std::uint64_t t, std::uint64_t length) const {
    if (length == 0) return true;
    for (auto it = bus_.lower_bound(t > 64 ? t - 64 : 0); it != bus_.end(); ++it) {
      if (it->first >= t + length) break;
      if (it->first + it->second > t) return false;
    }
    return true;
  }

  bool activation_fits(const Lane& lane, const BankAddress& where, std::uint64_t t) const {
    if (!bus_fits(t, s_.activate_bus_cycles)) return false;
    const std::uint64_t reach = 2 * std::max({s_.faw, s_.rrd_long, s_.rrd_short});
    std::vector<std::uint64_t> near = {t};
    for (auto it = lane.activations.lower_bound(t > reach ? t - reach : 0);
         it != lane.activations.end() && it->first <= t + reach; ++it) {
      const std::uint64_t apart = it->first > t ? it->first - t : t - it->first;
      if (apart < 2 * (it->second == group(where) ? s_.rrd_long : s_.rrd_short)) return false;
      near.push_back(it->first);
    }
    std::sort(near.begin(), near.end());
    for (std::size_t i = 4; i < near.size(); ++i) {
      if (near[i] - near[i - 4] < 2 * s_.faw) return false;
    }
    return true;
  }

  bool column_fits(const Lane& lane, const BankAddress& where, bool write, std::uint64_t t) const {
    const std::uint64_t reach = 2 * std::max(s_.ccd_write_long, s_.ccd_stack);
    for (auto it = lane.columns.lower_bound(t > reach ? t - reach : 0);
         it != lane.columns.end() && it->first <= t + reach; ++it) {
      const BankAddress& other = it->second.where;
      std::uint64_t gap = 2 * s_.ccd_short;
      if (other.stack != where.stack) gap = 2 * s_.ccd_stack;
      if (group(other) == group(where)) gap = 2 * s_.ccd_long;
      if (group(other) == group(where) && write && it->second.write) gap = 2 * s_.ccd_write_long;
      const std::uint64_t apart = it->first > t ? it->first - t : t - it->first;
      if (apart < gap) return false;
    }
    // Turnarounds, against the latest commands of the other direction.
    std::uint64_t seen = 0;
    for (auto it = lane.columns.rbegin(); it != lane.columns.rend() && seen < 64; ++it) {
      if (it->second.write == write) continue;
      ++seen;
      std::uint64_t gap = 2 * s_.rtw;
      if (!write) {
        const bool same = group(it->second.where) == group(where);
        gap =
            late() + 2 * (s_.write_latency + s_.burst_cycles + (same ? s_.wtr_long : s_.wtr_short));
      }
      if (t < it->first + gap) return false;
    }
    return true;
  }

  std::uint64_t burst(Lane& lane, const BankAddress& where, bool write, std::uint64_t from) {
    Bank& bank = lane.banks[group(where) * s_.banks_per_group + where.bank];
    while (true) {
      const bool hit = bank.open && bank.row == where.row;
      std::uint64_t precharge_at = 0, activate_at = bank.activate_at;
      if (!hit) {
        activate_at = std::max(from, lane.refreshed);
        if (bank.activated) activate_at = std::max(activate_at, bank.activate_at + 2 * s_.rc);
        if (bank.open) {
          precharge_at = from;
          while (!precharge_fits(bank, precharge_at) ||
                 !bus_fits(precharge_at, s_.precharge_bus_cycles)) {
            ++precharge_at;
          }
          activate_at = std::max(activate_at, precharge_at + 2 * s_.rp);
        }
        while (!activation_fits(lane, where, activate_at)) ++activate_at;
      }
      std::uint64_t at = std::max(
          from, activate_at + s_.activate_bus_cycles + 2 * (write ? s_.rcd_write : s_.rcd_read));
      // Where tCCD_L leaves gaps too short for another burst, columns keep to a grid of tCCD_S.
      const bool short_gaps = s_.ccd_long > s_.ccd_short && s_.ccd_long < 2 * s_.ccd_short;
      const std::uint64_t grid = short_gaps ? 2 * s_.ccd_short : 1;
      while (at % grid != 0 || !column_fits(lane, where, write, at)) ++at;
      if (s_.refresh_interval > 0 && at >= lane.refresh_due) {
        refresh(lane);
        continue;
      }
      ++(hit ? lane.counts.row_hits : lane.counts.row_misses);
      ++(write ? lane.counts.write_bursts : lane.counts.read_bursts);
      lane.counts.bytes_moved += s_.access_size;
      if (!hit) {
        if (bank.open) {
          if (s_.precharge_bus_cycles > 0) bus_[precharge_at] = s_.precharge_bus_cycles;
          ++lane.counts.precharges;
        }
        bus_[activate_at] = s_.activate_bus_cycles;
        lane.activations[activate_at] = group(where);
        ++lane.counts.activates;
        bank = Bank{true, where.row, true, activate_at, {}};
      }
      bank.columns.emplace_back(at, write);
      lane.columns[at] = {where, write};
      return at + late() + 2 * ((write ? s_.write_latency : s_.read_latency) + s_.burst_cycles);
    }
  }

  void refresh(Lane& lane) {
    std::uint64_t start = lane.refresh_due;
    for (auto& [number, bank] : lane.banks) {
      if (!bank.open) continue;
      std::uint64_t close = 0;
      while (!precharge_fits(bank, close)) ++close;
      start = std::max(start, close + 2 * s_.rp);
      bank.open = false;
      ++lane.counts.precharges;
    }
    lane.refreshed = start + 2 * s_.refresh_cycles;
    lane.refresh_due += 2 * s_.refresh_interval;
    ++lane.counts.refreshes;
  }

  DramStandard s_;
  Hertz ticks_;
  AddressMap map_;
  std::uint32_t queue_bursts_;
  std::vector<Lane> lanes_;
  std::map<std::uint64_t, std::uint64_t> bus_;  // start -> length, of the whole channel
};

}  // namespace stoat::sim
