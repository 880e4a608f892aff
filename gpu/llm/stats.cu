// Statistics of softmax rows from their codes, of several layers in one launch: a block is a query
// head, a warp has a tile at a time and counts from its own largest exponent.
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"
#include "models/sampling/ruler.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kStatsThreads = 256, kStatsWarps = kStatsThreads / 32;

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
  // What lies below 2^e, with units counted from there. e is the same for the lanes of a warp.
  __device__ __forceinline__ void add(std::int32_t e, const WeightSums& tile) {
    if (e > top) lower(e);
    const std::uint32_t octaves = static_cast<std::uint32_t>(top) - static_cast<std::uint32_t>(e);
    const float factor = octaves > 126 ? 0.0F : __uint_as_float((127 - octaves) << 23);
    const float units = static_cast<float>(octaves) * static_cast<float>(kWeightLutSize);
    sum += factor * tile.sum;
    weighted += factor * (tile.weighted + units * tile.sum);
    squares += factor * factor * tile.squares;
    least = fminf(least, units + tile.least);
    first += factor * tile.first;
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

// 2^(-c / 2048) of the code c for which `number` is 2^23 + c: without a conversion, and exact but
// for the instruction itself.
constexpr float kCodeBase = 8388608.0F;
__device__ __forceinline__ float weight_of(float number) {
  float w;
  asm("ex2.approx.ftz.f32 %0, %1;"
      : "=f"(w)
      : "f"(__fmaf_rn(number, -1.0F / kWeightLutSize, kCodeBase / kWeightLutSize)));
  return w;
}

// 8 codes of a lane. kSome: those of 65535 count nothing.
template <bool kSome>
__device__ __forceinline__ void add_codes(const uint4& pieces, WeightSums& sums) {
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    const std::uint32_t bits =
        __byte_perm(word(pieces, static_cast<int>(i / 2)), 0x4b000000U, i % 2 ? 0x7432 : 0x7410);
    const float number = __uint_as_float(bits);
    float w = weight_of(number);
    if (kSome && bits == 0x4b00ffffU) w = 0;
    sums.sum += w;
    sums.weighted += (number - kCodeBase) * w;
    sums.squares += w * w;
  }
}

// The largest or smallest of 8 codes.
__device__ __forceinline__ std::uint32_t largest_code(const uint4& pieces) {
  const std::uint32_t pair = __vmaxu2(__vmaxu2(pieces.x, pieces.y), __vmaxu2(pieces.z, pieces.w));
  return max(pair & 0xffffU, pair >> 16);
}
__device__ __forceinline__ std::uint32_t smallest_code(const uint4& pieces) {
  const std::uint32_t pair = __vminu2(__vminu2(pieces.x, pieces.y), __vminu2(pieces.z, pieces.w));
  return min(pair & 0xffffU, pair >> 16);
}

// Rows past the end weigh nothing: 65535 in place of the codes from `rows` on.
__device__ __forceinline__ uint4 without_rows(uint4 pieces, std::uint32_t rows) {
  const auto keep = [rows](std::uint32_t pair, std::uint32_t first) {
    return (first < rows ? pair & 0xffffU : 0xffffU) |
           (first + 1 < rows ? pair & 0xffff0000U : 0xffff0000U);
  };
  return make_uint4(keep(pieces.x, 0), keep(pieces.y, 2), keep(pieces.z, 4), keep(pieces.w, 6));
}

// One tile of a warp, 8 codes a lane; its mass, where it is wanted, is not yet scaled.
__device__ __forceinline__ void add_tile(const StatsParams& p, std::uint32_t tile, std::int32_t e,
                                         uint4 pieces, std::uint32_t context, WeightSums& sums,
                                         std::uint64_t* tile_mass) {
  if (!has_scores(e)) return;
  const std::uint32_t row = tile * kTileRows + 8 * (threadIdx.x % 32);
  const std::uint32_t rows = row < context ? min(8U, context - row) : 0;
  if (tile_mass) {
    std::uint64_t mass = 0;  // of 256 weights of at most 2^24
#pragma unroll
    for (std::uint32_t i = 0; i < 8; ++i) {
      const std::uint32_t code = word(pieces, static_cast<int>(i / 2)) >> (16 * (i % 2));
      if (i < rows) mass += weight_of_code(static_cast<std::uint16_t>(code), p.lut);
    }
    for (int distance = 16; distance > 0; distance /= 2)
      mass += __shfl_xor_sync(kAllLanes, mass, distance);
    if (threadIdx.x % 32 == 0) tile_mass[tile] = mass;
  }
  WeightSums own{e, 0, 0, 0, kInfinity, 0};
  if ((tile + 1) * kTileRows > context) pieces = without_rows(pieces, rows);
  if (rows > 0) own.least = static_cast<float>(smallest_code(pieces));
  if (largest_code(pieces) == 65535) {
    add_codes<true>(pieces, own);
  } else {
    add_codes<false>(pieces, own);
  }
  const std::uint32_t first_code = pieces.x & 0xffffU;
  if (row == 0 && first_code != 65535)
    own.first = weight_of(kCodeBase + static_cast<float>(first_code));
  sums.add(e, own);
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

struct StatsShared {
  WeightSums warps[kStatsWarps];
  float scratch[32];
  std::int32_t top;
};

// Query head `index` of those of all layers.
template <bool kMore>
__device__ void head_stats(const StatsParams& p, std::uint32_t index, StatsShared& shared) {
  constexpr std::uint32_t kAhead = 4;  // tiles of a warp whose codes are under way together
  const std::uint32_t heads = p.sequences * p.q_heads, layer = index / heads;
  const std::size_t place = index % heads, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t context = p.context_len[place / p.q_heads];
  const std::uint32_t tiles = min((context + kTileRows - 1) / kTileRows, p.tiles);
  const HeadCodes head{
      p.code + layer * (p.layer_stride / sizeof(std::uint16_t)) + place * p.tiles * kTileRows,
      p.exponent + layer * (p.layer_stride / sizeof(std::int32_t)) + place * p.tiles, context};
  std::uint64_t* tile_mass =
      kMore && p.tile_mass ? p.tile_mass + std::size_t{index} * p.tiles : nullptr;
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
  if (lane == 0) shared.warps[warp] = own;
  __syncthreads();
  if (warp == 0) {
    own = lane < kStatsWarps ? shared.warps[lane] : WeightSums::empty();
    const std::int32_t top = __reduce_max_sync(kAllLanes, own.top);
    own.lower(top);
    own.reduce();
    if (lane == 0) {
      shared.top = top;
      if (p.stats) store_stats(own, p.stats + std::size_t{index} * p.columns);
    }
  }
  __syncthreads();
  if constexpr (!kMore) return;
  const std::int32_t top = shared.top;
  for (std::uint32_t t = threadIdx.x; tile_mass && t < p.tiles; t += kStatsThreads) {
    const std::int32_t e = t < tiles ? head.exponent[t] : kMaskedTile;
    tile_mass[t] = has_scores(e) ? scaled_mass(tile_mass[t], tile_shift(e, top)) : 0;
  }
  if (!p.stats || p.columns != kFullStats) return;
  float tops[kTops] = {};
  top_masses(head, top, shared.scratch, tops);
  if (threadIdx.x == 0) {
    for (std::uint32_t k = 0; k < kTops; ++k)
      p.stats[std::size_t{index} * p.columns + kFastStats + k] = tops[k] / own.sum;
  }
}

// A block is a query head of a layer. kMore: tile masses or all columns, too.
template <bool kMore>
__global__ __launch_bounds__(kStatsThreads) void stats(const __grid_constant__ StatsParams p) {
  __shared__ StatsShared shared;
  wait_for_previous_kernel();
  let_next_kernel_start();
  head_stats<kMore>(p, blockIdx.x, shared);
}

}  // namespace

void launch_stats(const StatsParams& params, Stream stream) {
  const bool more = params.columns == kFullStats || params.tile_mass != nullptr;
  launch_overlapped(more ? stats<true> : stats<false>,
                    dim3(params.layers * params.sequences * params.q_heads), dim3(kStatsThreads), 0,
                    stream, params);
}

}  // namespace stoat::gpu
