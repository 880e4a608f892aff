// What a pseudo-channel chooses to do next, and what doing it leaves to later commands: columns,
// rows, refresh. See scheduler.h; the rules are in sim/memory/README.md.
#include <algorithm>

#include "sim/memory/scheduler.h"

namespace stoat::sim {

// ---- columns

// The bank has just got a candidate, or another one: choices that are known stay so.
void Scheduler::offer(std::uint32_t bank) {
  const Want want = want_[bank];
  if (precharge_.bank == bank && want != kPrecharge) precharge_.known = false;
  if (row_.bank == bank && row_.rank > 0) forget_row();
  if ((barred_ & bit(bank)) != 0) return;
  if (want == kColumn) {
    if (holds() && bank != held_) return;
    const ColumnChoice choice{column_at(bank, column_from_), age_[bank], bank};
    if (!column_known_ || !choice.before(column_)) return;
    column_ = choice;
    changes_->column = true;
  } else if (want == kActivate) {
    if (!activate_.known) return forget_row();
    const Tick at = activate_at(bank, std::max(any_activate(), row_from_));
    activate_.offer(at, age_[bank], bank);
    offer_row({at, 1, age_[bank], bank, RowCommand::kActivate});
  } else if (want == kPrecharge) {
    if (!precharge_.known) return forget_row();
    const Tick at = std::max({precharge_ready_[bank], any_precharge_, row_from_});
    precharge_.offer(at, age_[bank], bank);
    offer_row({at, 1, age_[bank], bank, RowCommand::kPrecharge});
  } else if (want == kClose) {
    forget_row();
  }
}

void Scheduler::offer_row(const RowChoice& choice) {
  if (!row_known_ || !choice.before(row_)) return;
  row_ = choice;
  changes_->row = true;
}

// Nothing of the set can happen before `soonest`; the oldest that can happen then wins at once.
template <class When>
Scheduler::Best Scheduler::first_of(const Order& order, const Gates& ages, std::uint64_t barred,
                                    Tick soonest, When when) {
  Best best;
  best.known = true;
  for (std::uint32_t i = 0; i < order.size; ++i) {
    const std::uint32_t bank = order.banks[i];
    if ((barred & bit(bank)) != 0) continue;
    const Tick at = std::max(soonest, when(bank));
    if (at >= best.at) continue;  // not before an older one
    best.at = at;
    best.age = ages[bank];
    best.bank = bank;
    if (at == soonest) break;
  }
  return best;
}

const ColumnChoice& Scheduler::find_column(Tick from) {
  column_from_ = from;
  column_known_ = true;
  if (holds()) {
    column_ = {column_at(held_, from), age_[held_], held_};
    return column_;
  }
  const Gates& opened = column_ready_[direction_];
  std::uint32_t over = 0;
  for (; over < opening_.size && opened[opening_.banks[over]] <= from; ++over) {
    const std::uint32_t bank = opening_.banks[over];
    is_opening_ &= ~bit(bank);
    orders_[kColumn].insert(bank, age_);
  }
  if (over > 0) opening_.erase_front(over);
  // No slot is nearer to the last column command than tCCD_S.
  const Tick soonest = last_column_[direction_] + timing_.ccd_short;
  const Best best = first_of(orders_[kColumn], age_, barred_,
                             std::max(from, last_column_[direction_] > 0 ? soonest - 1 : 0),
                             [this](std::uint32_t bank) { return slot_at(bank); });
  column_ = {best.at, best.age, best.bank};
  for (std::uint32_t i = 0; i < opening_.size && opened[opening_.banks[i]] <= column_.at; ++i) {
    const std::uint32_t bank = opening_.banks[i];
    if ((barred_ & bit(bank)) != 0) continue;
    const ColumnChoice choice{column_at(bank, from), age_[bank], bank};
    if (choice.before(column_)) column_ = choice;
  }
  return column_;
}

// The bank of the oldest row hit whose tRCD is over.
std::uint32_t Scheduler::oldest_ready(Tick at) const {
  std::uint32_t oldest = kNoBank;
  const Order& hits = orders_[kColumn];
  for (std::uint32_t i = 0; i < hits.size && oldest == kNoBank; ++i) {
    if ((barred_ & bit(hits.banks[i])) == 0) oldest = hits.banks[i];
  }
  for (std::uint32_t i = 0; i < opening_.size; ++i) {
    const std::uint32_t bank = opening_.banks[i];
    if (column_ready_[direction_][bank] > at) break;  // in the order of this time
    if ((barred_ & bit(bank)) != 0) continue;
    if (oldest == kNoBank || age_[bank] < age_[oldest]) oldest = bank;
  }
  return oldest;
}

// What a column command of the direction in work leaves to the next ones.
void Scheduler::gate_columns(std::uint32_t bank, Tick at) {
  const auto later = [](Tick& gate, Tick t) { gate = std::max(gate, t); };
  const std::uint32_t own = bank >> stack_shift_;
  lane_ready_[direction_][lane(bank)] = at + timing_.ccd_long[direction_];
  for (std::uint32_t stack = 0; stack < stacks_; ++stack) {
    later(stack_ready_[direction_][stack],
          at + (stack == own ? timing_.ccd_short : timing_.ccd_stack));
  }
  last_column_[direction_] = at + 1;
  if (direction_ == 1) lane_written_[lane(bank)] = at + 1;
}

Scheduler::Taken Scheduler::take_column(std::uint32_t number, Tick at) {
  Bank& bank = banks_[number];
  const std::uint32_t place = bank.candidate;
  Piece& piece = pieces_[place];
  const std::uint32_t direction = direction_;
  Taken taken{piece, place, piece.waiting == 1, at + timing_.to_data[direction]};
  last_data_ = std::max(last_data_, taken.data);
  ++(bank.hits == 0 ? counts_.row_misses : counts_.row_hits);
  ++(direction == 0 ? counts_.read_bursts : counts_.write_bursts);
  ++bank.hits;
  bank.last_use = at;
  const std::uint32_t oldest = oldest_ready(at);
  held_ = kNoBank;
  passed_ = oldest == number ? 0 : passed_ + 1;
  if (options_.row_hit_cap > 0 && passed_ >= options_.row_hit_cap) held_ = oldest;
  gate_columns(number, at);
  precharge_ready_[number] =
      std::max(precharge_ready_[number], at + timing_.to_precharge[direction]);
  --waiting_[direction];
  --piece.waiting;
  ++piece.age;
  piece.activates = 0;
  if (taken.last) remove(place);
  forget_column();
  if (taken.last || bank.hits == options_.row_hit_cap) {
    classify(number);
    offer(number);
  }
  return taken;
}

// ---- rows

void Scheduler::find_activate(Tick from) {
  activate_ = first_of(orders_[kActivate], age_, barred_, std::max(from, any_activate()),
                       [this](std::uint32_t bank) { return activate_at(bank, 0); });
}

void Scheduler::find_precharge(Tick from) {
  precharge_ = first_of(orders_[kPrecharge], age_, barred_, std::max(from, any_precharge_),
                        [this](std::uint32_t bank) { return precharge_ready_[bank]; });
}

const RowChoice& Scheduler::find_row(Tick from) {
  if (!activate_.known || activate_.at < from) find_activate(from);
  if (!precharge_.known || precharge_.at < from) find_precharge(from);
  row_from_ = from;
  row_ = {activate_.at, 1, activate_.age, activate_.bank, RowCommand::kActivate};
  const RowChoice precharge{precharge_.at, 1, precharge_.age, precharge_.bank,
                            RowCommand::kPrecharge};
  if (precharge.before(row_)) row_ = precharge;
  if (closes_ != 0) {
    const RowChoice close = best_close(from);
    if (close.before(row_)) row_ = close;
  }
  if (refreshing_) {
    const RowChoice refresh = best_refresh(from);
    if (refresh.before(row_)) row_ = refresh;
  }
  row_known_ = true;
  return row_;
}

// What the page policy wants closed.
RowChoice Scheduler::best_close(Tick from) const {
  RowChoice best;
  from = std::max(from, any_precharge_);
  for (std::uint64_t left = closes_ & ~barred_; left != 0; left &= left - 1) {
    const auto bank = static_cast<std::uint32_t>(std::countr_zero(left));
    const Tick idle =
        options_.page_policy == PagePolicy::kTimeout ? banks_[bank].last_use + timeout_ : 0;
    const RowChoice choice{std::max({precharge_ready_[bank], from, idle}), 2,
                           std::uint64_t{index_} * kMaxBanks + bank, bank, RowCommand::kPrecharge};
    if (choice.before(best)) best = choice;
  }
  return best;
}

RowChoice Scheduler::best_refresh(Tick from) const {
  RowChoice best{kNever, 0, index_, 0, RowCommand::kRefresh};
  const Tick closable = std::max(from, any_precharge_);
  if (options_.refresh == RefreshMode::kAllBank) {
    best.at = open_ != 0 ? closable : from;
    best.command = open_ != 0 ? RowCommand::kPrechargeAll : RowCommand::kRefresh;
    for (std::uint32_t bank = 0; bank < banks_count_; ++bank) {
      if (open_ == 0) best.at = std::max(best.at, activate_ready_[bank]);
      if (open(bank)) best.at = std::max(best.at, precharge_ready_[bank]);
    }
    return best;
  }
  const std::uint64_t set = barred_;
  if ((open_ & set) != 0) {
    for (std::uint64_t left = open_ & set; left != 0; left &= left - 1) {
      const auto bank = static_cast<std::uint32_t>(std::countr_zero(left));
      const Tick at = std::max(precharge_ready_[bank], closable);
      if (at < best.at) best = {at, 0, index_, bank, RowCommand::kPrecharge};
    }
    return best;
  }
  best = {std::max({from, bank_refresh_ready_, any_activate_}), 0, index_, 0,
          RowCommand::kRefreshBank};
  for (std::uint64_t left = set; left != 0; left &= left - 1) {
    best.at =
        std::max(best.at, activate_ready_[static_cast<std::uint32_t>(std::countr_zero(left))]);
  }
  return best;
}

Tick Scheduler::take_row(const RowChoice& choice) {
  const Tick at = choice.at;
  forget_row();
  switch (choice.command) {
    case RowCommand::kActivate:
      activate(choice.bank, at);
      activate_.known = false;
      offer(choice.bank);
      return at;
    case RowCommand::kPrecharge:
      close(choice.bank, at);
      any_precharge_ = at + timing_.ppd;
      precharge_.known = false;
      offer(choice.bank);
      return at;
    case RowCommand::kPrechargeAll:
      for (std::uint32_t bank = 0; bank < banks_count_; ++bank) {
        if (open(bank)) close(bank, at);
      }
      any_precharge_ = at + timing_.ppd;
      forget_choices();
      return at;
    case RowCommand::kRefresh:
      return refresh_all(at);
    case RowCommand::kRefreshBank:
      return refresh_set(at);
  }
  return at;
}

void Scheduler::activate(std::uint32_t number, Tick at) {
  account(at, false);
  Bank& bank = banks_[number];
  Piece& first = pieces_[lists_[direction_][number].head];
  ++first.activates;
  bank.row = first.row;
  bank.hits = 0;
  bank.last_use = at;
  ++bank.activations;
  open_ |= bit(number);
  column_ready_[0][number] = at + timing_.to_column[0];
  column_ready_[1][number] = at + timing_.to_column[1];
  precharge_ready_[number] = at + timing_.ras;
  activate_ready_[number] = at + timing_.rc;
  lane_activate_[lane(number)] = at + timing_.rrd_long;
  any_activate_ = std::max(any_activate_, at + timing_.rrd_short);
  last_activates_[next_activate_] = at + timing_.faw;
  next_activate_ = (next_activate_ + 1) % 4;
  ++counts_.activates;
  if (observer_ != nullptr) observer_->row_opened(index_, number, bank.row, clock_->time(at));
  classify(number);
}

void Scheduler::close(std::uint32_t number, Tick at) {
  account(at, false);
  open_ &= ~bit(number);
  activate_ready_[number] = std::max(activate_ready_[number], at + timing_.rp);
  ++counts_.precharges;
  if (observer_ != nullptr) observer_->row_closed(index_, number, clock_->time(at));
  classify(number);
}

void Scheduler::begin_refresh() {
  forget_choices();
  held_ = kNoBank;
  passed_ = 0;
  refreshing_ = true;
  if (options_.refresh == RefreshMode::kAllBank) {
    barred_ = all_banks_;
    return;
  }
  barred_ = 0;
  for (std::uint32_t bank = refresh_set_; bank < banks_count_; bank += set_count_) {
    barred_ |= bit(bank);
  }
}

Tick Scheduler::refresh_all(Tick at) {
  forget_choices();
  for (std::uint32_t bank = 0; bank < banks_count_; ++bank) {
    activate_ready_[bank] = std::max(activate_ready_[bank], at + timing_.refresh);
  }
  refresh_due_ += timing_.refresh_interval;
  refreshing_ = false;
  barred_ = 0;
  ++counts_.refreshes;
  if (observer_ != nullptr)
    observer_->refreshed(index_, clock_->time(at), clock_->time(at + timing_.refresh));
  return at + timing_.refresh;
}

Tick Scheduler::refresh_set(Tick at) {
  forget_choices();
  for (std::uint64_t left = barred_; left != 0; left &= left - 1) {
    const auto bank = static_cast<std::uint32_t>(std::countr_zero(left));
    activate_ready_[bank] = std::max(activate_ready_[bank], at + timing_.refresh_bank);
  }
  any_activate_ = std::max(any_activate_, at + timing_.refresh_bank_activate);
  bank_refresh_ready_ = at + timing_.refresh_bank_spacing;
  refresh_due_ += timing_.refresh_bank_interval;
  refresh_set_ = (refresh_set_ + 1) % set_count_;
  refreshing_ = false;
  barred_ = 0;
  ++counts_.bank_refreshes;
  if (observer_ != nullptr)
    observer_->refreshed(index_, clock_->time(at), clock_->time(at + timing_.refresh_bank));
  return at + timing_.refresh_bank;
}

}  // namespace stoat::sim
