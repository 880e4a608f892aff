// Deterministic top-k of one query head from its codes, the comparator of sampling, and the gather
// of its rows with softmax weights. models/sampling/selection.h is the specification: higher scores
// first, of equal codes the lower row. Grid: [splits, batch * q_heads].
//
// Every block of a head selects all k rows (a radix selection on integer distances from the largest
// exponent, two passes over the codes for usual scores) and gathers its share of them.
#include <cstdint>

#include "gpu/attention/gather.cuh"
#include "gpu/attention/select.cuh"
#include "gpu/attention/ternary_launch.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kDigitBits = 11;
constexpr std::uint32_t kBins = 1U << kDigitBits;
constexpr std::uint32_t kCodesOfLane = 8;

// Parts of dynamic shared memory; sizes from the shape of the launch.
struct TopKShared {
  std::uint64_t* before;     // [tiles] rows of earlier tiles: nearer than the cut, and at it << 32
  std::int32_t* exponent;    // [tiles]
  std::uint32_t* histogram;  // [kBins]
  std::uint32_t* row;        // [budget] the selection, increasing
  float* weight;             // [budget] 2^(x - largest x)

  __host__ __device__ std::size_t place(std::uint64_t* base, std::uint32_t budget,
                                        std::uint32_t tiles) {
    before = base;
    exponent = reinterpret_cast<std::int32_t*>(before + tiles);
    histogram = reinterpret_cast<std::uint32_t*>(exponent + tiles);
    row = histogram + kBins;
    weight = reinterpret_cast<float*>(row + budget);
    return tiles * (sizeof(std::uint64_t) + sizeof(std::int32_t)) +
           (kBins + 2 * budget) * sizeof(std::uint32_t);
  }
};

// Distances of a head's scores below the largest exponent, in steps of 1/2048: small is good.
struct Distances {
  const LaunchArguments& a;
  const TopKShared& shared;
  std::size_t first_slot;
  std::uint32_t context, tiles;
  std::int32_t max_exponent;
  std::uint64_t masked;  // of a row in a masked tile: above all others

  __device__ __forceinline__ std::uint64_t of_tile(std::uint32_t tile) const {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(max_exponent) -
                                      shared.exponent[tile])
           << kCodeFractionBits;
  }
  __device__ __forceinline__ std::uint64_t of_row(std::uint32_t tile, std::uint32_t code) const {
    return shared.exponent[tile] == kMaskedTile ? masked : of_tile(tile) + code;
  }
  __device__ __forceinline__ uint4 load(std::uint32_t tile) const {
    return __ldg(
        reinterpret_cast<const uint4*>(a.workspace.code + (first_slot + tile) * kTileRows) +
        threadIdx.x % 32);
  }
  // visit(tile, distances[8], n): n of them are rows of this lane, from row 256 * tile + 8 * lane.
  // Every lane of a warp visits the same tiles.
  template <class Visit>
  __device__ __forceinline__ void visit_tile(std::uint32_t tile, const uint4& codes,
                                             Visit visit) const {
    const std::uint32_t row = tile * kTileRows + kCodesOfLane * (threadIdx.x % 32);
    const std::uint32_t n = row < context ? min(context - row, kCodesOfLane) : 0;
    std::uint64_t distance[kCodesOfLane];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      distance[2 * i] = of_row(tile, word(codes, i) & 0xffffU);
      distance[2 * i + 1] = of_row(tile, word(codes, i) >> 16);
    }
    visit(tile, distance, n);
  }
  template <class Visit>
  __device__ __forceinline__ void visit_all(Visit visit) const {
    constexpr std::uint32_t kUnroll = 4;
    for (std::uint32_t t = threadIdx.x / 32; t < tiles; t += kUnroll * kWarps) {
      uint4 codes[kUnroll];
#pragma unroll
      for (std::uint32_t u = 0; u < kUnroll; ++u) codes[u] = load(min(t + u * kWarps, tiles - 1));
#pragma unroll
      for (std::uint32_t u = 0; u < kUnroll; ++u) {
        if (t + u * kWarps < tiles) visit_tile(t + u * kWarps, codes[u], visit);
      }
    }
  }
};

// The distance of the last selected row, and how many of the rows at it are selected.
struct Cut {
  std::uint64_t distance;
  std::uint32_t at_cut;
};

// The bin in which the cumulative histogram reaches `wanted`, and how many rows lie before it.
struct Bin {
  std::uint32_t index, before;
};
__device__ inline Bin find_bin(const std::uint32_t* histogram, std::uint32_t wanted) {
  __shared__ Bin found;
  constexpr std::uint32_t kMine = kBins / kThreads;
  std::uint32_t sum = 0;
  for (std::uint32_t i = 0; i < kMine; ++i) sum += histogram[threadIdx.x * kMine + i];
  std::uint32_t before = block_scan(sum).before;
  for (std::uint32_t i = 0; i < kMine; ++i) {
    const std::uint32_t n = histogram[threadIdx.x * kMine + i];
    if (before < wanted && before + n >= wanted) found = {threadIdx.x * kMine + i, before};
    before += n;
  }
  __syncthreads();
  const Bin bin = found;
  __syncthreads();
  return bin;
}

__device__ inline Cut find_cut(const Distances& distances, std::uint32_t* histogram,
                               std::uint32_t wanted) {
  const auto bits =
      static_cast<std::uint32_t>(64 - __clzll(static_cast<long long>(distances.masked)));
  std::uint64_t prefix = 0;
  for (std::uint32_t high = bits;;) {
    const std::uint32_t low = high > kDigitBits ? high - kDigitBits : 0;
    for (std::uint32_t i = threadIdx.x; i < kBins; i += kThreads) histogram[i] = 0;
    __syncthreads();
    distances.visit_all([&](std::uint32_t, const std::uint64_t(&d)[kCodesOfLane], std::uint32_t n) {
      for (std::uint32_t i = 0; i < kCodesOfLane; ++i) {
        if (i < n && d[i] >> high == prefix)
          atomicAdd(histogram + ((d[i] >> low) & ((1U << (high - low)) - 1)), 1U);
      }
    });
    __syncthreads();
    const Bin bin = find_bin(histogram, wanted);
    wanted -= bin.before;
    prefix = prefix << (high - low) | bin.index;
    if (low == 0) return {prefix, wanted};
    high = low;
  }
}

// Rows before each tile that are nearer than the cut, and at it; and the nearest distance.
__device__ inline std::uint64_t count_tiles(const Distances& distances, TopKShared& shared,
                                            const Cut& cut) {
  __shared__ std::uint64_t warp_nearest[kWarps];
  const std::uint32_t lane = threadIdx.x % 32;
  std::uint64_t nearest = distances.masked;
  distances.visit_all(
      [&](std::uint32_t tile, const std::uint64_t(&d)[kCodesOfLane], std::uint32_t n) {
        std::uint32_t packed = 0;  // nearer << 16 | at the cut
        for (std::uint32_t i = 0; i < kCodesOfLane; ++i) {
          if (i >= n) continue;
          nearest = min(nearest, d[i]);
          packed += d[i] < cut.distance ? 65536U : d[i] == cut.distance ? 1U : 0U;
        }
        packed = __reduce_add_sync(kAllLanes, packed);
        if (lane == 0)
          shared.before[tile] = packed >> 16 | static_cast<std::uint64_t>(packed & 0xffffU) << 32;
      });
  for (std::uint32_t distance = 16; distance > 0; distance /= 2)
    nearest = min(nearest, __shfl_xor_sync(kAllLanes, nearest, distance));
  if (lane == 0) warp_nearest[threadIdx.x / 32] = nearest;
  __syncthreads();
  const std::uint32_t chunk = (distances.tiles + kThreads - 1) / kThreads;
  const std::uint32_t begin = min(distances.tiles, threadIdx.x * chunk);
  const std::uint32_t end = min(distances.tiles, begin + chunk);
  std::uint64_t sum = 0;
  for (std::uint32_t t = begin; t < end; ++t) sum += shared.before[t];
  std::uint64_t before = block_scan(sum).before;
  for (std::uint32_t t = begin; t < end; ++t) {
    const std::uint64_t mine = shared.before[t];
    shared.before[t] = before;
    before += mine;
  }
  for (int w = 0; w < kWarps; ++w) nearest = min(nearest, warp_nearest[w]);
  __syncthreads();
  return nearest;
}

// How many rows are selected, given the rows before a place.
__device__ __forceinline__ std::uint32_t selected(std::uint64_t before, std::uint32_t at_cut) {
  return static_cast<std::uint32_t>(before) + min(static_cast<std::uint32_t>(before >> 32), at_cut);
}

// Rows and weights of the selection, in the order of the rows.
__device__ inline void write_selection(const Distances& distances, TopKShared& shared,
                                       const Cut& cut, std::uint64_t nearest, std::uint32_t k) {
  const std::uint32_t lane = threadIdx.x % 32;
  for (std::uint32_t tile = threadIdx.x / 32; tile < distances.tiles; tile += kWarps) {
    const std::uint64_t tile_before = shared.before[tile];
    const std::uint32_t end =
        tile + 1 < distances.tiles ? selected(shared.before[tile + 1], cut.at_cut) : k;
    if (selected(tile_before, cut.at_cut) == end) continue;
    distances.visit_tile(
        tile, distances.load(tile),
        [&](std::uint32_t, const std::uint64_t(&d)[kCodesOfLane], std::uint32_t n) {
          std::uint32_t packed = 0;
          for (std::uint32_t i = 0; i < kCodesOfLane; ++i)
            packed += i >= n ? 0U : d[i] < cut.distance ? 65536U : d[i] == cut.distance ? 1U : 0U;
          std::uint32_t inclusive = packed;
          for (std::uint32_t step = 1; step < 32; step *= 2) {
            const std::uint32_t other = __shfl_up_sync(kAllLanes, inclusive, step);
            if (lane >= step) inclusive += other;
          }
          const std::uint32_t own = inclusive - packed;
          std::uint64_t before =
              tile_before + (own >> 16 | static_cast<std::uint64_t>(own & 0xffffU) << 32);
#pragma unroll
          for (std::uint32_t i = 0; i < kCodesOfLane; ++i) {
            const bool nearer = i < n && d[i] < cut.distance;
            const bool at = i < n && d[i] == cut.distance;
            if (nearer || (at && static_cast<std::uint32_t>(before >> 32) < cut.at_cut)) {
              const std::uint32_t place = selected(before, cut.at_cut);
              shared.row[place] = tile * kTileRows + kCodesOfLane * lane + i;
              shared.weight[place] =
                  d[i] == distances.masked
                      ? 0.0F
                      : exp2f(-static_cast<float>(d[i] - nearest) / kWeightLutSize);
            }
            before += nearer ? 1 : at ? std::uint64_t{1} << 32 : 0;
          }
        });
  }
  __syncthreads();
}

__device__ inline float sum_weights(const TopKShared& shared, std::uint32_t k) {
  float sum = 0;
  for (std::uint32_t i = threadIdx.x; i < k; i += kThreads) sum += shared.weight[i];
  return block_scan(sum).total;
}

__device__ inline void write_trace(const DecodeParams& p, const TopKShared& shared, std::uint32_t k,
                                   std::size_t head) {
  const TraceSink& sink = p.trace;
  if (!sink.row || blockIdx.x != 0) return;
  const std::size_t base = head * sink.capacity;
  for (std::uint32_t s = threadIdx.x; s < min(p.budget, sink.capacity); s += kThreads) {
    sink.row[base + s] = shared.row[min(s, k - 1)];
    sink.count[base + s] = s < k ? 1 : 0;
  }
  if (threadIdx.x == 0 && k > sink.capacity) {
    atomicAdd(sink.lost, k - sink.capacity);
    atomicOr(p.status, kTraceOverflow);
  }
}

// Exponents to shared memory; the distances' scale. max_exponent as HeadRuler's.
__device__ inline Distances measure(const LaunchArguments& a, const TopKShared& shared,
                                    std::size_t first_slot, std::uint32_t context) {
  Distances d{a, shared, first_slot, context, (context + kTileRows - 1) / kTileRows, 0, 0};
  std::int32_t highest = kMaskedTile, lowest = kDamagedTile;
  for (std::uint32_t t = threadIdx.x; t < d.tiles; t += kThreads) {
    const std::int32_t exponent = a.workspace.exponent[first_slot + t];
    shared.exponent[t] = exponent;
    highest = max(highest, exponent);
    if (exponent != kMaskedTile) lowest = min(lowest, exponent);
  }
  d.max_exponent = block_max(highest);
  const std::int32_t min_exponent = ~block_max(~lowest);
  d.masked = (static_cast<std::uint64_t>(static_cast<std::int64_t>(d.max_exponent) - min_exponent)
              << kCodeFractionBits) +
             65536;
  return d;
}

template <class Element, int kHeadDim>
__global__ __launch_bounds__(kThreads,
                             2) void select_topk(const __grid_constant__ LaunchArguments a) {
  extern __shared__ uint4 dynamic_shared[];
  __shared__ ClusterSums<kHeadDim> cluster;
  const DecodeParams& p = a.params;
  TopKShared shared;
  shared.place(reinterpret_cast<std::uint64_t*>(dynamic_shared), p.budget, a.tiles_capacity);
  wait_for_previous_kernel();
  let_next_kernel_start();
  const GatherShare share(a);
  cluster.begin(share);
  const std::size_t head = share.head;
  const std::uint32_t sequence = share.head / p.q_heads, query_head = share.head % p.q_heads;
  const std::uint32_t context = context_of(p, sequence);
  if (context == 0) return refuse_head<Element>(p, share, kBadContext);
  const Distances distances = measure(a, shared, head * a.tiles_capacity, context);
  record_scores(a, share, distances.tiles);
  if (distances.max_exponent == kDamagedTile) return refuse_head<Element>(p, share, kDamagedScore);
  if (distances.max_exponent == kMaskedTile) return refuse_head<Element>(p, share, kNoFiniteScore);
  const std::uint32_t k = min(p.budget, context), splits = share.splits;
  const Cut cut = find_cut(distances, shared.histogram, k);
  const std::uint64_t nearest = count_tiles(distances, shared, cut);
  write_selection(distances, shared, cut, nearest, k);
  write_trace(p, shared, k, head);
  const float total = sum_weights(shared, k);
  const std::uint32_t begin = k * share.split / splits, end = k * (share.split + 1) / splits;
  const RowAddress<Element> values(a, p.v, sequence, query_head / (p.q_heads / p.kv_heads));
  const float sum = gather<Element, kHeadDim>(values, end - begin, [&](std::uint32_t i) {
    return WeightedRow{shared.row[begin + i], shared.weight[begin + i]};
  });
  if (p.lse && share.split == 0 && threadIdx.x == 0) {
    const double best =
        static_cast<double>(distances.max_exponent) - static_cast<double>(nearest) / kWeightLutSize;
    p.lse[head] = (static_cast<float>(best) + log2f(total)) / kLog2E;
  }
  store_head<Element, kHeadDim>(a, share, cluster, sum, 1.0F / total);
}

template <class Element, int kHeadDim>
struct TopKInstance {
  static Kernel kernel() { return select_topk<Element, kHeadDim>; }
};

}  // namespace

Kernel select_topk_kernel(const DecodeParams& params) {
  return instance<TopKInstance>(params.element, params.head_dim);
}

std::size_t select_topk_shared_bytes(const DecodeParams& params) {
  return TopKShared{}.place(nullptr, params.budget, max_tiles(params));
}

}  // namespace stoat::gpu
