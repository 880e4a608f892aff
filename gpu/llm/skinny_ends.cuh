// Before and after a product of skinny.cu: the norm's scale, what the ends need besides, what is
// made of the sums. S: the kernel's Shape. Device only.
#pragma once

#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"
#include "gpu/llm/rotated_row.cuh"

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

// A unit of a product that rotates: 8 features of a head's lower half and their partners.
struct HeadPart {
  std::uint32_t head, first, half;

  __device__ __forceinline__ HeadPart(std::uint32_t head_dim, std::uint32_t unit)
      : head(unit / (head_dim / kTileColumns)),
        first(unit % (head_dim / kTileColumns) * (kTileColumns / 2)),
        half(head_dim / 2) {}
  // Of column c of the unit.
  __device__ __forceinline__ std::uint32_t feature(std::uint32_t c) const {
    return c < kTileColumns / 2 ? first + c : half + first + c - kTileColumns / 2;
  }
};

// What the ends of row threadIdx.x / 16 and column threadIdx.x % 16 of each unit need besides the
// product, asked for early.
template <class S>
struct Before {
  float bias[S::kUnits] = {};
  float2 with[S::kUnits] = {};  // residual: x and the next norm's weight; rotation: cosine and sine
  std::uint32_t position = 0;   // rotation: of the row

  __device__ __forceinline__ void ask(const SkinnyParams& p, std::uint32_t first,
                                      std::uint32_t units) {
    const std::uint32_t r = threadIdx.x / kTileColumns, c = threadIdx.x % kTileColumns;
    if (p.end == SkinnyEnd::kStore || p.end == SkinnyEnd::kSwiGlu || r >= p.rows) return;
    const bool rotates = p.end == SkinnyEnd::kRotate;
    const float* const all = rotates ? p.turn.bias : p.bias;
    if (rotates) position = p.turn.context_len[r] - 1;
#pragma unroll
    for (std::uint32_t u = 0; u < S::kUnits; ++u) {
      std::uint32_t column = (first + u) * kTileColumns + c;
      if (u >= units || column >= p.columns) continue;
      if (rotates) {
        const HeadPart part(p.turn.head_dim, first + u);
        column = part.head * p.turn.head_dim + part.feature(c);
        with[u] = make_float2(1, 0);
        if (part.head < p.turn.q_heads + p.turn.kv_heads && position < p.turn.capacity)
          with[u] = reinterpret_cast<const float2*>(
              p.turn.cos_sin)[std::size_t{position} * part.half + part.first + c % 8];
      } else {
        with[u] =
            make_float2(p.y[static_cast<std::size_t>(r) * p.columns + column], p.next_norm[column]);
      }
      if (all) bias[u] = all[column];
    }
  }
};

// Product `value` after the norm, of row threadIdx.x / 16 and column threadIdx.x % 16 of a unit,
// which is number u of those side by side.
template <class S>
__device__ __forceinline__ void finish(const SkinnyParams& p, std::uint32_t unit, float value,
                                       const Before<S>& before, std::uint32_t u) {
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
  value += before.bias[u];
  if (p.end == SkinnyEnd::kRotate) {
    const HeadPart part(p.turn.head_dim, unit);
    const float partner = __shfl_xor_sync(kAllLanes, value, 8);
    // The host refuses a position past the cache; never write there.
    if (inside && before.position < p.turn.capacity)
      RotatedRow(p.turn, r, part.head, r, before.position)
          .store(part.feature(c), rotated(value, c < 8 ? -partner : partner, before.with[u]));
    return;
  }
  float x = 0;
  if (inside) {
    x = before.with[u].x + value;
    p.y[at] = x;
    static_cast<__nv_bfloat16*>(p.next)[at] = __float2bfloat16(x * before.with[u].y);
  }
  float square = x * x;
  for (int distance = 8; distance > 0; distance /= 2)
    square += __shfl_xor_sync(kAllLanes, square, distance);
  if (c == 0 && inside)
    p.next_square_sums[r * ((columns + kTileColumns - 1) / kTileColumns) + unit] = square;
}

}  // namespace stoat::gpu
