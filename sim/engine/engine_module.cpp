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
                                 CoreCycles tail) {
  busy_[static_cast<std::size_t>(stage)] += busy;
  return lanes.run(data.begin, data.end, busy, tail);
}

void EngineModule::check(Picoseconds end) const {
  for (const LaneUnit* unit : {&score_, &exponential_, &select_, &gather_}) unit->check(end);
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
      if (!board_.failure) board_.failure = std::current_exception();
      sc_core::sc_stop();
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

EngineModule::Issued EngineModule::issue(const Fetch& fetch, Picoseconds ready) {
  const std::uint64_t bursts = fetch.size.count() / shape_.access.count();
  Picoseconds start = std::max(ready, bursts_.admits(bursts));
  if (fetch.part == Part::kKey || fetch.part == Part::kValue) {
    const std::uint64_t need = fetch.size.count() <= shape_.point.row_buffer.count()
                                   ? fetch.size.count()
                                   : shape_.access.count();
    start = std::max(start, buffer_.admits(need));
  }
  wait_until(start);
  const bool write = fetch.part == Part::kSpillWrite;
  payload_.set_command(write ? tlm::TLM_WRITE_COMMAND : tlm::TLM_READ_COMMAND);
  payload_.set_address(fetch.address);
  payload_.set_data_length(static_cast<unsigned>(fetch.size.count()));
  payload_.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  socket->b_transport(payload_, delay);
  STOAT_ENSURE(payload_.is_response_ok(), "the memory refused a transaction");
  const Picoseconds last = now_ps() + Picoseconds(delay.value());
  bursts_.add(bursts, last, Picoseconds(burst_time_.count() * bursts));

  Traffic& traffic = traffic_[static_cast<std::size_t>(fetch.part)];
  traffic.requested += fetch.requested;
  traffic.moved += fetch.size;
  traffic.bursts += bursts;
  const Stage stage = stage_of(fetch.part);
  events_.at(stage, write ? Event::kDramWriteBits : Event::kDramReadBits) += fetch.size.count() * 8;
  events_.at(stage, Event::kDramActivate) += extension_.activates;
  return {extension_.first_data, last};
}

Interval EngineModule::run_item(const WorkItem& item, LaneUnit& lanes, Picoseconds ready,
                                Picoseconds usable) {
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
                item.busy, item.tail);
  buffer_.add(bytes, span.end, span.end - span.begin);
  if (!item.fetches.empty()) {
    Traffic& traffic = traffic_[static_cast<std::size_t>(part)];
    traffic.distinct_rows += item.rows;
    traffic.logical_rows += item.logical_rows;
    traffic.logical += shape_.row_bytes() * item.logical_rows;
  }
  work_end_ = std::max(work_end_, span.end);
  return span;
}

Picoseconds EngineModule::score_tile(const Plans& plans, std::size_t tile) {
  const WorkItem& item = plans.score.items[tile];
  const Interval scored = run_item(item, score_, Picoseconds(0), Picoseconds(0));
  const Interval codes =
      run_lanes(Stage::kSelect, exponential_, scored, plans.select.scored[tile], CoreCycles(1));
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
    const Picoseconds spilled = transfer_spilled(plans.select.spill_reads, next_read, tile, codes);
    const Interval scan = run_lanes(Stage::kSelect, select_, {spilled, spilled},
                                    plans.select.scan[tile], CoreCycles(0));
    const bool every_row = !datapath_.gather->reads_selected_rows;
    for (; next_row < plans.gather.items.size() && plans.gather.items[next_row].tile_index == tile;
         ++next_row) {
      run_item(plans.gather.items[next_row], gather_lanes(), every_row ? Picoseconds(0) : scan.end,
               scan.end);
    }
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
    const Picoseconds codes = transfer_spilled(plans.select.spill_reads, next_read, tile, now_ps());
    known =
        run_lanes(Stage::kSelect, select_, {codes, codes}, plans.select.scan[tile], CoreCycles(0))
            .end;
    for (; next_row < plans.gather.items.size() && plans.gather.items[next_row].tile_index == tile;
         ++next_row) {
      run_item(plans.gather.items[next_row], gather_lanes(), known, known);
    }
  }
  work_end_ = std::max(work_end_, known);
}

}  // namespace stoat::sim
