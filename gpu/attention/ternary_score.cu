// Ternary score pass: Bernoulli queries (models/sampling/ternary.h) against the feature-major copy
// of K; codes, exponents and masses as score.cu leaves them. Grid: [splits].
//
// Every warp goes its own way through the batch, in the order of the sequences, so that the gather
// beside follows and few codes are on their way at a time. It takes a chunk: a tile or two of 256
// rows of a KV head; draws the features of the head's group, lists those that some head touches,
// and queues copies of the listed features' rows, feature by feature. Features not listed are not
// read. That a warp's queue drains while it draws costs nothing: the other 15 of a multiprocessor
// keep the memory busy.
//
// Groups touch more or fewer features. So the warps of a block belong to different groups: all
// blocks have about the same to do, and while some warps make codes others keep memory busy.
#include <cstdint>
#include <type_traits>

#include "gpu/attention/handover.cuh"
#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/ternary_draw.cuh"
#include "gpu/attention/ternary_launch.h"
#include "gpu/attention/ternary_queue.cuh"
#include "gpu/attention/ternary_tile.cuh"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kStageBytes = 2048;  // of a warp's codes
constexpr std::uint32_t kWarpBytes = kRingBytes + kStageBytes;
constexpr std::uint32_t kResident = 2;  // blocks a multiprocessor

// Of the chunk that `walk` is at.
template <class List>
__device__ __forceinline__ HeadGroup group_of(const DecodeParams& p, const ChunkWalk& walk,
                                              const Chunk<List>& chunk, std::uint32_t heads) {
  return {{p.seed, chunk.id, walk.context() - 1, static_cast<std::uint16_t>(p.layer),
           static_cast<std::uint16_t>(walk.kv_head * heads)},
          static_cast<std::size_t>(walk.sequence) * p.q_heads + walk.kv_head * heads,
          heads};
}

// The warp's next chunk, all but its list.
template <class List>
__device__ __forceinline__ void enter_chunk(const LaunchArguments& a, const ChunkWalk& walk,
                                            Chunk<List>& chunk, Queue<List>& queue) {
  const DecodeParams& p = a.params;
  if (threadIdx.x % 32 == 0) {
    const std::uint32_t head_rows = p.page_size == 0 ? p.ternary.capacity : p.page_size;
    const std::size_t head_index =
        p.page_size == 0 ? walk.sequence * p.kv_heads + walk.kv_head : walk.kv_head;
    const std::uint32_t head = walk.kv_head * (p.q_heads / p.kv_heads);
    chunk.features = static_cast<const std::byte*>(p.ternary.k_features) +
                     2 * head_index * p.head_dim * head_rows;
    chunk.indices = p.page_size == 0 ? nullptr : p.indices + p.indptr[walk.sequence];
    chunk.context = walk.context();
    chunk.id = p.sequence_id ? p.sequence_id[walk.sequence] : walk.sequence;
    chunk.slot = (walk.sequence * p.q_heads + head) * a.tiles_capacity;
    chunk.code_slot = (code_place(a, walk.sequence) * p.q_heads + head) * a.tiles_capacity;
  }
  __syncwarp();
  const std::uint32_t first = walk.chunk * walk.tiles_of(walk.sequence);
  queue.left =
      min(walk.tiles_of(walk.sequence), (walk.context() + kTileRows - 1) / kTileRows - first);
  queue.enter(first);
}

// The tiles of a block that are stored, on their way to the signals that the gather waits for. A
// signal costs a fence of the whole device, so the warp that is the last of the block to leave the
// sequences of a signal gives it for all. Warps leave in the order of the sequences.
struct TilesDone {
  const LaunchArguments& a;
  std::uint32_t* left_by;  // [batch] of a signal: warps that have left + 256 times their tiles
  std::uint32_t sequence = 0;
  std::uint32_t tiles = 0;  // of this warp, of the signal of `sequence`

  // This warp's next tile is of this sequence; all that it has stored is of earlier ones, or of the
  // same signal.
  __device__ __forceinline__ void leave(std::uint32_t next) {
    const std::uint32_t batch = a.params.batch;
    __syncwarp();
    while (sequence < batch) {
      const std::uint32_t last = SignalGroup(a, sequence).last;
      if (next <= last) return;
      if (threadIdx.x % 32 == 0) {
        __threadfence_block();
        const std::uint32_t own = 256 * tiles + 1, all = atomicAdd(left_by + last, own) + own;
        if (all % 256 == kWarps && all > kWarps) signal_tiles(a, last, all / 256);
      }
      tiles = 0;
      sequence = last + 1;
    }
  }
};

// Weight: what multiplies a feature; integers for draws of each head, float for group-mean.
// kBeside: bounds of a larger block keep the registers at 96, so that a block of select_gather fits
// beside two of these.
template <class Element, class Weight, int kHeads, bool kBeside>
__global__ __launch_bounds__(kThreads + (kBeside ? 64 : 0), kResident) void ternary_score(
    const __grid_constant__ LaunchArguments a) {
  using List = FeatureList<Weight, kHeads>;
  __shared__ std::uint32_t lut[kWeightLutSize];
  __shared__ Chunk<List> chunk_of[kWarps];
  extern __shared__ __align__(128) uint4 dynamic_shared[];
  const DecodeParams& p = a.params;
  // All that the draws need besides q is there before the kernel before has ended.
  const bool early = p.kv_is_stable && p.sequence_id == nullptr;
  if (!early) wait_for_previous_kernel();
  auto* const contexts = reinterpret_cast<std::uint32_t*>(dynamic_shared) + kWarps * kWarpBytes / 4;
  auto* const left_by = contexts + p.batch;  // TilesDone
  if (threadIdx.x < p.batch) {
    contexts[threadIdx.x] = context_of(p, threadIdx.x);
    left_by[threadIdx.x] = 0;
  }
  load_lut(a.workspace, lut);
  __syncthreads();
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  ChunkWalk walk{contexts, p.batch, p.kv_heads, a.splits.chunk_tiles, a.splits.chunked};
  ChunkCounter counter{a.workspace.next_tile, walk.chunks()};
  walk.move_to(blockIdx.x * kWarps + warp);
  const auto memory = static_cast<unsigned>(__cvta_generic_to_shared(dynamic_shared));
  Chunk<List>& chunk = chunk_of[warp];
  Queue<List> queue{a, chunk, memory + warp * kRingBytes, evict_first()};
  float uniform[4];
  const Element* q = nullptr;  // of this lane's features
  const std::uint32_t heads = p.q_heads / p.kv_heads;
  const auto enter = [&] {
    enter_chunk(a, walk, chunk, queue);
    const HeadGroup group = group_of(p, walk, chunk, heads);
    q = static_cast<const Element*>(p.q) + group.first_head * p.head_dim +
        4 * (lane % (p.head_dim / 4));
    CoupledDraw<Element, kHeads>::uniforms(feature_words(p, group.site, 0, 0), uniform);
  };
  if (walk.any()) enter();
  if (early) wait_for_previous_kernel();
  // All kernels before have ended: the next one may take the room that blocks leave.
  let_next_kernel_start();
  TilesDone done{a, left_by};
  if (a.signal_group > 0) done.leave(walk.sequence);
  while (walk.any()) {
    CoupledDraw<Element, kHeads> coupled;
    coupled.load(p, heads, q);
    const HeadGroup group = group_of(p, walk, chunk, heads);
    const bool record = walk.chunk == 0 && p.ternary.sink.mask != nullptr;
    std::uint32_t tile = queue.tile, left = queue.left;
    if (!std::is_same_v<Weight, float> && !record &&
        p.ternary.coupling == TernaryCoupling::kCoupled && coupled.draw(p, group, uniform)) {
      const Places places(coupled.touched());
      list_features(places, coupled.touched(), chunk.list);
      queue.start(places.total);
      coupled.weights(p, places, chunk.list);
    } else {
      queue.start(draw_exactly<Element, kHeads>(p, group, q, record, chunk.list));
    }
    done.tiles += left;
    for (; left > 0; --left, ++tile) {
      TileSums<kHeads> sums;
      const std::uint32_t steps = queue.steps();
#pragma unroll 1
      for (std::uint32_t step = 0; step < steps; ++step) {
        queue.wait();
        if constexpr (std::is_same_v<Weight, float>) {
          sums.template add_plainly<Element>(queue.place, chunk.list.weight[step]);
        } else {
          sums.template add<Element>(queue.place, chunk.list.weight[step]);
        }
        queue.taken();
      }
      sums.scale(chunk.list.scale, tile * kTileRows, chunk.context);
      if (left == 1) counter.ask();
      const CodeStage<kHeads> stage{memory + kWarps * kRingBytes + warp * kStageBytes};
      store_tile(a, lut, stage, chunk.slot + tile, chunk.code_slot + tile, heads, sums);
    }
    walk.move_to(counter.answer());
    if (a.signal_group > 0) done.leave(walk.sequence);
    if (walk.any()) enter();
  }
}

template <class Element, int kHeads>
Kernel ternary_instance(const DecodeParams& params, bool beside) {
  if (params.ternary.coupling == TernaryCoupling::kGroupMean)
    return ternary_score<Element, float, kHeads, false>;
  if constexpr (kHeads == 4) {
    if (beside) return ternary_score<Element, std::int8_t, kHeads, true>;
  }
  return ternary_score<Element, std::int8_t, kHeads, false>;
}

template <class Element>
Kernel ternary_instance(const DecodeParams& params, bool beside) {
  return params.q_heads / params.kv_heads <= 4 ? ternary_instance<Element, 4>(params, beside)
                                               : ternary_instance<Element, 8>(params, beside);
}

}  // namespace

std::size_t ternary_shared_bytes(const DecodeParams& params) {
  return kWarps * kWarpBytes + 2 * params.batch * sizeof(std::uint32_t);
}

Kernel ternary_score_kernel(const DecodeParams& params, bool beside) {
  return params.element == ElementType::kBf16 ? ternary_instance<__nv_bfloat16>(params, beside)
                                              : ternary_instance<__half>(params, beside);
}

}  // namespace stoat::gpu
