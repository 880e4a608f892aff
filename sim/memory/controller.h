// A first-ready memory controller for one DRAM channel: queue, row hits first, page policy,
// refresh, write draining, power-down. Plain C++; owns no clock.
//
// Requests go in with their arrival times, completions come out when their last column command has
// been placed. What is done at which tick is written down in sim/memory/README.md and implemented a
// second time, tick after tick, in tests/sim/memory/cycle_controller.h; both agree on every burst.
// Unlike DramChannel, whose answer to a request is final at once, a younger row hit may overtake.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "models/dram/standard.h"
#include "models/units.h"
#include "sim/memory/address_map.h"
#include "sim/memory/channel.h"

namespace stoat::sim {

enum class PagePolicy : std::uint8_t {
  kOpen,    // rows stay open until another row or a refresh needs the bank
  kClosed,  // a row is closed when no waiting burst wants it
  kTimeout  // ... and nothing has touched it for page_timeout cycles
};
enum class RefreshMode : std::uint8_t { kNone, kAllBank, kPerBank };

struct ControllerOptions {
  std::uint32_t queue_bursts = 64;  // entries; freed by the column command. 0 is refused
  bool shared_queue = true;         // one queue a channel; else one a pseudo-channel
  std::uint32_t row_hit_cap = 32;   // column commands an open row may serve while an older burst
                                    // wants another row of the bank; 0: no limit
  PagePolicy page_policy = PagePolicy::kOpen;
  std::uint32_t page_timeout = 0;               // command cycles, for kTimeout
  RefreshMode refresh = RefreshMode::kAllBank;  // kNone when the standard has no refresh
  bool stagger_refresh = false;                 // pseudo-channels in turn instead of together
  // Writes of a pseudo-channel wait until so many are queued (or no read is), and then go until so
  // few are left. In bursts; 0, 0: three quarters and one quarter of the queue.
  std::uint32_t write_high = 0, write_low = 0;
  std::uint32_t power_down_after = 0;  // idle command cycles before power-down; 0: never
};

// Throws Error (usage): a queue of 0, watermarks out of order or above the queue, a timeout of 0,
// per-bank refresh of a standard without one.
void check_controller_options(const ControllerOptions& options, const DramStandard& standard);

struct Completion {
  std::uint64_t id = 0;
  Picoseconds first_data{0};         // last beat of the first burst to be served
  Picoseconds done{0};               // last beat of the last one
  std::uint64_t activates = 0;       // given for its bursts
  std::uint64_t changed_bursts = 0;  // that were read before they were partly overwritten
};

class DramController {
 public:
  // Throws Error (usage) for bad options or an address map that is none.
  DramController(const DramStandard& standard, const ControllerOptions& options);
  ~DramController();
  DramController(DramController&&) noexcept;

  // Puts a request into the input of the channel (arrival order is service order into the queue)
  // and returns its id: 0, 1, 2 ... Throws Bug as DramChannel::access does, and for an arrival
  // before the time already passed.
  std::uint64_t submit(const MemoryRequest& request);
  // Does everything that happens before `until`. Completions, in the order in which they become
  // known (a completion is known when its last column command is placed).
  void advance(Picoseconds until);
  // Goes on until a completion is known that was not before, but not beyond `until`. True when one
  // is: its data come later than anything done so far, so a request may still arrive with them.
  bool advance_to_completion(Picoseconds until);
  // Goes on until no request is left.
  void drain();
  std::vector<Completion> take_completions();            // those not yet taken
  void take_completions(std::vector<Completion>& into);  // the same, replacing what is there
  void observe(ChannelObserver& observer);               // which must outlive the controller
  Picoseconds last_data() const;                         // of everything done so far

  // Accounts refresh and standby up to `end` (not before the last data) and checks conservation and
  // the closed-form bounds of the standard: data bus, command buses, tFAW, tRC of every bank.
  // Throws Bug when one does not hold.
  void finish(Picoseconds end);
  ChannelCounts counts() const;  // of all pseudo-channels
  ChannelCounts counts(std::uint32_t pseudo_channel) const;
  const AddressMap& address_map() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoat::sim
