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

__device__ __forceinline__ bool begins_run(const SelectShared& shared, std::uint32_t s) {
  return s == 0 || shared.row[s] != shared.row[s - 1];
}

// The block's runs: shared.start[i] is the first point of the i-th. Returns how many.
__device__ std::uint32_t find_runs(SelectShared& shared, const PointRange& range,
                                   std::uint32_t last_end) {
  std::uint32_t runs = 0;
  for (std::uint32_t base = range.begin; base < range.end; base += kThreads) {
    const std::uint32_t s = base + threadIdx.x;
    const bool head = s < range.end && begins_run(shared, s);
    const Scan<std::uint32_t> scan = block_scan<std::uint32_t>(head ? 1 : 0);
    if (head) shared.start[runs + scan.before] = s;
    runs += scan.total;
  }
  if (threadIdx.x == 0) shared.start[runs] = last_end;
  __syncthreads();
  return runs;
}

__device__ void write_trace(const DecodeParams& p, const SelectShared& shared,
                            const PointRange& range, std::uint32_t runs, std::size_t head) {
  const TraceSink& sink = p.trace;
  const std::size_t base = head * sink.capacity;
  for (std::uint32_t s = range.begin + threadIdx.x; s < min(range.end, sink.capacity);
       s += kThreads) {
    if (begins_run(shared, s)) continue;
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

template <class Element, int kHeadDim, bool kTrace>
__global__ __launch_bounds__(kThreads,
                             4) void select_gather(const __grid_constant__ LaunchArguments a) {
  extern __shared__ uint4 dynamic_shared[];
  __shared__ float sums[kHeadDim];
  __shared__ std::uint32_t last_end;
  const DecodeParams& p = a.params;
  SelectShared shared;
  shared.place(reinterpret_cast<std::uint64_t*>(dynamic_shared), p, a.tiles_capacity);
  load_lut(a.workspace, shared.lut);
  const std::size_t head = blockIdx.y;
  const std::uint32_t sequence = blockIdx.y / p.q_heads, query_head = blockIdx.y % p.q_heads;
  // The lengths are not written by the score kernel, which has waited for those before it.
  const std::uint32_t context = context_of(p, sequence);
  wait_for_previous_kernel();
  let_next_kernel_start();
  if (context == 0) return refuse_head<Element>(p, head, kBadContext);
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  const std::size_t first_slot = head * a.tiles_capacity;
  record_scores(a, head, tiles);
  const HeadRuler ruler = build_ruler(a.workspace, first_slot, tiles, shared);
  if (ruler.total == 0) {
    return refuse_head<Element>(
        p, head, ruler.max_exponent == kDamagedTile ? kDamagedScore : kNoFiniteScore);
  }
  const DrawSite site{p.seed, p.sequence_id ? p.sequence_id[sequence] : sequence, context - 1,
                      static_cast<std::uint16_t>(p.layer), static_cast<std::uint16_t>(query_head)};
  const Points points{p.method,
                      site,
                      ruler.total,
                      systematic_points(site, ruler.total).offset,
                      p.budget,
                      shared.sorted,
                      1.0 / static_cast<double>(ruler.total),
                      1.0 / p.budget};
  // The host refuses flash with fewer samples than tiles, so this does not fail.
  if (!find_first_points(shared, points, tiles)) return refuse_head<Element>(p, head, kBadContext);
  const std::uint32_t splits = a.splits.gather;
  const PointRange range{p.budget * blockIdx.x / splits, p.budget * (blockIdx.x + 1) / splits};
  select_points(a, shared, points, range, first_slot, tiles, ruler.max_exponent, &last_end);
  const std::uint32_t runs = find_runs(shared, range, last_end);
  if constexpr (kTrace) write_trace(p, shared, range, runs, head);
  const RowAddress<Element> values(a, p.v, sequence, query_head / (p.q_heads / p.kv_heads));
  const bool flash = p.method == Method::kFlash;
  const float inverse_total = 1.0F / static_cast<float>(ruler.total);
  gather<Element, kHeadDim>(
      values, runs,
      [&](std::uint32_t run) { return weighted_run(shared, run, flash, inverse_total); }, sums);
  const float scale = flash ? 1.0F : 1.0F / static_cast<float>(p.budget);
  if (p.lse && blockIdx.x == 0 && threadIdx.x == 0) {
    // Z counts 2^(x - e_max) in units of 2^-30.
    p.lse[head] = (log2f(static_cast<float>(ruler.total)) - 24.0F - kMassGuardBits +
                   static_cast<float>(ruler.max_exponent)) /
                  kLog2E;
  }
  store_head<Element, kHeadDim>(a, head, sums, scale);
}

template <class Element, int kHeadDim>
struct SelectGatherInstance {
  static Kernel kernel() { return select_gather<Element, kHeadDim, false>; }
};
template <class Element, int kHeadDim>
struct TracingInstance {
  static Kernel kernel() { return select_gather<Element, kHeadDim, true>; }
};

}  // namespace

Kernel select_gather_kernel(ElementType element, std::uint32_t head_dim, bool trace) {
  return trace ? instance<TracingInstance>(element, head_dim)
               : instance<SelectGatherInstance>(element, head_dim);
}

std::size_t select_gather_shared_bytes(const DecodeParams& params) {
  return SelectShared{}.place(nullptr, params, max_tiles(params));
}

}  // namespace stoat::gpu
