// An attention engine as a SystemC process: turns the stages' plans into transactions and time.
//
// Fetches go out as far ahead as the outstanding bursts and the row buffer allow; lanes work in
// order on data as it arrives. Where selection needs the mass of all tiles, a head's engines meet
// at a barrier and exchange masses.
#pragma once

#ifndef SC_INCLUDE_DYNAMIC_PROCESSES
#define SC_INCLUDE_DYNAMIC_PROCESSES
#endif
#include <tlm.h>
#include <tlm_utils/simple_initiator_socket.h>

#include <array>
#include <cstdint>
#include <exception>
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
};

class EngineModule final : public sc_core::sc_module {
 public:
  SC_HAS_PROCESS(EngineModule);
  EngineModule(sc_core::sc_module_name name, std::uint32_t index, const EngineShape& shape,
               const DramStandard& dram, const Datapath& datapath, HeadBarrier& head,
               StepBoard& board);
  ~EngineModule() override;

  tlm_utils::simple_initiator_socket<EngineModule> socket;

  // The memory's b_transport waits: rows are then fetched by processes of their own, side by side.
  void memory_blocks(bool blocks) { blocks_ = blocks; }
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
  struct Issued {
    Picoseconds first{0}, last{0};
  };
  struct Plans {
    StagePlan score, gather;
    SelectPlan select;
  };

  void run();
  void run_work(const EngineWork& work);
  void run_streaming(const EngineWork& work, const Plans& plans);
  void run_with_exchange(const EngineWork& work, const Plans& plans);
  void append(const EngineWork& work);
  // The rows of one tile, in order; returns the first item behind them.
  std::size_t run_rows(const std::vector<WorkItem>& items, std::size_t next, std::uint32_t tile,
                       Picoseconds ready, Picoseconds usable);
  struct Flight;
  void launch(Flight& flight, const WorkItem& item);
  void run_rows_blocking(const WorkItem* begin, const WorkItem* end, Picoseconds ready,
                         Picoseconds usable);
  void count_transfer(const Fetch& fetch, const MemoryExtension& told);
  // Fetches an item's data (not before `ready`) and lets `lanes` work on it (not before `usable`
  // and before the next stage has `room`).
  Interval run_item(const WorkItem& item, LaneUnit& lanes, Picoseconds ready, Picoseconds usable,
                    Picoseconds room = Picoseconds(0));
  // The same with a row buffer that is filled and emptied in turns.
  Interval run_in_turns(const WorkItem& item, LaneUnit& lanes, Picoseconds ready,
                        Picoseconds usable, Picoseconds room);
  void count_rows(const WorkItem& item);
  Picoseconds score_tile(const Plans& plans, std::size_t tile);  // when its codes are there
  Picoseconds queue_room(std::size_t tile) const;  // when an earlier tile has left the queue
  Picoseconds transfer_spilled(const std::vector<WorkItem>& items, std::size_t& next,
                               std::uint32_t tile, Picoseconds ready);
  Issued issue(const Fetch& fetch, Picoseconds ready);
  LaneUnit& gather_lanes();
  void show(Timeline::Track track, Interval span, std::uint64_t number) {
    if (board_.timeline != nullptr)
      board_.timeline->add(index_, track, span.begin, span.end, number);
  }
  Interval run_lanes(Stage stage, LaneUnit& lanes, Interval data, CoreCycles busy, CoreCycles tail,
                     Picoseconds room = Picoseconds(0));
  std::array<const LaneUnit*, kUnits> units() const {
    return {&score_, &exponential_, &select_, &gather_};
  }
  void wait_until(Picoseconds t);

  std::uint32_t index_;  // of all engines
  bool blocks_ = false;
  const EngineShape& shape_;
  const Datapath& datapath_;
  HeadBarrier& head_;
  StepBoard& board_;
  Picoseconds burst_time_;
  LaneUnit score_, exponential_, select_, gather_;
  Window bursts_, buffer_;
  std::array<CoreCycles, kStages> busy_{};
  Picoseconds work_end_{0};
  Picoseconds emptied_{0};          // the row buffer, when it is filled and emptied in turns
  std::uint64_t shown_ = 0;         // tile that lanes work on, for the timeline
  std::vector<Picoseconds> coded_;  // [tiles so far] when a tile's codes were there
  MemoryExtension extension_;
  tlm::tlm_generic_payload payload_;
  EventCounts events_;
  PartTraffic traffic_{};
};

}  // namespace stoat::sim
