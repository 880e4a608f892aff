// The channel: converts time, cuts requests into pieces of one row, adds up. The arithmetic of one
// pseudo-channel is in pseudo_channel.h.
#include "sim/memory/channel.h"

#include <algorithm>
#include <string>
#include <vector>

#include "models/error.h"
#include "sim/memory/pseudo_channel.h"

namespace stoat::sim {

ChannelCounts& ChannelCounts::operator+=(const ChannelCounts& other) {
  activates += other.activates;
  precharges += other.precharges;
  read_bursts += other.read_bursts;
  write_bursts += other.write_bursts;
  refreshes += other.refreshes;
  row_hits += other.row_hits;
  row_misses += other.row_misses;
  bytes_moved += other.bytes_moved;
  data_bus_busy += other.data_bus_busy;
  bank_refreshes += other.bank_refreshes;
  power_downs += other.power_downs;
  active_standby += other.active_standby;
  precharge_standby += other.precharge_standby;
  active_down += other.active_down;
  precharge_down += other.precharge_down;
  return *this;
}

struct DramChannel::State {
  State(const DramStandard& s, const ChannelOptions& options)
      : standard(s), ticks(Hertz(2 * s.command_clock.count())), map(s) {
    for (std::uint32_t i = 0; i < s.pseudo_channels; ++i) {
      pseudo_channels.emplace_back(standard, options.queue_bursts);
    }
  }

  void check(const MemoryRequest& request) const {
    STOAT_ENSURE(request.pseudo_channel < pseudo_channels.size(),
                 "pseudo-channel " + std::to_string(request.pseudo_channel) + " of " +
                     std::to_string(pseudo_channels.size()));
    const std::uint64_t burst = standard.access_size.count();
    STOAT_ENSURE(request.size.count() > 0 && request.size.count() % burst == 0 &&
                     request.address % burst == 0,
                 "request of " + std::to_string(request.size.count()) + " bytes at " +
                     std::to_string(request.address) + " in whole bursts");
    STOAT_ENSURE(request.address <= map.capacity().count() &&
                     request.size.count() <= map.capacity().count() - request.address,
                 "request of " + std::to_string(request.size.count()) + " bytes at " +
                     std::to_string(request.address) + " within the pseudo-channel's " +
                     std::to_string(map.capacity().count()) + " bytes");
    STOAT_ENSURE(request.write || !request.partial, "only writes can be partial");
    STOAT_ENSURE(request.arrival >= last_arrival,
                 "request at " + std::to_string(request.arrival.count()) +
                     " ps not before the last, at " + std::to_string(last_arrival.count()) + " ps");
  }

  const DramStandard standard;
  const Hertz ticks;  // half command cycles a second
  const AddressMap map;
  RowCommandBus bus;
  std::vector<PseudoChannel> pseudo_channels;
  Picoseconds last_arrival{0};
};

DramChannel::DramChannel(const DramStandard& standard, const ChannelOptions& options)
    : state_(std::make_unique<State>(standard, options)) {}
DramChannel::~DramChannel() = default;
DramChannel::DramChannel(DramChannel&&) noexcept = default;

MemoryReply DramChannel::access(const MemoryRequest& request) {
  State& state = *state_;
  state.check(request);
  state.last_arrival = request.arrival;
  const Tick arrival = cycles_until(request.arrival, state.ticks);
  state.bus.forget_before(arrival);
  PseudoChannel& pseudo_channel = state.pseudo_channels[request.pseudo_channel];
  const std::uint64_t burst = state.standard.access_size.count();
  const std::uint64_t contiguous = state.map.contiguous().count();
  const std::uint64_t activates = pseudo_channel.counts().activates;
  const bool change = request.partial && state.standard.masked_write == 0;
  DataTimes times;
  std::uint64_t address = request.address;
  for (std::uint64_t left = request.size.count(); left > 0;) {
    // A burst that is read, changed and written back goes by itself: the write follows its data.
    const std::uint64_t bytes =
        change ? burst : std::min(left, contiguous - (address & (contiguous - 1)));
    Tick ready = 0;
    if (change) {
      DataTimes read;
      pseudo_channel.transfer(state.map.decode(address), 1, false, arrival, 0, state.bus, read);
      ready = read.last;
    }
    pseudo_channel.transfer(state.map.decode(address), static_cast<std::uint32_t>(bytes / burst),
                            request.write, arrival, ready, state.bus, times);
    address += bytes;
    left -= bytes;
  }
  return {time_of_cycles(times.first, state.ticks), time_of_cycles(times.last, state.ticks),
          pseudo_channel.counts().activates - activates};
}

void DramChannel::finish(Picoseconds end) {
  State& state = *state_;
  const Tick last = cycles_until(end, state.ticks);
  for (PseudoChannel& pseudo_channel : state.pseudo_channels) pseudo_channel.finish(last);
  const ChannelCounts all = counts();
  STOAT_ENSURE(all.activates * state.standard.activate_bus_cycles <= last,
               "the row-command bus carries one activation at a time");
}

void DramChannel::observe(ChannelObserver& observer) {
  for (std::uint32_t i = 0; i < state_->pseudo_channels.size(); ++i) {
    state_->pseudo_channels[i].observe(observer, i, state_->ticks);
  }
}

ChannelCounts DramChannel::counts() const {
  ChannelCounts sum;
  for (std::uint32_t i = 0; i < state_->pseudo_channels.size(); ++i) sum += counts(i);
  return sum;
}

ChannelCounts DramChannel::counts(std::uint32_t pseudo_channel) const {
  const State& state = *state_;
  STOAT_ENSURE(pseudo_channel < state.pseudo_channels.size(), "pseudo-channel exists");
  ChannelCounts counts = state.pseudo_channels[pseudo_channel].counts();
  const std::uint64_t bursts = counts.read_bursts + counts.write_bursts;
  counts.bytes_moved = Bytes(bursts * state.standard.access_size.count());
  counts.data_bus_busy =
      time_of_cycles(bursts * state.standard.burst_cycles, state.standard.command_clock);
  return counts;
}

const AddressMap& DramChannel::address_map() const { return state_->map; }

}  // namespace stoat::sim
