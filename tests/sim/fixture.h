// Simulations for tests, each in a child process (the SystemC kernel elaborates once a process).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/engine/result.h"
#include "sim/engine/simulate.h"
#include "sim/sweep/results.h"
#include "traces/synth.h"

namespace stoat::sim {

struct TestTrace {
  TraceHeader header;
  TraceRecords records;  // at most 16 steps
};
TestTrace synth_trace(const SynthOptions& options);

// Llama-3.1-8B's attention shape, one layer, one step.
SynthOptions llama_layer(Method method, std::uint32_t context = 32768, std::uint64_t seed = 1);

DatapathResult simulated(const TestTrace& trace, const std::string& datapath,
                         const std::vector<std::string>& overrides = {},
                         const std::string& arch = "hbm3", MemoryFactory memory = nullptr);

// Energy in attojoules under a shipped price list.
Int128 energy_of(const DatapathResult& result, const std::string& prices, Stage stage,
                 const std::vector<Event>& events);
Int128 total_energy(const DatapathResult& result, const std::string& prices);
Int128 dram_energy(const DatapathResult& result, const std::string& prices);

}  // namespace stoat::sim
