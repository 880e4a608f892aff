// The life of an engine: wait for a layer step; score, select and gather its KV heads; report done.
#include "sim/engine/engine_module.h"

#include <algorithm>

#include "models/error.h"

namespace stoat::sim {
namespace {

// Half a row buffer would leave the lanes without data while the other half is under way.
constexpr std::uint64_t kPiecesUnderWay = 4;

std::uint64_t piece_bytes(const EngineShape& shape) {
  const std::uint64_t access = shape.access.count();
  const std::uint64_t buffer = shape.point.row_buffer.count();
  if (!shape.point.double_buffer) return std::max(access, buffer / access * access);
  const std::uint64_t bytes =
      std::min(buffer, std::uint64_t{shape.point.outstanding_bursts} * access);
  return std::max(access, bytes / kPiecesUnderWay / access * access);
}

}  // namespace

void HeadBarrier::meet(std::uint32_t active) {
  if (++waiting_ == engines_) {
    waiting_ = 0;
    open_.notify(sc_from(active > 1 ? latency_ : Picoseconds(0)));
  }
  sc_core::wait(open_);
}

EngineModule::EngineModule(sc_core::sc_module_name name, std::uint32_t index,
                           const EngineShape& shape, const Datapath& datapath, HeadBarrier& head,
                           StepBoard& board)
    : sc_module(name),
      socket("socket"),
      index_(index),
      shape_(shape),
      datapath_(datapath),
      head_(head),
      board_(board),
      piece_(piece_bytes(shape)),
      score_(shape.point.clock),
      exponential_(shape.point.clock),
      select_(shape.point.clock),
      gather_(shape.point.clock),
      bursts_(shape.point.outstanding_bursts),
      // A burst under way has a place of its own to land in; the row buffer lies behind them.
      buffer_(shape.point.double_buffer ? shape.point.row_buffer.count() +
                                              shape.access.count() * shape.point.outstanding_bursts
                                        : 1),
      stash_(shape.point.stash.count()) {
  socket.register_nb_transport_bw(this, &EngineModule::answer);
  SC_THREAD(ask_for_keys);
  SC_THREAD(select_and_gather);
  SC_THREAD(write_codes);
}

// A payload deletes the extensions that it still holds.
EngineModule::~EngineModule() {
  for (const auto& transfer : spare_) transfer->clear_extension(&transfer->extension);
}

void EngineModule::show_lanes(const LaneUnit& lanes, Interval span, std::uint64_t tile) {
  if (board_.timeline == nullptr || span.end == span.begin) return;
  std::size_t unit = 0;
  while (unit + 1 < kUnits && units()[unit] != &lanes) ++unit;
  show(static_cast<Timeline::Track>(unit), span, tile);
}

void EngineModule::check(Picoseconds end) const {
  for (const LaneUnit* unit : units()) unit->check(end);
}

void EngineModule::wait_until(Picoseconds t) {
  const Picoseconds now = now_ps();
  if (t > now) sc_core::wait(sc_from(t - now));
}

template <class Life>
void EngineModule::guarded(Life life) {
  try {
    for (;;) life();
  } catch (const std::exception&) {  // SystemC unwinds its processes with an exception of its own
    board_.fail();
  }
}

// ---- keys

void EngineModule::ask_for_keys() {
  guarded([this] {
    sc_core::wait(board_.start);
    for (LaneUnit* unit : {&score_, &exponential_, &select_, &gather_}) unit->begin_work(now_ps());
    for (const EngineWork& work : works()) {
      wait_for([&] { return jobs_started_ - jobs_done_ < shape_.point.heads_in_flight; });
      Job& job = start(work);
      append(job);
      for (std::uint32_t tile = 0; tile < work.tiles.size(); ++tile) ask_for_tile(job, tile);
    }
  });
}

EngineModule::Job& EngineModule::start(const EngineWork& work) {
  jobs_.push_back(std::make_unique<Job>());
  Job& job = *jobs_.back();
  job.work = &work;
  job.score = datapath_.score->plan(work, shape_);
  job.gather = datapath_.gather->plan(work, shape_);
  job.select = datapath_.select->plan(work, shape_);
  for (std::size_t event = 0; event < kEvents; ++event) {
    events_.at(Stage::kScore, static_cast<Event>(event)) += job.score.events[event];
    events_.at(Stage::kSelect, static_cast<Event>(event)) += job.select.events[event];
    events_.at(Stage::kGather, static_cast<Event>(event)) += job.gather.events[event];
  }
  job.end = now_ps();
  ++jobs_started_;
  progress_.notify();
  return job;
}

void EngineModule::append(Job& job) {
  for (const Fetch& fetch : append_fetches(*job.work, shape_)) {
    ++job.writes_left;
    ask(kKeys, new_transfer(fetch, job));
  }
}

void EngineModule::ask_for_tile(Job& job, std::uint32_t tile) {
  const std::uint64_t depth = shape_.point.queue_tiles;
  wait_for([&] {
    return to_write_.size() <= depth &&
           (!job.select.streams || tiles_asked_ - tiles_gathered_ <= depth);
  });
  const auto& stashed = job.select.stashed;
  ask_for_item(kKeys, job, job.score.items[tile], stashed.empty() ? 0 : stashed[tile]);
  ++job.asked;
  ++tiles_asked_;
  progress_.notify();
}

// ---- rows

void EngineModule::select_and_gather() {
  guarded([this] {
    sc_core::wait(board_.start);
    for (std::size_t i = 0; i < works().size(); ++i) {
      wait_for([this] { return jobs_started_ > jobs_done_; });
      run_job(*jobs_.front());
      jobs_.pop_front();
      ++jobs_done_;
      progress_.notify();
    }
    tiles_asked_ = tiles_gathered_ = 0;
    coded_.clear();
    if (--board_.running == 0) board_.done.notify(sc_core::SC_ZERO_TIME);
  });
}

void EngineModule::run_job(Job& job) {
  run_lanes(Stage::kSelect, select_, {now_ps(), now_ps()}, job.select.prelude, CoreCycles(0));
  if (job.select.streams) {
    stream_tiles(job);
  } else {
    scan_tiles(job);
  }
  wait_for([&] { return job.items_left == 0 && job.writes_left == 0; });
  wait_until(job.end);
  // Each engine gets its slice of the partial outputs.
  head_.meet(job.work->active_engines);
  const Interval merged = run_lanes(Stage::kGather, gather_lanes(), {now_ps(), now_ps()},
                                    job.gather.merge, CoreCycles(0));
  wait_until(merged.end);
}

// A tile's rows are known when it is scored: they are gathered while the next tile is scored.
void EngineModule::stream_tiles(Job& job) {
  for (std::uint32_t tile = 0; tile < job.work->tiles.size(); ++tile) {
    if (every_row()) {
      wait_for([&] { return job.asked > tile; });
    } else {
      wait_for([&] { return job.coded.size() > tile; });
      const Picoseconds codes = std::max(job.coded[tile], spilled_codes(job, tile));
      wait_until(scan(job, tile, codes));
    }
    ask_for_rows(job, tile);
    ++tiles_gathered_;
    progress_.notify();
  }
}

// The masses of all tiles must be known before the first row is.
void EngineModule::scan_tiles(Job& job) {
  const std::size_t tiles = job.work->tiles.size();
  wait_for([&] { return job.coded.size() == tiles && job.writes_left == 0; });
  wait_until(job.end);
  head_.meet(job.work->active_engines);
  run_lanes(Stage::kSelect, select_, {now_ps(), now_ps()}, job.select.preamble, CoreCycles(0));
  std::deque<Picoseconds> asked(shape_.point.queue_tiles, now_ps());  // rows of the last tiles
  for (std::uint32_t tile = 0; tile < tiles; ++tile) {
    const Picoseconds known = scan(job, tile, std::max(asked.front(), spilled_codes(job, tile)));
    const bool rows =
        job.next_row < job.gather.items.size() && job.gather.items[job.next_row].tile_index == tile;
    if (rows) {
      wait_until(known);
      ask_for_rows(job, tile);
    }
    asked.pop_front();
    asked.push_back(std::max(known, now_ps()));
  }
}

Picoseconds EngineModule::scan(Job& job, std::uint32_t tile, Picoseconds ready) {
  const Interval span =
      run_lanes(Stage::kSelect, select_, {ready, ready}, job.select.scan[tile], CoreCycles(0));
  show_lanes(select_, span, tile);
  if (!job.select.stashed.empty()) {
    stash_.give(job.select.stashed[tile], span.end);
    wake();
  }
  job.end = std::max(job.end, span.end);
  return span.end;
}

// Codes that rest in DRAM come back before their tile is scanned. When they are there.
Picoseconds EngineModule::spilled_codes(Job& job, std::uint32_t tile) {
  const auto& items = job.select.spill_reads;
  if (job.next_read == items.size() || items[job.next_read].tile_index > tile) {
    return Picoseconds(0);
  }
  wait_for([&] { return job.writes_left == 0; });
  for (; job.next_read < items.size() && items[job.next_read].tile_index <= tile; ++job.next_read) {
    ask_for_item(kRows, job, items[job.next_read]);
  }
  wait_for([&] { return job.reads_left == 0; });
  return job.codes_back;
}

void EngineModule::ask_for_rows(Job& job, std::uint32_t tile) {
  const auto& items = job.gather.items;
  for (; job.next_row < items.size() && items[job.next_row].tile_index == tile; ++job.next_row) {
    ++job.items_left;
    ask_for_item(kRows, job, items[job.next_row]);
  }
}

// ---- codes that do not fit the stash

void EngineModule::write_codes() {
  guarded([this] {
    while (to_write_.empty()) sc_core::wait(written_);
    const SpilledTile tile = to_write_.front();
    wait_until(tile.ready);
    ask_for_item(kCodes, *tile.job, *tile.item);
    --tile.job->writes_left;
    to_write_.pop_front();
    progress_.notify();
  });
}

}  // namespace stoat::sim
