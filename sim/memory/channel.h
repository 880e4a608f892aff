// One DRAM channel with its pseudo-channels: when does a request's data arrive? Plain C++; owns no
// clock.
//
// Next-ready-time arithmetic per bank, bank group, pseudo-channel and (shared) row-command bus. The
// caller gives requests in order of arrival time and gets completion times back; bursts are timed
// inside. Older requests come first; a younger one may use what they leave free (column slots of
// other bank groups, activation windows, the row-command bus) but never moves them. What this means
// against a first-ready scheduler: sim/memory/README.md.
#pragma once

#include <cstdint>
#include <memory>

#include "models/dram/standard.h"
#include "models/units.h"
#include "sim/memory/address_map.h"

namespace stoat::sim {

struct MemoryRequest {
  std::uint32_t pseudo_channel = 0;  // within the channel
  std::uint64_t address = 0;  // byte address within the pseudo-channel's own space, multiple of the
                              // access granularity
  Bytes size{0};              // a multiple of the access granularity, > 0
  bool write = false;
  Picoseconds arrival{0};  // not before the previous request's arrival (Bug otherwise)
  // A write of less than a burst: masked where the standard can, else every burst is read, changed
  // and written back.
  bool partial = false;
};

struct MemoryReply {
  Picoseconds first_data{0};    // last beat of the first burst
  Picoseconds done{0};          // last beat of the last burst (writes: data taken)
  std::uint64_t activates = 0;  // row activations this request needed
};

struct ChannelCounts {
  std::uint64_t activates = 0, precharges = 0, read_bursts = 0, write_bursts = 0, refreshes = 0;
  std::uint64_t row_hits = 0;    // bursts that found their row open
  std::uint64_t row_misses = 0;  // bursts that needed an activation
  Bytes bytes_moved{0};          // bursts * access granularity
  Picoseconds data_bus_busy{0};  // summed over pseudo-channels
  // Counted by DramController: refreshes of single banks; background time by state (summed over
  // pseudo-channels, together the whole time) and how often a pseudo-channel was powered down.
  std::uint64_t bank_refreshes = 0, power_downs = 0;
  Picoseconds active_standby{0}, precharge_standby{0}, active_down{0}, precharge_down{0};
  ChannelCounts& operator+=(const ChannelCounts& other);
  friend bool operator==(const ChannelCounts&, const ChannelCounts&) = default;
};

struct ChannelOptions {
  // Entries of a pseudo-channel's request queue, in bursts: a burst enters (and may cause an
  // activation) when the burst that held its entry has delivered its data. 0: no limit.
  std::uint32_t queue_bursts = 0;
};

// Told what the banks do, for timelines; in the order of placement, not of time.
class ChannelObserver {
 public:
  virtual ~ChannelObserver() = default;
  virtual void row_opened(std::uint32_t pseudo_channel, std::uint32_t bank, std::uint32_t row,
                          Picoseconds at) = 0;
  virtual void row_closed(std::uint32_t pseudo_channel, std::uint32_t bank, Picoseconds at) = 0;
  virtual void refreshed(std::uint32_t pseudo_channel, Picoseconds begin, Picoseconds end) = 0;
};

class DramChannel {
 public:
  // Throws Error (usage) when the standard's address order is not one.
  explicit DramChannel(const DramStandard& standard, const ChannelOptions& options = {});
  ~DramChannel();
  DramChannel(DramChannel&&) noexcept;

  // Throws Bug for a request outside the capacity, not aligned, empty, or earlier than the last.
  MemoryReply access(const MemoryRequest& request);
  // Accounts refresh up to `end` (not before the last reply) and checks conservation: bandwidth <=
  // peak, bursts * granularity = bytes moved, hits + misses = bursts. Throws Bug when it does not
  // hold.
  void finish(Picoseconds end);
  void observe(ChannelObserver& observer);  // which must outlive the channel
  ChannelCounts counts() const;             // of all pseudo-channels
  ChannelCounts counts(std::uint32_t pseudo_channel) const;
  const AddressMap& address_map() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoat::sim
