// A capture: prefill a prompt exactly, decode with a method, record every step, finish the trace.
//
// Library face of the program stoat-capture; knows nothing of its command line.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "gpu/capture_plan.h"
#include "gpu/summary.h"

namespace stoat {

// Wall times in seconds. They go to the side file only.
struct CaptureTimes {
  double load = 0, prefill = 0, decode = 0, finish = 0;
};

// What one sequence of several decoded.
struct SequenceResult {
  std::uint64_t prompt_tokens = 0;
  std::vector<std::int32_t> generated;  // by --max-new, up to the end of its text
  std::string text;
};

struct CaptureResult {
  std::string path;
  std::string content_hash;  // empty: no step was recorded, no file was written
  bool interrupted = false;
  TraceHeader header;
  std::string backend;
  unsigned threads = 0;
  std::uint64_t prompt_tokens = 0;  // of all sequences
  std::vector<Answer> answers;
  std::vector<SequenceResult> sequences;
  bool has_text = false;
  CaptureSummary summary;
  std::vector<StepSummary> steps;
  TouchedFeatures touched;
  std::vector<AccumulatorError> accumulator_errors;
  CaptureTimes times;
};

struct CaptureTalk {
  int verbosity = 0;                        // -1 quiet, 0 normal, 1 a line a step
  const std::atomic<bool>* stop = nullptr;  // set by SIGINT: end after the current step
};

// Writes options.output and options.output + ".run.json". On failure nothing lies under the final
// name; recorded steps stay in the spool and the message says how to recover them. Throws Error.
CaptureResult capture(const CaptureOptions& options, const CaptureTalk& talk);

}  // namespace stoat
