// See pseudo_channel.h.
#include "sim/memory/pseudo_channel.h"

#include <algorithm>

#include "models/error.h"

namespace stoat::sim {

namespace {

// A column command of several cycles counts from its last.
Tick late(const DramStandard& s) {
  return s.column_bus_cycles > 2 ? s.column_bus_cycles - Tick{2} : 0;
}

}  // namespace

PseudoChannel::Timing::Timing(const DramStandard& s)
    : activate(s.activate_bus_cycles),
      precharge(s.precharge_bus_cycles),
      to_read(activate + Tick{2} * s.rcd_read),
      to_write(activate + Tick{2} * s.rcd_write),
      read_data(late(s) + Tick{2} * (s.read_latency + s.burst_cycles)),
      write_data(late(s) + Tick{2} * (s.write_latency + s.burst_cycles)),
      burst(Tick{2} * s.burst_cycles),
      rp(Tick{2} * s.rp),
      ras(Tick{2} * s.ras),
      rc(Tick{2} * s.rc),
      faw(Tick{2} * s.faw),
      rtp(Tick{2} * s.rtp),
      write_recovery(write_data + Tick{2} * s.wr),
      rtw(Tick{2} * s.rtw),
      write_to_read(write_data + Tick{2} * s.wtr_short),
      write_to_read_group(write_data + Tick{2} * s.wtr_long),
      refi(Tick{2} * s.refresh_interval),
      rfc(Tick{2} * s.refresh_cycles) {}

PseudoChannel::PseudoChannel(const DramStandard& standard, std::uint32_t queue_bursts)
    : timing_(standard),
      groups_(standard.bank_groups),
      banks_per_group_(standard.banks_per_group),
      banks_(standard.banks()),
      columns_(standard),
      activations_(standard),
      refresh_due_(timing_.refi > 0 ? timing_.refi : ~Tick{0}),
      read_after_write_(std::size_t{standard.stack_ids} * standard.bank_groups),
      queue_(queue_bursts) {}

void PseudoChannel::transfer(const BankAddress& where, std::uint32_t bursts, bool write,
                             Tick arrival, Tick ready, RowCommandBus& bus, DataTimes& times) {
  Bank& bank = banks_[(where.stack * groups_ + where.bank_group) * banks_per_group_ + where.bank];
  const Tick to_data = write ? timing_.write_data : timing_.read_data;
  Tick last = times.last;
  for (std::uint32_t i = 0; i < bursts; ++i) {
    const Tick entered = admit(arrival);
    if (i == 0) {
      columns_.forget_before(entered);
      activations_.forget_before(entered);
    }
    const Tick data = place(bank, where, write, std::max(entered, ready), bus) + to_data;
    if (!queue_.empty()) {
      queue_[next_entry_] = data;
      if (++next_entry_ == queue_.size()) next_entry_ = 0;
    }
    if (times.first == 0) times.first = data;
    last = std::max(last, data);
  }
  times.last = last;
  last_data_ = std::max(last_data_, last);
  (write ? counts_.write_bursts : counts_.read_bursts) += bursts;
}

// When the next burst gets an entry of the queue: entries are handed out in turn.
Tick PseudoChannel::admit(Tick arrival) {
  admitted_ = std::max(admitted_, arrival);
  if (!queue_.empty()) admitted_ = std::max(admitted_, queue_[next_entry_]);
  return admitted_;
}

// Places one column command, with the precharge and activation it needs; returns its tick. A row is
// not opened before a refresh unless its burst comes before the refresh too.
Tick PseudoChannel::place(Bank& bank, const BankAddress& where, bool write, Tick from,
                          RowCommandBus& bus) {
  while (true) {
    const bool hit = bank.open && bank.row == where.row;
    RowPlan plan;
    Tick ready = std::max(from, direction_ready(where, write));
    if (hit) {
      ready = std::max(ready, write ? bank.write_ready : bank.read_ready);
    } else {
      plan = plan_row(bank, where, from, bus);
      ready = std::max(ready, plan.activate_at + (write ? timing_.to_write : timing_.to_read));
    }
    const Tick at = columns_.first_free(ready, where.stack, where.bank_group, write);
    if (at >= refresh_due_) {
      refresh();
      continue;
    }
    if (hit) {
      ++counts_.row_hits;
    } else {
      open_row(bank, where, plan, bus);
      ++counts_.row_misses;
    }
    take_column(bank, where, write, at);
    return at;
  }
}

PseudoChannel::RowPlan PseudoChannel::plan_row(const Bank& bank, const BankAddress& where,
                                               Tick from, const RowCommandBus& bus) const {
  RowPlan plan;
  Tick ready = std::max({from, refreshed_, bank.activate_ready});
  if (bank.open) {
    plan.precharge = true;
    plan.precharge_at = bus.first_free(std::max(from, bank.precharge_ready), timing_.precharge);
    ready = std::max(ready, plan.precharge_at + timing_.rp);
  }
  plan.activate_at = activations_.first_fit(ready, where.stack, where.bank_group, bus);
  return plan;
}

void PseudoChannel::open_row(Bank& bank, const BankAddress& where, const RowPlan& plan,
                             RowCommandBus& bus) {
  if (plan.precharge) {
    bus.take(plan.precharge_at, timing_.precharge);
    ++counts_.precharges;
    if (observer_ != nullptr) {
      observer_->row_closed(index_, number_of(bank), time_of_cycles(plan.precharge_at, ticks_));
    }
  }
  if (observer_ != nullptr) {
    observer_->row_opened(index_, number_of(bank), where.row,
                          time_of_cycles(plan.activate_at, ticks_));
  }
  bus.take(plan.activate_at, timing_.activate);
  activations_.take(plan.activate_at, where.stack, where.bank_group);
  ++counts_.activates;
  ++bank.activations;
  bank.open = true;
  bank.row = where.row;
  bank.read_ready = plan.activate_at + timing_.to_read;
  bank.write_ready = plan.activate_at + timing_.to_write;
  bank.precharge_ready = plan.activate_at + timing_.ras;
  bank.activate_ready = plan.activate_at + timing_.rc;
}

// Reads and writes turn the bus around in request order: a write waits for all reads before it, a
// read for all writes before it.
Tick PseudoChannel::direction_ready(const BankAddress& where, bool write) const {
  if (write) return reads_ ? last_read_ + timing_.rtw : 0;
  if (!writes_) return 0;
  return std::max(last_write_ + timing_.write_to_read,
                  read_after_write_[where.stack * groups_ + where.bank_group]);
}

void PseudoChannel::take_column(Bank& bank, const BankAddress& where, bool write, Tick at) {
  columns_.take(at, where.stack, where.bank_group, write);
  if (write) {
    writes_ = true;
    last_write_ = std::max(last_write_, at);
    Tick& read = read_after_write_[where.stack * groups_ + where.bank_group];
    read = std::max(read, at + timing_.write_to_read_group);
    bank.precharge_ready = std::max(bank.precharge_ready, at + timing_.write_recovery);
  } else {
    reads_ = true;
    last_read_ = std::max(last_read_, at);
    bank.precharge_ready = std::max(bank.precharge_ready, at + timing_.rtp);
  }
}

// All banks are precharged as soon as they may be, then refreshed; nothing is placed before the end
// any more. Both pseudo-channels have the same due times. The bus slots of these commands (once in
// tREFI) are not modelled.
void PseudoChannel::refresh() {
  Tick start = refresh_due_;
  for (Bank& bank : banks_) {
    if (!bank.open) continue;
    start = std::max(start, bank.precharge_ready + timing_.rp);
    bank.open = false;
    ++counts_.precharges;
    if (observer_ != nullptr) {
      observer_->row_closed(index_, number_of(bank), time_of_cycles(bank.precharge_ready, ticks_));
    }
  }
  refreshed_ = start + timing_.rfc;
  if (observer_ != nullptr) {
    observer_->refreshed(index_, time_of_cycles(start, ticks_), time_of_cycles(refreshed_, ticks_));
  }
  refresh_due_ += timing_.refi;
  ++counts_.refreshes;
}

void PseudoChannel::finish(Tick end) {
  STOAT_ENSURE(end >= last_data_, "the end lies after the last data");
  while (refresh_due_ < end) refresh();
  const std::uint64_t bursts = counts_.read_bursts + counts_.write_bursts;
  STOAT_ENSURE(counts_.row_hits + counts_.row_misses == bursts, "hits + misses = bursts");
  STOAT_ENSURE(counts_.row_misses == counts_.activates, "every activation has its burst");
  STOAT_ENSURE(counts_.precharges <= counts_.activates, "only open rows are closed");
  STOAT_ENSURE(bursts * timing_.burst <= last_data_, "bandwidth is at most the peak");
  // Closed-form bounds: four activations take tFAW, two of a bank tRC.
  STOAT_ENSURE(counts_.activates == 0 || (counts_.activates - 1) / 4 * timing_.faw <= last_data_,
               "four activations take tFAW");
  for (const Bank& bank : banks_) {
    STOAT_ENSURE(bank.activations == 0 || (bank.activations - 1) * timing_.rc <= last_data_,
                 "activations of a bank are tRC apart");
  }
}

}  // namespace stoat::sim
