// The life of an engine: wait for a layer step, score, select, gather, report done.
#include "sim/engine/engine_module.h"

#include <algorithm>

#include "models/error.h"

namespace stoat::sim {
void HeadBarrier::meet(std::uint32_t active) {
  if (++waiting_ == engines_) {
    waiting_ = 0;
    open_.notify(sc_from(active > 1 ? latency_ : Picoseconds(0)));
  }
  sc_core::wait(open_);
}

EngineModule::EngineModule(sc_core::sc_module_name name, std::uint32_t index,
                           const EngineShape& shape, const DramStandard& dram,
                           const Datapath& datapath, HeadBarrier& head, StepBoard& board)
    : sc_module(name),
      socket("socket"),
      index_(index),
      shape_(shape),
      datapath_(datapath),
      head_(head),
      board_(board),
      burst_time_(time_of_cycles(dram.burst_cycles, dram.command_clock)),
      score_(shape.point.clock),
      exponential_(shape.point.clock),
      select_(shape.point.clock),
      gather_(shape.point.clock),
      bursts_(shape.point.outstanding_bursts),
      buffer_(shape.point.row_buffer.count()) {
  payload_.set_extension(&extension_);
  SC_THREAD(run);
}

// A payload deletes the extensions that it still holds.
EngineModule::~EngineModule() { payload_.clear_extension(&extension_); }

LaneUnit& EngineModule::gather_lanes() {
  return datapath_.gather->shares_score_lanes ? score_ : gather_;
}

Interval EngineModule::run_lanes(Stage stage, LaneUnit& lanes, Interval data, CoreCycles busy,
                                 CoreCycles tail, Picoseconds room) {
  busy_[static_cast<std::size_t>(stage)] += busy;
  const Interval span = lanes.run(data.begin, data.end, busy, tail, room);
  if (board_.timeline != nullptr && busy.count() > 0) {
    std::size_t unit = 0;
    while (unit + 1 < kUnits && units()[unit] != &lanes) ++unit;
    show(static_cast<Timeline::Track>(unit), span, shown_);
  }
  return span;
}

void EngineModule::check(Picoseconds end) const {
  for (const LaneUnit* unit : units()) unit->check(end);
}

void EngineModule::wait_until(Picoseconds t) {
  const Picoseconds now = now_ps();
  if (t > now) sc_core::wait(sc_from(t - now));
}

void EngineModule::run() {
  for (;;) {
    sc_core::wait(board_.start);
    try {
      for (const EngineWork& work : (*board_.work)[index_]) run_work(work);
    } catch (...) {
      if (!board_.failure) {
        board_.failure = std::current_exception();
        sc_core::sc_stop();
      }
      return;
    }
    if (--board_.running == 0) board_.done.notify(sc_core::SC_ZERO_TIME);
  }
}

void EngineModule::run_work(const EngineWork& work) {
  const Plans plans{datapath_.score->plan(work, shape_), datapath_.gather->plan(work, shape_),
                    datapath_.select->plan(work, shape_)};
  for (std::size_t event = 0; event < kEvents; ++event) {
    events_.at(Stage::kScore, static_cast<Event>(event)) += plans.score.events[event];
    events_.at(Stage::kSelect, static_cast<Event>(event)) += plans.select.events[event];
    events_.at(Stage::kGather, static_cast<Event>(event)) += plans.gather.events[event];
  }
  work_end_ = now_ps();
  coded_.clear();
  for (LaneUnit* unit : {&score_, &exponential_, &select_, &gather_}) unit->begin_work(work_end_);
  append(work);
  run_lanes(Stage::kSelect, select_, {now_ps(), now_ps()}, plans.select.prelude, CoreCycles(0));
  if (plans.select.streams) {
    run_streaming(work, plans);
  } else {
    run_with_exchange(work, plans);
  }
  wait_until(work_end_);
  // Each engine gets its slice of the partial outputs.
  head_.meet(work.active_engines);
  const Interval merge = run_lanes(Stage::kGather, gather_lanes(), {now_ps(), now_ps()},
                                   plans.gather.merge, CoreCycles(0));
  wait_until(merge.end);
}

void EngineModule::append(const EngineWork& work) {
  for (const Fetch& fetch : append_fetches(work, shape_)) {
    work_end_ = std::max(work_end_, issue(fetch, Picoseconds(0)).last);
  }
}

void EngineModule::count_rows(const WorkItem& item) {
  if (item.fetches.empty()) return;
  Traffic& traffic = traffic_[static_cast<std::size_t>(item.fetches.back().part)];
  traffic.distinct_rows += item.rows;
  traffic.logical_rows += item.logical_rows;
  traffic.logical += shape_.row_bytes() * item.logical_rows;
}

Interval EngineModule::run_item(const WorkItem& item, LaneUnit& lanes, Picoseconds ready,
                                Picoseconds usable, Picoseconds room) {
  if (!shape_.point.double_buffer) return run_in_turns(item, lanes, ready, usable, room);
  Issued all{Picoseconds(0), Picoseconds(0)};
  std::uint64_t bytes = 0;
  Part part = Part::kKey;
  for (const Fetch& fetch : item.fetches) {
    const Issued one = issue(fetch, ready);
    all.first = bytes == 0 ? one.first : std::min(all.first, one.first);
    all.last = std::max(all.last, one.last);
    bytes += fetch.size.count();
    part = fetch.part;
  }
  const Interval span =
      run_lanes(stage_of(part), lanes, {std::max(all.first, usable), std::max(all.last, usable)},
                item.busy, item.tail, room);
  buffer_.add(bytes, span.end, span.end - span.begin);
  count_rows(item);
  work_end_ = std::max(work_end_, span.end);
  return span;
}

// Blocks of the row buffer: one is filled, then emptied by the lanes, then the next is filled.
Interval EngineModule::run_in_turns(const WorkItem& item, LaneUnit& lanes, Picoseconds ready,
                                    Picoseconds usable, Picoseconds room) {
  const std::uint64_t access = shape_.access.count();
  const std::uint64_t block = std::max(access, shape_.point.row_buffer.count() / access * access);
  std::uint64_t total = 0, done = 0, cycles = 0;
  for (const Fetch& fetch : item.fetches) total += fetch.size.count();
  Interval span{Picoseconds(0), lanes.free_at()};
  for (const Fetch& fetch : item.fetches) {
    for (std::uint64_t from = 0; from < fetch.size.count(); from += block) {
      Fetch piece = fetch;
      piece.address += from;
      piece.size = Bytes(std::min(block, fetch.size.count() - from));
      // What was asked for lies at the front; the rest of the last burst is not.
      piece.requested = Bytes(std::min(
          piece.size.count(), fetch.requested.count() - std::min(fetch.requested.count(), from)));
      const Issued one = issue(piece, std::max(ready, emptied_));
      done += piece.size.count();
      const std::uint64_t until = item.busy.count() * done / total;  // exact at the end
      const Interval work = run_lanes(stage_of(piece.part), lanes,
                                      {std::max(one.last, usable), std::max(one.last, usable)},
                                      CoreCycles(until - cycles), CoreCycles(0), room);
      if (cycles == 0 && done == piece.size.count()) span.begin = work.begin;
      cycles = until;
      span.end = emptied_ = work.end;
    }
  }
  count_rows(item);
  work_end_ = std::max(work_end_, span.end);
  return span;
}

// Scores leave for the exponential lanes (and the ranking comparators) through a queue of tiles.
Picoseconds EngineModule::queue_room(std::size_t tile) const {
  const std::size_t depth = shape_.point.queue_tiles;
  return tile < depth ? Picoseconds(0) : coded_[tile - depth];
}

Picoseconds EngineModule::score_tile(const Plans& plans, std::size_t tile) {
  shown_ = tile;
  const WorkItem& item = plans.score.items[tile];
  const Interval scored = run_item(item, score_, Picoseconds(0), Picoseconds(0), queue_room(tile));
  Interval codes =
      run_lanes(Stage::kSelect, exponential_, scored, plans.select.scored[tile], CoreCycles(1));
  if (!plans.select.ranked.empty()) {
    codes = run_lanes(Stage::kSelect, select_, codes, plans.select.ranked[tile], CoreCycles(1));
  }
  coded_.push_back(codes.end);
  if (board_.timeline != nullptr) {  // tiles scored and not yet coded
    const auto waiting =
        std::count_if(coded_.begin(), coded_.end(), [&](Picoseconds t) { return t > scored.end; });
    board_.timeline->queue(index_, scored.end, static_cast<std::uint32_t>(waiting));
  }
  work_end_ = std::max(work_end_, codes.end);
  return codes.end;
}

Picoseconds EngineModule::transfer_spilled(const std::vector<WorkItem>& items, std::size_t& next,
                                           std::uint32_t tile, Picoseconds ready) {
  Picoseconds last = ready;
  for (; next < items.size() && items[next].tile_index <= tile; ++next) {
    for (const Fetch& fetch : items[next].fetches) {
      last = std::max(last,
                      issue(fetch, fetch.part == Part::kSpillWrite ? ready : Picoseconds(0)).last);
    }
  }
  work_end_ = std::max(work_end_, last);
  return last;
}

void EngineModule::run_streaming(const EngineWork& work, const Plans& plans) {
  std::size_t next_row = 0, next_write = 0, next_read = 0;
  // Rows of a tile are gathered while the next one is scored.
  const auto gather = [&](std::uint32_t tile, Picoseconds codes) {
    shown_ = tile;
    const Picoseconds spilled = transfer_spilled(plans.select.spill_reads, next_read, tile, codes);
    const Interval scan = run_lanes(Stage::kSelect, select_, {spilled, spilled},
                                    plans.select.scan[tile], CoreCycles(0));
    const bool every_row = !datapath_.gather->reads_selected_rows;
    next_row = run_rows(plans.gather.items, next_row, tile, every_row ? Picoseconds(0) : scan.end,
                        scan.end);
    work_end_ = std::max(work_end_, scan.end);
  };
  Picoseconds previous{0};
  for (std::uint32_t tile = 0; tile < work.tiles.size(); ++tile) {
    const Picoseconds codes = score_tile(plans, tile);
    transfer_spilled(plans.select.spill_writes, next_write, tile, codes);
    if (tile > 0) gather(tile - 1, previous);
    previous = codes;
  }
  if (!work.tiles.empty()) gather(static_cast<std::uint32_t>(work.tiles.size()) - 1, previous);
}

void EngineModule::run_with_exchange(const EngineWork& work, const Plans& plans) {
  std::size_t next_row = 0, next_write = 0, next_read = 0;
  for (std::uint32_t tile = 0; tile < work.tiles.size(); ++tile) {
    const Picoseconds codes = score_tile(plans, tile);
    transfer_spilled(plans.select.spill_writes, next_write, tile, codes);
  }
  wait_until(work_end_);
  head_.meet(work.active_engines);
  Picoseconds known =
      run_lanes(Stage::kSelect, select_, {now_ps(), now_ps()}, plans.select.preamble, CoreCycles(0))
          .end;
  for (std::uint32_t tile = 0; tile < work.tiles.size(); ++tile) {
    shown_ = tile;
    const Picoseconds codes = transfer_spilled(plans.select.spill_reads, next_read, tile, now_ps());
    known =
        run_lanes(Stage::kSelect, select_, {codes, codes}, plans.select.scan[tile], CoreCycles(0))
            .end;
    next_row = run_rows(plans.gather.items, next_row, tile, known, known);
  }
  work_end_ = std::max(work_end_, known);
}

}  // namespace stoat::sim
