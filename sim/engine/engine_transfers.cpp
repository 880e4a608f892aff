// An engine's transactions: when they may go out, what they carry, what they count; rows side by
// side where the memory blocks its caller.
#include <algorithm>
#include <deque>
#include <exception>
#include <memory>

#include "models/error.h"
#include "sim/engine/engine_module.h"

namespace stoat::sim {
namespace {

bool writes(const Fetch& fetch) {
  return fetch.part == Part::kSpillWrite || fetch.part == Part::kAppend;
}

Timeline::Track track_of(Part part) {
  constexpr Timeline::Track kTracks[kParts] = {
      Timeline::Track::kRequestK, Timeline::Track::kRequestV, Timeline::Track::kRequestSpill,
      Timeline::Track::kRequestSpill, Timeline::Track::kRequestAppend};
  return kTracks[static_cast<std::size_t>(part)];
}

void prepare(tlm::tlm_generic_payload& payload, MemoryExtension& extension, const Fetch& fetch) {
  payload.set_command(writes(fetch) ? tlm::TLM_WRITE_COMMAND : tlm::TLM_READ_COMMAND);
  payload.set_address(fetch.address);
  payload.set_data_length(static_cast<unsigned>(fetch.size.count()));
  payload.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
  // What lies behind spilled codes is nobody's; beside an appended row lie other rows.
  extension.partial = fetch.part == Part::kAppend && fetch.requested < fetch.size;
}

}  // namespace

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
  prepare(payload_, extension_, fetch);
  const Picoseconds begin = now_ps();
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  socket->b_transport(payload_, delay);
  STOAT_ENSURE(payload_.is_response_ok(), "the memory refused a transaction");
  const Picoseconds last = now_ps() + Picoseconds(delay.value());
  bursts_.add(bursts, last, Picoseconds(burst_time_.count() * bursts));
  show(track_of(fetch.part), {begin, last}, fetch.size.count());
  count_transfer(fetch, extension_);
  return {extension_.first_data, last};
}

// A burst that is changed in part is read and written: moved twice.
void EngineModule::count_transfer(const Fetch& fetch, const MemoryExtension& told) {
  const Bytes changed = shape_.access * told.changed_bursts;
  Traffic& traffic = traffic_[static_cast<std::size_t>(fetch.part)];
  traffic.requested += fetch.requested;
  traffic.moved += fetch.size + changed;
  traffic.bursts += fetch.size.count() / shape_.access.count() + told.changed_bursts;
  const Stage stage = stage_of(fetch.part);
  events_.at(stage, writes(fetch) ? Event::kDramWriteBits : Event::kDramReadBits) +=
      fetch.size.count() * 8;
  events_.at(stage, Event::kDramReadBits) += changed.count() * 8;
  events_.at(stage, Event::kDramActivate) += told.activates;
}

// A row on its way from a memory that blocks its caller.
struct EngineModule::Flight {
  tlm::tlm_generic_payload payload;
  MemoryExtension extension;
  const WorkItem* item = nullptr;
  bool landed = false;
  Issued times;
  sc_core::sc_event event;
  ~Flight() { payload.clear_extension(&extension); }
};

void EngineModule::launch(Flight& flight, const WorkItem& item) {
  flight.item = &item;
  flight.payload.set_extension(&flight.extension);
  prepare(flight.payload, flight.extension, item.fetches.front());
  sc_core::sc_spawn([this, &flight] {
    const Picoseconds begin = now_ps();
    sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
    try {
      socket->b_transport(flight.payload, delay);
    } catch (...) {
      if (!board_.failure) {
        board_.failure = std::current_exception();
        sc_core::sc_stop();
      }
      return;
    }
    flight.times = {flight.extension.first_data, now_ps() + Picoseconds(delay.value())};
    flight.landed = true;
    const Fetch& fetch = flight.item->fetches.front();
    show(track_of(fetch.part), {begin, flight.times.last}, fetch.size.count());
    flight.event.notify(sc_core::SC_ZERO_TIME);
  });
}

// As many rows side by side as the outstanding bursts and the row buffer allow; lanes take them in
// order.
void EngineModule::run_rows_blocking(const WorkItem* begin, const WorkItem* end, Picoseconds ready,
                                     Picoseconds usable) {
  wait_until(ready);
  std::deque<std::unique_ptr<Flight>> flights;
  std::uint64_t bytes = 0;  // under way
  const std::uint64_t most = std::min(shape_.point.row_buffer.count(),
                                      shape_.point.outstanding_bursts * shape_.access.count());
  for (const WorkItem* next = begin; next != end || !flights.empty();) {
    if (next != end && (flights.empty() || bytes + next->fetches[0].size.count() <= most)) {
      wait_until(buffer_.admits(std::min(next->fetches[0].size.count(), most)));
      flights.push_back(std::make_unique<Flight>());
      bytes += next->fetches[0].size.count();
      launch(*flights.back(), *next++);
      continue;
    }
    Flight& flight = *flights.front();
    while (!flight.landed) sc_core::wait(flight.event);
    const Fetch& fetch = flight.item->fetches[0];
    count_transfer(fetch, flight.extension);
    const Interval span =
        run_lanes(stage_of(fetch.part), gather_lanes(),
                  {std::max(flight.times.first, usable), std::max(flight.times.last, usable)},
                  flight.item->busy, flight.item->tail);
    buffer_.add(fetch.size.count(), span.end, span.end - span.begin);
    count_rows(*flight.item);
    work_end_ = std::max(work_end_, span.end);
    bytes -= fetch.size.count();
    flights.pop_front();
  }
}

std::size_t EngineModule::run_rows(const std::vector<WorkItem>& items, std::size_t next,
                                   std::uint32_t tile, Picoseconds ready, Picoseconds usable) {
  std::size_t end = next;
  while (end < items.size() && items[end].tile_index == tile) ++end;
  const bool rows = datapath_.gather->reads_selected_rows;
  if (blocks_ && rows && shape_.point.double_buffer) {
    run_rows_blocking(items.data() + next, items.data() + end, ready, usable);
  } else {
    for (std::size_t i = next; i < end; ++i) run_item(items[i], gather_lanes(), ready, usable);
  }
  return end;
}

}  // namespace stoat::sim
