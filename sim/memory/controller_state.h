// The inside of DramController: input, admission, shared command buses, power-down, time. Used by
// controller*.cpp only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "sim/memory/controller.h"
#include "sim/memory/scheduler.h"

namespace stoat::sim {

// A request in the input, cut into rows as its bursts are admitted.
struct Input {
  std::uint32_t slot = 0;
  std::uint64_t address = 0, left = 0;  // bytes
  std::uint64_t age = 0;                // of the next burst
  Tick arrival = 0;
};

struct InputQueue {
  std::deque<Input> requests;
  std::uint64_t entries = 0;   // bursts in the queue
  Tick next_arrival = kNever;  // when the next request comes to a queue with room
  // The piece that the front request fills at the moment, and its bursts that are still to come.
  std::uint32_t piece = kNoPiece, piece_left = 0, pseudo_channel = 0;
  Piece next;
};

struct OpenRequest {
  std::uint64_t id = 0, left = 0;  // bursts
  Tick first = kNever, last = 0;
  std::uint64_t activates = 0, changed = 0;
  std::uint32_t pseudo_channel = 0;
  bool write = false, modify = false;
};

struct Modified {  // a burst that was read and is to be written back
  Tick at = 0;
  std::uint32_t pseudo_channel = 0;
  Piece piece;
};

// The options as they hold for the standard. Throws Error (usage).
ControllerOptions resolved_options(ControllerOptions options, const DramStandard& standard);

struct DramController::State {
  State(const DramStandard& s, const ControllerOptions& given)
      : standard(s),
        options(resolved_options(given, s)),
        timing(s),
        ticks(Hertz(2 * s.command_clock.count())),
        clock(ticks),
        map(s),
        inputs(given.shared_queue ? 1 : s.pseudo_channels),
        idle_after(2 * Tick{given.power_down_after}),
        column_bus_free(s.command_buses == 2 ? &own_column_bus : &row_bus_free) {
    for (std::uint32_t i = 0; i < s.pseudo_channels; ++i)
      schedulers.emplace_back(s, options, i, changes);
    set_timer();
  }

  InputQueue& input_of(std::uint32_t p) { return inputs[options.shared_queue ? 0 : p]; }

  void check(const MemoryRequest& request) const;
  std::uint32_t new_slot(const MemoryRequest& request);
  void admit(Tick now);
  void admit_from(InputQueue& input, Tick now);
  void start_piece(InputQueue& input);
  void refill(InputQueue& input);

  bool step(Tick limit);
  Tick choose(Tick from);
  void choose_column(Tick from);
  void choose_row(Tick from);
  void set_timer();
  void on_timer(Tick now);
  bool idle() const;
  void power(Tick now);
  void place_column(Tick now);
  void place_row(Tick now);
  void finish_burst(const Scheduler::Taken& taken, std::uint32_t p);

  const DramStandard standard;
  const ControllerOptions options;
  const TickTiming timing;
  const Hertz ticks;  // half command cycles a second
  const TickClock clock;
  const AddressMap map;
  Changes changes;
  std::vector<Scheduler> schedulers;  // [pseudo_channels]
  std::vector<InputQueue> inputs;
  std::vector<OpenRequest> requests;
  std::vector<std::uint32_t> free_requests;
  std::deque<Modified> modified;
  std::vector<Completion> completions;

  Tick next_tick = 0;                             // everything before is done
  bool admission_due = false;                     // of what finds room at next_tick
  Tick timer = 0;                                 // the next arrival, refresh or write back
  std::uint32_t column_owner = 0, row_owner = 0;  // pseudo-channels of the next commands
  const ColumnChoice* column = nullptr;
  const RowChoice* row = nullptr;
  Tick row_bus_busy = 0, column_bus_busy = 0;
  Tick last_activity = 0, accounted = 0, awake = 0;
  const Tick idle_after;
  Tick row_bus_free = 0, own_column_bus = 0;
  Tick* const column_bus_free;  // of the bus that column commands take
  std::uint64_t power_downs = 0;
  std::uint64_t next_id = 0, next_age = 0, unfinished = 0;
  Tick last_data = 0;
  Picoseconds last_arrival{0};
};

}  // namespace stoat::sim
