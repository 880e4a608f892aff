#include "gpu/bench/measure.h"

#include <cuda_profiler_api.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "gpu/attention/decode_launch.h"
#include "gpu/bench/fill.cuh"

namespace stoat::gpu {

namespace {

constexpr std::uint64_t kRotatedBytes = std::uint64_t{640} << 20;
constexpr std::uint32_t kTracedBudget = 2048;  // the largest of a traced item

std::uint32_t pairs_of(const BenchShape& shape) {
  const std::uint64_t pair = 2 * shape.key_bytes();
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>((kRotatedBytes + pair - 1) / pair, 2, 64));
}

}  // namespace

std::uint32_t steps_of_graph(const BenchShape& shape) {
  constexpr std::uint64_t kWalk = std::uint64_t{64} << 30;
  const std::uint64_t few = std::clamp<std::uint64_t>(kWalk / (2 * shape.key_bytes()), 4, 32);
  return std::max(static_cast<std::uint32_t>(few), pairs_of(shape));
}

namespace {

// Reads n 16-byte words of a and, unless null, of b. The sum is stored only if it is a number that
// does not occur, so that the loads stay. Overlapped, the next launch may start at once, and this
// one waits for the one before it only when it has read everything.
template <bool kOverlapped>
__global__ __launch_bounds__(512, 2) void read_floor(const uint4* a, const uint4* b,
                                                     std::uint64_t n, std::uint32_t* sink) {
  constexpr int kUnroll = 8;
  std::uint32_t sum = 0;
#if __CUDA_ARCH__ >= 900
  if constexpr (kOverlapped) cudaTriggerProgrammaticLaunchCompletion();
#endif
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (const uint4* data : {a, b}) {
    if (!data) continue;
    for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
         i += stride * kUnroll) {
      uint4 value[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
        value[u] = i + u * stride < n ? __ldcs(data + i + u * stride) : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) sum ^= value[u].x ^ value[u].y ^ value[u].z ^ value[u].w;
    }
  }
#if __CUDA_ARCH__ >= 900
  if constexpr (kOverlapped) cudaGridDependencySynchronize();
#endif
  if (sum == 0x9e3779b9U) *sink = sum;
}

// Stands between two items in a profile.
__global__ void bench_mark() {}

}  // namespace

struct Bench::Memory {
  Block q, k, v, out, context, status, workspace, trace_row, trace_count, lost;
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;

  ~Memory() {
    if (begin) cudaEventDestroy(begin);
    if (end) cudaEventDestroy(end);
    if (stream) cudaStreamDestroy(stream);
  }
  DecodeParams params(const BenchShape& shape, const BenchItem& item, std::uint32_t pair);
  void prepare(const BenchShape& shape, const BenchItem& item);
  void queue_floor(const DecodeParams& p, const BenchShape& shape, const BenchItem& item);
  void queue_step(const BenchShape& shape, const BenchItem& item, std::uint32_t step);
  void check_status();
};

Bench::Bench(const std::vector<BenchShape>& shapes, float spread)
    : memory_(std::make_unique<Memory>()) {
  std::uint64_t key_bytes = 0, query_elements = 0, traced_heads = 0;
  for (const BenchShape& shape : shapes) {
    key_bytes = std::max(key_bytes, pairs_of(shape) * shape.key_bytes());
    const std::uint64_t q = std::uint64_t{shape.batch} * shape.q_heads * shape.head_dim;
    query_elements = std::max(query_elements, q * pairs_of(shape));
    traced_heads =
        std::max(traced_heads, std::uint64_t{shape.batch} * shape.q_heads * pairs_of(shape));
  }
  Memory& m = *memory_;
  check(cudaStreamCreate(&m.stream), "cudaStreamCreate");
  check(cudaEventCreate(&m.begin), "cudaEventCreate");
  check(cudaEventCreate(&m.end), "cudaEventCreate");
  m.k.allocate(key_bytes);
  m.v.allocate(key_bytes);
  m.q.allocate(query_elements * 2);
  m.out.allocate(query_elements * 2);
  m.context.allocate(kMaxBatch * sizeof(std::uint32_t));
  m.status.allocate(sizeof(std::uint32_t));
  m.lost.allocate(sizeof(std::uint32_t));
  m.trace_row.allocate(traced_heads * kTracedBudget * sizeof(std::uint32_t));
  m.trace_count.allocate(traced_heads * kTracedBudget * sizeof(std::uint16_t));
  check(cudaMemset(m.status.as<void>(), 0, sizeof(std::uint32_t)), "cudaMemset");
  check(cudaMemset(m.lost.as<void>(), 0, sizeof(std::uint32_t)), "cudaMemset");
  fill(m.k, 1, 1, m.stream);
  fill(m.v, 1, 2, m.stream);
  fill(m.q, spread, 3, m.stream);
  check(cudaStreamSynchronize(m.stream), "fill_normal");
}

Bench::~Bench() = default;

DecodeParams Bench::Memory::params(const BenchShape& shape, const BenchItem& item,
                                   std::uint32_t pair) {
  DecodeParams p;
  p.batch = shape.batch;
  p.q_heads = shape.q_heads;
  p.kv_heads = shape.kv_heads;
  p.head_dim = shape.head_dim;
  p.max_context = p.kv_capacity = shape.context;
  const std::uint64_t query_bytes = std::uint64_t{2} * shape.batch * shape.q_heads * shape.head_dim;
  p.q = q.as<std::byte>() + pair * query_bytes;
  p.k = k.as<std::byte>() + pair * shape.key_bytes();
  p.v = v.as<std::byte>() + pair * shape.key_bytes();
  p.kv_layout = shape.hnd ? KvLayout::kHnd : KvLayout::kNhd;
  p.score_splits = shape.score_splits;
  p.gather_splits = shape.gather_splits;
  p.context_len = context.as<std::uint32_t>();
  p.sm_scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  p.method = item.method;
  p.budget = item.budget;
  p.seed = 20261122;
  p.kv_is_stable = !item.waits;  // nothing here writes to K and V
  p.ternary.draws = item.ternary_draws;
  if (item.ternary_draws > 0) {
    // Any normal numbers will do for a feature-major copy: the memory of K, read in that order.
    p.ternary.k_features = p.k;
    p.ternary.capacity = shape.context;
  }
  p.layer = pair;
  p.out = out.as<std::byte>() + pair * query_bytes;
  p.status = status.as<std::uint32_t>();
  if (item.trace) {
    const std::size_t first = std::size_t{pair} * shape.batch * shape.q_heads * item.budget;
    p.trace =
        TraceSink{trace_row.as<std::uint32_t>() + first, trace_count.as<std::uint16_t>() + first,
                  item.budget, lost.as<std::uint32_t>()};
  }
  p.workspace = workspace.as<void>();
  p.workspace_size = workspace.size();
  return p;
}

// Lengths, workspace: before the first step of an item.
void Bench::Memory::prepare(const BenchShape& shape, const BenchItem& item) {
  const std::vector<std::uint32_t> lengths(shape.batch, shape.context);
  check(cudaMemcpy(context.as<void>(), lengths.data(), lengths.size() * sizeof(std::uint32_t),
                   cudaMemcpyHostToDevice),
        "cudaMemcpy");
  if (item.is_floor()) return;
  workspace.allocate(workspace_bytes(params(shape, item, 0), device_multiprocessors()));
  prepare_workspace(params(shape, item, 0), stream);
}

void Bench::Memory::queue_floor(const DecodeParams& p, const BenchShape& shape,
                                const BenchItem& item) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(2 * device_multiprocessors());
  config.blockDim = dim3(512);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = item.overlapped ? 1 : 0;
  const auto* k_words = static_cast<const uint4*>(p.k);
  const auto* v_words = item.kind == BenchKind::kReadKv ? static_cast<const uint4*>(p.v) : nullptr;
  const auto kernel = item.overlapped ? read_floor<true> : read_floor<false>;
  check(cudaLaunchKernelEx(&config, kernel, k_words, v_words, shape.key_bytes() / 16,
                           status.as<std::uint32_t>()),
        "read_floor");
}

void Bench::Memory::queue_step(const BenchShape& shape, const BenchItem& item, std::uint32_t step) {
  const DecodeParams p = params(shape, item, step % pairs_of(shape));
  if (item.kind == BenchKind::kDecode) return launch_decode(p, stream);
  if (item.kind == BenchKind::kScore) return launch_score(p, stream);
  queue_floor(p, shape, item);
}

// Throws when a head was refused on the device.
void Bench::Memory::check_status() {
  std::uint32_t bits = 0;
  check(cudaMemcpy(&bits, status.as<void>(), sizeof(bits), cudaMemcpyDeviceToHost), "cudaMemcpy");
  STOAT_ENSURE(bits == 0, "no head was refused on the device");
}

Timing Bench::measure(const BenchShape& shape, const BenchItem& item, std::uint32_t replays) {
  Memory& m = *memory_;
  m.prepare(shape, item);
  Timing timing;
  timing.steps = shape.steps != 0 ? shape.steps : steps_of_graph(shape);
  timing.rotated_bytes = std::min(timing.steps, pairs_of(shape)) * 2 * shape.key_bytes();
  check(cudaStreamBeginCapture(m.stream, cudaStreamCaptureModeThreadLocal), "begin of capture");
  for (std::uint32_t step = 0; step < timing.steps; ++step) m.queue_step(shape, item, step);
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(m.stream, &graph), "end of capture");
  cudaGraphExec_t exec = nullptr;
  check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  for (std::uint32_t i = 0; i < kBenchWarmUps + replays; ++i) {
    check(cudaEventRecord(m.begin, m.stream), "cudaEventRecord");
    check(cudaGraphLaunch(exec, m.stream), "cudaGraphLaunch");
    check(cudaEventRecord(m.end, m.stream), "cudaEventRecord");
    check(cudaEventSynchronize(m.end), item.name().c_str());
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, m.begin, m.end), "cudaEventElapsedTime");
    if (i >= kBenchWarmUps)
      timing.microseconds.push_back(1000.0 * static_cast<double>(milliseconds) / timing.steps);
  }
  timing.sm_clock_mhz = sm_clock_mhz();
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  if (!item.is_floor()) m.check_status();
  return timing;
}

std::uint64_t Bench::distinct_rows(const BenchShape& shape, const BenchItem& item) {
  Memory& m = *memory_;
  BenchItem traced = item;
  traced.trace = true;
  STOAT_ENSURE(item.budget > 0 && item.budget <= kTracedBudget, "the trace has room");
  m.prepare(shape, traced);
  m.queue_step(shape, traced, 0);
  check(cudaStreamSynchronize(m.stream), traced.name().c_str());
  m.check_status();
  const std::size_t heads = std::size_t{shape.batch} * shape.q_heads, slots = heads * item.budget;
  std::vector<std::uint32_t> row(slots);
  std::vector<std::uint16_t> count(slots);
  check(cudaMemcpy(row.data(), m.trace_row.as<void>(), slots * sizeof(row[0]),
                   cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  check(cudaMemcpy(count.data(), m.trace_count.as<void>(), slots * sizeof(count[0]),
                   cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  const std::size_t slots_a_group = std::size_t{shape.q_heads / shape.kv_heads} * item.budget;
  std::uint64_t distinct = 0;
  for (std::size_t first = 0; first < slots; first += slots_a_group) {
    std::set<std::uint32_t> rows;
    for (std::size_t s = first; s < first + slots_a_group; ++s) {
      if (count[s] > 0) rows.insert(row[s]);
    }
    distinct += rows.size();
  }
  return distinct;
}

double Bench::touched_fraction(const BenchShape& shape, const BenchItem& item) {
  Memory& m = *memory_;
  m.prepare(shape, item);
  DecodeParams p = m.params(shape, item, 0);
  const std::size_t bytes = shape.head_dim / 8;
  const std::size_t heads = std::size_t{shape.batch} * shape.q_heads;
  Block mask, sign;
  mask.allocate(heads * item.ternary_draws * bytes);
  sign.allocate(heads * bytes);
  p.ternary.sink = TernarySink{mask.as<std::uint8_t>(), sign.as<std::uint8_t>()};
  launch_score(p, m.stream);
  check(cudaStreamSynchronize(m.stream), item.name().c_str());
  std::vector<std::uint8_t> masks(mask.size());
  check(cudaMemcpy(masks.data(), mask.as<void>(), mask.size(), cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  const std::size_t masks_a_group = heads / shape.batch / shape.kv_heads * item.ternary_draws;
  std::uint64_t touched = 0, features = 0;
  for (std::size_t first = 0; first < masks.size(); first += masks_a_group * bytes) {
    for (std::size_t byte = 0; byte < bytes; ++byte) {
      std::uint8_t any = 0;
      for (std::size_t i = 0; i < masks_a_group; ++i)
        any = static_cast<std::uint8_t>(any | masks[first + i * bytes + byte]);
      touched += static_cast<std::uint64_t>(std::popcount(any));
      features += 8;
    }
  }
  return static_cast<double>(touched) / static_cast<double>(features);
}

void Bench::profiled_step(const BenchShape& shape, const BenchItem& item, std::uint32_t index) {
  Memory& m = *memory_;
  m.prepare(shape, item);
  // Other K and V first, so that these are in no cache, and the workspace is.
  for (std::uint32_t step = pairs_of(shape); step-- > 1;) m.queue_step(shape, item, step);
  check(cudaStreamSynchronize(m.stream), item.name().c_str());
  check(cudaProfilerStart(), "cudaProfilerStart");
  bench_mark<<<index + 1, 32, 0, m.stream>>>();
  check(cudaGetLastError(), "bench_mark");
  m.queue_step(shape, item, 0);
  check(cudaStreamSynchronize(m.stream), item.name().c_str());
  check(cudaProfilerStop(), "cudaProfilerStop");
  if (!item.is_floor()) m.check_status();
}

}  // namespace stoat::gpu
