// One pseudo-channel: banks, rows, columns, refresh, and its request queue, in ticks of half a
// command cycle. Used by DramChannel only.
//
// A piece (bursts side by side in one row) is placed after all earlier pieces of its bank; on the
// column bus, in the activation windows and on the row-command bus it takes the earliest place that
// is free. Rows stay open until another row of the bank or a refresh closes them. Delays from an
// activation to a column command count from the end of the activation command.
#pragma once

#include <cstdint>
#include <vector>

#include "models/dram/standard.h"
#include "sim/memory/address_map.h"
#include "sim/memory/channel.h"
#include "sim/memory/column_slots.h"
#include "sim/memory/row_commands.h"

namespace stoat::sim {

struct DataTimes {
  Tick first = 0;  // last beat of the first burst; 0: none yet
  Tick last = 0;   // last beat of the last one
};

class PseudoChannel {
 public:
  PseudoChannel(const DramStandard& standard, std::uint32_t queue_bursts);

  // `bursts` neighbouring bursts of one row, in order, from the column on; no command before
  // `ready`, which does not hold up later requests.
  void transfer(const BankAddress& where, std::uint32_t bursts, bool write, Tick arrival,
                Tick ready, RowCommandBus& bus, DataTimes& times);
  // Refreshes up to `end`; throws Bug when the counts contradict each other.
  void finish(Tick end);
  void observe(ChannelObserver& observer, std::uint32_t index, Hertz ticks) {
    observer_ = &observer;
    index_ = index;
    ticks_ = ticks;
  }
  // bytes_moved and data_bus_busy are left to the channel.
  const ChannelCounts& counts() const { return counts_; }

 private:
  struct Timing {  // ticks
    explicit Timing(const DramStandard& s);
    Tick activate, precharge;    // on the row-command bus
    Tick to_read, to_write;      // from the start of an activation
    Tick read_data, write_data;  // from the column command to the last beat
    Tick burst;                  // on the data bus
    Tick rp, ras, rc, faw, rtp, write_recovery, rtw, write_to_read, write_to_read_group;
    Tick refi, rfc;  // 0: no refresh
  };
  struct Bank {
    bool open = false;
    std::uint32_t row = 0;
    Tick read_ready = 0, write_ready = 0;  // of columns, while open
    Tick precharge_ready = 0;              // while open
    Tick activate_ready = 0;               // tRC after the last activation
    std::uint64_t activations = 0;
  };
  struct RowPlan {
    bool precharge = false;
    Tick precharge_at = 0, activate_at = 0;
  };

  Tick admit(Tick arrival);
  Tick place(Bank& bank, const BankAddress& where, bool write, Tick from, RowCommandBus& bus);
  RowPlan plan_row(const Bank& bank, const BankAddress& where, Tick from,
                   const RowCommandBus& bus) const;
  void open_row(Bank& bank, const BankAddress& where, const RowPlan& plan, RowCommandBus& bus);
  Tick direction_ready(const BankAddress& where, bool write) const;
  void take_column(Bank& bank, const BankAddress& where, bool write, Tick at);
  void refresh();
  std::uint32_t number_of(const Bank& bank) const {
    return static_cast<std::uint32_t>(&bank - banks_.data());
  }

  Timing timing_;
  std::uint32_t groups_, banks_per_group_;
  std::vector<Bank> banks_;  // [stack, bank_group, bank]
  ColumnSlots columns_;
  ActivationWindow activations_;
  Tick refresh_due_;    // of the next refresh; ~0: never
  Tick refreshed_ = 0;  // end of the last refresh: nothing before it any more
  Tick admitted_ = 0;   // entry of the last burst into the queue
  Tick last_read_ = 0;  // last read command placed (0 with reads_ false: none)
  bool reads_ = false, writes_ = false;
  Tick last_write_ = 0;
  std::vector<Tick> read_after_write_;  // [stack, bank_group] earliest read
  Tick last_data_ = 0;
  std::vector<Tick> queue_;  // [queue_bursts] when the entry becomes free
  std::size_t next_entry_ = 0;
  ChannelCounts counts_;
  ChannelObserver* observer_ = nullptr;
  std::uint32_t index_ = 0;  // of the channel, for the observer
  Hertz ticks_{1};
};

}  // namespace stoat::sim
