// Dense split-KV decode, the baseline: online softmax, K and V read once, both products on tensor
// cores. Grid: [splits, batch * kv_heads]; a warp walks blocks of 16 rows with sums of its own, and
// the last block of a (sequence, KV head) combines the splits in a fixed order.
//
// Scores: the group's queries are the A operand (8 of 16 rows used), K rows the B operand; the
// result has the layout that the B operand of the second product, out^T = V^T p, wants. V^T comes
// from V rows by byte permutation in registers.
#include "gpu/attention/ring.cuh"

#include <cstdint>

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kBlockRows = 16;

template <int kHeadDim>
struct DenseShared {
  uint4 query[kHeadDim / 32]
             [32];  // the A operand, the same for every warp; too many registers else
  float sum_of[kWarps][kMaxGroup][kHeadDim];  // unnormalised outputs
  float max_x[kWarps][kMaxGroup];
  float sum[kWarps][kMaxGroup];
  float part[2 * kMaxGroup * kMaxSplits];  // of the splits: maxima, then sums
};

__device__ __forceinline__ uint4 load_shared(const uint4* pointer) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(pointer))));
  return value;
}

// What a warp has gathered so far. Lane g * 4 + t holds maximum and (its part of the) sum of head
// g, and of the outputs those of heads 2t and 2t + 1.
template <int kHeadDim>
struct Running {
  float max_x = -kInfinity;  // head lane / 4
  float sum = 0;             // head lane / 4, of this lane's rows
  float out[kHeadDim / 16][4] = {};
};

// Scores of 16 rows to unnormalised weights; p[half] packs rows 8 * half + 2t and + 1 of head g.
template <class Element, int kHeadDim>
__device__ __forceinline__ void softmax_block(const uint4 (&k)[kHeadDim / 16],
                                              const uint4 (&query)[kHeadDim / 32][32], float scale,
                                              std::uint32_t first_row, std::uint32_t context,
                                              Running<kHeadDim>& run, std::uint32_t (&p)[2]) {
  const std::uint32_t t = threadIdx.x % 4;
  float x[2][4] = {};
#pragma unroll
  for (int j = 0; j < kHeadDim / 32; ++j) {
    const uint4 q = load_shared(&query[j][threadIdx.x % 32]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      mma<Element>(x[half], q.x, 0, q.y, 0, k[half * kHeadDim / 32 + j].x,
                   k[half * kHeadDim / 32 + j].y);
      mma<Element>(x[half], q.z, 0, q.w, 0, k[half * kHeadDim / 32 + j].z,
                   k[half * kHeadDim / 32 + j].w);
    }
  }
  float max_x = run.max_x;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t row = first_row + 8 * (i / 2) + 2 * t + i % 2;
    float& value = x[i / 2][i % 2];
    value = row < context ? value * scale : -kInfinity;
    max_x = fmaxf(max_x, value);
  }
  max_x = fmaxf(max_x, __shfl_xor_sync(kAllLanes, max_x, 1));
  max_x = fmaxf(max_x, __shfl_xor_sync(kAllLanes, max_x, 2));
  if (__any_sync(kAllLanes, max_x > run.max_x)) {
    const float shrink = max_x == -kInfinity ? 1.0F : exp2f(run.max_x - max_x);
    run.sum *= shrink;
    const float even = __shfl_sync(kAllLanes, shrink, static_cast<int>(8 * t));
    const float odd = __shfl_sync(kAllLanes, shrink, static_cast<int>(8 * t + 4));
#pragma unroll
    for (auto& out : run.out) {
      out[0] *= even, out[1] *= odd, out[2] *= even, out[3] *= odd;
    }
    run.max_x = max_x;
  }
  const float reference = max_x == -kInfinity ? 0.0F : max_x;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float low = exp2f(x[half][0] - reference), high = exp2f(x[half][1] - reference);
    run.sum += low + high;
    p[half] = pack<Element>(low, high);
  }
}

// out^T += V^T p. Output 4c + i of a thread: features 8 * (g + 8c) + 2i (and + 1), heads 2t, 2t
// + 1.
template <class Element, int kHeadDim>
__device__ __forceinline__ void add_values(const uint4 (&v)[kHeadDim / 16],
                                           const std::uint32_t (&p)[2], Running<kHeadDim>& run) {
#pragma unroll
  for (int c = 0; c < kHeadDim / 64; ++c) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t row0 = word(v[0 * kHeadDim / 64 + c], i),
                          row1 = word(v[1 * kHeadDim / 64 + c], i);
      const std::uint32_t row8 = word(v[2 * kHeadDim / 64 + c], i),
                          row9 = word(v[3 * kHeadDim / 64 + c], i);
      mma<Element>(run.out[4 * c + i], __byte_perm(row0, row1, 0x5410),
                   __byte_perm(row0, row1, 0x7632), __byte_perm(row8, row9, 0x5410),
                   __byte_perm(row8, row9, 0x7632), p[0], p[1]);
    }
  }
}

template <int kHeadDim>
__device__ void share(DenseShared<kHeadDim>& shared, Running<kHeadDim>& run) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  run.sum += __shfl_xor_sync(kAllLanes, run.sum, 1);
  run.sum += __shfl_xor_sync(kAllLanes, run.sum, 2);
  if (t == 0) {
    shared.max_x[warp][g] = run.max_x;
    shared.sum[warp][g] = run.sum;
  }
#pragma unroll
  for (int block = 0; block < kHeadDim / 16; ++block) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t feature = 8 * (g + 8 * (block / 4)) + 2 * (block % 4) + i / 2;
      shared.sum_of[warp][2 * t + i % 2][feature] = run.out[block][i];
    }
  }
  __syncthreads();
}

// Maximum, sum and one output feature over `parts` parts that lie `stride` apart.
struct Combined {
  float max_x, sum, out;
};
__device__ __forceinline__ Combined combine(const float* max_x, const float* sum,
                                            std::uint32_t stride, const float* out,
                                            std::uint32_t out_stride, std::uint32_t parts) {
  Combined total{-kInfinity, 0, 0};
  for (std::uint32_t i = 0; i < parts; ++i) total.max_x = fmaxf(total.max_x, max_x[i * stride]);
  const float reference = total.max_x == -kInfinity ? 0.0F : total.max_x;
#pragma unroll 8
  for (std::uint32_t i = 0; i < parts; ++i) {
    const float scale = exp2f(max_x[i * stride] - reference);
    total.sum += scale * sum[i * stride];
    total.out += scale * out[i * out_stride];
  }
  return total;
}

template <class Element>
__device__ void finish(const DecodeParams& p, std::size_t head, std::uint32_t feature,
                       const Combined& total) {
  store_out<Element>(p, head * p.head_dim + feature, total.out / total.sum);
  if (p.lse && feature == 0)
    p.lse[head] = total.sum == 0 ? nanf("") : (total.max_x + log2f(total.sum)) / kLog2E;
}

template <class Element, int kHeadDim>
__device__ void combine_splits(const LaunchArguments& a, DenseShared<kHeadDim>& shared,
                               std::size_t first_head, std::uint32_t group) {
  const Workspace& w = a.workspace;
  const std::uint32_t splits = a.splits.score;
  for (std::uint32_t i = threadIdx.x; i < group * kHeadDim; i += kThreads) {
    const std::uint32_t g = i / kHeadDim, feature = i % kHeadDim;
    const Combined part = combine(&shared.max_x[0][g], &shared.sum[0][g], kMaxGroup,
                                  &shared.sum_of[0][g][feature], kMaxGroup * kHeadDim, kWarps);
    const std::size_t slot = (first_head + g) * splits + blockIdx.x;
    if (splits == 1) {
      finish<Element>(a.params, first_head + g, feature, part);
      continue;
    }
    w.partial[slot * kHeadDim + feature] = part.out;
    if (feature == 0) {
      w.partial_max[slot] = part.max_x;
      w.partial_sum[slot] = part.sum;
    }
  }
  if (splits == 1 || !last_block(w.counter + first_head, splits)) return;
  // Maxima and sums of all splits, where the outputs of this block's warps were.
  float* max_x = shared.part;
  float* sum = shared.part + group * splits;
  for (std::uint32_t i = threadIdx.x; i < group * splits; i += kThreads) {
    max_x[i] = __ldcg(w.partial_max + first_head * splits + i);
    sum[i] = __ldcg(w.partial_sum + first_head * splits + i);
  }
  __syncthreads();
  for (std::uint32_t i = threadIdx.x; i < group * kHeadDim; i += kThreads) {
    const std::size_t g = i / kHeadDim, head = first_head + g;
    const std::uint32_t feature = i % kHeadDim;
    finish<Element>(a.params, head, feature,
                    combine(max_x + g * splits, sum + g * splits, 1,
                            w.partial + head * splits * kHeadDim + feature, kHeadDim, splits));
  }
}

template <class Element, int kHeadDim>
__global__ __launch_bounds__(kThreads, 2) void dense(const __grid_constant__ LaunchArguments a) {
  extern __shared__ __align__(128) uint4 dynamic_shared[];
  __shared__ uint4 query[kHeadDim / 32][32];  // the A operand of every warp, to save registers
  auto& shared = *reinterpret_cast<DenseShared<kHeadDim>*>(dynamic_shared);
  static_assert(sizeof(shared) <= Ring<kHeadDim>::kBytes);
  const DecodeParams& p = a.params;
  if (!p.kv_is_stable) wait_for_previous_kernel();
  const std::uint32_t sequence = blockIdx.y / p.kv_heads, kv_head = blockIdx.y % p.kv_heads;
  const std::uint32_t context = context_of(p, sequence), group = p.q_heads / p.kv_heads;
  const std::uint32_t blocks = (context + kBlockRows - 1) / kBlockRows;
  std::uint32_t block = blocks * blockIdx.x / a.splits.score + threadIdx.x / 32;
  const std::uint32_t last = blocks * (blockIdx.x + 1) / a.splits.score;
  // K and V are on their way before the kernel before has ended, if that one does not write them:
  // it may have written the last row.
  const bool early = p.kv_is_stable && last * kBlockRows < context;
  if (p.kv_is_stable && !early) wait_for_previous_kernel();
  if (context == 0 && blockIdx.x == 0 && kv_head == 0 && threadIdx.x == 0)
    atomicOr(p.status, kBadContext);
  const RowAddress<Element> keys(a, p.k, sequence, kv_head), values(a, p.v, sequence, kv_head);
  Ring<kHeadDim> ring(dynamic_shared);
  constexpr int kSlots = Ring<kHeadDim>::kSlots;
  // Slot n: the keys (n even) or values of this warp's block n / 2.
  const auto copy = [&](std::uint32_t which, bool of_values) {
    const std::uint32_t at = block + which * kWarps;
    if (at < last) ring.copy(of_values ? values : keys, at * kBlockRows, context);
    ring.commit();
  };
#pragma unroll
  for (int n = 0; n < kSlots; ++n) copy(n / 2, n % 2 == 1);
  if (early) wait_for_previous_kernel();
  if (threadIdx.x < 32) {
    uint4 q[kHeadDim / 32];
    load_query<Element, kHeadDim>(p, sequence, kv_head, q);
    for (int j = 0; j < kHeadDim / 32; ++j) query[j][threadIdx.x] = q[j];
  }
  Running<kHeadDim> run;
  __syncthreads();
  if (block < last) {
    for (; block < last; block += kWarps) {
      std::uint32_t weights[2];
      uint4 pieces[kHeadDim / 16];
      ring.take_keys(pieces);
      softmax_block<Element, kHeadDim>(pieces, query, p.sm_scale * kLog2E, block * kBlockRows,
                                       context, run, weights);
      copy(kSlots / 2, kSlots % 2 == 1);
      ring.take_values(pieces);
      add_values<Element, kHeadDim>(pieces, weights, run);
      copy((kSlots + 1) / 2, kSlots % 2 == 0);
    }
  }
  Ring<kHeadDim>::drain();
  __syncthreads();  // the slots are done with; what is shared at the end lies in their place
  let_next_kernel_start();
  share(shared, run);
  const std::size_t first_head = static_cast<std::size_t>(sequence) * p.q_heads + kv_head * group;
  combine_splits<Element, kHeadDim>(a, shared, first_head, group);
}

template <class Element, int kHeadDim>
struct DenseInstance {
  static Kernel kernel() { return dense<Element, kHeadDim>; }
};

}  // namespace

Kernel dense_kernel(ElementType element, std::uint32_t head_dim) {
  return instance<DenseInstance>(element, head_dim);
}

}  // namespace stoat::gpu
