// From a score to its stored code on the device, scalar by scalar; models/sampling/ruler.h is the
// specification. Shared by the score kernels, whatever their shape. Device only.
#pragma once

#include <cstdint>

#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

// x = logit * log2(e); a score that encode_scores would refuse (NaN, plus infinity, |x| >= 2^30)
// becomes plus infinity, so that the tile's maximum shows it. Minus infinity masks a row.
__device__ __forceinline__ float checked_score(float x) {
  return !(x < kScoreLimit) || (x <= -kScoreLimit && x != -kInfinity) ? kInfinity : x;
}

// A tile without codes: every row is masked, or one is damaged.
__device__ __forceinline__ bool tile_is_empty(float max_x) {
  return max_x == -kInfinity || max_x == kInfinity;
}

// What the workspace holds of a tile whose largest x is max_x.
__device__ __forceinline__ std::int32_t stored_exponent(float max_x) {
  return max_x == kInfinity    ? kDamagedTile
         : max_x == -kInfinity ? kMaskedTile
                               : tile_exponent(max_x);
}

// encode_score in three instructions; the code is the low 16 bits. exponent_2048: the tile's
// exponent times 2048. Scaling by 2^11 is exact, so one fused operation rounds as the two do, and
// adding 1.5 * 2^23 rounds to the nearest integer, ties to even, as rintf does.
__device__ __forceinline__ std::uint32_t code_bits(float exponent_2048, float x) {
  constexpr float kToInteger = 12582912.0F;
  const float scaled = __fmaf_rn(x, -static_cast<float>(kWeightLutSize), exponent_2048);
  return __float_as_uint(__fadd_rn(fminf(scaled, 65535.0F), kToInteger));
}
// weight_of_code of those bits: the shift looks at the five bits of the exponent alone.
__device__ __forceinline__ std::uint32_t weight_of_bits(std::uint32_t bits,
                                                        const std::uint32_t* lut) {
  return __funnelshift_r(lut[bits & (kWeightLutSize - 1)], 0, bits >> kCodeFractionBits);
}

// Eight codes to where node 2 finds them: they stay in the L2, K leaves it first (evict_first()).
__device__ __forceinline__ void store_codes(uint4* to, const uint4& codes) {
  asm volatile("st.global.L2::cache_hint.v4.u32 [%0], {%1, %2, %3, %4}, %5;" ::"l"(to),
               "r"(codes.x), "r"(codes.y), "r"(codes.z), "r"(codes.w), "l"(evict_last())
               : "memory");
}

// Floats (no NaN) as integers of the same order, for integer maxima; its own inverse.
__device__ __forceinline__ std::int32_t ordered(std::int32_t bits) {
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
__device__ __forceinline__ float warp_max(float value) {
  const std::int32_t top = __reduce_max_sync(kAllLanes, ordered(__float_as_int(value)));
  return __int_as_float(ordered(top));
}

}  // namespace stoat::gpu
