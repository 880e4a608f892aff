// Statistics of softmax rows from their codes, of several layers in one launch: a block is a query
// head, a warp has a tile at a time and counts from its own largest exponent.
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"
#include "models/sampling/ruler.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kStatsThreads = 1024, kStatsWarps = kStatsThreads / 32;

// The mass of the largest weights is found in a histogram of how far below 2^e_max they lie, in
// 1/2048 octaves: bins of 128, then the units of the bin where the last of them lies.
constexpr std::uint32_t kCoarseBins = 2048, kFineBins = 128, kTops = 2;
__device__ constexpr std::uint32_t kTopRows[kTops] = {8, 32};

struct TopBins {
  std::uint32_t coarse[kCoarseBins];
  std::uint32_t fine[kTops][kFineBins];
  std::uint32_t bin[kTops], before[kTops];  // the bin, and how many lie in bins before it
};

// The codes of one query head of one layer.
struct HeadCodes {
  const std::uint16_t* code;
  const std::int32_t* exponent;
  std::uint32_t context;
};

// f(a) of every row with weight: a units below the top of all tiles.
template <class F>
__device__ void for_units(const HeadCodes& head, std::int32_t top, F f) {
  const std::int32_t* exponent = head.exponent;
  const std::uint16_t* code = head.code;
  const std::uint32_t context = head.context;
  for (std::uint32_t t = threadIdx.x / 32; t * kTileRows < context; t += kStatsWarps) {
    const std::int32_t e = exponent[t];
    if (e == kMaskedTile || e == kDamagedTile || top - e > 256) continue;
    const auto below = static_cast<std::uint32_t>(top - e) * kWeightLutSize;
    const std::uint32_t row = t * kTileRows + 8 * (threadIdx.x % 32);
    const uint4 pieces = *reinterpret_cast<const uint4*>(code + row);
#pragma unroll
    for (std::uint32_t i = 0; i < 8; ++i) {
      const std::uint32_t c = (word(pieces, static_cast<int>(i / 2)) >> (16 * (i % 2))) & 0xffffU;
      if (row + i < context && c != 65535) f(below + c);
    }
  }
}

// Sum of the weights of the 8 and of the 32 largest rows, to every thread.
__device__ void top_masses(const HeadCodes& head, std::int32_t top, float* scratch,
                           float (&mass)[kTops]) {
  __shared__ TopBins bins;
  __shared__ float found[kTops];
  for (std::uint32_t i = threadIdx.x; i < kCoarseBins; i += kStatsThreads) bins.coarse[i] = 0;
  for (std::uint32_t i = threadIdx.x; i < kTops * kFineBins; i += kStatsThreads)
    bins.fine[i / kFineBins][i % kFineBins] = 0;
  __syncthreads();
  for_units(head, top, [&](std::uint32_t a) {
    atomicAdd(&bins.coarse[min(a / kFineBins, kCoarseBins - 1)], 1U);
  });
  __syncthreads();
  if (threadIdx.x < kTops) {
    std::uint32_t bin = 0, before = 0;
    while (bin + 1 < kCoarseBins && before + bins.coarse[bin] < kTopRows[threadIdx.x])
      before += bins.coarse[bin++];
    bins.bin[threadIdx.x] = bin;
    bins.before[threadIdx.x] = before;
  }
  __syncthreads();
  float sum[kTops] = {};
  for_units(head, top, [&](std::uint32_t a) {
    const std::uint32_t bin = min(a / kFineBins, kCoarseBins - 1);
#pragma unroll
    for (std::uint32_t k = 0; k < kTops; ++k) {
      if (bin < bins.bin[k])
        sum[k] += exp2f(-static_cast<float>(a) / static_cast<float>(kWeightLutSize));
      if (bin == bins.bin[k]) atomicAdd(&bins.fine[k][a % kFineBins], 1U);
    }
  });
#pragma unroll
  for (std::uint32_t k = 0; k < kTops; ++k) sum[k] = block_sum(sum[k], scratch);
  if (threadIdx.x < kTops) {
    const std::uint32_t k = threadIdx.x;
    float total = k == 0 ? sum[0] : sum[1];
    std::uint32_t left = kTopRows[k] - bins.before[k];
    for (std::uint32_t i = 0; i < kFineBins && left > 0; ++i) {
      const std::uint32_t taken = min(left, bins.fine[k][i]);
      const auto a = static_cast<float>(bins.bin[k] * kFineBins + i);
      total += static_cast<float>(taken) * exp2f(-a / static_cast<float>(kWeightLutSize));
      left -= taken;
    }
    found[k] = total;
  }
  __syncthreads();
  for (std::uint32_t k = 0; k < kTops; ++k) mass[k] = found[k];
}

// Sums over weights 2^(-a / 2048), a in units of 1/2048 octaves below 2^top.
struct WeightSums {
  std::int32_t top;
  float sum, weighted, squares, least, first;

  static __device__ WeightSums empty() { return {kMaskedTile, 0, 0, 0, kInfinity, 0}; }
  __device__ void lower(std::int32_t to) {  // to >= top
    if (to == top || top == kMaskedTile) {
      top = to;
      return;
    }
    const auto octaves = static_cast<float>(static_cast<std::int64_t>(to) - top);
    const float factor = exp2f(-octaves), units = octaves * static_cast<float>(kWeightLutSize);
    weighted = (weighted + units * sum) * factor;
    sum *= factor;
    squares *= factor * factor;
    least += units;
    first *= factor;
    top = to;
  }
  // What lies below 2^e, with units counted from there.
  __device__ void add(std::int32_t e, float tile_sum, float tile_weighted, float tile_squares,
                      float tile_least, float tile_first) {
    lower(max(top, e));
    const auto octaves = static_cast<float>(static_cast<std::int64_t>(top) - e);
    const float factor = exp2f(-octaves), units = octaves * static_cast<float>(kWeightLutSize);
    sum += factor * tile_sum;
    weighted += factor * (tile_weighted + units * tile_sum);
    squares += factor * factor * tile_squares;
    least = fminf(least, units + tile_least);
    first += factor * tile_first;
  }
  // Over the lanes of a warp; all have the same top.
  __device__ void reduce() {
    for (int distance = 16; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, distance);
      weighted += __shfl_xor_sync(kAllLanes, weighted, distance);
      squares += __shfl_xor_sync(kAllLanes, squares, distance);
      least = fminf(least, __shfl_xor_sync(kAllLanes, least, distance));
      first += __shfl_xor_sync(kAllLanes, first, distance);
    }
  }
};

__device__ __forceinline__ bool has_scores(std::int32_t exponent) {
  return exponent != kMaskedTile && exponent != kDamagedTile;
}

// 2^(-c / 2048); c of 0 to 65535.
__device__ __forceinline__ float weight_of(float c) {
  float w;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(w) : "f"(c * (-1.0F / kWeightLutSize)));
  return w;
}

// One tile of a warp, 8 codes a lane; its mass, where it is wanted, is not yet scaled.
__device__ __forceinline__ void add_tile(const StatsParams& p, std::uint32_t tile, std::int32_t e,
                                         const uint4& pieces, std::uint32_t context,
                                         WeightSums& sums, std::uint64_t* tile_mass) {
  if (!has_scores(e)) return;
  const std::uint32_t row = tile * kTileRows + 8 * (threadIdx.x % 32);
  const std::uint32_t rows = row < context ? min(8U, context - row) : 0;
  float sum = 0, weighted = 0, squares = 0, least = kInfinity, first = 0;
  std::uint32_t mass = 0;
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    const std::uint32_t code = (word(pieces, static_cast<int>(i / 2)) >> (16 * (i % 2))) & 0xffffU;
    if (tile_mass && i < rows) mass += weight_of_code(static_cast<std::uint16_t>(code), p.lut);
    const auto c = static_cast<float>(code);
    const float w = i < rows && code != 65535 ? weight_of(c) : 0.0F;
    sum += w;
    weighted += c * w;
    squares += w * w;
    least = i < rows ? fminf(least, c) : least;
    if (i == 0 && row == 0) first = w;
  }
  sums.add(e, sum, weighted, squares, least, first);
  if (!tile_mass) return;
  std::uint64_t total = mass;  // of 256 weights of at most 2^24
  for (int distance = 16; distance > 0; distance /= 2)
    total += __shfl_xor_sync(kAllLanes, total, distance);
  if (threadIdx.x % 32 == 0) tile_mass[tile] = total;
}

// The codes of a tile are not needed any more: they need not be written to memory. By a warp.
__device__ __forceinline__ void forget_tile(const std::uint16_t* code, std::uint32_t tile) {
  constexpr std::uint32_t kLine = 128, kLines = kTileRows * sizeof(std::uint16_t) / kLine;
  __syncwarp();
  if (threadIdx.x % 32 < kLines)
    asm volatile(
        "discard.global.L2 [%0], 128;" ::"l"(
            reinterpret_cast<const std::byte*>(code + tile * kTileRows) + threadIdx.x % 32 * kLine)
        : "memory");
}

__device__ void store_stats(const WeightSums& s, float* out) {
  const float octave = 1.0F / kLog2E, unit = octave / static_cast<float>(kWeightLutSize);
  const float top = static_cast<float>(s.top) * octave;
  out[0] = top + logf(s.sum);
  out[1] = top - s.least * unit;
  out[2] = fmaxf(0.0F, logf(s.sum) + s.weighted / s.sum * unit);
  out[3] = exp2f(-s.least / static_cast<float>(kWeightLutSize)) / s.sum;
  out[4] = s.first / s.sum;
  out[5] = s.sum * s.sum / s.squares;
}

// A block is a query head of a layer.
__global__ __launch_bounds__(kStatsThreads) void stats(const __grid_constant__ StatsParams p) {
  __shared__ WeightSums warps[kStatsWarps];
  __shared__ float scratch[32];
  __shared__ std::int32_t shared_top;
  constexpr std::uint32_t kAhead = 4;  // tiles of a warp whose codes are under way together
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::uint32_t heads = p.sequences * p.q_heads, layer = blockIdx.x / heads;
  const std::size_t index = blockIdx.x % heads, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t context = p.context_len[index / p.q_heads];
  const std::uint32_t tiles = min((context + kTileRows - 1) / kTileRows, p.tiles);
  const HeadCodes head{
      p.code + layer * (p.layer_stride / sizeof(std::uint16_t)) + index * p.tiles * kTileRows,
      p.exponent + layer * (p.layer_stride / sizeof(std::int32_t)) + index * p.tiles, context};
  std::uint64_t* tile_mass =
      p.tile_mass ? p.tile_mass + std::size_t{blockIdx.x} * p.tiles : nullptr;
  WeightSums own = WeightSums::empty();
  for (std::uint32_t t = static_cast<std::uint32_t>(warp); t < tiles; t += kAhead * kStatsWarps) {
    std::int32_t e[kAhead];
    uint4 pieces[kAhead];
#pragma unroll
    for (std::uint32_t u = 0; u < kAhead; ++u) {
      const std::uint32_t tile = min(t + u * kStatsWarps, tiles - 1);
      e[u] = t + u * kStatsWarps < tiles ? head.exponent[tile] : kMaskedTile;
      pieces[u] = reinterpret_cast<const uint4*>(head.code + tile * kTileRows)[lane];
    }
#pragma unroll
    for (std::uint32_t u = 0; u < kAhead; ++u) {
      const std::uint32_t tile = t + u * kStatsWarps;
      add_tile(p, tile, e[u], pieces[u], context, own, tile_mass);
      if (p.forget && tile < tiles) forget_tile(head.code, tile);
    }
  }
  own.reduce();
  if (lane == 0) warps[warp] = own;
  __syncthreads();
  if (warp == 0) {
    own = warps[lane];
    const std::int32_t top = __reduce_max_sync(kAllLanes, own.top);
    own.lower(top);
    own.reduce();
    if (lane == 0) {
      shared_top = top;
      if (p.stats) store_stats(own, p.stats + std::size_t{blockIdx.x} * p.columns);
    }
  }
  if (p.columns != kFullStats && !tile_mass) return;
  __syncthreads();
  const std::int32_t top = shared_top;
  for (std::uint32_t t = threadIdx.x; tile_mass && t < p.tiles; t += kStatsThreads) {
    const std::int32_t e = t < tiles ? head.exponent[t] : kMaskedTile;
    tile_mass[t] = has_scores(e) ? scaled_mass(tile_mass[t], tile_shift(e, top)) : 0;
  }
  if (!p.stats || p.columns != kFullStats) return;
  float tops[kTops] = {};
  top_masses(head, top, scratch, tops);
  if (threadIdx.x != 0) return;
  for (std::uint32_t k = 0; k < kTops; ++k)
    p.stats[std::size_t{blockIdx.x} * p.columns + kFastStats + k] = tops[k] / own.sum;
}

}  // namespace

void launch_stats(const StatsParams& params, Stream stream) {
  launch_overlapped(stats, dim3(params.layers * params.sequences * params.q_heads),
                    dim3(kStatsThreads), 0, stream, params);
}

}  // namespace stoat::gpu
