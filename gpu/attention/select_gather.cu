// Select and gather of one query head from its codes: the rows that own its points (select.cuh),
// their V rows added up in fp32. Grid: [splits, batch * q_heads].
//
// The blocks of a head share its points evenly; counts do not depend on how many they are, and the
// last block adds their sums in a fixed order.
#include <cstdint>

#include "gpu/attention/gather.cuh"
#include "gpu/attention/select.cuh"

namespace stoat::gpu {
namespace {

// A run of points on one row belongs to the block that has its first point.
__device__ __forceinline__ bool begins_run(const SelectShared& shared, const PointRange& range,
                                           const RunEdges& edges, std::uint32_t s) {
  return s == range.begin ? edges.points[0] >= s : shared.row[s] != shared.row[s - 1];
}

// The block's runs: shared.start[i] is the first point of the i-th. Returns how many.
__device__ std::uint32_t find_runs(SelectShared& shared, const PointRange& range,
                                   const RunEdges& edges) {
  std::uint32_t runs = 0;
  for (std::uint32_t base = range.begin; base < range.end; base += kThreads) {
    const std::uint32_t s = base + threadIdx.x;
    const bool head = s < range.end && begins_run(shared, range, edges, s);
    const Scan<std::uint32_t> scan = block_scan<std::uint32_t>(head ? 1 : 0);
    if (head) shared.start[runs + scan.before] = s;
    runs += scan.total;
  }
  if (threadIdx.x == 0) shared.start[runs] = edges.points[1];
  __syncthreads();
  return runs;
}

__device__ void write_trace(const DecodeParams& p, const SelectShared& shared,
                            const PointRange& range, const RunEdges& edges, std::uint32_t runs,
                            std::size_t head) {
  const TraceSink& sink = p.trace;
  const std::size_t base = head * sink.capacity;
  for (std::uint32_t s = range.begin + threadIdx.x; s < min(range.end, sink.capacity);
       s += kThreads) {
    if (begins_run(shared, range, edges, s)) continue;
    sink.row[base + s] = shared.row[s];
    sink.count[base + s] = 0;
  }
  std::uint32_t lost = 0;
  for (std::uint32_t i = threadIdx.x; i < runs; i += kThreads) {
    const std::uint32_t s = shared.start[i];
    if (s < sink.capacity) {
      sink.row[base + s] = shared.row[s];
      sink.count[base + s] = static_cast<std::uint16_t>(shared.start[i + 1] - s);
    } else {
      ++lost;
    }
  }
  if (lost > 0) {
    atomicAdd(sink.lost, lost);
    atomicOr(p.status, kTraceOverflow);
  }
}

// A run's row and what it weighs before the scale of the head: its count, for flash rescaled by the
// tile's mass.
__device__ __forceinline__ WeightedRow weighted_run(const SelectShared& shared, std::uint32_t run,
                                                    bool flash, float inverse_total) {
  const std::uint32_t row = shared.row[shared.start[run]];
  float weight = static_cast<float>(shared.start[run + 1] - shared.start[run]);
  if (flash) {
    const std::uint32_t tile = row / kTileRows;
    const std::uint64_t mass = shared.tile_begin[tile + 1] - shared.tile_begin[tile];
    weight *= static_cast<float>(mass) * inverse_total /
              static_cast<float>(shared.first[tile + 1] - shared.first[tile]);
  }
  return {row, weight};
}

// Codes that nobody reads again need not be written to memory. Every block of the head has read
// them when this one is here (store_head).
__device__ void discard_codes(const LaunchArguments& a, const GatherShare& share,
                              std::uint32_t tiles) {
  constexpr std::uint32_t kLine = 64;  // codes: 128 bytes
  std::uint16_t* codes =
      a.workspace.code + share.head * static_cast<std::size_t>(a.tiles_capacity) * kTileRows;
  for (std::uint32_t i = share.split * kThreads + threadIdx.x; i < tiles * (kTileRows / kLine);
       i += share.splits * kThreads)
    asm volatile("discard.global.L2 [%0], 128;" ::"l"(codes + i * kLine) : "memory");
}

// Waits for a sequence's scores: for its tiles alone where the score kernel signals them, else for
// the end of that kernel. The last block to see them resets the signal. Blocks of the last sequence
// stay until the score kernel has ended, so that the end of this one is the end of both.
class ScoreWait {
 public:
  __device__ ScoreWait(const LaunchArguments& a, const GatherShare& share, std::uint32_t sequence,
                       std::uint32_t tiles)
      : a_(a), last_(sequence + 1 == a.params.batch) {
    const DecodeParams& p = a.params;
    if (!a.signals) {
      wait_for_previous_kernel();
      return;
    }
    slot_ = sequence;
    if (tiles > 0 && threadIdx.x == 0) {
      while (load_acquire(a.workspace.ready + slot_) < tiles * p.kv_heads) __nanosleep(20);
    }
    __syncthreads();
    const std::uint32_t readers = p.q_heads * share.splits;
    if (tiles > 0 && threadIdx.x == 0)
      resets_ = atomicInc(a.workspace.seen + slot_, readers - 1) == readers - 1;
  }
  __device__ ~ScoreWait() {
    if (!a_.signals) return;
    if (resets_) a_.workspace.ready[slot_] = 0;
    if (last_) wait_for_previous_kernel();
  }
  ScoreWait(const ScoreWait&) = delete;
  ScoreWait& operator=(const ScoreWait&) = delete;

 private:
  __device__ static std::uint32_t load_acquire(const std::uint32_t* address) {
    std::uint32_t value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
  }
  const LaunchArguments& a_;
  bool last_;
  std::uint32_t slot_ = 0;
  bool resets_ = false;
};

template <class Element, int kHeadDim, DrawKind kKind, bool kTrace>
__global__ __launch_bounds__(kThreads,
                             4) void select_gather(const __grid_constant__ LaunchArguments a) {
  extern __shared__ uint4 dynamic_shared[];
  __shared__ float sums[kHeadDim];
  __shared__ RunEdges edges;
  const DecodeParams& p = a.params;
  SelectShared shared;
  shared.place(reinterpret_cast<std::uint64_t*>(dynamic_shared), p, a.tiles_capacity);
  load_lut(a.workspace, shared.lut);
  const GatherShare share(a);
  const std::size_t head = share.head;
  const std::uint32_t sequence = share.head / p.q_heads, query_head = share.head % p.q_heads;
  // The lengths are not written by the score kernel, which has waited for those before it.
  const std::uint32_t context = context_of(p, sequence);
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  // What needs no scores, before the wait.
  const DrawSite site{p.seed, p.sequence_id ? p.sequence_id[sequence] : sequence, context - 1,
                      static_cast<std::uint16_t>(p.layer), static_cast<std::uint16_t>(query_head)};
  Points<kKind> points{
      p.method,         site, 0, draw_u64(site, Purpose::kValue, 0), p.budget, shared.sorted,
      inverse(p.budget)};
  const ScoreWait wait(a, share, sequence, tiles);
  let_next_kernel_start();
  if (context == 0) return refuse_head<Element>(p, share, kBadContext);
  const std::size_t first_slot = head * a.tiles_capacity;
  record_scores(a, share, tiles);
  const HeadRuler ruler = build_ruler(a.workspace, first_slot, tiles, shared);
  if (ruler.total == 0) {
    return refuse_head<Element>(
        p, share, ruler.max_exponent == kDamagedTile ? kDamagedScore : kNoFiniteScore);
  }
  points.total = ruler.total;
  points.offset = mulhi64(points.offset, ruler.total);
  // The host refuses flash with fewer samples than tiles, so this does not fail.
  if (!prepare_points(a.workspace, shared, points, first_slot, tiles))
    return refuse_head<Element>(p, share, kBadContext);
  const std::uint32_t splits = share.splits;
  const PointRange range{p.budget * share.split / splits, p.budget * (share.split + 1) / splits};
  select_points(a, shared, points, range, first_slot, tiles, ruler.max_exponent, edges);
  const std::uint32_t runs = find_runs(shared, range, edges);
  if constexpr (kTrace) write_trace(p, shared, range, edges, runs, head);
  const RowAddress<Element> values(a, p.v, sequence, query_head / (p.q_heads / p.kv_heads));
  constexpr bool flash = kKind == DrawKind::kFlash;
  const float inverse_total = 1.0F / static_cast<float>(ruler.total);
  gather<Element, kHeadDim>(
      values, runs,
      [&](std::uint32_t run) { return weighted_run(shared, run, flash, inverse_total); }, sums);
  const float scale = flash ? 1.0F : 1.0F / static_cast<float>(p.budget);
  if (p.lse && share.split == 0 && threadIdx.x == 0) {
    // Z counts 2^(x - e_max) in units of 2^-30.
    p.lse[head] = (log2f(static_cast<float>(ruler.total)) - 24.0F - kMassGuardBits +
                   static_cast<float>(ruler.max_exponent)) /
                  kLog2E;
  }
  store_head<Element, kHeadDim>(a, share, sums, scale);
  if (a.signals && !p.keep_codes && sequence + 1 < p.batch && splits <= kMaxGatherCluster)
    discard_codes(a, share, tiles);
}

template <DrawKind kKind, bool kTrace>
struct Instances {
  template <class Element, int kHeadDim>
  struct Of {
    static Kernel kernel() { return select_gather<Element, kHeadDim, kKind, kTrace>; }
  };
};

template <DrawKind kKind>
Kernel of_kind(ElementType element, std::uint32_t head_dim, bool trace) {
  return trace ? instance<Instances<kKind, true>::template Of>(element, head_dim)
               : instance<Instances<kKind, false>::template Of>(element, head_dim);
}

}  // namespace

Kernel select_gather_kernel(const DecodeParams& params) {
  const bool trace = params.trace.row != nullptr;
  switch (params.method) {
    case Method::kFlash:
      return of_kind<DrawKind::kFlash>(params.element, params.head_dim, trace);
    case Method::kIid:
    case Method::kStratified:
      return of_kind<DrawKind::kOther>(params.element, params.head_dim, trace);
    default:
      return of_kind<DrawKind::kSystematic>(params.element, params.head_dim, trace);
  }
}

std::size_t select_gather_shared_bytes(const DecodeParams& params) {
  return SelectShared{}.place(nullptr, params, max_tiles(params));
}

}  // namespace stoat::gpu
