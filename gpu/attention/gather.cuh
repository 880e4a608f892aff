// The gather stage: V rows times weights, added up in fp32 in a fixed order; and the end of a head
// whose blocks share its rows. Device only, included by select_gather.cu and select_topk.cu.
#pragma once

#include <cstdint>

#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

// What a block of node 2 does: part `split` of `splits` of a head's points.
struct GatherShare {
  std::uint32_t head, split, splits;

  __device__ __forceinline__ explicit GatherShare(const LaunchArguments& a) {
    const std::uint32_t rows = a.whole_heads / gridDim.x;
    const bool whole = blockIdx.y < rows;
    head = whole ? blockIdx.y * gridDim.x + blockIdx.x : a.whole_heads + blockIdx.y - rows;
    split = whole ? 0 : blockIdx.x;
    splits = whole ? 1 : gridDim.x;
  }
};

// Blocks of a head of this sequence.
__device__ __forceinline__ std::uint32_t gather_blocks(const LaunchArguments& a,
                                                       std::uint32_t sequence) {
  return sequence < a.splits.whole_sequences ? 1 : gridDim.x;
}

// A selected row and its weight, before a factor common to all rows.
struct WeightedRow {
  std::uint32_t row;
  float weight;
};

// Sum over the block, in a fixed order, where a thread has features 8 * (thread % (head_dim / 8))
// to + 7: thread d < head_dim returns feature d. warp_sum: a warp's features are `stride` behind
// those of the warp before.
template <int kHeadDim>
__device__ __forceinline__ float sum_of_block(float (&sum)[8], float* warp_sum,
                                              std::uint32_t stride) {
  constexpr std::uint32_t kLanes = kHeadDim / 8;
  float* const mine = warp_sum + threadIdx.x / 32 * stride + 8 * (threadIdx.x % kLanes);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    for (std::uint32_t distance = kLanes; distance < 32; distance *= 2)
      sum[i] += __shfl_xor_sync(kAllLanes, sum[i], distance);
    if (threadIdx.x % 32 < kLanes) mine[i] = sum[i];
  }
  __syncthreads();
  float total = 0;
  if (threadIdx.x < kHeadDim) {
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += warp_sum[w * stride + threadIdx.x];
  }
  return total;
}

// Sum of weight * V row over i in [0, n), row_of(i) a WeightedRow. A row is read by head_dim / 8
// lanes, 16 bytes each; every thread ends with 8 features. Then over the block, in a fixed order,
// by way of warp_sum [kWarps, head_dim] in shared memory: thread d < head_dim returns feature d.
template <class Element, int kHeadDim, class RowOf>
__device__ float gather(const RowAddress<Element>& values, std::uint32_t n, RowOf row_of,
                        float* warp_sum) {
  constexpr std::uint32_t kLanes = kHeadDim / 8, kTeams = kThreads / kLanes, kUnroll = 4;
  const std::uint32_t team = threadIdx.x / kLanes, piece = threadIdx.x % kLanes;
  float sum[8] = {};
  for (std::uint32_t i = team; i < n; i += kTeams * kUnroll) {
    uint4 data[kUnroll];
    float weight[kUnroll];
#pragma unroll
    for (std::uint32_t u = 0; u < kUnroll; ++u) {
      weight[u] = 0;
      data[u] = make_uint4(0, 0, 0, 0);
      if (i + u * kTeams < n) {
        const WeightedRow selected = row_of(i + u * kTeams);
        data[u] = __ldg(reinterpret_cast<const uint4*>(values.row(selected.row) + 8 * piece));
        weight[u] = selected.weight;
      }
    }
#pragma unroll
    for (std::uint32_t u = 0; u < kUnroll; ++u) {
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const float2 pair = unpack<Element>(word(data[u], w));
        sum[2 * w] = fmaf(weight[u], pair.x, sum[2 * w]);
        sum[2 * w + 1] = fmaf(weight[u], pair.y, sum[2 * w + 1]);
      }
    }
  }
  return sum_of_block<kHeadDim>(sum, warp_sum, kHeadDim);
}
template <class Element, int kHeadDim, class RowOf>
__device__ float gather(const RowAddress<Element>& values, std::uint32_t n, RowOf row_of) {
  __shared__ float warp_sum[kWarps * kHeadDim];
  return gather<Element, kHeadDim>(values, n, row_of, warp_sum);
}

// From Hopper on up to so many blocks of a head are a cluster and write to the first one's shared
// memory.
constexpr std::uint32_t kMaxGatherCluster = 8;

// The sums of a cluster's blocks on their way to the first of them: written into its shared memory,
// which counts the bytes that have come.
template <int kHeadDim>
struct ClusterSums {
  float of_block[kMaxGatherCluster - 1][kHeadDim];  // of blocks 1, 2, ...
  std::uint64_t arrived;                            // mbarrier, one phase

  __device__ __forceinline__ static std::uint32_t at(const void* shared) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  }
  // All threads of all blocks of the cluster, once, before the others.
  __device__ __forceinline__ void begin(const GatherShare& share) {
#if __CUDA_ARCH__ >= 900
    if (share.split == 0 && threadIdx.x == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at(&arrived)) : "memory");
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
  }
  // The first block's barrier is there.
  __device__ __forceinline__ void meet() const {
#if __CUDA_ARCH__ >= 900
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
  }
  // Feature d of this block, which is not the first.
  __device__ __forceinline__ void send(const GatherShare& share, std::uint32_t d, float value) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{ .reg .u32 to, count; mapa.shared::cluster.u32 to, %0, 0;\n"
        "mapa.shared::cluster.u32 count, %1, 0;\n"
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [to], %2, [count]; }" ::"r"(
            at(&of_block[share.split - 1][d])),
        "r"(at(&arrived)), "r"(__float_as_uint(value))
        : "memory");
#endif
  }
  // In the first block, whose own sum is `value`: all of them, in the order of the blocks.
  __device__ __forceinline__ float add(const GatherShare& share, std::uint32_t d,
                                       float value) const {
#if __CUDA_ARCH__ >= 900
    // The bytes may have come before they are expected.
    if (d == 0)
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at(&arrived)),
                   "r"((share.splits - 1) * static_cast<std::uint32_t>(sizeof(of_block[0])))
                   : "memory");
    std::uint32_t done = 0;
    while (done == 0) {
      asm volatile(
          "{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n"
          "selp.u32 %0, 1, 0, p; }"
          : "=r"(done)
          : "r"(at(&arrived))
          : "memory");
    }
#pragma unroll
    for (std::uint32_t i = 0; i + 1 < kMaxGatherCluster; ++i)
      if (i + 1 < share.splits) value += of_block[i][d];
#endif
    return value;
  }
};

// Every block of a head brings its sums, thread d feature d; the first block of a cluster, or
// without clusters the last to come, adds them in the order of the blocks, scales and stores.
template <class Element, int kHeadDim>
__device__ void store_head(const LaunchArguments& a, const GatherShare& share,
                           ClusterSums<kHeadDim>& cluster, float sum, float scale) {
  const DecodeParams& p = a.params;
  const std::uint32_t splits = share.splits, d = threadIdx.x;
  const std::size_t head = share.head;
  if (splits == 1) {
    if (d < kHeadDim) store_out<Element>(p, head * kHeadDim + d, sum * scale);
    return;
  }
#if __CUDA_ARCH__ >= 900
  if (splits <= kMaxGatherCluster) {
    cluster.meet();
    if (d >= kHeadDim) return;
    if (share.split != 0) {
      cluster.send(share, d, sum);
    } else {
      store_out<Element>(p, head * kHeadDim + d, cluster.add(share, d, sum) * scale);
    }
    return;
  }
#endif
  float* partial = a.workspace.partial + head * splits * kHeadDim;
  if (d < kHeadDim) partial[share.split * kHeadDim + d] = sum;
  if (!last_block(a.workspace.counter + head, splits) || d >= kHeadDim) return;
  float total = 0;
  for (std::uint32_t split = 0; split < splits; ++split)
    total += __ldcg(partial + split * kHeadDim + d);
  store_out<Element>(p, head * kHeadDim + d, total * scale);
}

// Everything of a head that cannot be computed is NaN, and the status says why.
template <class Element>
__device__ void refuse_head(const DecodeParams& p, const GatherShare& share, std::uint32_t bit) {
  if (share.split != 0) return;
  const std::size_t head = share.head;
  const float nan = nanf("");
  for (std::uint32_t d = threadIdx.x; d < p.head_dim; d += kThreads)
    store_out<Element>(p, head * p.head_dim + d, nan);
  if (p.trace.row) {
    for (std::uint32_t s = threadIdx.x; s < min(p.budget, p.trace.capacity); s += kThreads) {
      p.trace.row[head * p.trace.capacity + s] = 0;
      p.trace.count[head * p.trace.capacity + s] = 0;
    }
  }
  if (threadIdx.x == 0) {
    if (p.lse) p.lse[head] = nan;
    atomicOr(p.status, bit);
  }
}

// Score records: this block's share of the head's tiles, out of the workspace.
__device__ inline void record_scores(const LaunchArguments& a, const GatherShare& share,
                                     std::uint32_t tiles) {
  const std::size_t head = share.head;
  const ScoreSink& sink = a.params.scores;
  if (!sink.code) return;
  const std::uint32_t q_head = head % a.params.q_heads;
  const std::uint32_t kv_head = q_head / (a.params.q_heads / a.params.kv_heads);
  if (sink.kv_head && sink.kv_head[kv_head] == 0) return;
  const std::uint32_t first = tiles * share.split / share.splits;
  const std::uint32_t last = tiles * (share.split + 1) / share.splits;
  const std::size_t slot = head * a.tiles_capacity + first;
  constexpr std::uint32_t kPieces = kTileRows / 8;  // 16 bytes each
  const auto* from = reinterpret_cast<const uint4*>(a.workspace.code) + slot * kPieces;
  auto* to = reinterpret_cast<uint4*>(sink.code) + slot * kPieces;
  for (std::uint32_t i = threadIdx.x; i < (last - first) * kPieces; i += kThreads) to[i] = from[i];
  for (std::uint32_t t = threadIdx.x; t < last - first; t += kThreads)
    sink.exponent[slot + t] = a.workspace.exponent[slot + t];
}

}  // namespace stoat::gpu
