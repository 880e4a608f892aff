// Ternary score pass: Bernoulli queries (models/sampling/ternary.h) against the feature-major copy
// of K; codes, exponents and masses as score.cu leaves them. Grid: [splits, batch * kv_heads].
//
// Every warp goes its own way: it draws the features of its KV head's group, lists those that some
// head touches, and takes tiles of 256 rows, a lane 8 of them, the 16 bytes in which a feature of 8
// rows lies. Lanes queue their own copies, feature by feature and tile after tile, so that the
// queue does not drain between tiles. Features not listed are not read.
//
// Groups touch more or fewer features. So the warps of a block belong to different groups: all
// blocks have about the same to do, and while some warps make codes others keep memory busy.
#include <cstdint>

#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/ternary_draw.cuh"
#include "gpu/attention/ternary_launch.h"
#include "gpu/attention/ternary_queue.cuh"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kResident = 2;  // blocks a multiprocessor

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

// x of this lane's rows in place of the sums, as the codes want it: a damaged score becomes plus
// infinity, a row past the end minus infinity.
template <int kHeads>
__device__ __forceinline__ void scale_rows(const float (&scale)[kHeads], std::uint32_t first_row,
                                           std::uint32_t context, float (&x)[kHeads][kRowsOfLane]) {
  float squares = 0;  // below 2^60 no x is 2^30 or more, none is infinite or NaN
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (std::uint32_t r = 0; r < kRowsOfLane; ++r) {
      x[h][r] = __fmul_rn(x[h][r], scale[h]);
      squares = fmaf(x[h][r], x[h][r], squares);
    }
  }
  if (first_row + kRowsOfLane <= context && squares < kScoreLimit * kScoreLimit) return;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (std::uint32_t r = 0; r < kRowsOfLane; ++r)
      x[h][r] = first_row + r < context ? checked_score(x[h][r]) : -kInfinity;
  }
}

// Masses of 32 rows, of the tile, and the exponent, from the weights of this lane's rows. Lanes
// exchange heads while they add: a lane ends with heads lane % 4 + 4 j of its four lanes.
template <int kHeads>
__device__ __forceinline__ void store_masses(const LaunchArguments& a, std::size_t slot,
                                             std::uint32_t group, const float (&max_x)[kHeads],
                                             std::uint32_t (&mass)[kHeads]) {
  static_assert(kTileParts == 8, "four lanes of 8 rows are a part");
  const std::uint32_t lane = threadIdx.x % 32;
  const auto halve = [&](std::uint32_t low, std::uint32_t high, std::uint32_t distance) {
    const bool upper = (lane & distance) != 0;
    return (upper ? high : low) + __shfl_xor_sync(kAllLanes, upper ? low : high, distance);
  };
#pragma unroll
  for (std::uint32_t j = 0; j < kHeads / 4; ++j) {
    const std::uint32_t* of = mass + 4 * j;
    std::uint32_t sum = halve(halve(of[0], of[1], 1), halve(of[2], of[3], 1), 2);
    const std::uint32_t head = 4 * j + lane % 4;
    const std::size_t own = slot + head * a.tiles_capacity;
    if (head < group) a.workspace.part[own * kTileParts + lane / 4] = sum;
#pragma unroll
    for (std::uint32_t distance = 4; distance < 32; distance *= 2)
      sum += __shfl_xor_sync(kAllLanes, sum, distance);
    const float low = lane % 2 == 0 ? max_x[4 * j] : max_x[4 * j + 1];
    const float high = lane % 2 == 0 ? max_x[4 * j + 2] : max_x[4 * j + 3];
    const float max_of = lane % 4 < 2 ? low : high;
    if (lane < 4 && head < group) {
      // The weight of the largest score is at least 2^23: a sum of 0 is 2^32.
      const bool full = sum == 0 && !tile_is_empty(max_of);
      a.workspace.exponent[own] = stored_exponent(max_of);
      a.workspace.mass[own] = full ? std::uint64_t{1} << 32 : sum;
    }
  }
}

// Codes, exponents and masses of a tile from this lane's sums, all heads side by side: each by
// itself is a chain of dependent instructions. slot: of the first head's tile.
template <int kHeads>
__device__ __forceinline__ void store_tile(const LaunchArguments& a, const std::uint32_t* lut,
                                           std::size_t slot, std::uint32_t group,
                                           float (&x)[kHeads][kRowsOfLane]) {
  const std::uint32_t lane = threadIdx.x % 32;
  float max_x[kHeads], top[kHeads];
  bool empty = false;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    max_x[h] = x[h][0];
#pragma unroll
    for (std::uint32_t r = 1; r < kRowsOfLane; ++r) max_x[h] = fmaxf(max_x[h], x[h][r]);
    max_x[h] = warp_max(max_x[h]);
    top[h] = ceilf(max_x[h]) * kWeightLutSize;
    empty |= tile_is_empty(max_x[h]);
  }
  if (empty) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (!tile_is_empty(max_x[h])) continue;
      top[h] = 0;
#pragma unroll
      for (std::uint32_t r = 0; r < kRowsOfLane; ++r) x[h][r] = -kInfinity;
    }
  }
  std::uint32_t mass[kHeads];  // 8 weights of at most 2^24
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    std::uint32_t packed[kRowsOfLane / 2];
    mass[h] = 0;
#pragma unroll
    for (std::uint32_t r = 0; r < kRowsOfLane; ++r) {
      const std::uint32_t bits = code_bits(top[h], x[h][r]);
      mass[h] += weight_of_bits(bits, lut);
      packed[r / 2] = r % 2 == 0 ? bits : __byte_perm(packed[r / 2], bits, 0x5410);
    }
    // Asking the L2 to keep them gains nothing here: that K leaves first is enough.
    if (h < static_cast<int>(group))
      reinterpret_cast<uint4*>(a.workspace.code + (slot + h * a.tiles_capacity) * kTileRows)[lane] =
          make_uint4(packed[0], packed[1], packed[2], packed[3]);
  }
  store_masses<kHeads>(a, slot, group, max_x, mass);
}

// All tiles of this warp. An all-zero query touches nothing: then no tile was asked for.
template <class Element, int kHeads>
__device__ __forceinline__ void score_tiles(const LaunchArguments& a, const std::uint32_t* lut,
                                            const FeatureList<kHeads>& list, const HeadGroup& group,
                                            std::uint32_t part, Queue& queue, Tiles& tiles) {
  const std::uint32_t row = kRowsOfLane * (threadIdx.x % 32);
  for (std::uint32_t n = 0;; ++n) {
    const std::uint32_t tile = queue.steps > 0 ? tiles.taken(n) : part + n * tiles.shared_from;
    if (tile >= tiles.count) break;
    float sum[kHeads][kRowsOfLane] = {};
    for (std::uint32_t step = 0; step < queue.steps; ++step) {
      queue.wait();
      queue.push(tiles);
#pragma unroll
      for (std::uint32_t u = 0; u < kBatch; ++u) {
        float k[kRowsOfLane];
        unpack_rows<Element>(queue.load(u), k);
        add_feature<kHeads>(list.weight[step * kBatch + u], k, sum);
      }
      queue.taken();
    }
    scale_rows(list.scale, tile * kTileRows + row, queue.context, sum);
    store_tile(a, lut, group.first_head * a.tiles_capacity + tile, group.heads, sum);
  }
}

template <class Element, int kHeads>
__global__ __launch_bounds__(kThreads, kResident) void ternary_score(
    const __grid_constant__ LaunchArguments a) {
  __shared__ std::uint32_t lut[kWeightLutSize];
  __shared__ FeatureList<kHeads> lists[kWarps];
  __shared__ std::uint32_t way[kWarps][kTilesAhead];
  extern __shared__ uint4 ring_memory[];
  const DecodeParams& p = a.params;
  load_lut(a.workspace, lut);
  __syncthreads();
  // All that the draws need besides q is there before the kernel before has ended.
  const bool early = p.kv_is_stable && p.sequence_id == nullptr;
  if (!early) wait_for_previous_kernel();
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t number = (blockIdx.y * gridDim.x + blockIdx.x) * kWarps + warp;
  const std::uint32_t unit = number % gridDim.y, part = number / gridDim.y;
  const std::uint32_t sequence = unit / p.kv_heads, kv_head = unit % p.kv_heads;
  const std::uint32_t heads = p.q_heads / p.kv_heads;
  const std::uint32_t context = context_of(p, sequence);
  const HeadGroup group{
      {p.seed, p.sequence_id ? p.sequence_id[sequence] : sequence, context - 1,
       static_cast<std::uint16_t>(p.layer), static_cast<std::uint16_t>(kv_head * heads)},
      static_cast<std::size_t>(sequence) * p.q_heads + kv_head * heads,
      heads};
  const Element* q = 4 * lane < p.head_dim ? static_cast<const Element*>(p.q) +
                                                 group.first_head * p.head_dim + 4 * lane
                                           : nullptr;
  Tiles tiles{(context + kTileRows - 1) / kTileRows, gridDim.x * kWarps, a.workspace.counter + unit,
              way[warp]};
  const std::uint32_t head_rows = p.page_size == 0 ? p.ternary.capacity : p.page_size;
  const std::size_t head_index = p.page_size == 0 ? unit : kv_head;
  Queue queue{
      a,
      lists[warp].offset,
      static_cast<unsigned>(__cvta_generic_to_shared(ring_memory)) +
          warp * (kStages * kBatch * kSlotBytes) + 16 * lane,
      context,
      static_cast<const std::byte*>(p.ternary.k_features) + 2 * head_index * p.head_dim * head_rows,
      p.page_size == 0 ? nullptr : p.indices + p.indptr[sequence],
      evict_first(),
      part};
  if (part < tiles.count) queue.enter();
  float uniform[4];
  CoupledDraw<Element, kHeads>::uniforms(feature_words(p, group.site, 0, 0), uniform);
  if (early) wait_for_previous_kernel();
  // All kernels before have ended: the next one may take the room that blocks leave.
  let_next_kernel_start();
  // Part 0 has the draws recorded even if it has no tile.
  if (context == 0 || (part >= tiles.count && part > 0)) return;
  const bool record = part == 0 && p.ternary.sink.mask != nullptr;
  CoupledDraw<Element, kHeads> coupled;
  if (!record && p.ternary.coupling == TernaryCoupling::kCoupled &&
      coupled.draw(p, group, q, uniform)) {
    const Places places(coupled.touched());
    list_offsets(places, coupled.touched(), head_rows, lists[warp]);
    queue.steps = places.steps();
    start(queue, tiles);
    coupled.weights(p, places, lists[warp]);
  } else {
    queue.steps = draw_exactly<Element, kHeads>(p, group, q, record, head_rows, lists[warp]);
    start(queue, tiles);
  }
  score_tiles<Element, kHeads>(a, lut, lists[warp], group, part, queue, tiles);
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
