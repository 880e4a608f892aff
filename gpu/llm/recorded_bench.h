// What recording costs a decode: its time, and the host memory of a long one. For step_bench.
#pragma once

#include <cstdint>
#include <functional>

#include "gpu/llm/step_bench.h"
#include "models/llm/config.h"

namespace stoat {

// Sets the recorded_*, unrecorded_*, resident_* and host times of `row`; its other members say what
// to decode.
void time_recorded_steps(const StepBenchOptions& options, const ModelConfig& config,
                         StepTiming& row);

struct EndurancePoint {
  std::uint32_t step = 0;
  double resident_megabytes = 0, spool_megabytes = 0, seconds = 0;
};
// Records options.endurance steps; tells a tenth of them.
void record_many_steps(const StepBenchOptions& options, const ModelConfig& config,
                       const StepTiming& row, const std::function<void(const EndurancePoint&)>& at);

}  // namespace stoat
