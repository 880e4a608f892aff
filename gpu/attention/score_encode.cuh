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

// Floats (no NaN) as integers of the same order, for integer maxima; its own inverse.
__device__ __forceinline__ std::int32_t ordered(std::int32_t bits) {
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
__device__ __forceinline__ float warp_max(float value) {
  const std::int32_t top = __reduce_max_sync(kAllLanes, ordered(__float_as_int(value)));
  return __int_as_float(ordered(top));
}

}  // namespace stoat::gpu
