// An engine's transactions: when they may go out, what they carry and count, and what the lanes do
// when their data are there.
#include <algorithm>
#include <utility>

#include "models/error.h"
#include "sim/engine/engine_module.h"

namespace stoat::sim {
namespace {

bool writes(Part part) { return part == Part::kSpillWrite || part == Part::kAppend; }
bool buffered(Part part) { return part == Part::kKey || part == Part::kValue; }

Timeline::Track track_of(Part part) {
  constexpr Timeline::Track kTracks[kParts] = {
      Timeline::Track::kRequestK, Timeline::Track::kRequestV, Timeline::Track::kRequestSpill,
      Timeline::Track::kRequestSpill, Timeline::Track::kRequestAppend};
  return kTracks[static_cast<std::size_t>(part)];
}

}  // namespace

EngineModule::Transfer& EngineModule::new_transfer(const Fetch& fetch, Job& job) {
  if (spare_.empty()) {
    spare_.push_back(std::make_unique<Transfer>());
    spare_.back()->set_extension(&spare_.back()->extension);
    spare_.back()->set_mm(this);
  }
  Transfer& transfer = *spare_.back().release();
  spare_.pop_back();
  transfer.fetch = fetch;
  transfer.job = &job;
  transfer.item = nullptr;
  transfer.busy = transfer.tail = CoreCycles(0);
  transfer.begin = Credits::kUnknown;
  transfer.landed = false;
  transfer.acquire();
  return transfer;
}

void EngineModule::free(tlm::tlm_generic_payload* payload) {
  spare_.emplace_back(static_cast<Transfer*>(payload));
}

// Cuts an item's data into pieces, each with its part of the lanes' work.
void EngineModule::ask_for_item(Asker asker, Job& job, const WorkItem& item, std::uint64_t stash) {
  std::uint64_t total = 0, done = 0, cycles = 0;
  for (const Fetch& fetch : item.fetches) total += fetch.size.count();
  Picoseconds begin = Credits::kUnknown;
  for (const Fetch& fetch : item.fetches) {
    for (std::uint64_t from = 0; from < fetch.size.count(); from += piece_) {
      Fetch piece = fetch;
      piece.address += from;
      piece.size = Bytes(std::min(piece_, fetch.size.count() - from));
      // What was asked for lies at the front; the rest of the last burst was not.
      piece.requested = Bytes(std::min(
          piece.size.count(), fetch.requested.count() - std::min(fetch.requested.count(), from)));
      Transfer& transfer = new_transfer(piece, job);
      done += piece.size.count();
      const std::uint64_t until = item.busy.count() * done / total;  // exact at the end
      transfer.busy = CoreCycles(until - cycles);
      transfer.tail = std::min(item.tail, transfer.busy);
      transfer.tile = item.tile_index;
      cycles = until;
      if (done == total) transfer.item = &item;
      if (piece.part == Part::kSpillWrite) {
        job.writes_left += 1;
      } else if (piece.part == Part::kSpillRead) {
        job.reads_left += 1;
      }
      transfer.begin = begin;
      ask(asker, transfer, std::exchange(stash, 0));
      begin = transfer.begin;
    }
  }
}

Picoseconds EngineModule::admitted(const Waiter& waiter) {
  const Picoseconds now = now_ps();
  Picoseconds at = bursts_.when(waiter.bursts, now);
  if (waiter.bytes > 0) at = std::max(at, buffer_.when(waiter.bytes, now));
  if (waiter.stash > 0) at = std::max(at, stash_.when(waiter.stash, now));
  return at;
}

bool EngineModule::more_urgent_waits(Asker asker) const {
  for (std::size_t i = 0; i < asker; ++i) {
    if (waiters_[i].waits) return true;
  }
  return false;
}

// The most urgent of those who wait is woken when there is room for it.
void EngineModule::wake() {
  if (requesting_ != nullptr) return;
  for (Waiter& waiter : waiters_) {
    if (!waiter.waits) continue;
    const Picoseconds at = admitted(waiter);
    if (at != Credits::kUnknown) waiter.room.notify(sc_from(at - now_ps()));
    return;
  }
}

// Blocks the calling process until the transaction may go out.
void EngineModule::ask(Asker asker, Transfer& transfer, std::uint64_t stash) {
  const Fetch& fetch = transfer.fetch;
  Waiter& waiter = waiters_[asker];
  waiter.bursts = fetch.size.count() / shape_.access.count();
  waiter.bytes = buffered(fetch.part) ? fetch.size.count() : 0;
  waiter.stash = stash;
  waiter.waits = true;
  for (;;) {
    if (requesting_ == nullptr && !more_urgent_waits(asker)) {
      const Picoseconds at = admitted(waiter);
      if (at <= now_ps()) break;
      if (at != Credits::kUnknown) waiter.room.notify(sc_from(at - now_ps()));
    }
    sc_core::wait(waiter.room);
  }
  waiter.waits = false;
  transfer.bursts = bursts_.take(waiter.bursts);
  transfer.bytes = waiter.bytes == 0 ? 0 : buffer_.take(waiter.bytes);
  stash_.take(stash);
  send(transfer);
  wake();
}

void EngineModule::send(Transfer& transfer) {
  const Fetch& fetch = transfer.fetch;
  tlm::tlm_generic_payload& payload = transfer;
  payload.set_command(writes(fetch.part) ? tlm::TLM_WRITE_COMMAND : tlm::TLM_READ_COMMAND);
  payload.set_address(fetch.address);
  payload.set_data_length(static_cast<unsigned>(fetch.size.count()));
  payload.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
  // What lies behind spilled codes is nobody's; beside an appended row lie other rows.
  transfer.extension.partial = fetch.part == Part::kAppend && fetch.requested < fetch.size;
  transfer.extension.activates = transfer.extension.changed_bursts = 0;
  if (transfer.begin == Credits::kUnknown) transfer.begin = now_ps();
  if (fetch.part == Part::kKey) keys_.push_back(&transfer);
  if (fetch.part == Part::kValue) rows_.push_back(&transfer);
  requesting_ = &payload;
  tlm::tlm_phase phase = tlm::BEGIN_REQ;
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  const tlm::tlm_sync_enum status = socket->nb_transport_fw(payload, phase, delay);
  if (status == tlm::TLM_COMPLETED) {
    requesting_ = nullptr;
    land(transfer, now_ps() + Picoseconds(delay.value()));
  } else if (status == tlm::TLM_UPDATED) {
    STOAT_ENSURE(phase == tlm::END_REQ, "a memory ends the request phase or completes");
    if (requesting_ == &payload) requesting_ = nullptr;
  }
}

// What the memory calls. Our own exceptions must not run through it.
tlm::tlm_sync_enum EngineModule::answer(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase,
                                        sc_core::sc_time& delay) {
  try {
    if (requesting_ == &payload && (phase == tlm::END_REQ || phase == tlm::BEGIN_RESP)) {
      requesting_ = nullptr;
      wake();
    }
    if (phase != tlm::BEGIN_RESP) return tlm::TLM_ACCEPTED;
    STOAT_ENSURE(payload.is_response_ok(), "the memory refused a transaction");
    land(static_cast<Transfer&>(payload), now_ps() + Picoseconds(delay.value()));
  } catch (const std::exception&) {
    board_.fail();
  }
  phase = tlm::END_RESP;
  return tlm::TLM_COMPLETED;
}

// ---- data are there (or will be at `last`)

void EngineModule::land(Transfer& transfer, Picoseconds last) {
  Job& job = *transfer.job;
  const Part part = transfer.fetch.part;
  transfer.first = std::min(transfer.extension.first_data, last);
  transfer.last = last;
  transfer.landed = true;
  bursts_.give(transfer.bursts, last);
  count_transfer(transfer);
  if (transfer.item != nullptr || part == Part::kAppend) {
    show(track_of(part), {transfer.begin, last}, transfer.fetch.size.count());
  }
  if (part == Part::kKey) {
    work_on_keys();
  } else if (part == Part::kValue) {
    work_on_rows();
  } else {
    std::uint64_t& left = writes(part) ? job.writes_left : job.reads_left;
    if (part == Part::kSpillRead) job.codes_back = std::max(job.codes_back, last);
    job.end = std::max(job.end, last);
    transfer.release();
    if (--left == 0) progress_.notify();
  }
  wake();
}

// A burst that is changed in part is read and written: moved twice.
void EngineModule::count_transfer(const Transfer& transfer) {
  const Fetch& fetch = transfer.fetch;
  const Bytes changed = shape_.access * transfer.extension.changed_bursts;
  Traffic& traffic = traffic_[static_cast<std::size_t>(fetch.part)];
  traffic.requested += fetch.requested;
  traffic.moved += fetch.size + changed;
  traffic.bursts += fetch.size.count() / shape_.access.count() + transfer.extension.changed_bursts;
  const Stage stage = stage_of(fetch.part);
  events_.at(stage, writes(fetch.part) ? Event::kDramWriteBits : Event::kDramReadBits) +=
      fetch.size.count() * 8;
  events_.at(stage, Event::kDramReadBits) += changed.count() * 8;
  events_.at(stage, Event::kDramActivate) += transfer.extension.activates;
}

// Scores leave for the exponential lanes (and the ranking comparators) through a queue of tiles.
Picoseconds EngineModule::queue_room() const {
  const std::size_t depth = shape_.point.queue_tiles;
  return coded_.size() < depth ? Picoseconds(0) : coded_[coded_.size() - depth];
}

void EngineModule::work_on_keys() {
  while (!keys_.empty() && keys_.front()->landed) {
    Transfer& transfer = *keys_.front();
    keys_.pop_front();
    const Interval data{shape_.point.double_buffer ? transfer.first : transfer.last, transfer.last};
    const Interval span =
        run_lanes(Stage::kScore, score_, data, transfer.busy, transfer.tail, queue_room());
    buffer_.give(transfer.bytes, span.end);
    transfer.job->end = std::max(transfer.job->end, span.end);
    const Picoseconds begin = scoring_.since(span.begin);
    if (transfer.item != nullptr) {
      scoring_.open = false;
      finish_tile(transfer, {begin, span.end});
    }
    transfer.release();
  }
}

// A tile is scored: it becomes codes, which are kept, written out or ranked.
void EngineModule::finish_tile(Transfer& transfer, Interval scored) {
  Job& job = *transfer.job;
  const std::uint32_t tile = transfer.tile;
  show_lanes(score_, scored, tile);
  Interval codes =
      run_lanes(Stage::kSelect, exponential_, scored, job.select.scored[tile], CoreCycles(1));
  show_lanes(exponential_, codes, tile);
  if (!job.select.ranked.empty()) {
    codes = run_lanes(Stage::kSelect, select_, codes, job.select.ranked[tile], CoreCycles(1));
    show_lanes(select_, codes, tile);
  }
  coded_.push_back(codes.end);
  job.coded.push_back(codes.end);
  job.end = std::max(job.end, codes.end);
  if (board_.timeline != nullptr) {  // tiles scored and not yet coded
    const auto waiting =
        std::count_if(coded_.begin(), coded_.end(), [&](Picoseconds t) { return t > scored.end; });
    board_.timeline->queue(index_, scored.end, static_cast<std::uint32_t>(waiting));
  }
  const auto& spilled = job.select.spill_writes;
  if (job.next_write < spilled.size() && spilled[job.next_write].tile_index == tile) {
    to_write_.push_back({&job, &spilled[job.next_write++], codes.end});
    ++job.writes_left;  // the tile itself, until its writes are counted
    written_.notify();
  }
  count_rows(*transfer.item);
  progress_.notify();
  if (every_row()) work_on_rows();
}

// Dense rows may be there before the weights of their tile.
void EngineModule::work_on_rows() {
  while (!rows_.empty() && rows_.front()->landed) {
    Transfer& transfer = *rows_.front();
    Job& job = *transfer.job;
    Picoseconds usable{0};
    if (every_row()) {
      if (job.coded.size() <= transfer.tile) return;
      usable = job.coded[transfer.tile];
    }
    rows_.pop_front();
    const Picoseconds first = shape_.point.double_buffer ? transfer.first : transfer.last;
    const Interval span = run_lanes(Stage::kGather, gather_lanes(),
                                    {std::max(first, usable), std::max(transfer.last, usable)},
                                    transfer.busy, transfer.tail);
    buffer_.give(transfer.bytes, span.end);
    job.end = std::max(job.end, span.end);
    const Picoseconds begin = gathering_.since(span.begin);
    if (transfer.item != nullptr) {
      gathering_.open = false;
      show_lanes(gather_lanes(), {begin, span.end}, transfer.tile);
      count_rows(*transfer.item);
      if (--job.items_left == 0) progress_.notify();
    }
    transfer.release();
  }
}

void EngineModule::count_rows(const WorkItem& item) {
  if (item.fetches.empty()) return;
  Traffic& traffic = traffic_[static_cast<std::size_t>(item.fetches.back().part)];
  traffic.distinct_rows += item.rows;
  traffic.logical_rows += item.logical_rows;
  traffic.logical += shape_.row_bytes() * item.logical_rows;
}

}  // namespace stoat::sim
