// Times whole decode steps and prefills of a model with random weights, and what recording them
// costs: `stoat-capture bench`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/sampling/selection.h"

namespace stoat {

struct StepBenchOptions {
  std::string shape = "llama-3.1-8b";  // a name of models/llm/shapes.csv, or a table with one row
  std::vector<std::uint32_t> batches{1, 4, 16};
  std::vector<std::uint32_t> contexts{4096, 8192, 16384, 32768, 65536, 131072};
  std::vector<std::string> methods{"dense", "prop:128"};  // name or name:budget
  std::uint32_t samples = 7;                              // timed runs of `steps` steps
  std::uint32_t steps = 12;
  std::vector<std::uint32_t> prefills;  // lengths of prompts to time
  bool parts = false;                   // kernels of a step by kind, too
  std::uint32_t record = 0;             // steps to record (fast statistics), too
  std::uint32_t endurance = 0;          // steps to record and look at the memory; nothing else
  std::string folder = "/tmp";          // where recordings lie while they are made
  std::string json;                     // file for every sample; empty: none
  bool resume = false;                  // rows that the file has of this build and GPU are kept
  double terabytes_per_second = 4.6;    // of the bound
};

struct StepTiming {
  std::uint32_t batch = 0, context = 0, budget = 0;
  Method method = Method::kDense;
  std::vector<double> microseconds;  // [samples] of one step
  std::vector<double> parts;         // [kStepParts] of one step, run by themselves
  std::uint64_t weight_bytes = 0, kv_bytes = 0;
  double recorded_microseconds = 0;    // of one step while recording; 0: not measured
  double unrecorded_microseconds = 0;  // the same without recording, of as many steps
  double recorded_megabytes = 0;       // of one step in the spool
  double resident_megabytes = 0;       // host memory of the program at the end of the recording
  // Of which the decoding thread spends submitting, waiting for the device, and handing over.
  double submit_microseconds = 0, wait_microseconds = 0, add_microseconds = 0;
  std::string left_out;  // why it was not measured; empty: it was
};

// The table goes to stdout, progress to stderr. Throws Error.
void run_step_bench(const StepBenchOptions& options);

// The command line of it; returns the exit code.
int step_bench_main(int argc, char** argv);

}  // namespace stoat
