// Replays recorded decode steps on the accelerator: the one door to SystemC, itself free of it.
//
// The SystemC kernel allows one elaboration a process, so simulate() may be called once in a
// process; callers fork.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "models/dram/standard.h"
#include "sim/datapath/catalog.h"
#include "sim/design_point.h"
#include "sim/engine/result.h"
#include "sim/engine/timeline.h"
#include "traces/trace.h"

namespace stoat::sim {

class MemoryModel;
// Makes one channel of a memory model (sim/engine/memory_model.h).
using MemoryFactory = std::unique_ptr<MemoryModel> (*)(const std::string& name,
                                                       const DramStandard& standard,
                                                       std::uint32_t index,
                                                       const DesignPoint& point);

struct SimulationInput {
  DesignPoint point;
  DramStandard dram;
  TraceHeader header;
  const Datapath* datapath = nullptr;
  std::uint32_t first_step = 0, end_step = 0;  // of the trace's steps
  std::uint32_t first_layer = 0, end_layer = 0;
  std::uint32_t context_max = 0, sequences = 1;  // of the steps: they fix the address map
  // Records of steps [first, first + count).
  std::function<TraceRecords(std::uint32_t first, std::uint32_t count)> read_steps;
  std::atomic<std::uint64_t>* progress = nullptr;  // layer steps done; may be null
  Timeline* timeline = nullptr;                    // may be null
  MemoryFactory memory = nullptr;                  // null: the own channel model
};

// Throws Error for a design that does not fit the trace, Bug when a conservation check fails.
DatapathResult simulate(const SimulationInput& input);

// The SystemC library that simulates, with its version.
std::string simulation_kernel();

// Pseudo-channels (= engines) of all stacks.
std::uint32_t pseudo_channels(const DramStandard& dram, const DesignPoint& point);

// What would make simulate() refuse: KV heads against pseudo-channels, buffers against the group.
// Throws Error.
EngineShape engine_shape(const DesignPoint& point, const DramStandard& dram,
                         const TraceHeader& header);

}  // namespace stoat::sim
