// Statistics of softmax rows from their codes, of several layers in one launch: a block is a query
// head, whose warps take four tiles at a time. What a weight costs is little more than its
// exponential: all are counted from the head's largest exponent, which is looked for first.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"
#include "models/sampling/ruler.h"

namespace stoat::gpu {
namespace {

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
  for (std::uint32_t t = threadIdx.x / 32; t * kTileRows < context; t += blockDim.x / 32) {
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
  for (std::uint32_t i = threadIdx.x; i < kCoarseBins; i += blockDim.x) bins.coarse[i] = 0;
  for (std::uint32_t i = threadIdx.x; i < kTops * kFineBins; i += blockDim.x)
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

// Sums over weights w = 2^-o, o octaves below the head's largest exponent.
struct WeightSums {
  float sum = 0, octaves = 0, squares = 0;  // of w, -o * w, w * w
  float first = 0;                          // w of row 0
  std::uint32_t least = 0xffffffffU;        // codes of tiles of that exponent: the least of two

  // Over the lanes of a warp.
  __device__ void reduce() {
    for (int distance = 16; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, distance);
      octaves += __shfl_xor_sync(kAllLanes, octaves, distance);
      squares += __shfl_xor_sync(kAllLanes, squares, distance);
      first += __shfl_xor_sync(kAllLanes, first, distance);
      least = __vminu2(least, __shfl_xor_sync(kAllLanes, least, distance));
    }
  }
};

__device__ __forceinline__ bool has_scores(std::int32_t exponent) {
  return exponent != kMaskedTile && exponent != kDamagedTile;
}

// A code c as the number 2^23 + c, without a conversion. -c / 2048 octaves, and what its tile lies
// below the largest exponent, are then one exact operation: kTop in that tile, less in others.
constexpr float kCodeBase = 8388608.0F, kTop = kCodeBase / kWeightLutSize;
__device__ __forceinline__ float octaves_of(float number, float tile) {
  return __fmaf_rn(number, -1.0F / kWeightLutSize, tile);
}
__device__ __forceinline__ float power_of_two(float octaves) {
  float w;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(w) : "f"(octaves));
  return w;
}
// Of a tile without scores: weights of 0.
constexpr float kNoWeight = -1048576.0F;

// 8 codes of a lane. kSome: those of 65535 count nothing.
template <bool kSome>
__device__ __forceinline__ void add_codes(const uint4& pieces, float tile, WeightSums& sums) {
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    const std::uint32_t bits =
        __byte_perm(word(pieces, static_cast<int>(i / 2)), 0x4b000000U, i % 2 ? 0x7432 : 0x7410);
    const float octaves = octaves_of(__uint_as_float(bits), tile);
    float w = power_of_two(octaves);
    if (kSome && bits == 0x4b00ffffU) w = 0;
    sums.sum += w;
    sums.octaves = __fmaf_rn(octaves, w, sums.octaves);
    sums.squares = __fmaf_rn(w, w, sums.squares);
  }
}

__device__ __forceinline__ std::uint32_t largest_codes(const uint4& pieces) {
  return __vmaxu2(__vmaxu2(pieces.x, pieces.y), __vmaxu2(pieces.z, pieces.w));
}
__device__ __forceinline__ std::uint32_t least_codes(const uint4& pieces) {
  return __vminu2(__vminu2(pieces.x, pieces.y), __vminu2(pieces.z, pieces.w));
}
__device__ __forceinline__ bool has_no_weight(std::uint32_t largest) {
  return largest >= 0xffff0000U || (largest & 0xffffU) == 0xffffU;
}

// Rows past the end weigh nothing: 65535 in place of the codes from `rows` on.
__device__ __forceinline__ uint4 without_rows(uint4 pieces, std::uint32_t rows) {
  const auto keep = [rows](std::uint32_t pair, std::uint32_t first) {
    return (first < rows ? pair & 0xffffU : 0xffffU) |
           (first + 1 < rows ? pair & 0xffff0000U : 0xffff0000U);
  };
  return make_uint4(keep(pieces.x, 0), keep(pieces.y, 2), keep(pieces.z, 4), keep(pieces.w, 6));
}

// Sum of the integer weights of a tile's codes, by a warp; not yet scaled.
__device__ void store_tile_mass(const StatsParams& p, const uint4& pieces,
                                std::uint64_t* tile_mass) {
  std::uint64_t mass = 0;  // of 256 weights of at most 2^24
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    const std::uint32_t code = word(pieces, static_cast<int>(i / 2)) >> (16 * (i % 2));
    mass += weight_of_code(static_cast<std::uint16_t>(code), p.lut);
  }
  for (int distance = 16; distance > 0; distance /= 2)
    mass += __shfl_xor_sync(kAllLanes, mass, distance);
  if (threadIdx.x % 32 == 0) *tile_mass = mass;
}

// The codes of `tiles` tiles are not needed any more: they need not be written to memory. By a
// warp.
__device__ __forceinline__ void forget_tiles(const std::uint16_t* code, std::uint32_t tiles) {
  constexpr std::uint32_t kLine = 128, kLines = kTileRows * sizeof(std::uint16_t) / kLine;
  __syncwarp();
  if (threadIdx.x % 32 < tiles * kLines)
    asm volatile("discard.global.L2 [%0], 128;" ::"l"(reinterpret_cast<const std::byte*>(code) +
                                                      threadIdx.x % 32 * kLine)
                 : "memory");
}

__device__ void store_stats(const WeightSums& s, std::int32_t exponent, float* out) {
  const float octave = 1.0F / kLog2E;
  const float least = static_cast<float>(min(s.least & 0xffffU, s.least >> 16)) / kWeightLutSize;
  const float top = static_cast<float>(exponent) * octave;
  out[0] = top + logf(s.sum);
  out[1] = top - least * octave;
  out[2] = fmaxf(0.0F, logf(s.sum) - s.octaves / s.sum * octave);
  out[3] = exp2f(-least) / s.sum;
  out[4] = s.first / s.sum;
  out[5] = s.sum * s.sum / s.squares;
}

constexpr std::uint32_t kMostWarps = 16;
struct StatsShared {
  WeightSums warps[kMostWarps];
  float scratch[32];
  std::int32_t tops[kMostWarps];
};

// The largest exponent of the head, and what each of its tiles lies below it.
__device__ __forceinline__ std::int32_t place_tiles(const HeadCodes& head, std::uint32_t tiles,
                                                    float* tile_octaves, StatsShared& shared) {
  std::int32_t top = kMaskedTile;
  for (std::uint32_t t = threadIdx.x; t < tiles; t += blockDim.x) {
    const std::int32_t e = head.exponent[t];
    reinterpret_cast<std::int32_t*>(tile_octaves)[t] = e;
    if (has_scores(e)) top = max(top, e);
  }
  top = __reduce_max_sync(kAllLanes, top);
  if (threadIdx.x % 32 == 0) shared.tops[threadIdx.x / 32] = top;
  __syncthreads();
  for (std::uint32_t w = 0; w < blockDim.x / 32; ++w) top = max(top, shared.tops[w]);
  for (std::uint32_t t = threadIdx.x; t < tiles; t += blockDim.x) {
    const std::int32_t e = reinterpret_cast<std::int32_t*>(tile_octaves)[t];
    const std::int64_t below = std::int64_t{top} - e;
    tile_octaves[t] = has_scores(e) && below < 256 ? kTop - static_cast<float>(below) : kNoWeight;
  }
  __syncthreads();
  return top;
}

// The codes of one head, added up by a block: warps take chunks of kChunk tiles in turn, each chunk
// on its way while the one before it is added.
template <bool kMore>
struct HeadSums {
  static constexpr std::uint32_t kChunk = 4, kChunkCodes = kChunk * kTileRows;
  const StatsParams& p;
  const HeadCodes& head;
  float* tile_octaves;       // shared [tiles], see octaves_of()
  std::uint64_t* tile_mass;  // null: not wanted

  __device__ __forceinline__ void load(std::uint32_t chunk, uint4 (&pieces)[kChunk]) const {
    const auto* from =
        reinterpret_cast<const uint4*>(head.code + chunk * kChunkCodes) + threadIdx.x % 32;
#pragma unroll
    for (std::uint32_t u = 0; u < kChunk; ++u) pieces[u] = __ldcg(from + u * (kTileRows / 8));
  }
  __device__ __forceinline__ void add_chunk(std::uint32_t chunk, const uint4 (&pieces)[kChunk],
                                            WeightSums& own) const {
    const float* octaves = tile_octaves + chunk * kChunk;
    std::uint32_t largest = 0;
#pragma unroll
    for (std::uint32_t u = 0; u < kChunk; ++u) {
      if (octaves[u] == kTop) own.least = __vminu2(own.least, least_codes(pieces[u]));
      largest = __vmaxu2(largest, largest_codes(pieces[u]));
    }
    if (has_no_weight(largest)) {
#pragma unroll
      for (std::uint32_t u = 0; u < kChunk; ++u) add_codes<true>(pieces[u], octaves[u], own);
    } else {
#pragma unroll
      for (std::uint32_t u = 0; u < kChunk; ++u) add_codes<false>(pieces[u], octaves[u], own);
    }
    if constexpr (kMore) {
      for (std::uint32_t u = 0; tile_mass && u < kChunk; ++u)
        store_tile_mass(p, pieces[u], tile_mass + chunk * kChunk + u);
    }
  }
  // The last tiles, of which one may be part of a tile.
  __device__ void add_tile(std::uint32_t tile, WeightSums& own) const {
    const std::uint32_t lane = threadIdx.x % 32, row = tile * kTileRows + 8 * lane;
    uint4 pieces = __ldcg(reinterpret_cast<const uint4*>(head.code + tile * kTileRows) + lane);
    pieces = without_rows(pieces, row < head.context ? min(8U, head.context - row) : 0);
    if (tile_octaves[tile] == kTop) own.least = __vminu2(own.least, least_codes(pieces));
    add_codes<true>(pieces, tile_octaves[tile], own);
    if (kMore && tile_mass) store_tile_mass(p, pieces, tile_mass + tile);
  }
  // This thread's sums; returns the largest exponent.
  __device__ __forceinline__ std::int32_t run(std::uint32_t tiles, StatsShared& shared,
                                              WeightSums& own) const {
    const std::uint32_t warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const std::uint32_t chunks = head.context / kChunkCodes;
    uint4 pieces[kChunk], next[kChunk];
    if (warp < chunks) load(warp, next);
    const std::int32_t top = place_tiles(head, tiles, tile_octaves, shared);
    for (std::uint32_t chunk = warp; chunk < chunks; chunk += warps) {
#pragma unroll
      for (std::uint32_t u = 0; u < kChunk; ++u) pieces[u] = next[u];
      if (chunk + warps < chunks) load(chunk + warps, next);
      add_chunk(chunk, pieces, own);
      if (p.forget) forget_tiles(head.code + chunk * kChunkCodes, kChunk);
    }
    for (std::uint32_t tile = chunks * kChunk + warp; tile < tiles; tile += warps) {
      add_tile(tile, own);
      if (p.forget) forget_tiles(head.code + tile * kTileRows, 1);
    }
    return top;
  }
};

// Query head `index` of those of all layers.
template <bool kMore>
__device__ void head_stats(const StatsParams& p, std::uint32_t index, float* tile_octaves,
                           StatsShared& shared) {
  const std::uint32_t heads = p.sequences * p.q_heads, layer = index / heads;
  const std::size_t place = index % heads, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t context = p.context_len[place / p.q_heads], warps = blockDim.x / 32;
  const std::uint32_t tiles = min((context + kTileRows - 1) / kTileRows, p.tiles);
  const HeadCodes head{
      p.code + layer * (p.layer_stride / sizeof(std::uint16_t)) + place * p.tiles * kTileRows,
      p.exponent + layer * (p.layer_stride / sizeof(std::int32_t)) + place * p.tiles, context};
  std::uint64_t* tile_mass =
      kMore && p.tile_mass ? p.tile_mass + std::size_t{index} * p.tiles : nullptr;
  // Before any of the codes is forgotten.
  const std::uint32_t first = threadIdx.x == 0 && tiles > 0 ? *head.code : 65535;
  WeightSums own;
  const std::int32_t top =
      HeadSums<kMore>{p, head, tile_octaves, tile_mass}.run(tiles, shared, own);
  if (first != 65535)
    own.first = power_of_two(octaves_of(kCodeBase + static_cast<float>(first), tile_octaves[0]));
  own.reduce();
  if (lane == 0) shared.warps[warp] = own;
  __syncthreads();
  if (warp == 0) {
    own = lane < warps ? shared.warps[lane] : WeightSums{};
    own.reduce();
    if (lane == 0 && p.stats) store_stats(own, top, p.stats + std::size_t{index} * p.columns);
  }
  if constexpr (!kMore) return;
  __syncthreads();
  for (std::uint32_t t = threadIdx.x; tile_mass && t < p.tiles; t += blockDim.x) {
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
__global__ __launch_bounds__(32 * kMostWarps,
                             kMore ? 1 : 2) void stats(const __grid_constant__ StatsParams p) {
  extern __shared__ float tile_octaves[];
  __shared__ StatsShared shared;
  wait_for_previous_kernel();
  let_next_kernel_start();
  head_stats<kMore>(p, blockIdx.x, tile_octaves, shared);
}

}  // namespace

void launch_stats(const StatsParams& params, Stream stream) {
  const bool more = params.columns == kFullStats || params.tile_mass != nullptr;
  const std::uint32_t heads = params.layers * params.sequences * params.q_heads;
  // As many warps as stay beside a block of the next kernel.
  const std::uint32_t warps = std::clamp(
      std::bit_floor(16 * device_multiprocessors() / std::max(1U, heads)), 4U, kMostWarps);
  launch_overlapped(more ? stats<true> : stats<false>, dim3(heads), dim3(32 * warps),
                    params.tiles * sizeof(float), stream, params);
}

}  // namespace stoat::gpu
