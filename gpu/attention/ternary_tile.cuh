// One tile of the ternary score pass, by one warp: sums on tensor cores, then codes, exponents and
// masses as score.cu leaves them. Device only.
//
// A product takes 16 rows and 8 features from the feature-major ring (transposed on the way) and
// the features' weights: -1, 0, 1 or, after several draws, small counts, all exact, so that it only
// adds and subtracts. It has room for 8 heads: of a group of at most 4 it takes two blocks of rows,
// side by side, by weights that are 0 for the other block. Sums: ternary_score.h. Weights that are
// no integers (group-mean) go through plain fused operations.
#pragma once

#include <cstdint>
#include <type_traits>

#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/ternary_queue.cuh"

namespace stoat::gpu {

// c += a * b, m16n8k8, row-major a, column-major b, fp32 sums.
template <class Element>
__device__ __forceinline__ void mma_short(float (&c)[4], std::uint32_t a0, std::uint32_t a1,
                                          std::uint32_t b) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
  }
}

// Four 8x8 matrices of 16-bit words, transposed; lane l names row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_transposed(std::uint32_t (&m)[4], unsigned row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row)
               : "memory");
}

// What a lane holds of a tile's sums. With g = lane / 4 and t = lane % 4: heads head() and
// head() + 1 (x[.][2 i] and x[.][2 i + 1]) of rows 8 chunk(block, i) + g.
template <int kHeads>
struct TileSums {
  std::uint32_t lane;
  static constexpr std::uint32_t kSides = 8 / kHeads;  // blocks of 16 rows in one product
  static constexpr std::uint32_t kBlocks = kTileRows / 16 / kSides;
  float x[kBlocks][4] = {};

  // What follows from the lane is computed where it is used: kept in registers through the loop
  // over tiles it leaves too few.
  __device__ __forceinline__ TileSums() : lane(threadIdx.x % 32) { asm volatile("" : "+r"(lane)); }

  __device__ __forceinline__ static std::uint32_t head(std::uint32_t lane) {
    return 2 * (lane % (kHeads / 2));
  }
  __device__ __forceinline__ static std::uint32_t chunk(std::uint32_t lane, std::uint32_t block,
                                                        std::uint32_t i) {
    return 2 * (kSides * block + lane % 4 / (kHeads / 2)) + i;
  }

  // A step of exact weights.
  template <class Element>
  __device__ __forceinline__ void add(unsigned step, const std::int8_t (&weight)[kHeads][8]) {
    const std::uint32_t g = lane / 4, t = lane % 4;
    const char2 two = *reinterpret_cast<const char2*>(&weight[g % kHeads][2 * t]);
    const std::uint32_t weights =
        pack<Element>(static_cast<float>(two.x), static_cast<float>(two.y));
    const std::uint32_t first = g < kHeads ? weights : 0, second = g < kHeads ? 0 : weights;
    const unsigned even = step + lane % 8 * kFeatureBytes + 16 * (lane / 8 ^ lane % 8);
#pragma unroll
    for (std::uint32_t c = 0; c < kTileRows / 8; c += 4) {
      std::uint32_t k[4];
      load_transposed(k, (c % 8 == 0 ? even : even ^ 64U) + c / 8 * 128);
      mma_short<Element>(x[c / 2 / kSides], k[0], k[1], first);
      mma_short<Element>(x[(c / 2 + 1) / kSides], k[2], k[3], kSides == 1 ? first : second);
    }
  }
  // A step of any weights, feature by feature.
  template <class Element>
  __device__ __forceinline__ void add_plainly(unsigned step, const float (&weight)[kHeads][8]) {
#pragma unroll 1
    for (std::uint32_t u = 0; u < kStepFeatures; ++u) {
      const float low = weight[head(lane)][u], high = weight[head(lane) + 1][u];
#pragma unroll
      for (std::uint32_t n = 0; n < 2 * kBlocks; ++n) {
        const std::uint32_t place = chunk(lane, n / 2, n % 2) ^ u;
        std::uint16_t bits;
        asm volatile("ld.shared.u16 %0, [%1];"
                     : "=h"(bits)
                     : "r"(step + u * kFeatureBytes + 16 * place + 2 * (lane / 4))
                     : "memory");
        const float k = unpack<Element>(bits).x;
        float* sum = x[n / 2] + 2 * (n % 2);
        sum[0] = ternary_add(sum[0], low, k);
        sum[1] = ternary_add(sum[1], high, k);
      }
    }
  }

  // x in place of the sums, as the codes want it: a damaged score becomes plus infinity, a row past
  // the end minus infinity.
  __device__ __forceinline__ void scale(const float (&by)[kHeads], std::uint32_t first_row,
                                        std::uint32_t context) {
    const float low = by[head(lane)], high = by[head(lane) + 1];
    float squares = 0;  // below 2^60 no x is 2^30 or more, none is infinite or NaN
#pragma unroll
    for (std::uint32_t n = 0; n < 4 * kBlocks; ++n) {
      float& value = x[n / 4][n % 4];
      value = __fmul_rn(value, n % 2 == 0 ? low : high);
      squares = fmaf(value, value, squares);
    }
    if (first_row + kTileRows <= context && squares < kScoreLimit * kScoreLimit) return;
#pragma unroll
    for (std::uint32_t n = 0; n < 4 * kBlocks; ++n) {
      float& value = x[n / 4][n % 4];
      const std::uint32_t row = first_row + 8 * chunk(lane, n / 4, n % 4 / 2) + lane / 4;
      value = row < context ? checked_score(value) : -kInfinity;
    }
  }

  // The tile's maxima of this lane's two heads.
  __device__ __forceinline__ float2 maxima() const {
    float low = x[0][0], high = x[0][1];
#pragma unroll
    for (std::uint32_t n = 1; n < 2 * kBlocks; ++n) {
      low = fmaxf(low, x[n / 2][n % 2 * 2]);
      high = fmaxf(high, x[n / 2][n % 2 * 2 + 1]);
    }
    // Lanes that hold the same heads differ in the bits from kHeads / 2 on: two of them share the
    // heads while they add.
    constexpr std::uint32_t kNear = kHeads / 2;
    const bool upper = (lane & kNear) != 0;
    float own = fmaxf(upper ? high : low, __shfl_xor_sync(kAllLanes, upper ? low : high, kNear));
#pragma unroll
    for (std::uint32_t distance = 2 * kNear; distance < 32; distance *= 2)
      own = fmaxf(own, __shfl_xor_sync(kAllLanes, own, distance));
    const float other = __shfl_xor_sync(kAllLanes, own, kNear);
    return upper ? make_float2(other, own) : make_float2(own, other);
  }
};

// Codes on their way from the lanes of the sums to lanes that hold 8 rows of a head: some chunks of
// every head, in 2 KB of shared memory.
template <int kHeads>
struct CodeStage {
  static constexpr std::uint32_t kChunks = 128 / kHeads;  // of a head
  unsigned base;

  __device__ __forceinline__ unsigned at(std::uint32_t head, std::uint32_t chunk) const {
    return base + 16 * (head * kChunks + (chunk ^ ((head & 1) | (head & 2) << 1)));
  }
  // Chunks chunk(block, 0), chunk(block, 1), chunk(block + 1, 0), chunk(block + 1, 1), a pair of
  // heads a word.
  __device__ __forceinline__ void put(std::uint32_t lane, std::uint32_t block,
                                      const std::uint32_t (&pair)[4]) const {
#if __CUDA_ARCH__ >= 900
    constexpr std::uint32_t kSides = 8 / kHeads;
    const std::uint32_t side = lane % 8 / kHeads;
    const std::uint32_t chunk =
        2 * (kSides * (block + lane / 16) + side) + lane / 8 % 2;  // of matrix lane / 8
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     at(lane % kHeads, chunk % kChunks)),
                 "r"(pair[0]), "r"(pair[1]), "r"(pair[2]), "r"(pair[3])
                 : "memory");
#else
    const std::uint32_t head = TileSums<kHeads>::head(lane);
    for (std::uint32_t m = 0; m < 4; ++m) {
      const std::uint32_t chunk = TileSums<kHeads>::chunk(lane, block + m / 2, m % 2) % kChunks;
      for (std::uint32_t h = 0; h < 2; ++h)
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(at(head + h, chunk) + 2 * (lane / 4)),
                     "h"(static_cast<std::uint16_t>(pair[m] >> 16 * h))
                     : "memory");
    }
#endif
  }
  __device__ __forceinline__ uint4 get(std::uint32_t head, std::uint32_t chunk) const {
    uint4 codes;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(codes.x), "=r"(codes.y), "=r"(codes.z), "=r"(codes.w)
                 : "r"(at(head, chunk))
                 : "memory");
    return codes;
  }
};

// Exponents and masses are small, but parts of lines: they stay in the L2.
__device__ __forceinline__ void store_mark(std::uint32_t* to, std::uint32_t value) {
  asm volatile("st.global.L2::cache_hint.u32 [%0], %1, %2;" ::"l"(to), "r"(value), "l"(evict_last())
               : "memory");
}
__device__ __forceinline__ void store_mark(std::uint64_t* to, std::uint64_t value) {
  asm volatile("st.global.L2::cache_hint.u64 [%0], %1, %2;" ::"l"(to), "l"(value), "l"(evict_last())
               : "memory");
}

__device__ __forceinline__ std::uint32_t weight_of_codes(const uint4& codes,
                                                         const std::uint32_t* lut) {
  std::uint32_t sum = 0;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const std::uint32_t pair = word(codes, w);
    sum += weight_of_bits(pair, lut) + weight_of_bits(pair >> 16, lut);
  }
  return sum;
}

// Codes, exponents and masses of a tile. slot, code_slot: of the first head's tile; x: what scale()
// left.
template <int kHeads>
__device__ __forceinline__ void store_tile(const LaunchArguments& a, const std::uint32_t* lut,
                                           CodeStage<kHeads> stage, std::size_t slot,
                                           std::size_t code_slot, std::uint32_t group,
                                           TileSums<kHeads>& sums) {
  static_assert(kTileParts == 8, "four lanes of 8 rows are a part");
  constexpr std::uint32_t kBlocks = TileSums<kHeads>::kBlocks, kPasses = kHeads / 4;
  constexpr std::uint32_t kChunks = CodeStage<kHeads>::kChunks;
  const std::uint32_t lane = sums.lane;
  const float2 max_x = sums.maxima();
  float2 top = make_float2(ceilf(max_x.x) * kWeightLutSize, ceilf(max_x.y) * kWeightLutSize);
  if (tile_is_empty(max_x.x) || tile_is_empty(max_x.y)) {
    if (tile_is_empty(max_x.x)) top.x = 0;
    if (tile_is_empty(max_x.y)) top.y = 0;
#pragma unroll
    for (std::uint32_t n = 0; n < 4 * kBlocks; ++n)
      if (tile_is_empty(n % 2 == 0 ? max_x.x : max_x.y)) sums.x[n / 4][n % 4] = -kInfinity;
  }
  // While four lanes add the weights of a part they exchange heads: a lane ends with one.
  const auto halve = [&](std::uint32_t low, std::uint32_t high, std::uint32_t distance) {
    const bool upper = (lane & distance) != 0;
    return (upper ? high : low) + __shfl_xor_sync(kAllLanes, upper ? low : high, distance);
  };
  // In a pass lane l has chunk l % kChunks of heads first_head + kPasses j.
  const std::uint32_t first_head = lane / kChunks, own_head = first_head + kPasses * (lane % 4);
  const std::size_t own = slot + own_head * a.tiles_capacity;
  std::uint32_t total = 0;
#pragma unroll
  for (std::uint32_t pass = 0; pass < kPasses; ++pass) {
#pragma unroll
    for (std::uint32_t b = 0; b < 8; b += 2) {
      std::uint32_t pair[4];
#pragma unroll
      for (std::uint32_t m = 0; m < 4; ++m) {
        const float* x = sums.x[8 * pass + b + m / 2] + 2 * (m % 2);
        pair[m] = __byte_perm(code_bits(top.x, x[0]), code_bits(top.y, x[1]), 0x5410);
      }
      stage.put(lane, 8 * pass + b, pair);
    }
    __syncwarp();
    std::uint32_t mass[4];  // 8 weights of at most 2^24
#pragma unroll
    for (std::uint32_t j = 0; j < 4; ++j) {
      const std::uint32_t head = first_head + kPasses * j;
      const uint4 codes = stage.get(head, lane % kChunks);
      mass[j] = weight_of_codes(codes, lut);
      if (head < group)
        store_codes(reinterpret_cast<uint4*>(a.workspace.code +
                                             (code_slot + head * a.tiles_capacity) * kTileRows +
                                             8 * kChunks * pass) +
                        lane % kChunks,
                    codes);
    }
    __syncwarp();
    std::uint32_t sum = halve(halve(mass[0], mass[1], 1), halve(mass[2], mass[3], 1), 2);
    if (own_head < group)
      store_mark(a.workspace.part + own * kTileParts + kChunks / 4 * pass + lane % kChunks / 4,
                 sum);
#pragma unroll
    for (std::uint32_t distance = 4; distance < kChunks; distance *= 2)
      sum += __shfl_xor_sync(kAllLanes, sum, distance);
    total += sum;
  }
  const float low = __shfl_sync(kAllLanes, max_x.x, own_head / 2),
              high = __shfl_sync(kAllLanes, max_x.y, own_head / 2);
  const float max_of = own_head % 2 == 0 ? low : high;
  if (lane % kChunks < 4 && own_head < group) {
    // The weight of the largest score is at least 2^23: a sum of 0 is 2^32.
    const bool full = total == 0 && !tile_is_empty(max_of);
    store_mark(reinterpret_cast<std::uint32_t*>(a.workspace.exponent) + own,
               static_cast<std::uint32_t>(stored_exponent(max_of)));
    store_mark(a.workspace.mass + own, full ? std::uint64_t{1} << 32 : std::uint64_t{total});
  }
}

}  // namespace stoat::gpu
