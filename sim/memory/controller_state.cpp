// The channel around the schedulers. Time jumps from one tick with something to do to the next.
// After a column command the bursts that find room are admitted at once, because nothing else can
// happen before the next tick.
#include "sim/memory/controller_state.h"

#include <string>

#include "models/error.h"

namespace stoat::sim {

void DramController::State::check(const MemoryRequest& request) const {
  STOAT_ENSURE(request.pseudo_channel < schedulers.size(),
               "pseudo-channel " + std::to_string(request.pseudo_channel));
  const std::uint64_t burst = standard.access_size.count();
  const std::uint64_t capacity = map.capacity().count();
  STOAT_ENSURE(
      request.size.count() > 0 && request.size.count() % burst == 0 && request.address % burst == 0,
      "a request in whole bursts");
  STOAT_ENSURE(request.address <= capacity && request.size.count() <= capacity - request.address,
               "a request within the pseudo-channel's capacity");
  STOAT_ENSURE(request.arrival >= last_arrival, "requests come in order of arrival");
  STOAT_ENSURE(!request.partial || request.write, "only writes can be partial");
}

std::uint32_t DramController::State::new_slot(const MemoryRequest& request) {
  std::uint32_t slot;
  if (free_requests.empty()) {
    slot = static_cast<std::uint32_t>(requests.size());
    requests.emplace_back();
  } else {
    slot = free_requests.back();
    free_requests.pop_back();
  }
  requests[slot] = {next_id++,
                    request.size.count() / standard.access_size.count(),
                    kNever,
                    0,
                    0,
                    0,
                    request.pseudo_channel,
                    request.write,
                    request.partial && standard.masked_write == 0};
  return slot;
}

// ---- admission

void DramController::State::start_piece(InputQueue& input) {
  Input& front = input.requests.front();
  const OpenRequest& request = requests[front.slot];
  const std::uint64_t contiguous = map.contiguous().count();
  const std::uint64_t bytes = std::min(front.left, contiguous - (front.address & (contiguous - 1)));
  const BankAddress where = map.decode(front.address);
  input.pseudo_channel = request.pseudo_channel;
  input.next.age = front.age;
  input.next.request = front.slot;
  input.next.bank =
      (where.stack * standard.bank_groups + where.bank_group) * standard.banks_per_group +
      where.bank;
  input.next.row = where.row;
  input.next.write = request.write && !request.modify;
  input.next.modify = request.modify;
  input.piece_left = static_cast<std::uint32_t>(bytes / standard.access_size.count());
  input.piece = kNoPiece;
  front.age += input.piece_left;
  front.address += bytes;
  front.left -= bytes;
}

void DramController::State::admit_from(InputQueue& input, Tick now) {
  input.next_arrival = kNever;
  while (input.entries < options.queue_bursts) {
    if (input.piece_left == 0) {
      if (input.requests.empty()) return;
      if (input.requests.front().arrival > now) {
        input.next_arrival = input.requests.front().arrival;
        return;
      }
      start_piece(input);
    }
    const auto room = static_cast<std::uint32_t>(options.queue_bursts - input.entries);
    const std::uint32_t count = std::min(room, input.piece_left);
    Scheduler& scheduler = schedulers[input.pseudo_channel];
    if (input.piece == kNoPiece) {
      input.next.waiting = count;
      input.piece = scheduler.add(input.next);
    } else {
      scheduler.add_bursts(input.piece, count);
    }
    input.next.age += count;
    input.entries += count;
    input.piece_left -= count;
    if (input.piece_left == 0 && input.requests.front().left == 0) input.requests.pop_front();
  }
}

// What finds room after a column command, at next_tick.
void DramController::State::refill(InputQueue& input) {
  if (input.piece_left > 1 && input.piece != kNoPiece &&
      input.entries + 1 == options.queue_bursts && modified.empty()) {  // the usual case
    schedulers[input.pseudo_channel].add_bursts(input.piece, 1);
    ++input.next.age;
    ++input.entries;
    --input.piece_left;
    for (Scheduler& scheduler : schedulers) scheduler.update_direction();
    return;
  }
  admit(next_tick);
  timer = std::min(timer, input.next_arrival);
}

void DramController::State::admit(Tick now) {
  while (!modified.empty() && modified.front().at <= now) {
    schedulers[modified.front().pseudo_channel].add(modified.front().piece);
    modified.pop_front();
  }
  for (InputQueue& input : inputs) {
    if (input.entries < options.queue_bursts) admit_from(input, now);
  }
  for (Scheduler& scheduler : schedulers) scheduler.update_direction();
}

// ---- time

void DramController::State::set_timer() {
  timer = modified.empty() ? kNever : modified.front().at;
  for (const Scheduler& each : schedulers) timer = std::min(timer, each.refresh_due());
  for (const InputQueue& input : inputs) timer = std::min(timer, input.next_arrival);
}

// The tick of the next command at or after `from`; says what it is.
Tick DramController::State::choose(Tick from) {
  from = std::max(from, awake);
  if (changes.column) choose_column(from);
  if (changes.row) choose_row(from);
  return std::min(column->at, row->at);
}

void DramController::State::choose_column(Tick from) {
  changes.column = false;
  from = std::max(from, *column_bus_free);
  column_owner = 0;
  column = &schedulers[0].next_column(from);
  for (std::uint32_t p = 1; p < schedulers.size(); ++p) {
    const ColumnChoice& other = schedulers[p].next_column(from);
    if (!other.before(*column)) continue;
    column = &other;
    column_owner = p;
  }
}

void DramController::State::choose_row(Tick from) {
  changes.row = false;
  from = std::max(from, row_bus_free);
  row_owner = 0;
  row = &schedulers[0].next_row(from);
  for (std::uint32_t p = 1; p < schedulers.size(); ++p) {
    const RowChoice& other = schedulers[p].next_row(from);
    if (!other.before(*row)) continue;
    row = &other;
    row_owner = p;
  }
}

bool DramController::State::idle() const {
  for (const Scheduler& s : schedulers) {
    if (s.waiting() > 0 || s.wants_to_close() || s.refreshing()) return false;
  }
  return modified.empty();
}

// An idle channel has been powered down since some time after its last activity, and wakes up now.
void DramController::State::power(Tick now) {
  if (idle_after == 0 || !idle() || now <= last_activity + idle_after) return;
  const Tick entered = last_activity + idle_after;
  const Tick left = std::max(now, entered + timing.power_down_min);
  for (Scheduler& scheduler : schedulers) {
    scheduler.account(entered, false);
    scheduler.account(left, true);
  }
  ++power_downs;
  awake = left + timing.power_down_exit;
  last_activity = accounted = left;
}

void DramController::State::on_timer(Tick now) {
  power(now);
  admit(now);
  admission_due = false;
  for (Scheduler& scheduler : schedulers) {
    if (scheduler.refresh_due() <= now) scheduler.begin_refresh();
  }
  set_timer();
  changes = Changes{};
}

// Does what happens at the next tick with something to do, if it comes before `limit`.
bool DramController::State::step(Tick limit) {
  Tick now = std::max(next_tick, std::min(timer, choose(next_tick)));
  if (admission_due) now = next_tick;
  if (now >= limit) return false;
  if (now >= timer || admission_due) {
    on_timer(now);
    choose(now);
  }
  const bool transfers = column->at == now;
  if (transfers) {
    place_column(now);
    if (changes.row) choose_row(now);
  }
  if (row->at == now) place_row(now);
  next_tick = now + 1;
  admission_due = next_tick >= limit;  // what arrives then may not be known yet
  if (transfers && !admission_due) refill(input_of(column_owner));
  return true;
}

void DramController::State::place_column(Tick now) {
  const Scheduler::Taken taken = schedulers[column_owner].take_column(column->bank, now);
  *column_bus_free = now + timing.column_bus;
  column_bus_busy += timing.column_bus;
  last_activity = std::max(last_activity, now);
  if (column_bus_free == &row_bus_free) changes.row = true;
  finish_burst(taken, column_owner);
}

void DramController::State::place_row(Tick now) {
  const RowChoice choice = *row;
  const Tick length =
      choice.command == RowCommand::kActivate ? timing.activate_bus : timing.precharge_bus;
  last_activity = std::max(last_activity, schedulers[row_owner].take_row(choice));
  row_bus_free = std::max(row_bus_free, now + length);
  row_bus_busy += length;
  if (column_bus_free == &row_bus_free) changes.column = true;
  if (choice.rank == 0) set_timer();
}

void DramController::State::finish_burst(const Scheduler::Taken& taken, std::uint32_t p) {
  const Piece& piece = taken.piece;
  InputQueue& input = input_of(p);
  if (taken.last && input.piece_left > 0 && input.piece == taken.place &&
      input.pseudo_channel == p) {
    input.piece = kNoPiece;
  }
  last_data = std::max(last_data, taken.data);
  requests[piece.request].activates += piece.activates;
  if (piece.modify) {  // keeps its entry until it is written back
    Modified back{taken.data, p, piece};
    back.piece.waiting = 1;
    back.piece.write = true;
    back.piece.modify = false;
    back.piece.activates = 0;
    ++requests[piece.request].changed;
    modified.push_back(back);
    timer = std::min(timer, back.at);
    return;
  }
  --input.entries;
  OpenRequest& request = requests[piece.request];
  request.first = std::min(request.first, taken.data);
  request.last = std::max(request.last, taken.data);
  if (--request.left > 0) return;
  completions.push_back({request.id, clock.time(request.first), clock.time(request.last),
                         request.activates, request.changed});
  free_requests.push_back(piece.request);
  --unfinished;
}

}  // namespace stoat::sim
