// An attention engine as a SystemC process: turns the stages' plans into transactions and time.
//
// Fetches go out as far ahead as the outstanding bursts and the row buffer allow; lanes work in
// order on data as it arrives. Where selection needs the mass of all tiles, a head's engines meet
// at a barrier and exchange masses.
#pragma once

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
  std::exception_ptr failure;  // the first exception of any process: SystemC would lose its type
};

class EngineModule final : public sc_core::sc_module {
 public:
  SC_HAS_PROCESS(EngineModule);
  EngineModule(sc_core::sc_module_name name, std::uint32_t index, const EngineShape& shape,
               const DramStandard& dram, const Datapath& datapath, HeadBarrier& head,
               StepBoard& board);
  ~EngineModule() override;

  tlm_utils::simple_initiator_socket<EngineModule> socket;

  const EventCounts& events() const { return events_; }
  const PartTraffic& traffic() const { return traffic_; }
  // Lane cycles of a stage; stages may share lanes.
  CoreCycles busy(Stage stage) const { return busy_[static_cast<std::size_t>(stage)]; }
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
  // Fetches an item's data (not before `ready`) and lets `lanes` work on it (not before `usable`).
  Interval run_item(const WorkItem& item, LaneUnit& lanes, Picoseconds ready, Picoseconds usable);
  Picoseconds score_tile(const Plans& plans, std::size_t tile);  // when its codes are there
  Picoseconds transfer_spilled(const std::vector<WorkItem>& items, std::size_t& next,
                               std::uint32_t tile, Picoseconds ready);
  Issued issue(const Fetch& fetch, Picoseconds ready);
  LaneUnit& gather_lanes();
  Interval run_lanes(Stage stage, LaneUnit& lanes, Interval data, CoreCycles busy, CoreCycles tail);
  void wait_until(Picoseconds t);

  std::uint32_t index_;  // of all engines
  const EngineShape& shape_;
  const Datapath& datapath_;
  HeadBarrier& head_;
  StepBoard& board_;
  Picoseconds burst_time_;
  LaneUnit score_, exponential_, select_, gather_;
  Window bursts_, buffer_;
  std::array<CoreCycles, kStages> busy_{};
  Picoseconds work_end_{0};
  MemoryExtension extension_;
  tlm::tlm_generic_payload payload_;
  EventCounts events_;
  PartTraffic traffic_{};
};

}  // namespace stoat::sim
