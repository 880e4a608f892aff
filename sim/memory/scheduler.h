// What one pseudo-channel could do next: its banks, the bursts that wait for them, and the gates
// that commands leave behind. Used by DramController only, which owns the buses and the clock.
//
// Every bank wants one thing: a column command (a waiting burst hits the open row), an activation,
// a precharge (a waiting burst needs another row), or that the page policy closes it. Banks of a
// want are kept in the order of age, so that a decision looks at few candidates and never at the
// queue.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "models/dram/standard.h"
#include "sim/memory/address_map.h"
#include "sim/memory/channel.h"
#include "sim/memory/controller.h"
#include "sim/memory/tick_timing.h"

namespace stoat::sim {

inline constexpr std::uint32_t kNoPiece = ~std::uint32_t{0};

// Neighbouring bursts of one row and one request that wait in the queue. Ages count bursts in the
// order of submission.
struct Piece {
  std::uint64_t age = 0;  // of its first waiting burst
  std::uint32_t request = 0;
  std::uint32_t bank = 0, row = 0;
  std::uint32_t waiting = 0;    // bursts
  std::uint32_t activates = 0;  // given for it and not yet reported
  std::uint32_t next = kNoPiece;
  bool write = false;
  bool modify = false;  // a read whose burst is written back
};

enum class RowCommand : std::uint8_t {
  kActivate,
  kPrecharge,
  kPrechargeAll,
  kRefresh,
  kRefreshBank
};

struct ColumnChoice {
  Tick at = kNever;
  std::uint64_t age = 0;
  std::uint32_t bank = 0;

  bool before(const ColumnChoice& other) const {
    return at < other.at || (at == other.at && age < other.age);
  }
};
// Ordered by time, then rank (refresh, demand, page policy), then order (pseudo-channel, age,
// bank).
struct RowChoice {
  Tick at = kNever;
  std::uint32_t rank = 0;
  std::uint64_t order = 0;
  std::uint32_t bank = 0;
  RowCommand command = RowCommand::kActivate;

  bool before(const RowChoice& other) const {
    if (at != other.at) return at < other.at;
    if (rank != other.rank) return rank < other.rank;
    return order < other.order;
  }
};

// Set when a choice of any pseudo-channel may have changed.
struct Changes {
  bool column = true, row = true;
};

class Scheduler {
 public:
  Scheduler(const DramStandard& standard, const ControllerOptions& options, std::uint32_t index,
            Changes& changes);

  // The queue.
  std::uint32_t add(const Piece& piece);  // with bursts waiting; returns its place
  void add_bursts(std::uint32_t piece, std::uint32_t count) {
    pieces_[piece].waiting += count;
    waiting_[pieces_[piece].write ? 1 : 0] += count;
  }
  // By the watermarks; true when it turned.
  bool update_direction() { return (waiting_[1] > 0 || direction_ == 1) && turn(); }
  std::uint64_t waiting() const { return waiting_[0] + waiting_[1]; }
  bool wants_to_close() const { return closes_ != 0; }

  // Refresh: due at refresh_due(); then begin_refresh() bars banks until its command is placed.
  Tick refresh_due() const { return refreshing_ ? kNever : refresh_due_; }
  Tick next_refresh() const { return refresh_due_; }  // also while it is being prepared
  void begin_refresh();
  bool refreshing() const { return refreshing_; }

  // The first thing possible at or after `from`, if nothing changes before. `from` never goes back.
  const ColumnChoice& next_column(Tick from) {
    if (column_known_ && column_.at >= from) return column_;
    return find_column(from);
  }
  const RowChoice& next_row(Tick from) {
    if (row_known_ && row_.at >= from) return row_;
    return find_row(from);
  }

  struct Taken {
    Piece piece;              // as it was before
    std::uint32_t place = 0;  // of the piece
    bool last = false;        // the piece has left the queue
    Tick data = 0;            // last beat
  };
  Taken take_column(std::uint32_t bank, Tick at);
  // Returns the tick at which the command's work is over (refresh) or `at`.
  Tick take_row(const RowChoice& choice);

  // Background time: from `at` on the state is that of the rows now, powered down or not.
  void account(Tick at, bool down);
  const ChannelCounts& counts() const { return counts_; }
  void observe(ChannelObserver& observer, const TickClock& clock) {
    observer_ = &observer;
    clock_ = &clock;
  }
  Tick last_data() const { return last_data_; }
  struct States {
    Tick ticks[2][2] = {};  // [down][a row is open]
  };
  const States& states() const { return states_; }
  void check_bounds(Tick end) const;

 private:
  static constexpr std::uint32_t kMaxBanks = 64, kMaxLanes = 64, kNoBank = ~std::uint32_t{0};
  enum Want : std::uint8_t { kNothing, kColumn, kActivate, kPrecharge, kClose };
  struct List {
    std::uint32_t head = kNoPiece, tail = kNoPiece;
  };
  struct Bank {
    std::uint32_t row = 0;
    std::uint32_t hits = 0;              // column commands since the activation
    std::uint32_t candidate = kNoPiece;  // the piece of the next row hit
    std::uint64_t activations = 0;
    Tick last_use = 0;
  };
  using Gates = std::array<Tick, kMaxBanks>;
  // The banks of a set in the order of a key, the smallest first.
  struct Order {
    std::array<std::uint8_t, kMaxBanks> banks{};
    std::uint32_t size = 0;

    void insert(std::uint32_t bank, const Gates& key) {
      std::uint32_t at = size++;
      for (; at > 0 && key[banks[at - 1]] > key[bank]; --at) banks[at] = banks[at - 1];
      banks[at] = static_cast<std::uint8_t>(bank);
    }
    void erase(std::uint32_t bank) {
      std::uint32_t at = 0;
      while (banks[at] != bank) ++at;
      for (--size; at < size; ++at) banks[at] = banks[at + 1];
    }
    void erase_front(std::uint32_t count) {
      size -= count;
      for (std::uint32_t at = 0; at < size; ++at) banks[at] = banks[at + count];
    }
  };
  // The earliest candidate of a set of banks; the oldest of equals.
  struct Best {
    Tick at = kNever;
    std::uint64_t age = 0;
    std::uint32_t bank = 0;
    bool known = false;

    void offer(Tick when, std::uint64_t how_old, std::uint32_t which) {
      if (when > at || (when == at && how_old > age)) return;
      at = when;
      age = how_old;
      bank = which;
    }
  };

  static std::uint64_t bit(std::uint32_t bank) { return std::uint64_t{1} << bank; }
  bool open(std::uint32_t bank) const { return (open_ & bit(bank)) != 0; }
  std::uint32_t lane(std::uint32_t bank) const { return bank >> group_shift_; }
  std::uint32_t first_hit(std::uint32_t direction, std::uint32_t bank) const;
  bool turn();
  void classify(std::uint32_t bank);
  void classify_all();
  void insert(std::uint32_t piece);
  void remove(std::uint32_t piece);
  void gate_columns(std::uint32_t bank, Tick at);
  void put(std::uint32_t bank, Want want);
  void drop(std::uint32_t bank, Want want);
  void forget_choices() {
    activate_.known = precharge_.known = false;
    forget_column();
    forget_row();
  }
  void forget_column() {
    column_known_ = false;
    changes_->column = true;
  }
  void forget_row() {
    row_known_ = false;
    changes_->row = true;
  }
  void offer(std::uint32_t bank);
  void offer_row(const RowChoice& choice);
  const ColumnChoice& find_column(Tick from);
  bool holds() const {
    return held_ != kNoBank && (barred_ & bit(held_)) == 0 && want_[held_] == kColumn;
  }
  std::uint32_t oldest_ready(Tick at) const;
  const RowChoice& find_row(Tick from);
  template <class When>
  static Best first_of(const Order& order, const Gates& ages, std::uint64_t barred, Tick soonest,
                       When when);
  void find_activate(Tick from);
  void find_precharge(Tick from);
  RowChoice best_refresh(Tick from) const;
  RowChoice best_close(Tick from) const;
  // For a bank whose tRCD is over.
  Tick slot_at(std::uint32_t bank) const {
    return std::max(lane_ready_[direction_][lane(bank)],
                    stack_ready_[direction_][bank >> stack_shift_]);
  }
  Tick column_at(std::uint32_t bank, Tick from) const {
    return std::max(std::max(column_ready_[direction_][bank], slot_at(bank)), from);
  }
  Tick activate_at(std::uint32_t bank, Tick from) const {
    return std::max(std::max(activate_ready_[bank], lane_activate_[lane(bank)]), from);
  }
  Tick any_activate() const { return std::max(any_activate_, last_activates_[next_activate_]); }
  void activate(std::uint32_t bank, Tick at);
  void close(std::uint32_t bank, Tick at);
  Tick refresh_all(Tick at);
  Tick refresh_set(Tick at);

  TickTiming timing_;
  ControllerOptions options_;
  Changes* changes_;
  std::uint32_t index_, banks_count_, stacks_, lanes_, group_shift_, stack_shift_;
  std::uint64_t all_banks_;
  Tick timeout_;
  std::uint32_t set_count_;  // of per-bank refresh
  std::uint32_t write_high_, write_low_;

  std::vector<Piece> pieces_;
  std::vector<std::uint32_t> free_pieces_;
  std::array<std::array<List, kMaxBanks>, 2> lists_;  // [direction][bank], by age
  std::uint64_t waiting_[2] = {0, 0};                 // bursts
  std::uint32_t direction_ = 0;                       // 1: writes

  std::array<Bank, kMaxBanks> banks_;
  std::uint64_t open_ = 0, closes_ = 0, barred_ = 0;  // bit a bank
  std::array<Want, kMaxBanks> want_{};
  Gates age_{};                          // of the burst that the bank's want is about
  std::array<Order, kClose> orders_;     // [want] by age; columns only when tRCD is over
  Order opening_;                        // want a column when tRCD is over: by that time
  std::uint64_t is_opening_ = 0;         // bit a bank
  std::array<Gates, 2> column_ready_{};  // tRCD
  Gates activate_ready_{}, precharge_ready_{};
  // Columns of the direction in work; what the other direction leaves is added when the bus turns.
  std::array<std::array<Tick, kMaxLanes>, 2> lane_ready_{}, stack_ready_{};
  std::array<Tick, kMaxLanes> lane_written_{};   // + 1; 0: never
  Tick last_column_[2] = {0, 0};                 // + 1; 0: never
  std::array<Tick, kMaxLanes> lane_activate_{};  // tRRD_L
  Tick any_activate_ = 0, any_precharge_ = 0, bank_refresh_ready_ = 0;
  std::array<Tick, 4> last_activates_{};  // + tFAW already added
  std::uint32_t next_activate_ = 0;

  // Choices, kept until something changes that they depend on.
  bool column_known_ = false, row_known_ = false;
  ColumnChoice column_;
  RowChoice row_;
  Best activate_, precharge_;
  Tick column_from_ = 0, row_from_ = 0;

  // The bank that others must let pass, and how often its oldest burst has been passed.
  std::uint32_t held_ = kNoBank;
  std::uint32_t passed_ = 0;

  bool refreshing_ = false;
  Tick refresh_due_ = kNever;
  std::uint32_t refresh_set_ = 0;

  ChannelObserver* observer_ = nullptr;  // may be null
  const TickClock* clock_ = nullptr;
  ChannelCounts counts_;
  States states_;
  Tick since_ = 0, last_data_ = 0;
};

}  // namespace stoat::sim
