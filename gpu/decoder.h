// What decodes for a capture: the CPU (the specification) or a GPU. One sequence, one method; every
// step fed becomes a frame of trace records.
//
// A step is submitted and later collected, so that a device may run ahead; depth() says how far.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "gpu/capture_plan.h"
#include "models/thread_pool.h"
#include "traces/trace.h"

namespace stoat {

// A step that was decoded. Its records are made when they are asked for, on any thread, once.
struct DecodedStep {
  std::int32_t token = 0;  // that was fed
  std::size_t bytes = 0;   // that wait to become records
  std::function<TraceRecords()> records;
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  virtual std::string weights_hash() const = 0;
  virtual std::uint64_t weight_bytes_per_token() const = 0;
  // Exact attention over the prompt; then next_token() is known. Progress: tokens done.
  virtual void prefill(std::span<const std::int32_t> prompt,
                       const std::function<void(std::uint32_t)>& progress) = 0;
  // The token that follows what was collected last (or the prompt).
  virtual std::int32_t next_token() const = 0;

  // Feeds a token; none: the one that follows what was submitted last, known or not yet.
  virtual void submit(std::optional<std::int32_t> token) = 0;
  // Waits for the oldest submitted step.
  virtual DecodedStep collect() = 0;
  // Steps that may be submitted and not collected.
  virtual std::uint32_t depth() const { return 1; }
  virtual TouchedFeatures touched() const { return {}; }
  virtual std::vector<AccumulatorError> accumulator_errors() const { return {}; }
};

std::unique_ptr<Decoder> make_cpu_decoder(const CapturePlan& plan, ThreadPool& pool);
// Throws Error (resource) in a build without CUDA.
std::unique_ptr<Decoder> make_cuda_decoder(const CapturePlan& plan, ThreadPool& pool);

}  // namespace stoat
