// Score pass: K read once, tensor cores, and of every score only its u16 code is kept
// (models/sampling/ruler.h). Grid: [splits, batch * kv_heads]; a block walks tiles of 256 rows, a
// warp 32 rows of each. K rows are the A operand, in the pieces in which they lie in memory (the
// sum over head_dim may run in any order); the group's queries are the n = 8 operand; 96 KB a block
// are on their way while codes are made. One block barrier a tile, for its largest score.
#include "gpu/attention/ring.cuh"
#include "gpu/attention/score_encode.cuh"

#include <cstdint>

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kWarpRows = kTileRows / kWarps;  // of a tile
constexpr std::uint32_t kCodeStride = kWarpRows + 8;     // without bank conflicts between heads

struct TileShared {
  alignas(16) std::uint32_t lut[kWeightLutSize];
  alignas(16) std::uint16_t code[kWarps][kMaxGroup][kCodeStride];  // of a warp on its way out
  // Of tile t in t % 3 and t % 2: a warp may be ahead of one that still reads.
  float max_x[3][kWarps][kMaxGroup];
  std::uint32_t mass[2][kWarps][kMaxGroup];  // 32 rows of at most 2^24
};

// A warp's copies of its rows of tiles [first, last): two slots a tile.
template <class Element, int kHeadDim>
struct KeyCopies {
  const RowAddress<Element>& keys;
  std::uint32_t context, row, left;  // the next copy's first row; copies to come
  const Element* source;             // of this lane, where the rows lie behind each other
  bool contiguous;

  __device__ KeyCopies(const RowAddress<Element>& rows, std::uint32_t rows_in_all,
                       std::uint32_t first, std::uint32_t last)
      : keys(rows),
        context(rows_in_all),
        row(first * kTileRows + kWarpRows * (threadIdx.x / 32)),
        left(2 * (last - first)),
        contiguous(rows.a.params.page_size == 0) {
    constexpr std::uint32_t kPieces = kHeadDim / 8;
    const std::uint32_t lane = threadIdx.x % 32;
    source = rows.base + (row + lane / kPieces) * rows.a.row_stride + 8 * (lane % kPieces);
  }
  __device__ __forceinline__ void next(Ring<kHeadDim>& ring) {
    if (left > 0) {
      if (contiguous && row + 16 <= context) {
        ring.copy(source, keys.a.row_stride);
      } else {
        ring.copy(keys, row, context);
      }
      const std::uint32_t step = left % 2 == 0 ? 16 : kTileRows - 16;
      row += step;
      source += step * keys.a.row_stride;
      --left;
    }
    ring.commit();
  }
};

// Dot products of the oldest slot's rows with the group's heads: value 2 * half + i is row
// 8 * half + lane / 4, head 2 * (lane % 4) + i.
template <class Element, int kHeadDim>
__device__ __forceinline__ void multiply(Ring<kHeadDim>& ring, const uint4 (&q)[kHeadDim / 32],
                                         float (&dot)[4]) {
  ring.wait();
#pragma unroll
  for (float& value : dot) value = 0;
#pragma unroll
  for (std::uint32_t j = 0; j < kHeadDim / 32; ++j) {
    uint4 top, bottom;
    ring.load_keys(j, top, bottom);
    mma<Element>(dot, top.x, bottom.x, top.y, bottom.y, q[j].x, q[j].y);
    mma<Element>(dot, top.z, bottom.z, top.w, bottom.w, q[j].z, q[j].w);
  }
  ring.taken();
}

// x = logit * log2(e) in place of the dot products, checked; minus infinity past the end.
__device__ __forceinline__ void scale_scores(float (&x)[2][4], float sm_scale,
                                             std::uint32_t first_row, std::uint32_t context) {
  bool unusual = first_row + kWarpRows > context;
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    float& value = x[i / 4][i % 4];
    value = __fmul_rn(__fmul_rn(value, sm_scale), kLog2E);
    unusual |= !(fabsf(value) < kScoreLimit);
  }
  if (!__any_sync(kAllLanes, unusual)) return;
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    float& value = x[i / 4][i % 4];
    value =
        first_row + 16 * (i / 4) + 8 * (i / 2 % 2) < context ? checked_score(value) : -kInfinity;
  }
}

__device__ __forceinline__ void warp_maxima(float (&max_of)[kMaxGroup], const float (&x)[2][4]) {
  const std::uint32_t lane = threadIdx.x % 32;
  float max_x[2];
#pragma unroll
  for (std::uint32_t i = 0; i < 2; ++i)
    max_x[i] = fmaxf(fmaxf(x[0][i], x[0][2 + i]), fmaxf(x[1][i], x[1][2 + i]));
#pragma unroll
  for (int distance = 4; distance < 32; distance *= 2) {
#pragma unroll
    for (float& value : max_x) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  if (lane < 4) *reinterpret_cast<float2*>(&max_of[2 * lane]) = make_float2(max_x[0], max_x[1]);
}

// encode_score in three instructions: scaling by 2^11 is exact, so one fused operation rounds as
// the two do, and adding 1.5 * 2^23 rounds to the nearest integer, ties to even, as rintf does.
__device__ __forceinline__ std::uint32_t encode_bits(float exponent_2048, float x) {
  const float scaled = fminf(__fmaf_rn(x, -2048.0F, exponent_2048), 65535.0F);
  return __float_as_uint(__fadd_rn(scaled, 12582912.0F)) & 0xffffU;
}

// Codes of the warp's scores, and their mass in the warp.
__device__ __forceinline__ void encode_tile(TileShared& shared, std::uint32_t group,
                                            std::uint32_t tile, const float (&x)[2][4]) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  std::uint32_t mass[2] = {0, 0};
  if (2 * (lane % 4) < group) {
    float2 max_x = make_float2(-kInfinity, -kInfinity);
#pragma unroll
    for (std::uint32_t w = 0; w < kWarps; ++w) {
      const float2 of =
          *reinterpret_cast<const float2*>(&shared.max_x[tile % 3][w][2 * (lane % 4)]);
      max_x = make_float2(fmaxf(max_x.x, of.x), fmaxf(max_x.y, of.y));
    }
#pragma unroll
    for (std::uint32_t i = 0; i < 2; ++i) {
      const float of = i == 0 ? max_x.x : max_x.y;
      const bool empty = tile_is_empty(of);
      const float exponent = empty ? 0.0F : 2048.0F * static_cast<float>(tile_exponent(of));
      std::uint16_t* code = &shared.code[warp][2 * (lane % 4) + i][lane / 4];
#pragma unroll
      for (std::uint32_t part = 0; part < 4; ++part) {
        const std::uint32_t value =
            empty ? 65535U : encode_bits(exponent, x[part / 2][2 * (part % 2) + i]);
        code[8 * part] = static_cast<std::uint16_t>(value);
        mass[i] += shared.lut[value & (kWeightLutSize - 1)] >> (value >> kCodeFractionBits);
      }
    }
  }
#pragma unroll
  for (int distance = 4; distance < 32; distance *= 2) {
#pragma unroll
    for (std::uint32_t& value : mass) value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  if (lane < 4)
    *reinterpret_cast<uint2*>(&shared.mass[tile % 2][warp][2 * lane]) =
        make_uint2(mass[0], mass[1]);
}

// Where a block's results go.
struct TileOutput {
  const LaunchArguments& a;
  std::size_t first_head;
  std::uint32_t group;

  __device__ std::size_t slot(std::uint32_t g, std::uint32_t tile) const {
    return (first_head + g) * a.tiles_capacity + tile;
  }
  // The warp's codes: 64 bytes a head.
  __device__ __forceinline__ void store_codes(const TileShared& shared, std::uint32_t tile) const {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4;
    __syncwarp();
    if (g < group) {
      const std::size_t at = slot(g, tile) * (kTileRows / 8) + kWarpRows / 8 * warp + lane % 4;
      const uint4 codes = *reinterpret_cast<const uint4*>(&shared.code[warp][g][8 * (lane % 4)]);
      asm volatile("st.global.L2::cache_hint.v4.u32 [%0], {%1, %2, %3, %4}, %5;" ::"l"(
                       reinterpret_cast<uint4*>(a.workspace.code) + at),
                   "r"(codes.x), "r"(codes.y), "r"(codes.z), "r"(codes.w), "l"(evict_last())
                   : "memory");
    }
    __syncwarp();
  }
  // Exponent and mass; after a barrier.
  __device__ __forceinline__ void store_marks(const TileShared& shared, std::uint32_t tile) const {
    const std::uint32_t g = threadIdx.x;
    if (g >= group) return;
    float max_x = -kInfinity;
    std::uint64_t mass = 0;
    for (std::uint32_t w = 0; w < kWarps; ++w) {
      max_x = fmaxf(max_x, shared.max_x[tile % 3][w][g]);
      mass += shared.mass[tile % 2][w][g];
    }
    a.workspace.exponent[slot(g, tile)] = stored_exponent(max_x);
    a.workspace.mass[slot(g, tile)] = mass;
  }
};

template <class Element, int kHeadDim>
__global__ __launch_bounds__(kThreads, 2) void score(const __grid_constant__ LaunchArguments a) {
  __shared__ TileShared shared;
  extern __shared__ __align__(128) uint4 ring_memory[];
  const DecodeParams& p = a.params;
  if (!p.kv_is_stable) wait_for_previous_kernel();
  const std::uint32_t sequence = blockIdx.y / p.kv_heads, kv_head = blockIdx.y % p.kv_heads;
  const std::uint32_t context = context_of(p, sequence), group = p.q_heads / p.kv_heads;
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  const std::uint32_t first = tiles * blockIdx.x / a.splits.score;
  const std::uint32_t last = tiles * (blockIdx.x + 1) / a.splits.score;
  if (first == last) return;
  const RowAddress<Element> keys(a, p.k, sequence, kv_head);
  // K is on its way before the kernel before has ended, if that one does not write it: of the last
  // tile it may have written the last row.
  const bool early = p.kv_is_stable && last < tiles;
  if (p.kv_is_stable && !early) wait_for_previous_kernel();
  Ring<kHeadDim> ring(ring_memory);
  KeyCopies<Element, kHeadDim> copies(keys, context, first, last);
#pragma unroll 1
  for (int n = 0; n < Ring<kHeadDim>::kSlots; ++n) copies.next(ring);
  load_lut(a.workspace, shared.lut);
  if (early) wait_for_previous_kernel();
  uint4 q[kHeadDim / 32];
  load_query<Element, kHeadDim>(p, sequence, kv_head, q);
  const TileOutput output{a, static_cast<std::size_t>(sequence) * p.q_heads + kv_head * group,
                          group};
  for (std::uint32_t tile = first; tile < last; ++tile) {
    float x[2][4];
#pragma unroll
    for (auto& part : x) {
      multiply<Element, kHeadDim>(ring, q, part);
      copies.next(ring);
    }
    scale_scores(x, p.sm_scale,
                 tile * kTileRows + kWarpRows * (threadIdx.x / 32) + threadIdx.x % 32 / 4, context);
    warp_maxima(shared.max_x[tile % 3][threadIdx.x / 32], x);
    __syncthreads();
    encode_tile(shared, group, tile, x);
    output.store_codes(shared, tile);
    if (tile > first) output.store_marks(shared, tile - 1);
  }
  __syncthreads();
  output.store_marks(shared, last - 1);
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
