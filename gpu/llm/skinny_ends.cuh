// Before and after a product of skinny.cu: the norm's scale, what the residual stream holds, what
// is made of the sums. S: the kernel's Shape. Device only.
#pragma once

#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"

namespace stoat::gpu {

// 1 / root mean square of every row, from the sums of squares of its tiles: a warp has every eighth
// row. Asked for at the beginning, added up when the first products are there.
template <class S>
struct Scales {
  static constexpr std::uint32_t kAtOnce = 8;
  float squares[S::kEights][kAtOnce] = {};

  __device__ __forceinline__ void ask(const SkinnyParams& p) {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (!p.square_sums) return;
#pragma unroll
    for (std::uint32_t t = 0; t < S::kEights; ++t) {
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i)
        if (warp + kWarps * t < p.rows && lane + 32 * i < p.square_tiles)
          squares[t][i] = p.square_sums[(warp + kWarps * t) * p.square_tiles + lane + 32 * i];
    }
  }
  __device__ __forceinline__ void store(const SkinnyParams& p, float* scale) const {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (std::uint32_t t = 0; t < S::kEights; ++t) {
      const std::uint32_t row = warp + kWarps * t;
      float sum = 0;
#pragma unroll
      for (const float square : squares[t]) sum += square;
      if (p.square_sums && row < p.rows) {
        for (std::uint32_t i = 32 * kAtOnce + lane; i < p.square_tiles; i += 32)
          sum += p.square_sums[row * p.square_tiles + i];
      }
      for (int distance = 16; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(kAllLanes, sum, distance);
      if (lane == 0)
        scale[row] = p.square_sums ? 1.0F / sqrtf(sum / p.norm_width + p.norm_eps) : 1.0F;
    }
  }
};

// What the residual end of row threadIdx.x / 16 and column threadIdx.x % 16 of each unit adds to,
// asked for early.
template <class S>
struct Before {
  float x[S::kUnits] = {}, norm[S::kUnits] = {};

  __device__ __forceinline__ void ask(const SkinnyParams& p, std::uint32_t first,
                                      std::uint32_t units) {
    if (p.end != SkinnyEnd::kResidual) return;
    const std::uint32_t r = threadIdx.x / kTileColumns;
#pragma unroll
    for (std::uint32_t u = 0; u < S::kUnits; ++u) {
      const std::uint32_t column = (first + u) * kTileColumns + threadIdx.x % kTileColumns;
      if (u >= units || r >= p.rows || column >= p.columns) continue;
      x[u] = p.y[static_cast<std::size_t>(r) * p.columns + column];
      if (p.bias) x[u] += p.bias[column];
      norm[u] = p.next_norm[column];
    }
  }
};

// Product `value` after the norm, of row threadIdx.x / 16 and column threadIdx.x % 16 of a unit.
__device__ __forceinline__ void finish(const SkinnyParams& p, std::uint32_t unit, float value,
                                       float before, float norm) {
  const std::uint32_t c = threadIdx.x % kTileColumns, r = threadIdx.x / kTileColumns;
  const std::uint32_t columns = p.columns, column = unit * kTileColumns + c;
  const bool inside = column < columns && r < p.rows;
  const std::size_t at = static_cast<std::size_t>(r) * columns + column;
  if (p.end == SkinnyEnd::kStore) {
    if (inside) p.y[at] = value;
    return;
  }
  if (p.end == SkinnyEnd::kSwiGlu) {
    const float up = __shfl_down_sync(kAllLanes, value, 8);
    if (inside && c < 8)
      static_cast<__nv_bfloat16*>(
          p.next)[static_cast<std::size_t>(r) * (columns / 2) + unit * 8 + c] =
          __float2bfloat16(value / (1.0F + __expf(-value)) * up);
    return;
  }
  float x = 0;
  if (inside) {
    x = before + value;
    p.y[at] = x;
    static_cast<__nv_bfloat16*>(p.next)[at] = __float2bfloat16(x * norm);
  }
  float square = x * x;
  for (int distance = 8; distance > 0; distance /= 2)
    square += __shfl_xor_sync(kAllLanes, square, distance);
  if (c == 0 && inside)
    p.next_square_sums[r * ((columns + kTileColumns - 1) / kTileColumns) + unit] = square;
}

}  // namespace stoat::gpu
