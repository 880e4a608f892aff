// Joules a token and average power, dense and sampled: `stoat-bench --energy`.
//
// Two kinds of work, each repeated for at least so many seconds between two readings of the energy
// counter: whole decode steps of Llama-3.1-8B shapes with random weights and cached rows, and the
// attention of one layer alone. The board's energy: what the GPU does besides (idle power, clocks,
// fans of the converters) is inside and stated by a row of its own, nothing is subtracted here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stoat::gpu {

struct EnergyPlan {
  std::vector<std::uint32_t> batches{1, 4, 16};
  std::uint32_t context = 32768;
  std::vector<std::string> methods{"dense", "prop:128"};  // dense, or METHOD:BUDGET
  double seconds = 5;                                     // of a reading, at least
  std::string shape = "llama-3.1-8b";
};

struct EnergyReading {
  std::string work;    // idle, decode, attention
  std::string method;  // "prop:128"; empty when idle
  std::uint32_t batch = 0, context = 0;
  double seconds = 0, joules = 0;
  std::uint64_t steps = 0;         // decode steps, or attention steps of one layer
  std::uint64_t weight_bytes = 0;  // of a step
  std::uint64_t kv_bytes = 0;      // that dense attention reads in a step
  std::uint32_t sm_clock_mhz = 0;  // at the end
  std::string left_out;            // why it was not measured; empty: it was
};

// The table's lines go to stdout as they come. Throws Error (resource) without a counter or device.
std::vector<EnergyReading> measure_energy(const EnergyPlan& plan);

// The whole verb: measures and writes `json` where one is named.
void run_energy(const EnergyPlan& plan, const std::string& json, const std::string& command);

}  // namespace stoat::gpu
