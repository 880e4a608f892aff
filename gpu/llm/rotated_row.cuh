// Where a head of q, K or V goes after its rotary embedding. Shared by the kernel that rotates and
// by the product that ends with it. Device only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"

namespace stoat::gpu {

// A feature and its partner, half a head away (of the lower half: its negative), turned by
// (cosine, sine).
__device__ __forceinline__ float rotated(float own, float partner, float2 turn) {
  return __fmaf_rn(own, turn.x, __fmul_rn(partner, turn.y));
}

// head: of q, then of K, then of V. The position lies in the cache (below p.capacity).
struct RotatedRow {
  __nv_bfloat16* to;
  __nv_bfloat16* features = nullptr;  // K by features
  std::size_t stride = 0;             // between features

  __device__ __forceinline__ RotatedRow(const RotateParams& p, std::uint32_t row,
                                        std::uint32_t head, std::uint32_t sequence,
                                        std::uint32_t position) {
    if (head < p.q_heads) {
      to = static_cast<__nv_bfloat16*>(p.q) +
           (static_cast<std::size_t>(row) * p.q_heads + head) * p.head_dim;
      return;
    }
    const bool is_v = head >= p.q_heads + p.kv_heads;
    std::size_t page = sequence;
    std::uint32_t within = position;
    stride = p.capacity;
    if (p.pages) {
      stride = std::size_t{1} << p.page_shift;
      page = static_cast<std::size_t>(
          p.pages[static_cast<std::size_t>(sequence) * (p.capacity >> p.page_shift) +
                  (position >> p.page_shift)]);
      within &= static_cast<std::uint32_t>(stride) - 1;
    }
    const std::size_t first =
        (page * p.kv_heads + (head - p.q_heads) % p.kv_heads) * stride * p.head_dim;
    to = static_cast<__nv_bfloat16*>(is_v ? p.v_cache : p.k_cache) + first +
         static_cast<std::size_t>(within) * p.head_dim;
    if (p.k_features && !is_v)
      features = static_cast<__nv_bfloat16*>(p.k_features) + first + within;
  }
  __device__ __forceinline__ void store(std::uint32_t feature, float value) const {
    const __nv_bfloat16 rounded = __float2bfloat16(value);
    to[feature] = rounded;
    if (features) features[feature * stride] = rounded;
  }
};

}  // namespace stoat::gpu
