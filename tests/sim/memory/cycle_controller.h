// The slow plain version of DramController: every tick is visited, every waiting burst looked at,
// every command that was ever given is kept and checked against by the rule of its pair. Written
// from the rules in sim/memory/README.md, not from the fast one. Judges it with ==.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "sim/memory/controller.h"

namespace stoat::sim {

class CycleController {
 public:
  struct Counts {
    std::uint64_t activates = 0, precharges = 0, reads = 0, writes = 0, hits = 0, misses = 0;
    std::uint64_t refreshes = 0, bank_refreshes = 0;
    std::uint64_t state_ticks[2][2] = {};  // [down][open]
    friend bool operator==(const Counts&, const Counts&) = default;
  };

  CycleController(const DramStandard& standard, const ControllerOptions& options)
      : s_(standard), o_(options), map_(standard), lanes_(standard.pseudo_channels) {
    if (s_.refresh_interval == 0) o_.refresh = RefreshMode::kNone;
    if (o_.write_high == 0) {
      o_.write_high = std::max(1U, o_.queue_bursts * 3 / 4);
      o_.write_low = o_.queue_bursts / 4;
    }
    const std::uint64_t interval =
        2 * std::uint64_t{o_.refresh == RefreshMode::kAllBank ? s_.refresh_interval
                                                              : s_.refresh_bank_interval()};
    for (std::uint32_t p = 0; p < s_.pseudo_channels; ++p) {
      lanes_[p].open.assign(s_.banks(), std::nullopt);
      lanes_[p].hits.assign(s_.banks(), 0);
      lanes_[p].last_use.assign(s_.banks(), 0);
      lanes_[p].opened.assign(s_.banks(), 0);
      if (o_.refresh == RefreshMode::kNone) continue;
      lanes_[p].due = interval + (o_.stagger_refresh ? interval * p / s_.pseudo_channels : 0);
    }
  }

  void submit(const MemoryRequest& request) {
    const std::uint64_t arrival =
        cycles_until(request.arrival, Hertz(2 * s_.command_clock.count()));
    for (std::uint64_t at = 0; at < request.size.count(); at += s_.access_size.count()) {
      const BankAddress w = map_.decode(request.address + at);
      Burst burst;
      burst.age = age_++;
      burst.request = request_;
      burst.p = request.pseudo_channel;
      burst.bank = (w.stack * s_.bank_groups + w.bank_group) * s_.banks_per_group + w.bank;
      burst.row = w.row;
      burst.modify = request.partial && s_.masked_write == 0;
      burst.write = request.write && !burst.modify;
      burst.arrival = arrival;
      input_.push_back(burst);
    }
    ++request_;
  }

  // All requests served; [request] = last beat of first-served and last-served burst, in ticks.
  std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> done;
  std::vector<std::uint64_t> data;  // of every burst, in order of service

  void run() {
    while (!input_.empty() || !queue_.empty() || !modified_.empty()) tick();
  }
  void run_to(std::uint64_t end) {
    while (t_ < end) tick();
  }
  Counts counts(std::uint32_t p) const { return lanes_[p].counts; }
  std::uint64_t power_downs() const { return power_downs_; }
  std::uint64_t now() const { return t_; }

 private:
  enum Kind { kAct, kPre, kPreAll, kRead, kWrite, kRef, kRefBank };
  struct Burst {
    std::uint64_t age = 0, request = 0, arrival = 0;
    std::uint32_t p = 0, bank = 0, row = 0;
    bool write = false, modify = false;
  };
  struct Command {
    std::uint64_t at;
    Kind kind;
    std::uint32_t p, bank;  // bank: of a bank refresh, the number of its set
  };
  struct Lane {
    std::vector<std::optional<std::uint32_t>> open;     // [banks] row
    std::vector<std::uint64_t> hits, last_use, opened;  // opened: when tRCD is over
    std::optional<std::uint32_t> held;                  // bank that others must let pass
    std::uint64_t passed = 0;                           // the oldest ready hit, in a row
    std::uint64_t preparing = 0;                        // the refresh that was due then
    bool writing = false;
    std::uint64_t due = ~std::uint64_t{0};
    std::uint32_t set = 0;
    Counts counts;
  };

  std::uint32_t group(std::uint32_t bank) const { return bank / s_.banks_per_group; }
  std::uint32_t stack(std::uint32_t bank) const { return group(bank) / s_.bank_groups; }
  std::uint32_t set(std::uint32_t bank) const { return bank % s_.refresh_bank_sets(); }
  static bool column(Kind k) { return k == kRead || k == kWrite; }
  std::uint64_t data_after(Kind k) const {
    const std::uint64_t extra = s_.column_bus_cycles > 2 ? s_.column_bus_cycles - 2 : 0;
    return extra + 2 * ((k == kRead ? s_.read_latency : s_.write_latency) + s_.burst_cycles);
  }

  // Does a command of kind `prev` concern the bank that `next` is about?
  bool same_bank(const Command& prev, const Command& next) const {
    const bool prev_all = prev.kind == kPreAll || prev.kind == kRef;
    const bool next_all = next.kind == kPreAll || next.kind == kRef;
    if (prev_all || next_all) return true;
    if (prev.kind == kRefBank && next.kind == kRefBank) return prev.bank == next.bank;
    if (prev.kind == kRefBank) return set(next.bank) == prev.bank;
    if (next.kind == kRefBank) return set(prev.bank) == next.bank;
    return prev.bank == next.bank;
  }

  // The least distance in half cycles that the standard asks for between two commands.
  std::uint64_t gap(const Command& prev, const Command& next) const {
    if (prev.p != next.p) return 0;
    std::uint64_t g = 0;
    const auto need = [&g](std::uint64_t half_cycles) { g = std::max(g, half_cycles); };
    const auto cycles = [](std::uint64_t n) { return 2 * n; };
    const bool bank = same_bank(prev, next);
    const bool next_pre = next.kind == kPre || next.kind == kPreAll;
    const bool next_ref = next.kind == kRef || next.kind == kRefBank;
    switch (prev.kind) {
      case kAct:
        if (next.kind == kAct) {
          need(cycles(group(prev.bank) == group(next.bank) ? s_.rrd_long : s_.rrd_short));
        }
        if (next.kind == kRefBank) need(cycles(s_.rrd_short));
        if (bank && (next.kind == kAct || next_ref)) need(cycles(s_.rc));
        if (bank && next_pre) need(cycles(s_.ras));
        if (bank && next.kind == kRead) need(s_.activate_bus_cycles + cycles(s_.rcd_read));
        if (bank && next.kind == kWrite) need(s_.activate_bus_cycles + cycles(s_.rcd_write));
        break;
      case kPre:
      case kPreAll:
        if (bank && (next.kind == kAct || next_ref)) need(cycles(s_.rp));
        if (next_pre) need(cycles(s_.ppd));
        break;
      case kRead:
      case kWrite:
        if (bank && next_pre) {
          need(prev.kind == kRead ? cycles(s_.rtp) : data_after(kWrite) + cycles(s_.wr));
        }
        if (column(next.kind)) need(column_gap(prev, next));
        break;
      case kRef:
        if (next.kind == kAct || next_ref) need(cycles(s_.refresh_cycles));
        break;
      case kRefBank:
        if (bank && (next.kind == kAct || next_ref)) need(cycles(s_.refresh_bank_cycles));
        if (next.kind == kAct || next_ref) need(cycles(s_.refresh_bank_activate));
        if (next_ref) need(cycles(s_.refresh_bank_spacing));
        break;
    }
    return g;
  }

  std::uint64_t column_gap(const Command& prev, const Command& next) const {
    const bool same_group = group(prev.bank) == group(next.bank);
    if (prev.kind == next.kind) {
      if (same_group) return 2 * (prev.kind == kRead ? s_.ccd_long : s_.ccd_write_long);
      return 2 * (stack(prev.bank) == stack(next.bank) ? s_.ccd_short : s_.ccd_stack);
    }
    if (prev.kind == kRead) return 2 * s_.rtw;
    return data_after(kWrite) + 2 * (same_group ? s_.wtr_long : s_.wtr_short);
  }

  bool allowed(const Command& next) const {
    std::uint32_t activations = 0;
    for (auto prev = history_.rbegin(); prev != history_.rend(); ++prev) {
      if (prev->at + horizon() < t_) break;
      if (t_ < prev->at + gap(*prev, next)) return false;
      if (next.kind == kAct && prev->kind == kAct && prev->p == next.p && ++activations == 4 &&
          t_ < prev->at + 2 * s_.faw) {
        return false;
      }
    }
    return true;
  }
  std::uint64_t horizon() const {
    return 2 * std::uint64_t{std::max(
                   {s_.refresh_cycles, s_.refresh_bank_cycles, s_.rc, s_.faw,
                    s_.refresh_bank_spacing,
                    s_.write_latency + s_.burst_cycles + s_.wr + s_.wtr_long + s_.column_bus_cycles,
                    s_.rtw, s_.ccd_write_long})} +
           64;
  }

  void tick() {
    admit();
    turn();
    power();
    if (t_ >= awake_) {
      give_column();
      give_row();
    }
    for (Lane& lane : lanes_) {
      const bool open = std::any_of(lane.open.begin(), lane.open.end(),
                                    [](const auto& row) { return row.has_value(); });
      ++lane.counts.state_ticks[t_ >= down_from_ && t_ < down_to_ ? 1 : 0][open ? 1 : 0];
    }
    ++t_;
  }

  void admit() {
    for (std::size_t i = 0; i < modified_.size();) {
      if (modified_[i].arrival > t_) {
        ++i;
        continue;
      }
      queue_.push_back(modified_[i]);
      modified_.erase(modified_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    std::vector<char> blocked(s_.pseudo_channels, 0);
    for (auto burst = input_.begin(); burst != input_.end();) {
      const std::uint32_t port = o_.shared_queue ? 0 : burst->p;
      if (!blocked[port]) {
        std::uint64_t entries = 0;
        for (const auto* list : {&queue_, &modified_}) {
          for (const Burst& other : *list) entries += o_.shared_queue || other.p == burst->p;
        }
        blocked[port] = burst->arrival > t_ || entries >= o_.queue_bursts;
      }
      if (blocked[port]) {
        if (std::all_of(blocked.begin(),
                        blocked.begin() +
                            (o_.shared_queue ? 1 : static_cast<std::ptrdiff_t>(blocked.size())),
                        [](char b) { return b != 0; }))
          return;
        ++burst;
        continue;
      }
      queue_.push_back(*burst);
      burst = input_.erase(burst);
    }
  }

  void turn() {
    for (std::uint32_t p = 0; p < s_.pseudo_channels; ++p) {
      std::uint64_t waiting[2] = {0, 0};
      for (const Burst& burst : queue_) {
        if (burst.p == p) ++waiting[burst.write ? 1 : 0];
      }
      Lane& lane = lanes_[p];
      const bool before = lane.writing;
      if (!lane.writing) {
        lane.writing = waiting[1] >= o_.write_high || (waiting[0] == 0 && waiting[1] > 0);
      } else {
        lane.writing = !(waiting[1] == 0 || (waiting[1] <= o_.write_low && waiting[0] > 0));
      }
      // A turn of the bus, and a refresh that falls due, end what is held.
      const bool falls_due = pending(p) && lane.preparing != lane.due;
      if (falls_due) lane.preparing = lane.due;
      if (lane.writing != before || falls_due) {
        lane.held.reset();
        lane.passed = 0;
      }
    }
  }

  bool pending(std::uint32_t p) const { return t_ >= lanes_[p].due; }
  bool barred(std::uint32_t p, std::uint32_t bank) const {
    if (!pending(p)) return false;
    return o_.refresh == RefreshMode::kAllBank || set(bank) == lanes_[p].set;
  }

  void power() {
    bool idle = queue_.empty() && modified_.empty(), due = false;
    for (std::uint32_t p = 0; p < s_.pseudo_channels; ++p) {
      due = due || pending(p);
      for (const auto& row : lanes_[p].open) {
        if (row && o_.page_policy != PagePolicy::kOpen) idle = false;
      }
    }
    if (down_ && (!queue_.empty() || due)) {
      down_ = false;
      down_to_ = std::max(t_, down_from_ + 2 * s_.power_down_min);
      awake_ = down_to_ + 2 * s_.power_down_exit;
      activity_ = down_to_;
    } else if (!down_ && idle && !due && o_.power_down_after > 0 &&
               t_ >= activity_ + 2 * o_.power_down_after) {
      down_ = true;
      down_from_ = t_;
      down_to_ = ~std::uint64_t{0};
      ++power_downs_;
    }
  }

  void give(const Command& command, std::uint64_t busy_until, std::uint64_t& bus,
            std::uint64_t length) {
    history_.push_back(command);
    activity_ = std::max(activity_, busy_until);
    bus = t_ + length;
  }

  // The oldest burst of the bank and direction in work, and the oldest that wants the open row.
  struct Wanted {
    const Burst* oldest = nullptr;
    const Burst* hit = nullptr;
    bool hit_of_other_direction = false;
  };
  Wanted wanted(std::uint32_t p, std::uint32_t bank) const {
    Wanted w;
    for (const Burst& burst : queue_) {
      if (burst.p != p || burst.bank != bank) continue;
      const bool hits = lanes_[p].open[bank] == burst.row;
      if (burst.write != lanes_[p].writing) {
        w.hit_of_other_direction = w.hit_of_other_direction || hits;
        continue;
      }
      if (w.oldest == nullptr || burst.age < w.oldest->age) w.oldest = &burst;
      if (hits && (w.hit == nullptr || burst.age < w.hit->age)) w.hit = &burst;
    }
    const bool capped = o_.row_hit_cap > 0 && lanes_[p].hits[bank] >= o_.row_hit_cap;
    if (w.hit != nullptr && capped && w.oldest != w.hit && w.oldest->row != w.hit->row)
      w.hit = nullptr;
    return w;
  }

  std::uint64_t& column_bus() { return s_.command_buses == 2 ? column_bus_ : row_bus_; }

  bool holds(std::uint32_t p) const {
    const auto& held = lanes_[p].held;
    return held && lanes_[p].open[*held] && !barred(p, *held) && wanted(p, *held).hit != nullptr;
  }

  // A hit that could go is passed by younger ones row_hit_cap times at most.
  void pass(const Burst& chosen) {
    const std::uint32_t p = chosen.p;
    Lane& lane = lanes_[p];
    const Burst* oldest = nullptr;
    for (std::uint32_t bank = 0; bank < s_.banks(); ++bank) {
      if (!lane.open[bank] || barred(p, bank) || lane.opened[bank] > t_) continue;
      const Burst* hit = wanted(p, bank).hit;
      if (hit != nullptr && (oldest == nullptr || hit->age < oldest->age)) oldest = hit;
    }
    lane.held.reset();
    lane.passed = oldest->age == chosen.age ? 0 : lane.passed + 1;
    if (o_.row_hit_cap > 0 && lane.passed >= o_.row_hit_cap) lane.held = oldest->bank;
  }

  void give_column() {
    if (t_ < column_bus()) return;
    const Burst* best = nullptr;
    for (std::uint32_t p = 0; p < s_.pseudo_channels; ++p) {
      for (std::uint32_t bank = 0; bank < s_.banks(); ++bank) {
        if (!lanes_[p].open[bank] || barred(p, bank)) continue;
        const Wanted w = wanted(p, bank);
        if (w.hit == nullptr || (best != nullptr && best->age < w.hit->age)) continue;
        if (holds(p) && bank != *lanes_[p].held) continue;
        if (allowed({t_, w.hit->write ? kWrite : kRead, p, bank})) best = w.hit;
      }
    }
    if (best == nullptr) return;
    const Burst burst = *best;
    pass(burst);
    queue_.erase(queue_.begin() + (best - queue_.data()));
    const Kind kind = burst.write ? kWrite : kRead;
    give({t_, kind, burst.p, burst.bank}, t_, column_bus(), s_.column_bus_cycles);
    Lane& lane = lanes_[burst.p];
    ++(lane.hits[burst.bank]++ == 0 ? lane.counts.misses : lane.counts.hits);
    ++(burst.write ? lane.counts.writes : lane.counts.reads);
    lane.last_use[burst.bank] = t_;
    const std::uint64_t end = t_ + data_after(kind);
    data.push_back(end);
    if (burst.modify) {
      Burst back = burst;
      back.modify = false;
      back.write = true;
      back.arrival = end;
      modified_.push_back(back);
      return;
    }
    auto [entry, fresh] = done.try_emplace(burst.request, end, end);
    entry->second.first = std::min(entry->second.first, end);
    entry->second.second = std::max(entry->second.second, end);
  }

  void give_row() {
    if (t_ < row_bus_) return;
    for (std::uint32_t p = 0; p < s_.pseudo_channels; ++p) {
      if (pending(p) && give_refresh(p)) return;
    }
    const Burst* best = nullptr;
    bool activate = false;
    for (std::uint32_t p = 0; p < s_.pseudo_channels; ++p) {
      for (std::uint32_t bank = 0; bank < s_.banks(); ++bank) {
        if (barred(p, bank)) continue;
        const Wanted w = wanted(p, bank);
        if (w.oldest == nullptr || w.hit != nullptr) continue;
        if (best != nullptr && best->age < w.oldest->age) continue;
        const bool closed = !lanes_[p].open[bank];
        if (!allowed({t_, closed ? kAct : kPre, p, bank})) continue;
        best = w.oldest;
        activate = closed;
      }
    }
    if (best == nullptr) {
      give_policy();
    } else if (activate) {
      Lane& lane = lanes_[best->p];
      give({t_, kAct, best->p, best->bank}, t_, row_bus_, s_.activate_bus_cycles);
      lane.open[best->bank] = best->row;
      lane.opened[best->bank] = t_ + s_.activate_bus_cycles +
                                2 * std::uint64_t{lane.writing ? s_.rcd_write : s_.rcd_read};
      lane.hits[best->bank] = 0;
      lane.last_use[best->bank] = t_;
      ++lane.counts.activates;
    } else {
      give_precharge(best->p, best->bank);
    }
  }

  void give_precharge(std::uint32_t p, std::uint32_t bank) {
    give({t_, kPre, p, bank}, t_, row_bus_, s_.precharge_bus_cycles);
    lanes_[p].open[bank].reset();
    ++lanes_[p].counts.precharges;
  }

  void give_policy() {
    if (o_.page_policy == PagePolicy::kOpen) return;
    for (std::uint32_t p = 0; p < s_.pseudo_channels; ++p) {
      for (std::uint32_t bank = 0; bank < s_.banks(); ++bank) {
        if (!lanes_[p].open[bank] || barred(p, bank)) continue;
        const Wanted w = wanted(p, bank);
        if (w.oldest != nullptr || w.hit_of_other_direction) continue;
        if (o_.page_policy == PagePolicy::kTimeout &&
            t_ < lanes_[p].last_use[bank] + 2 * o_.page_timeout) {
          continue;
        }
        if (!allowed({t_, kPre, p, bank})) continue;
        give_precharge(p, bank);
        return;
      }
    }
  }

  bool give_refresh(std::uint32_t p) {
    Lane& lane = lanes_[p];
    std::vector<std::uint32_t> open;
    for (std::uint32_t bank = 0; bank < s_.banks(); ++bank) {
      if (lane.open[bank] && barred(p, bank)) open.push_back(bank);
    }
    if (o_.refresh == RefreshMode::kPerBank) {
      for (const std::uint32_t bank : open) {
        if (!allowed({t_, kPre, p, bank})) continue;
        give_precharge(p, bank);
        return true;
      }
      if (!open.empty() || !allowed({t_, kRefBank, p, lane.set})) return false;
      give({t_, kRefBank, p, lane.set}, t_ + 2 * s_.refresh_bank_cycles, row_bus_,
           s_.precharge_bus_cycles);
      lane.due += 2 * std::uint64_t{s_.refresh_bank_interval()};
      lane.set = (lane.set + 1) % s_.refresh_bank_sets();
      ++lane.counts.bank_refreshes;
      return true;
    }
    if (!open.empty()) {
      for (const std::uint32_t bank : open) {
        if (!allowed({t_, kPre, p, bank})) return false;
      }
      give({t_, kPreAll, p, 0}, t_, row_bus_, s_.precharge_bus_cycles);
      for (const std::uint32_t bank : open) lane.open[bank].reset();
      lane.counts.precharges += open.size();
      return true;
    }
    if (!allowed({t_, kRef, p, 0})) return false;
    give({t_, kRef, p, 0}, t_ + 2 * s_.refresh_cycles, row_bus_, s_.precharge_bus_cycles);
    lane.due += 2 * std::uint64_t{s_.refresh_interval};
    ++lane.counts.refreshes;
    return true;
  }

  DramStandard s_;
  ControllerOptions o_;
  AddressMap map_;
  std::vector<Lane> lanes_;
  std::vector<Burst> input_, queue_, modified_;
  std::vector<Command> history_;
  std::uint64_t t_ = 0, age_ = 0, request_ = 0;
  std::uint64_t row_bus_ = 0, column_bus_ = 0, awake_ = 0, activity_ = 0;
  bool down_ = false;
  std::uint64_t down_from_ = ~std::uint64_t{0}, down_to_ = 0, power_downs_ = 0;
};

}  // namespace stoat::sim
