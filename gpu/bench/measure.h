// Times decode attention on the current device: graphs of back-to-back steps over K and V that
// rotate through more memory than any cache holds, and the floors, plain kernels that only read the
// same bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gpu/attention/params.h"

namespace stoat::gpu {

// Llama-3.1-8B unless said otherwise; every sequence has the same context.
struct BenchShape {
  std::uint32_t batch = 1;
  std::uint32_t context = 0;
  std::uint32_t q_heads = 32;
  std::uint32_t kv_heads = 8;
  std::uint32_t head_dim = 128;
  std::uint32_t score_splits = 0;  // as DecodeParams
  bool hnd = false;                // K and V as [kv_heads, context, head_dim]

  std::uint64_t key_bytes() const {
    return std::uint64_t{2} * batch * context * kv_heads * head_dim;
  }
};

enum class BenchKind : std::uint8_t { kReadK, kReadKv, kScore, kDecode };

struct BenchItem {
  BenchKind kind = BenchKind::kDecode;
  Method method = Method::kDense;  // kDecode, kScore
  std::uint32_t budget = 0;
  bool trace = false;

  std::string name() const;  // "read K", "dense", "prop S=128"
};

struct Timing {
  std::vector<double> microseconds;  // [replays] of one step: replay time / steps
  std::uint32_t steps = 0;           // in a graph
  std::uint64_t rotated_bytes = 0;   // of K and V that a graph walks over
};

class Bench {
 public:
  // Room for the largest of these shapes. spread: standard deviation of the scores.
  Bench(const std::vector<BenchShape>& shapes, float spread);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  Timing measure(const BenchShape& shape, const BenchItem& item, std::uint32_t replays);

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

// p in [0, 1] of the sorted samples (nearest rank below).
double quantile(std::vector<double> samples, double p);

// What was measured on.
struct Machine {
  std::string gpu;
  std::string driver;  // "580.159.04"; empty when NVML is not there
  std::uint32_t multiprocessors = 0;
  std::uint32_t sm_clock_mhz = 0;  // now; 0: not known
  std::uint32_t memory_clock_mhz = 0;
  std::string cuda_runtime;
};
Machine this_machine();

}  // namespace stoat::gpu
