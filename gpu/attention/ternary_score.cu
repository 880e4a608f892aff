// Ternary score pass: Bernoulli queries (models/sampling/ternary.h) against the feature-major copy
// of K; codes, exponents and masses as score.cu leaves them. Grid: [splits, batch * kv_heads].
//
// Every warp goes its own way: it draws the features of its KV head's group, lists those that some
// head touches, and takes tiles of 256 rows. It queues copies of the listed features' rows, feature
// by feature and tile after tile, so that the queue does not drain between tiles. Features not
// listed are not read.
//
// Groups touch more or fewer features. So the warps of a block belong to different groups: all
// blocks have about the same to do, and while some warps make codes others keep memory busy.
#include <cstdint>
#include <type_traits>

#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/ternary_draw.cuh"
#include "gpu/attention/ternary_launch.h"
#include "gpu/attention/ternary_queue.cuh"
#include "gpu/attention/ternary_tile.cuh"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kStageBytes = 2048;  // of a warp's codes
constexpr std::uint32_t kSharedBytes = kWarps * (kRingBytes + kStageBytes);
constexpr std::uint32_t kResident = 2;  // blocks a multiprocessor

// All tiles of this warp. An all-zero query touches nothing: then no tile was asked for.
template <class Element, class Weight, int kHeads>
__device__ __forceinline__ void score_tiles(const LaunchArguments& a, const std::uint32_t* lut,
                                            const FeatureList<Weight, kHeads>& list,
                                            const HeadGroup& group, std::uint32_t part,
                                            CodeStage<kHeads> stage, Queue& queue, Tiles& tiles) {
  const std::uint32_t steps = queue.steps();
  for (std::uint32_t n = 0;; ++n) {
    const std::uint32_t tile = steps > 0 ? tiles.taken(n) : part + n * tiles.shared_from;
    if (tile >= tiles.count) break;
    TileSums<kHeads> sums;
    for (std::uint32_t step = 0; step < steps; ++step) {
      queue.wait();
      if constexpr (std::is_same_v<Weight, float>) {
        sums.template add_plainly<Element>(queue.take, list.weight[step]);
      } else {
        sums.add(queue.take, list.weight[step]);
      }
      queue.taken(tiles);
    }
    sums.scale(list.scale, tile * kTileRows, queue.context);
    store_tile(a, lut, stage, group.first_head * a.tiles_capacity + tile, group.heads, sums);
  }
}

// Weight: what multiplies a feature; the element type for draws of each head, float for group-mean.
template <class Element, class Weight, int kHeads>
__global__ __launch_bounds__(kThreads, kResident) void ternary_score(
    const __grid_constant__ LaunchArguments a) {
  __shared__ std::uint32_t lut[kWeightLutSize];
  __shared__ FeatureList<Weight, kHeads> lists[kWarps];
  __shared__ std::uint32_t way[kWarps][kTilesAhead];
  extern __shared__ __align__(128) uint4 ring_memory[];
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
  const auto memory = static_cast<unsigned>(__cvta_generic_to_shared(ring_memory));
  const CodeStage<kHeads> stage{memory + kWarps * kRingBytes + warp * kStageBytes};
  Queue queue{
      a,
      lists[warp].offset,
      memory + warp * kRingBytes,
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
  if (!std::is_same_v<Weight, float> && !record &&
      p.ternary.coupling == TernaryCoupling::kCoupled && coupled.draw(p, group, q, uniform)) {
    const Places places(coupled.touched());
    list_offsets(places, coupled.touched(), head_rows, lists[warp]);
    queue.listed = places.total;
    start(queue, tiles);
    coupled.weights(p, places, lists[warp]);
  } else {
    queue.listed = draw_exactly<Element, kHeads>(p, group, q, record, head_rows, lists[warp]);
    start(queue, tiles);
  }
  score_tiles<Element>(a, lut, lists[warp], group, part, stage, queue, tiles);
}

template <class Element, class Weight>
Kernel ternary_instance(std::uint32_t group) {
  return group <= 4 ? ternary_score<Element, Weight, 4> : ternary_score<Element, Weight, 8>;
}

template <class Element>
Kernel ternary_instance(const DecodeParams& params) {
  const std::uint32_t group = params.q_heads / params.kv_heads;
  return params.ternary.coupling == TernaryCoupling::kGroupMean
             ? ternary_instance<Element, float>(group)
             : ternary_instance<Element, Element>(group);
}

}  // namespace

std::size_t ternary_shared_bytes() { return kSharedBytes; }

Kernel ternary_score_kernel(const DecodeParams& params) {
  return params.element == ElementType::kBf16 ? ternary_instance<__nv_bfloat16>(params)
                                              : ternary_instance<__half>(params);
}

}  // namespace stoat::gpu
