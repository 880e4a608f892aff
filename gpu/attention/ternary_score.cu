// Ternary score pass: Bernoulli queries (models/sampling/ternary.h) against the feature-major copy
// of K; codes, exponents and masses as score.cu leaves them. Grid: [splits, batch * kv_heads].
//
// Every block draws the group's features once and lists those that some head touches. Then its
// warps go their own ways, without a barrier: a warp has a tile of 256 rows, a lane 8 of them, the
// 16 bytes in which a feature of 8 rows lies. Lanes queue their own copies, feature by feature and
// tile after tile, so that the queue does not drain between tiles. Features not listed are not
// read.
#include <cstdint>

#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/ternary_draw.cuh"
#include "gpu/attention/ternary_launch.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kStages = 3;    // steps: 6 KB a warp, 4 of them on their way
constexpr std::uint32_t kResident = 2;  // blocks a multiprocessor
constexpr std::uint32_t kRowsOfLane = 8;
constexpr std::uint32_t kSlotBytes = kTileRows * 2;
constexpr std::uint32_t kRingBytes = kWarps * kStages * kBatch * kSlotBytes;
constexpr std::size_t kCodesInCache = std::size_t{16} << 20;

// This lane's queue of copies: steps of kBatch features, tile after tile of its warp. Copies are
// without conditions: a lane past the end copies the rows of the tile's first lane.
struct Queue {
  const LaunchArguments& a;
  const std::uint32_t* offset;  // the list
  unsigned base;                // this lane's part of the ring, in the shared window
  std::uint32_t context, steps, last;
  const std::byte* features;    // contiguous: of this sequence and KV head; paged: of page 0
  const std::int32_t* indices;  // paged
  std::uint64_t policy;
  // State.
  std::uint32_t tile, step = 0;
  unsigned fill = 0, take = 0;
  const std::byte* rows = nullptr;  // of this lane in `tile`
  std::int32_t next_page = 0;       // of this lane in the warp's next tile

  __device__ __forceinline__ std::uint32_t first_row(std::uint32_t t) const {
    const std::uint32_t row = t * kTileRows + kRowsOfLane * (threadIdx.x % 32);
    return row < context ? row : t * kTileRows;
  }
  __device__ __forceinline__ std::int32_t page_of(std::uint32_t t) const {
    return indices && t < last ? indices[first_row(t) >> a.page_shift] : 0;
  }
  __device__ __forceinline__ void enter(std::int32_t page) {
    const DecodeParams& p = a.params;
    std::size_t row = first_row(tile);
    next_page = page_of(tile + kWarps);
    if (indices)
      row = (row & (p.page_size - 1)) +
            static_cast<std::size_t>(page) * p.kv_heads * p.head_dim * p.page_size;
    rows = features + 2 * row;
  }
  __device__ __forceinline__ unsigned slot(unsigned stage, std::uint32_t u) const {
    return base + (stage * kBatch + u) * kSlotBytes;
  }
  __device__ __forceinline__ void push() {
    if (tile < last) {
      const uint4 from = *reinterpret_cast<const uint4*>(offset + step * kBatch);
#pragma unroll
      for (std::uint32_t u = 0; u < kBatch; ++u) {
        asm volatile(
            "cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(slot(fill, u)),
            "l"(rows + word(from, static_cast<int>(u))), "l"(policy)
            : "memory");
      }
      if (++step == steps) {
        step = 0;
        tile += kWarps;
        enter(next_page);
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    fill = fill + 1 == kStages ? 0 : fill + 1;
  }
  // The step that is worked on leaves the other kStages - 1 on their way.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
  }
  __device__ __forceinline__ uint4 load(std::uint32_t u) const {
    uint4 data;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(data.x), "=r"(data.y), "=r"(data.z), "=r"(data.w)
                 : "r"(slot(take, u))
                 : "memory");
    return data;
  }
  __device__ __forceinline__ void taken() { take = take + 1 == kStages ? 0 : take + 1; }
};

template <class Element>
__device__ __forceinline__ void unpack_rows(const uint4& data, float (&k)[kRowsOfLane]) {
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const float2 pair = unpack<Element>(word(data, w));
    k[2 * w] = pair.x;
    k[2 * w + 1] = pair.y;
  }
}

// One feature of this lane's rows into the sums of every head. A weight of +-1 is an addition or a
// subtraction; the fused instruction costs the same and needs no branch.
template <int kHeads>
__device__ __forceinline__ void add_feature(const float (&weight)[kHeads],
                                            const float (&k)[kRowsOfLane],
                                            float (&sum)[kHeads][kRowsOfLane]) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float4 weights = reinterpret_cast<const float4*>(weight)[h / 4];
    const float w = h % 4 == 0   ? weights.x
                    : h % 4 == 1 ? weights.y
                    : h % 4 == 2 ? weights.z
                                 : weights.w;
#pragma unroll
    for (int r = 0; r < kRowsOfLane; ++r) sum[h][r] = ternary_add(sum[h][r], w, k[r]);
  }
}

// x of this lane's rows in place of the sums, as the codes want it; returns the tile's maximum.
__device__ __forceinline__ float scale_rows(float (&x)[kRowsOfLane], float scale,
                                            std::uint32_t first_row, std::uint32_t context) {
  bool usual = first_row + kRowsOfLane <= context;
#pragma unroll
  for (std::uint32_t r = 0; r < kRowsOfLane; ++r) {
    x[r] = __fmul_rn(x[r], scale);
    usual = usual && fabsf(x[r]) < kScoreLimit;
  }
  if (!usual) {
#pragma unroll
    for (std::uint32_t r = 0; r < kRowsOfLane; ++r)
      x[r] = first_row + r < context ? checked_score(x[r]) : -kInfinity;
  }
  float max_x = x[0];
#pragma unroll
  for (std::uint32_t r = 1; r < kRowsOfLane; ++r) max_x = fmaxf(max_x, x[r]);
  return warp_max(max_x);
}

// Codes, exponent and mass of one head's tile from this lane's sums. (e - x) * 2048 rounds once, as
// encode_score; adding 2^23 leaves the nearest integer in the low bits.
__device__ __forceinline__ void store_tile(const LaunchArguments& a, const std::uint32_t* lut,
                                           std::size_t slot, std::uint32_t first_row,
                                           std::uint32_t context, float scale,
                                           float (&x)[kRowsOfLane]) {
  const float max_x = scale_rows(x, scale, first_row, context);
  const bool empty = tile_is_empty(max_x);
  const float top = empty ? 0.0F : ceilf(max_x) * kWeightLutSize;
  std::uint32_t packed[kRowsOfLane / 2], mass = 0;
#pragma unroll
  for (std::uint32_t r = 0; r < kRowsOfLane; ++r) {
    const float scaled = fmaf(empty ? -kInfinity : x[r], -static_cast<float>(kWeightLutSize), top);
    const auto bits =
        static_cast<std::uint32_t>(__float_as_int(fminf(scaled, 65535.0F) + 8388608.0F));
    // weight_of_code; the shift looks at 5 bits. 8 weights of at most 2^24.
    mass += __funnelshift_r(lut[bits & (kWeightLutSize - 1)], 0, bits >> kCodeFractionBits);
    packed[r / 2] = r % 2 == 0 ? bits : __byte_perm(packed[r / 2], bits, 0x5410);
  }
  reinterpret_cast<uint4*>(a.workspace.code + slot * kTileRows)[threadIdx.x % 32] =
      make_uint4(packed[0], packed[1], packed[2], packed[3]);
  // The whole tile's mass may be 2^32.
  const std::uint32_t low = __reduce_add_sync(kAllLanes, mass & 0xffffU);
  const std::uint32_t high = __reduce_add_sync(kAllLanes, mass >> 16);
  if (threadIdx.x % 32 == 0) {
    a.workspace.exponent[slot] = stored_exponent(max_x);
    a.workspace.mass[slot] = (static_cast<std::uint64_t>(high) << 16) + low;
  }
}

// Keys make room for codes in the L2 cache as long as all codes of the launch fit there.
__device__ __forceinline__ std::uint64_t key_policy(const LaunchArguments& a) {
  const std::size_t codes = static_cast<std::size_t>(a.params.batch) * a.params.q_heads *
                            a.tiles_capacity * kTileRows * sizeof(std::uint16_t);
  std::uint64_t policy;
  if (codes <= kCodesInCache) {
    asm("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(policy));
  } else {
    asm("createpolicy.fractional.L2::evict_normal.b64 %0;" : "=l"(policy));
  }
  return policy;
}

template <class Element, int kHeads>
__global__ __launch_bounds__(kThreads, kResident) void ternary_score(
    const __grid_constant__ LaunchArguments a) {
  __shared__ TernaryShared<kHeads> shared;
  extern __shared__ uint4 ring_memory[];
  const DecodeParams& p = a.params;
  load_lut(a.workspace, shared.lut);
  wait_for_previous_kernel();
  const std::uint32_t sequence = blockIdx.y / p.kv_heads, kv_head = blockIdx.y % p.kv_heads;
  const std::uint32_t group = p.q_heads / p.kv_heads;
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::size_t first_head = static_cast<std::size_t>(sequence) * p.q_heads + kv_head * group;
  // Asked for before the length is known, so that the two wait for memory together.
  const Features own = warp < group ? features_of<Element>(p, first_head, group, warp) : Features{};
  const std::uint32_t sequence_id = p.sequence_id ? p.sequence_id[sequence] : sequence;
  const std::uint32_t context = context_of(p, sequence);
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  const std::uint32_t first = tiles * blockIdx.x / a.splits.score;
  const std::uint32_t last = tiles * (blockIdx.x + 1) / a.splits.score;
  // Block 0 has the draws recorded even if it has no tile.
  if (first == last && (blockIdx.x > 0 || context == 0)) return;
  const DrawSite site{p.seed, sequence_id, context - 1, static_cast<std::uint16_t>(p.layer),
                      static_cast<std::uint16_t>(kv_head * group)};
  if (warp < group) draw_head(p, shared, own, site, first_head, warp);
  __syncthreads();
  const std::uint32_t head_rows = p.page_size == 0 ? p.ternary.capacity : p.page_size;
  const std::uint32_t steps = list_features(shared, group, head_rows);
  const std::size_t head_index = p.page_size == 0 ? blockIdx.y : kv_head;
  Queue queue{
      a,
      shared.offset,
      static_cast<unsigned>(__cvta_generic_to_shared(ring_memory)) +
          warp * (kStages * kBatch * kSlotBytes) + 16 * lane,
      context,
      steps,
      steps > 0 ? last : 0,  // nothing to copy for an all-zero query
      static_cast<const std::byte*>(p.ternary.k_features) + 2 * head_index * p.head_dim * head_rows,
      p.page_size == 0 ? nullptr : p.indices + p.indptr[sequence],
      key_policy(a),
      first + warp};
  if (queue.tile < queue.last) queue.enter(queue.page_of(queue.tile));
  for (std::uint32_t n = 0; n + 1 < kStages; ++n) queue.push();
  for (std::uint32_t tile = first + warp; tile < last; tile += kWarps) {
    float sum[kHeads][kRowsOfLane] = {};
    for (std::uint32_t step = 0; step < steps; ++step) {
      queue.wait();
      queue.push();
#pragma unroll
      for (std::uint32_t u = 0; u < kBatch; ++u) {
        float k[kRowsOfLane];
        unpack_rows<Element>(queue.load(u), k);
        add_feature<kHeads>(shared.weight[step * kBatch + u], k, sum);
      }
      queue.taken();
    }
#pragma unroll
    for (std::uint32_t h = 0; h < kHeads; ++h) {
      if (h < group)
        store_tile(a, shared.lut, (first_head + h) * a.tiles_capacity + tile,
                   tile * kTileRows + kRowsOfLane * lane, context, shared.scale[h], sum[h]);
    }
  }
  let_next_kernel_start();
}

template <class Element>
Kernel ternary_instance(std::uint32_t group) {
  return group <= 4 ? ternary_score<Element, 4> : ternary_score<Element, 8>;
}

}  // namespace

std::size_t ternary_shared_bytes() { return kRingBytes; }

Kernel ternary_score_kernel(const DecodeParams& params) {
  const std::uint32_t group = params.q_heads / params.kv_heads;
  return params.element == ElementType::kBf16 ? ternary_instance<__nv_bfloat16>(group)
                                              : ternary_instance<__half>(group);
}

}  // namespace stoat::gpu
