// An attention engine as SystemC processes: turns the stages' plans into transactions and time.
//
// Two processes walk the KV heads (of sequences) of a layer step in order, one head each at a time:
// one asks for K, the other for what selection needs, so that the next head is scored while the
// rows of this one are gathered. Fetches go out as far ahead as the outstanding bursts and the
// buffer allow; selected rows go before keys, so that the older head finishes first. Answers come
// in any order; lanes take data in the order in which they were asked for. A third process writes
// codes that do not fit the stash. Where selection needs the mass of all tiles, a head's engines
// meet at a barrier and exchange masses.
//
// Nothing can wait for ever: data in the buffer never wait for data that were not asked for yet.
#pragma once

#ifndef SC_INCLUDE_DYNAMIC_PROCESSES
#define SC_INCLUDE_DYNAMIC_PROCESSES
#endif
#include <tlm.h>
#include <tlm_utils/simple_initiator_socket.h>

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <systemc>
#include <vector>

#include "sim/datapath/catalog.h"
#include "sim/datapath/work.h"
#include "sim/engine/lane_unit.h"
#include "sim/engine/memory_module.h"
#include "sim/engine/result.h"
#include "sim/engine/timeline.h"

namespace stoat::sim {

// The engines of a KV head meet: all leave one exchange latency after the last has come (at once
// when only one of them has tiles).
class HeadBarrier {
 public:
  HeadBarrier(std::uint32_t engines, Picoseconds latency) : engines_(engines), latency_(latency) {}
  void meet(std::uint32_t active);  // blocks the calling process

 private:
  std::uint32_t engines_;
  Picoseconds latency_;
  std::uint32_t waiting_ = 0;
  sc_core::sc_event open_;
};

// What the controller and the engines share.
struct StepBoard {
  sc_core::sc_event start, done;
  const std::vector<std::vector<EngineWork>>* work = nullptr;  // [engines][groups]
  std::uint32_t running = 0;
  Timeline* timeline = nullptr;  // may be null
  std::exception_ptr failure;    // the first exception of any process: SystemC would lose its type
  void fail() {
    if (!failure) failure = std::current_exception();
    sc_core::sc_stop();
  }
};

class EngineModule final : public sc_core::sc_module, public tlm::tlm_mm_interface {
 public:
  SC_HAS_PROCESS(EngineModule);
  EngineModule(sc_core::sc_module_name name, std::uint32_t index, const EngineShape& shape,
               const Datapath& datapath, HeadBarrier& head, StepBoard& board);
  ~EngineModule() override;

  tlm_utils::simple_initiator_socket<EngineModule> socket;

  const EventCounts& events() const { return events_; }
  const PartTraffic& traffic() const { return traffic_; }
  // Lane cycles of a stage; stages may share lanes.
  CoreCycles busy(Stage stage) const { return busy_[static_cast<std::size_t>(stage)]; }
  UnitUse use(Unit unit) const {
    const LaneUnit& lanes = *units()[static_cast<std::size_t>(unit)];
    return {lanes.busy(), lanes.starved(), lanes.blocked()};
  }
  void check(Picoseconds end) const;

 private:
  // One KV head of one sequence, from its first fetch to its merged output.
  struct Job {
    const EngineWork* work = nullptr;
    StagePlan score, gather;
    SelectPlan select;
    std::uint32_t asked = 0;                    // tiles whose K has been asked for
    std::vector<Picoseconds> coded;             // [tiles so far] when their codes are there
    std::size_t next_row = 0;                   // of gather's items
    std::uint64_t items_left = 0;               // of gather, asked for and not worked on
    std::uint64_t writes_left = 0;              // appends and spilled codes under way
    std::uint64_t reads_left = 0;               // spilled codes
    Picoseconds codes_back{0};                  // the last of them
    Picoseconds end{0};                         // of what is known so far
    std::size_t next_write = 0, next_read = 0;  // of the spilled codes
  };
  // One transaction under way: a piece of an item's data, a row, codes, or a row of the new token.
  struct Transfer final : tlm::tlm_generic_payload {
    MemoryExtension extension;
    Fetch fetch;
    Job* job = nullptr;
    const WorkItem* item = nullptr;  // its last piece
    std::uint32_t tile = 0;
    CoreCycles busy{0}, tail{0};
    std::uint64_t bursts = 0, bytes = 0;      // of credits
    Picoseconds begin{0}, first{0}, last{0};  // begin: of the item's first piece
    bool landed = false;
  };
  // Who waits for credits, the most urgent first.
  enum Asker : std::uint8_t { kRows, kCodes, kKeys };
  struct Waiter {
    sc_core::sc_event room;
    bool waits = false;
    std::uint64_t bursts = 0, bytes = 0, stash = 0;
  };
  struct SpilledTile {
    Job* job;
    const WorkItem* item;
    Picoseconds ready;
  };

  // processes
  void ask_for_keys();
  void select_and_gather();
  void write_codes();
  template <class Life>
  void guarded(Life life);
  const std::vector<EngineWork>& works() const { return (*board_.work)[index_]; }

  // engine_module.cpp: the order of things
  Job& start(const EngineWork& work);
  void ask_for_tile(Job& job, std::uint32_t tile);
  void append(Job& job);
  void run_job(Job& job);
  void stream_tiles(Job& job);
  void scan_tiles(Job& job);
  Picoseconds scan(Job& job, std::uint32_t tile, Picoseconds ready);
  Picoseconds spilled_codes(Job& job, std::uint32_t tile);
  void ask_for_rows(Job& job, std::uint32_t tile);
  void merge(Job& job);
  template <class Condition>
  void wait_for(Condition condition) {
    while (!condition()) sc_core::wait(progress_);
  }

  // engine_transfers.cpp: asking, and what answers do
  void ask_for_item(Asker asker, Job& job, const WorkItem& item, std::uint64_t stash = 0);
  void ask(Asker asker, Transfer& transfer, std::uint64_t stash = 0);
  Transfer& new_transfer(const Fetch& fetch, Job& job);
  Picoseconds admitted(const Waiter& waiter);
  bool more_urgent_waits(Asker asker) const;
  void wake();  // sets the clock of every waiter
  void send(Transfer& transfer);
  tlm::tlm_sync_enum answer(tlm::tlm_generic_payload& payload, tlm::tlm_phase& phase,
                            sc_core::sc_time& delay);
  void land(Transfer& transfer, Picoseconds last);
  void count_transfer(const Transfer& transfer);
  void work_on_keys();
  void finish_tile(Transfer& transfer, Interval scored);
  void work_on_rows();
  void free(tlm::tlm_generic_payload* payload) override;
  void count_rows(const WorkItem& item);

  Picoseconds queue_room() const;  // when an earlier tile has left the queue behind the score lanes
  LaneUnit& gather_lanes() { return datapath_.gather->shares_score_lanes ? score_ : gather_; }
  bool every_row() const { return !datapath_.gather->reads_selected_rows; }
  Interval run_lanes(Stage stage, LaneUnit& lanes, Interval data, CoreCycles busy, CoreCycles tail,
                     Picoseconds room = Picoseconds(0)) {
    busy_[static_cast<std::size_t>(stage)] += busy;
    return lanes.run(data.begin, data.end, busy, tail, room);
  }
  void show_lanes(const LaneUnit& lanes, Interval span, std::uint64_t tile);
  void show(Timeline::Track track, Interval span, std::uint64_t number) {
    if (board_.timeline != nullptr)
      board_.timeline->add(index_, track, span.begin, span.end, number);
  }
  std::array<const LaneUnit*, kUnits> units() const {
    return {&score_, &exponential_, &select_, &gather_};
  }
  void wait_until(Picoseconds t);

  std::uint32_t index_;  // of all engines
  const EngineShape& shape_;
  const Datapath& datapath_;
  HeadBarrier& head_;
  StepBoard& board_;
  std::uint64_t piece_;  // bytes of the largest transaction
  LaneUnit score_, exponential_, select_, gather_;
  Credits bursts_;  // that may be under way
  Credits buffer_;  // bytes asked for and not yet taken by lanes
  Credits stash_;   // bytes of codes
  std::array<CoreCycles, kStages> busy_{};
  // Where the lanes began with the item that they are at.
  struct Open {
    bool open = false;
    Picoseconds begin{0};
    Picoseconds since(Picoseconds t) {
      if (!open) begin = t;
      open = true;
      return begin;
    }
  };
  Open scoring_, gathering_;

  std::deque<std::unique_ptr<Job>> jobs_;  // in flight
  std::uint64_t jobs_started_ = 0, jobs_done_ = 0;
  std::uint64_t tiles_asked_ = 0, tiles_gathered_ = 0;  // of this layer step
  std::vector<Picoseconds> coded_;  // [tiles of this layer step so far] when they left the queue
  std::deque<SpilledTile> to_write_;
  sc_core::sc_event progress_;  // something that a process may wait for has happened
  sc_core::sc_event written_;

  std::array<Waiter, 3> waiters_;
  std::deque<Transfer*> keys_, rows_;  // under way, in the order of asking
  std::vector<std::unique_ptr<Transfer>> spare_;
  tlm::tlm_generic_payload* requesting_ = nullptr;  // its request phase has not ended
  EventCounts events_;
  PartTraffic traffic_{};
};

}  // namespace stoat::sim
