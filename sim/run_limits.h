// What a run may need: memory is estimated before it starts, time is projected while it runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "models/units.h"
#include "traces/trace.h"

namespace stoat::sim {

class RunLimits {
 public:
  // "4 GiB" (memory) or "60 s" (time), each at most once. Throws Error (usage).
  explicit RunLimits(const std::vector<std::string>& texts);

  // Throws Error (resource) when `processes` that each hold `slice` bytes of trace, twice, need
  // more.
  void check_memory(std::uint64_t slice, std::uint64_t processes) const;
  // Throws Error (resource) when the time is up, or when `done` of `total` says that it will be.
  void check_time(std::uint64_t done, std::uint64_t total) const;

 private:
  Bytes memory_{~std::uint64_t{0}};
  Picoseconds time_{~std::uint64_t{0}};
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// Bytes that the columns of these records take.
std::uint64_t bytes_of(const TraceRecords& records);

}  // namespace stoat::sim
