// What decodes for a capture: the CPU (the specification) or a GPU. One method, one or several
// sequences side by side; every step, a token for each of them, becomes a frame of trace records.
//
// A step is submitted and later collected, so that a device may run ahead; depth() says how far.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpu/capture_plan.h"
#include "models/thread_pool.h"
#include "traces/trace.h"

namespace stoat {

// A step that was decoded. Its records are made when they are asked for, on any thread, once.
struct DecodedStep {
  std::vector<std::int32_t> tokens;            // [sequences] that were fed
  std::function<void(TraceRecords&)> records;  // fills empty ones
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  virtual std::string weights_hash() const = 0;
  virtual std::uint64_t weight_bytes_per_token() const = 0;
  // Exact attention over a sequence's prompt; then next_token() is known. Progress: tokens done.
  virtual void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt,
                       const std::function<void(std::uint32_t)>& progress) = 0;
  // The token that follows what was collected last (or the prompt).
  virtual std::int32_t next_token(std::uint32_t sequence) const = 0;

  // Feeds a token to every sequence; none: those that follow what was submitted last, known or not
  // yet.
  virtual void submit(std::span<const std::int32_t> tokens) = 0;
  // Waits for the oldest submitted step.
  virtual DecodedStep collect() = 0;
  // Steps that may be submitted and not collected.
  virtual std::uint32_t depth() const { return 1; }
  // Of a step on its way to become records; 0: the step is over when its records are made, so they
  // are made at once.
  virtual std::size_t bytes_a_step() const { return 0; }
  virtual TouchedFeatures touched() const { return {}; }
  virtual std::vector<AccumulatorError> accumulator_errors() const { return {}; }
};

std::unique_ptr<Decoder> make_cpu_decoder(const CapturePlan& plan, ThreadPool& pool);
// Throws Error (resource) in a build without CUDA.
std::unique_ptr<Decoder> make_cuda_decoder(const CapturePlan& plan, ThreadPool& pool);

}  // namespace stoat
