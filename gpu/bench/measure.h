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
  std::uint32_t score_splits = 0, gather_splits = 0;  // as DecodeParams
  std::uint32_t steps = 0;                            // of a graph; 0: steps_of_graph()
  bool hnd = false;                                   // K and V as [kv_heads, context, head_dim]

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
  bool overlapped = false;  // kReadK, kReadKv: a launch may start while the one before it ends
  bool waits = false;       // others: without the promise DecodeParams::kv_is_stable
  std::uint32_t ternary_draws = 0;  // B of coupled ternary queries; 0: exact scores

  std::string name() const;  // "read K", "read K overlapped", "dense", "prop S=128 traced"
  bool is_floor() const { return kind == BenchKind::kReadK || kind == BenchKind::kReadKv; }
};

// Every row that can be asked for, floors first, and those measured when nobody asks: traced twins
// only at 32k tokens.
const std::vector<BenchItem>& bench_items();
bool measured_by_default(const BenchShape& shape, const BenchItem& item);

inline constexpr std::uint32_t kBenchWarmUps = 3;  // replays before the timed ones

struct Timing {
  std::vector<double> microseconds;  // [replays] of one step: replay time / steps
  std::uint32_t steps = 0;           // in a graph
  std::uint64_t rotated_bytes = 0;   // of K and V that a graph walks over
  std::uint32_t sm_clock_mhz = 0;    // right after the last replay
};

class Bench {
 public:
  // Room for the largest of these shapes. spread: standard deviation of the scores.
  Bench(const std::vector<BenchShape>& shapes, float spread);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  Timing measure(const BenchShape& shape, const BenchItem& item, std::uint32_t replays);

  // Distinct value rows of all KV heads that one step of this sampled item reads, from its trace.
  std::uint64_t distinct_rows(const BenchShape& shape, const BenchItem& item);
  // Share of a group's features that ternary queries of this item touch, over all KV heads.
  double touched_fraction(const BenchShape& shape, const BenchItem& item);
  // One step on cold K and V, not in a graph, between cudaProfilerStart and Stop. Before it runs a
  // kernel bench_mark of index + 1 blocks, so that a profile says where each item begins.
  void profiled_step(const BenchShape& shape, const BenchItem& item, std::uint32_t index);

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

// Why the item cannot be launched in this shape; empty when it can.
std::string item_refusal(const BenchShape& shape, const BenchItem& item);
// Bytes of K, and V of dense and the floors, that one step must read when it touches every feature.
std::uint64_t must_read_bytes(const BenchShape& shape, const BenchItem& item);

// Steps of a graph unless asked for: a model's 32 layers, so that the start of a graph weighs what
// it does in a decode step; fewer, but at least 4, where they would walk over more than 64 GiB of K
// and V; and at least as many as rotate.
std::uint32_t steps_of_graph(const BenchShape& shape);

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
std::uint32_t sm_clock_mhz();  // now; 0: not known

// Of the token stream of the kernels' sources (scripts/kernel_hash.py).
const char* kernel_hash();

}  // namespace stoat::gpu
