#include "gpu/bench/measure.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "gpu/attention/decode_launch.h"
#include "models/error.h"
#include "models/sampling/philox.h"

namespace stoat::gpu {

namespace {

constexpr std::uint64_t kRotatedBytes = std::uint64_t{640} << 20;
constexpr std::uint32_t kWarmUps = 3;

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw resource_error({"CUDA"}, std::string(what) + ": " + cudaGetErrorString(status),
                       "a working device with enough free memory");
}

std::uint32_t pairs_of(const BenchShape& shape) {
  const std::uint64_t pair = 2 * shape.key_bytes();
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>((kRotatedBytes + pair - 1) / pair, 2, 64));
}

// Normal numbers as bf16 (Box-Muller of Philox words). data: [n], n even.
__global__ void fill_normal(__nv_bfloat16* data, std::uint64_t n, float spread, std::uint32_t key) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n / 2;
       i += stride) {
    const PhiloxBlock block = philox4x32_10(
        {{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), 0, 0}}, key, 1);
    const float u = (static_cast<float>(block.word[0] >> 8) + 1) / 16777216.0F;
    const float angle = static_cast<float>(block.word[1]) * (6.2831853F / 4294967296.0F);
    const float radius = spread * sqrtf(-2 * logf(u));
    data[2 * i] = __float2bfloat16(radius * cosf(angle));
    data[2 * i + 1] = __float2bfloat16(radius * sinf(angle));
  }
}

// Reads n 16-byte words of a and, unless null, of b. The sum is stored only if it is a number that
// does not occur, so that the loads stay.
__global__ __launch_bounds__(512, 2) void read_floor(const uint4* a, const uint4* b,
                                                     std::uint64_t n, std::uint32_t* sink) {
  constexpr int kUnroll = 8;
  std::uint32_t sum = 0;
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
  if (sum == 0x9e3779b9U) *sink = sum;
}

// Frees what it owns.
class Block {
 public:
  void allocate(std::size_t bytes) {
    cudaFree(data_);
    data_ = nullptr;
    check(cudaMalloc(&data_, std::max<std::size_t>(bytes, 256)), "cudaMalloc");
    size_ = bytes;
  }
  Block() = default;
  ~Block() { cudaFree(data_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

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
  void queue_step(const BenchShape& shape, const BenchItem& item, std::uint32_t step);
};

std::string BenchItem::name() const {
  switch (kind) {
    case BenchKind::kReadK:
      return "read K";
    case BenchKind::kReadKv:
      return "read K and V";
    case BenchKind::kScore:
      return "score pass";
    case BenchKind::kDecode:
      break;
  }
  std::string text(method_name(method));
  if (method != Method::kDense) text += " S=" + std::to_string(budget);
  if (trace) text += " traced";
  return text;
}

Bench::Bench(const std::vector<BenchShape>& shapes, float spread)
    : memory_(std::make_unique<Memory>()) {
  std::uint64_t key_bytes = 0, query_elements = 0, heads = 0;
  for (const BenchShape& shape : shapes) {
    key_bytes = std::max(key_bytes, pairs_of(shape) * shape.key_bytes());
    const std::uint64_t q = std::uint64_t{shape.batch} * shape.q_heads * shape.head_dim;
    query_elements = std::max(query_elements, q * pairs_of(shape));
    heads = std::max(heads, std::uint64_t{shape.batch} * shape.q_heads);
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
  m.trace_row.allocate(heads * kMaxGpuBudget * sizeof(std::uint32_t));
  m.trace_count.allocate(heads * kMaxGpuBudget * sizeof(std::uint16_t));
  check(cudaMemset(m.status.as<void>(), 0, sizeof(std::uint32_t)), "cudaMemset");
  check(cudaMemset(m.lost.as<void>(), 0, sizeof(std::uint32_t)), "cudaMemset");
  const auto fill = [&](const Block& block, float s, std::uint32_t key) {
    fill_normal<<<2048, 256, 0, m.stream>>>(block.as<__nv_bfloat16>(), block.size() / 2, s, key);
    check(cudaGetLastError(), "fill_normal");
  };
  fill(m.k, 1, 1);
  fill(m.v, 1, 2);
  fill(m.q, spread, 3);
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
  p.context_len = context.as<std::uint32_t>();
  p.sm_scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  p.method = item.method;
  p.budget = item.budget;
  p.seed = 20261122;
  p.layer = pair;
  p.out = out.as<std::byte>() + pair * query_bytes;
  p.status = status.as<std::uint32_t>();
  if (item.trace)
    p.trace = TraceSink{trace_row.as<std::uint32_t>(), trace_count.as<std::uint16_t>(), item.budget,
                        lost.as<std::uint32_t>()};
  p.workspace = workspace.as<void>();
  p.workspace_size = workspace.size();
  return p;
}

void Bench::Memory::queue_step(const BenchShape& shape, const BenchItem& item, std::uint32_t step) {
  const DecodeParams p = params(shape, item, step % pairs_of(shape));
  if (item.kind == BenchKind::kDecode) return launch_decode(p, stream);
  if (item.kind == BenchKind::kScore) return launch_score(p, stream);
  read_floor<<<2 * device_multiprocessors(), 512, 0, stream>>>(
      static_cast<const uint4*>(p.k),
      item.kind == BenchKind::kReadKv ? static_cast<const uint4*>(p.v) : nullptr,
      shape.key_bytes() / 16, status.as<std::uint32_t>());
  check(cudaGetLastError(), "read_floor");
}

Timing Bench::measure(const BenchShape& shape, const BenchItem& item, std::uint32_t replays) {
  Memory& m = *memory_;
  const std::vector<std::uint32_t> lengths(shape.batch, shape.context);
  check(cudaMemcpy(m.context.as<void>(), lengths.data(), lengths.size() * sizeof(std::uint32_t),
                   cudaMemcpyHostToDevice),
        "cudaMemcpy");
  const bool ours = item.kind == BenchKind::kDecode || item.kind == BenchKind::kScore;
  if (ours) {
    m.workspace.allocate(workspace_bytes(m.params(shape, item, 0), device_multiprocessors()));
    prepare_workspace(m.params(shape, item, 0), m.stream);
  }
  Timing timing;
  timing.steps = std::max(4U, pairs_of(shape));
  timing.rotated_bytes = pairs_of(shape) * 2 * shape.key_bytes();
  check(cudaStreamBeginCapture(m.stream, cudaStreamCaptureModeThreadLocal), "begin of capture");
  for (std::uint32_t step = 0; step < timing.steps; ++step) m.queue_step(shape, item, step);
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(m.stream, &graph), "end of capture");
  cudaGraphExec_t exec = nullptr;
  check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  for (std::uint32_t i = 0; i < kWarmUps + replays; ++i) {
    check(cudaEventRecord(m.begin, m.stream), "cudaEventRecord");
    check(cudaGraphLaunch(exec, m.stream), "cudaGraphLaunch");
    check(cudaEventRecord(m.end, m.stream), "cudaEventRecord");
    check(cudaEventSynchronize(m.end), item.name().c_str());
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, m.begin, m.end), "cudaEventElapsedTime");
    if (i >= kWarmUps)
      timing.microseconds.push_back(1000.0 * static_cast<double>(milliseconds) / timing.steps);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  std::uint32_t status = 0;
  check(cudaMemcpy(&status, m.status.as<void>(), sizeof(status), cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  STOAT_ENSURE(!ours || status == 0, "no head was refused on the device");
  return timing;
}

}  // namespace stoat::gpu
