// Options and the interface of the first-ready controller; its work is in controller_state.cpp.
#include "sim/memory/controller.h"

#include <algorithm>
#include <string>

#include "models/error.h"
#include "sim/memory/controller_state.h"

namespace stoat::sim {

void check_controller_options(const ControllerOptions& o, const DramStandard& standard) {
  const auto number = [](std::uint32_t n) { return std::to_string(n); };
  if (o.queue_bursts == 0) {
    throw usage_error({}, "a memory queue of 0 entries", "at least 1 burst");
  }
  if (o.write_high > o.queue_bursts || (o.write_high > 0 && o.write_low >= o.write_high)) {
    throw usage_error({},
                      "write watermarks " + number(o.write_low) + " and " + number(o.write_high) +
                          " with a queue of " + number(o.queue_bursts),
                      "low < high <= queue");
  }
  if (o.page_policy == PagePolicy::kTimeout && o.page_timeout == 0) {
    throw usage_error({}, "a page timeout of 0 cycles", "at least 1, or the closed page policy");
  }
  if (o.refresh == RefreshMode::kPerBank && standard.refresh_interval > 0 &&
      standard.refresh_bank_cycles == 0) {
    throw usage_error({}, "per-bank refresh with " + standard.name,
                      "a standard with refresh_bank_cycles");
  }
}

ControllerOptions resolved_options(ControllerOptions options, const DramStandard& standard) {
  check_controller_options(options, standard);
  if (standard.refresh_interval == 0) options.refresh = RefreshMode::kNone;
  return options;
}

// ---- the interface

DramController::DramController(const DramStandard& standard, const ControllerOptions& options)
    : state_(std::make_unique<State>(standard, options)) {}
DramController::~DramController() = default;
DramController::DramController(DramController&&) noexcept = default;

std::uint64_t DramController::submit(const MemoryRequest& request) {
  State& state = *state_;
  state.check(request);
  state.last_arrival = request.arrival;
  const Tick arrival = cycles_until(request.arrival, state.ticks);
  STOAT_ENSURE(arrival >= state.next_tick || state.next_tick == 0, "a request of the past");
  const std::uint32_t slot = state.new_slot(request);
  InputQueue& input = state.input_of(request.pseudo_channel);
  if (input.requests.empty() && input.piece_left == 0 &&
      input.entries < state.options.queue_bursts) {
    input.next_arrival = arrival;
    state.timer = std::min(state.timer, arrival);
  }
  input.requests.push_back({slot, request.address, request.size.count(), state.next_age, arrival});
  state.next_age += state.requests[slot].left;
  ++state.unfinished;
  return state.requests[slot].id;
}

void DramController::advance(Picoseconds until) {
  State& state = *state_;
  const Tick limit = cycles_until(until, state.ticks);
  while (state.step(limit)) {
  }
  state.next_tick = std::max(state.next_tick, limit);
}

bool DramController::advance_to_completion(Picoseconds until) {
  State& state = *state_;
  const Tick limit = cycles_until(until, state.ticks);
  const std::size_t known = state.completions.size();
  while (state.completions.size() == known) {
    if (state.step(limit)) continue;
    state.next_tick = std::max(state.next_tick, limit);
    return false;
  }
  return true;
}

void DramController::drain() {
  State& state = *state_;
  while (state.unfinished > 0) {
    STOAT_ENSURE(state.step(kNever), "waiting requests can be served");
  }
}

std::vector<Completion> DramController::take_completions() {
  std::vector<Completion> taken;
  taken.swap(state_->completions);
  return taken;
}

void DramController::take_completions(std::vector<Completion>& into) {
  into.clear();
  into.swap(state_->completions);
}

void DramController::observe(ChannelObserver& observer) {
  for (Scheduler& scheduler : state_->schedulers) scheduler.observe(observer, state_->clock);
}

Picoseconds DramController::last_data() const {
  return time_of_cycles(state_->last_data, state_->ticks);
}

void DramController::finish(Picoseconds end) {
  State& state = *state_;
  STOAT_ENSURE(state.unfinished == 0, "no request is left");
  advance(end);
  // Leaving power-down takes its least stay: the account may end a few cycles later.
  const Tick last = std::max(cycles_until(end, state.ticks), state.accounted);
  STOAT_ENSURE(last >= state.last_data, "the end lies after the last data");
  const bool down =
      state.idle_after > 0 && state.idle() && last > state.last_activity + state.idle_after;
  for (Scheduler& scheduler : state.schedulers) {
    if (down) scheduler.account(state.last_activity + state.idle_after, false);
    scheduler.account(last, down);
    scheduler.check_bounds(last);
  }
  state.power_downs += down ? 1 : 0;
  const Tick longest = state.timing.activate_bus + state.timing.column_bus;
  STOAT_ENSURE(state.row_bus_busy <= last + longest && state.column_bus_busy <= last + longest,
               "command buses carry one command at a time");
  STOAT_ENSURE(state.standard.command_buses == 2 ||
                   state.row_bus_busy + state.column_bus_busy <= last + longest,
               "one bus carries rows and columns");
}

ChannelCounts DramController::counts() const {
  ChannelCounts sum;
  for (std::uint32_t i = 0; i < state_->schedulers.size(); ++i) sum += counts(i);
  return sum;
}

ChannelCounts DramController::counts(std::uint32_t pseudo_channel) const {
  const State& state = *state_;
  STOAT_ENSURE(pseudo_channel < state.schedulers.size(), "pseudo-channel exists");
  const Scheduler& scheduler = state.schedulers[pseudo_channel];
  ChannelCounts counts = scheduler.counts();
  const std::uint64_t bursts = counts.read_bursts + counts.write_bursts;
  counts.bytes_moved = Bytes(bursts * state.standard.access_size.count());
  counts.data_bus_busy =
      time_of_cycles(bursts * state.standard.burst_cycles, state.standard.command_clock);
  const auto& ticks = scheduler.states().ticks;
  counts.precharge_standby = time_of_cycles(ticks[0][0], state.ticks);
  counts.active_standby = time_of_cycles(ticks[0][1], state.ticks);
  counts.precharge_down = time_of_cycles(ticks[1][0], state.ticks);
  counts.active_down = time_of_cycles(ticks[1][1], state.ticks);
  counts.power_downs = state.power_downs;
  return counts;
}

const AddressMap& DramController::address_map() const { return state_->map; }

}  // namespace stoat::sim
