// Queue, wants and accounts of one pseudo-channel. See scheduler.h; commands are in
// scheduler_commands.cpp.
#include "sim/memory/scheduler.h"

#include <algorithm>

#include "models/error.h"

namespace stoat::sim {

Scheduler::Scheduler(const DramStandard& standard, const ControllerOptions& options,
                     std::uint32_t index, Changes& changes)
    : timing_(standard),
      options_(options),
      changes_(&changes),
      index_(index),
      banks_count_(standard.banks()),
      stacks_(standard.stack_ids),
      lanes_(standard.stack_ids * standard.bank_groups),
      group_shift_(static_cast<std::uint32_t>(std::countr_zero(standard.banks_per_group))),
      stack_shift_(group_shift_ +
                   static_cast<std::uint32_t>(std::countr_zero(standard.bank_groups))),
      all_banks_(banks_count_ == 64 ? ~std::uint64_t{0} : bit(banks_count_) - 1),
      timeout_(2 * Tick{options.page_timeout}),
      set_count_(standard.refresh_bank_sets()),
      write_high_(options.write_high > 0 ? options.write_high
                                         : std::max(1U, options.queue_bursts * 3 / 4)),
      write_low_(options.write_high > 0 ? options.write_low : options.queue_bursts / 4) {
  STOAT_ENSURE(banks_count_ <= kMaxBanks, "at most 64 banks");
  if (options.refresh == RefreshMode::kNone || timing_.refresh_interval == 0) return;
  const bool all = options.refresh == RefreshMode::kAllBank;
  const Tick interval = all ? timing_.refresh_interval : timing_.refresh_bank_interval;
  refresh_due_ = interval;
  if (options.stagger_refresh) refresh_due_ += interval * index / standard.pseudo_channels;
}

// ---- the queue

std::uint32_t Scheduler::add(const Piece& piece) {
  std::uint32_t place;
  if (free_pieces_.empty()) {
    place = static_cast<std::uint32_t>(pieces_.size());
    pieces_.push_back(piece);
  } else {
    place = free_pieces_.back();
    free_pieces_.pop_back();
    pieces_[place] = piece;
  }
  waiting_[piece.write ? 1 : 0] += piece.waiting;
  insert(place);
  const bool youngest = pieces_[place].next == kNoPiece;
  classify(piece.bank);
  if (youngest) {
    offer(piece.bank);
  } else {
    forget_choices();  // ages of heads may have changed
  }
  return place;
}

void Scheduler::insert(std::uint32_t place) {
  Piece& piece = pieces_[place];
  List& list = lists_[piece.write ? 1 : 0][piece.bank];
  piece.next = kNoPiece;
  if (list.head == kNoPiece) {
    list.head = list.tail = place;
  } else if (pieces_[list.tail].age < piece.age) {
    pieces_[list.tail].next = place;
    list.tail = place;
  } else if (piece.age < pieces_[list.head].age) {
    piece.next = list.head;
    list.head = place;
  } else {
    std::uint32_t at = list.head;
    while (pieces_[pieces_[at].next].age < piece.age) at = pieces_[at].next;
    piece.next = pieces_[at].next;
    pieces_[at].next = place;
  }
}

void Scheduler::remove(std::uint32_t place) {
  const Piece& piece = pieces_[place];
  List& list = lists_[piece.write ? 1 : 0][piece.bank];
  if (list.head == place) {
    list.head = piece.next;
    if (list.tail == place) list.tail = kNoPiece;
  } else {
    std::uint32_t at = list.head;
    while (pieces_[at].next != place) at = pieces_[at].next;
    pieces_[at].next = piece.next;
    if (list.tail == place) list.tail = at;
  }
  free_pieces_.push_back(place);
}

bool Scheduler::turn() {
  std::uint32_t now = direction_;
  if (direction_ == 0) {
    if (waiting_[1] >= write_high_ || (waiting_[0] == 0 && waiting_[1] > 0)) now = 1;
  } else if (waiting_[1] == 0 || (waiting_[1] <= write_low_ && waiting_[0] > 0)) {
    now = 0;
  }
  if (now == direction_) return false;
  direction_ = now;
  held_ = kNoBank;
  passed_ = 0;
  // What the other direction's commands leave: its last one, and writes of the same bank group.
  const auto later = [](Tick& gate, Tick t) { gate = std::max(gate, t); };
  const Tick turned = now == 1 ? timing_.read_to_write : timing_.write_to_read;
  for (std::uint32_t stack = 0; stack < stacks_ && last_column_[1 - now] > 0; ++stack) {
    later(stack_ready_[now][stack], last_column_[1 - now] - 1 + turned);
  }
  for (std::uint32_t l = 0; l < lanes_ && now == 0; ++l) {
    if (lane_written_[l] == 0) continue;
    later(lane_ready_[0][l], lane_written_[l] - 1 + timing_.write_to_read_group);
  }
  for (std::uint32_t bank = 0; bank < banks_count_; ++bank) {  // tRCD differs by direction
    drop(bank, want_[bank]);
    want_[bank] = kNothing;
  }
  closes_ = 0;
  classify_all();
  forget_choices();
  return true;
}

std::uint32_t Scheduler::first_hit(std::uint32_t direction, std::uint32_t bank) const {
  std::uint32_t at = lists_[direction][bank].head;
  while (at != kNoPiece && pieces_[at].row != banks_[bank].row) at = pieces_[at].next;
  return at;
}

void Scheduler::classify(std::uint32_t number) {
  Bank& bank = banks_[number];
  const std::uint32_t head = lists_[direction_][number].head;
  Want want = kNothing;
  std::uint64_t age = head == kNoPiece ? 0 : pieces_[head].age;
  if (!open(number)) {
    if (head != kNoPiece) want = kActivate;
  } else {
    const std::uint32_t hit = first_hit(direction_, number);
    const bool capped =
        options_.row_hit_cap > 0 && bank.hits >= options_.row_hit_cap && hit != head;
    if (hit != kNoPiece && !capped) {
      want = kColumn;
      bank.candidate = hit;
      age = pieces_[hit].age;
    } else if (head != kNoPiece) {
      want = kPrecharge;
    } else if (options_.page_policy != PagePolicy::kOpen &&
               first_hit(1 - direction_, number) == kNoPiece) {
      want = kClose;
    }
  }
  const Want before = want_[number];
  if (before == want && age_[number] == age) return;
  drop(number, before);
  want_[number] = want;
  age_[number] = age;
  put(number, want);
}

void Scheduler::put(std::uint32_t bank, Want want) {
  if (want == kColumn && column_ready_[direction_][bank] > column_from_) {
    opening_.insert(bank, column_ready_[direction_]);
    is_opening_ |= bit(bank);
  } else if (want == kClose) {
    closes_ |= bit(bank);
  } else if (want != kNothing) {
    orders_[want].insert(bank, age_);
  }
}

void Scheduler::drop(std::uint32_t bank, Want want) {
  if ((is_opening_ & bit(bank)) != 0) {
    opening_.erase(bank);
    is_opening_ &= ~bit(bank);
  } else if (want == kClose) {
    closes_ &= ~bit(bank);
  } else if (want != kNothing) {
    orders_[want].erase(bank);
  }
}

void Scheduler::classify_all() {
  for (std::uint32_t bank = 0; bank < banks_count_; ++bank) classify(bank);
}

// ---- accounts

void Scheduler::account(Tick at, bool down) {
  states_.ticks[down ? 1 : 0][open_ != 0 ? 1 : 0] += at - since_;
  since_ = at;
}

void Scheduler::check_bounds(Tick end) const {
  const std::uint64_t bursts = counts_.read_bursts + counts_.write_bursts;
  STOAT_ENSURE(counts_.row_hits + counts_.row_misses == bursts, "hits + misses = bursts");
  STOAT_ENSURE(counts_.row_misses <= counts_.activates, "a row is opened before its first burst");
  STOAT_ENSURE(counts_.precharges <= counts_.activates, "only open rows are closed");
  STOAT_ENSURE(bursts * timing_.burst <= last_data_, "bandwidth is at most the peak");
  STOAT_ENSURE(counts_.activates == 0 || (counts_.activates - 1) / 4 * timing_.faw <= end,
               "four activations take tFAW");
  for (std::uint32_t bank = 0; bank < banks_count_; ++bank) {
    const std::uint64_t activations = banks_[bank].activations;
    STOAT_ENSURE(activations == 0 || (activations - 1) * timing_.rc <= end,
                 "activations of a bank are tRC apart");
  }
  STOAT_ENSURE(counts_.refreshes * timing_.refresh <= end + timing_.refresh,
               "refreshes take tRFC each");
  Tick sum = 0;
  for (const auto& row : states_.ticks) sum += row[0] + row[1];
  STOAT_ENSURE(sum == end, "background states fill the time");
}

}  // namespace stoat::sim
