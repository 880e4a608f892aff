// Score pass: K read once, tensor cores, and of every score only its u16 code is kept
// (models/sampling/ruler.h). Grid: [splits, batch * kv_heads]; a block walks tiles of 256 rows, a
// warp 32 rows of each. K rows are the A operand, in the pieces in which they lie in memory (the
// sum over head_dim may run in any order); the group's queries are the n = 8 operand; 96 KB a block
// are on their way while codes are made.
#include "gpu/attention/ring.cuh"

#include <cstdint>

namespace stoat::gpu {
namespace {

constexpr int kCodeStride = kTileRows + 8;  // without bank conflicts between heads

struct TileShared {
  alignas(16) std::uint32_t lut[kWeightLutSize];
  alignas(16) std::uint16_t code[kMaxGroup][kCodeStride];
  float max_x[2][kWarps][kMaxGroup];      // of even and odd tiles: a warp may be one tile ahead
  std::uint32_t mass[kWarps][kMaxGroup];  // 32 rows of at most 2^24
};

// Block 0 or 1 of a tile: rows 32 * warp + 16 * block on.
template <class Element, int kHeadDim>
__device__ __forceinline__ void copy_block(Ring<kHeadDim>& ring, const RowAddress<Element>& keys,
                                           std::uint32_t tile, std::uint32_t block,
                                           std::uint32_t context) {
  ring.copy(keys, tile * kTileRows + 32 * (threadIdx.x / 32) + 16 * block, context);
}

template <class Element, int kHeadDim>
__device__ __forceinline__ void multiply(const uint4 (&k)[kHeadDim / 16],
                                         const uint4 (&q)[kHeadDim / 32], float (&dot)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) dot[i] = 0;
#pragma unroll
  for (int j = 0; j < kHeadDim / 32; ++j) {
    const uint4 &top = k[j], &bottom = k[kHeadDim / 32 + j];
    mma<Element>(dot, top.x, bottom.x, top.y, bottom.y, q[j].x, q[j].y);
    mma<Element>(dot, top.z, bottom.z, top.w, bottom.w, q[j].z, q[j].w);
  }
}

// x = logit * log2(e) in place of the dot products; masks rows past the end; a score that
// encode_scores would refuse becomes plus infinity, so that the tile's maximum shows it. Value
// 2 * half + i is row 8 * half + lane / 4 of the block, head 2 * (lane % 4) + i.
__device__ __forceinline__ void scale_scores(float (&x)[2][4], float sm_scale,
                                             std::uint32_t first_row, std::uint32_t context) {
#pragma unroll
  for (int block = 0; block < 2; ++block) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t row = first_row + 16 * block + 8 * (i / 2);
      float value = __fmul_rn(__fmul_rn(x[block][i], sm_scale), kLog2E);
      if (!(value < kScoreLimit) || (value <= -kScoreLimit && value != -kInfinity))
        value = kInfinity;
      x[block][i] = row < context ? value : -kInfinity;
    }
  }
}

// Codes of this thread's scores into shared memory, and the sum of their weights over the warp.
__device__ __forceinline__ void encode_tile(TileShared& shared, std::uint32_t tile,
                                            const float (&x)[2][4]) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t head = 2 * (lane % 4) + i;
    float max_x = -kInfinity;
    for (int w = 0; w < kWarps; ++w) max_x = fmaxf(max_x, shared.max_x[tile % 2][w][head]);
    const bool empty = max_x == -kInfinity || max_x == kInfinity;
    const std::int32_t exponent = empty ? 0 : tile_exponent(max_x);
    std::uint32_t mass = 0;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const int block = part / 2, half = part % 2;
      const std::uint16_t code =
          empty ? std::uint16_t{65535} : encode_score(exponent, x[block][2 * half + i]);
      shared.code[head][32 * warp + 16 * block + 8 * half + lane / 4] = code;
      mass += weight_of_code(code, shared.lut);
    }
    for (int distance = 4; distance < 32; distance *= 2)
      mass += __shfl_xor_sync(kAllLanes, mass, distance);
    if (lane / 4 == 0) shared.mass[warp][head] = mass;
  }
}

__device__ __forceinline__ void warp_maxima(TileShared& shared, std::uint32_t tile,
                                            const float (&x)[2][4]) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float max_x = fmaxf(fmaxf(x[0][i], x[0][2 + i]), fmaxf(x[1][i], x[1][2 + i]));
    for (int distance = 4; distance < 32; distance *= 2)
      max_x = fmaxf(max_x, __shfl_xor_sync(kAllLanes, max_x, distance));
    if (lane / 4 == 0) shared.max_x[tile % 2][warp][2 * (lane % 4) + i] = max_x;
  }
}

// The tile's codes, exponent and mass of every head of the group to the workspace.
__device__ __forceinline__ void store_tile(const LaunchArguments& a, const TileShared& shared,
                                           std::size_t first_head, std::uint32_t group,
                                           std::uint32_t tile) {
  const std::uint32_t i = threadIdx.x;
  if (i < group * 32) {
    const std::size_t slot = (first_head + i / 32) * a.tiles_capacity + tile;
    reinterpret_cast<uint4*>(a.workspace.code + slot * kTileRows)[i % 32] =
        *reinterpret_cast<const uint4*>(&shared.code[i / 32][8 * (i % 32)]);
  }
  if (i < group) {
    float max_x = -kInfinity;
    std::uint64_t mass = 0;
    for (int w = 0; w < kWarps; ++w) {
      max_x = fmaxf(max_x, shared.max_x[tile % 2][w][i]);
      mass += shared.mass[w][i];
    }
    const std::size_t slot = (first_head + i) * a.tiles_capacity + tile;
    a.workspace.exponent[slot] = max_x == kInfinity    ? kDamagedTile
                                 : max_x == -kInfinity ? kMaskedTile
                                                       : tile_exponent(max_x);
    a.workspace.mass[slot] = mass;
  }
}

template <class Element, int kHeadDim>
__global__ __launch_bounds__(kThreads, 2) void score(const __grid_constant__ LaunchArguments a) {
  __shared__ TileShared shared;
  extern __shared__ uint4 ring_memory[];
  const DecodeParams& p = a.params;
  load_lut(a.workspace, shared.lut);
  wait_for_previous_kernel();
  const std::uint32_t sequence = blockIdx.y / p.kv_heads, kv_head = blockIdx.y % p.kv_heads;
  const std::uint32_t context = context_of(p, sequence), group = p.q_heads / p.kv_heads;
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  const std::uint32_t first = tiles * blockIdx.x / a.splits.score;
  const std::uint32_t last = tiles * (blockIdx.x + 1) / a.splits.score;
  if (first == last) return;
  const RowAddress<Element> keys(a, p.k, sequence, kv_head);
  const std::size_t first_head = static_cast<std::size_t>(sequence) * p.q_heads + kv_head * group;
  Ring<kHeadDim> ring(ring_memory);
  const std::uint32_t blocks = 2 * (last - first);
#pragma unroll
  for (int n = 0; n < Ring<kHeadDim>::kSlots; ++n) {
    if (n < blocks) copy_block<Element, kHeadDim>(ring, keys, first + n / 2, n % 2, context);
    ring.commit();
  }
  uint4 q[kHeadDim / 32];
  load_query<Element, kHeadDim>(p, sequence, kv_head, q);
  for (std::uint32_t tile = first; tile < last; ++tile) {
    float x[2][4];
#pragma unroll
    for (std::uint32_t block = 0; block < 2; ++block) {
      uint4 k[kHeadDim / 16];
      ring.take_keys(k);
      multiply<Element, kHeadDim>(k, q, x[block]);
      const std::uint32_t next = 2 * (tile - first) + block + Ring<kHeadDim>::kSlots;
      if (next < blocks)
        copy_block<Element, kHeadDim>(ring, keys, first + next / 2, next % 2, context);
      ring.commit();
    }
    scale_scores(x, p.sm_scale, tile * kTileRows + 32 * (threadIdx.x / 32) + threadIdx.x % 32 / 4,
                 context);
    warp_maxima(shared, tile, x);
    __syncthreads();
    encode_tile(shared, tile, x);
    __syncthreads();
    store_tile(a, shared, first_head, group, tile);
  }
  let_next_kernel_start();
}

template <class Element, int kHeadDim>
struct ScoreInstance {
  static Kernel kernel() { return score<Element, kHeadDim>; }
};

}  // namespace

std::size_t ring_bytes(std::uint32_t head_dim) {
  return head_dim == 64 ? Ring<64>::kBytes : Ring<128>::kBytes;
}

Kernel score_kernel(ElementType element, std::uint32_t head_dim) {
  return instance<ScoreInstance>(element, head_dim);
}

}  // namespace stoat::gpu
