// Exact causal attention of many new tokens over the KV cache: tiles of 64 keys pass through shared
// memory, two in flight; a warp keeps 16 queries, their running maximum, sum and output in
// registers (online softmax, as in Dao et al., arXiv 2205.14135). Tensor cores with fp32 sums; the
// weights are rounded to bf16 before they meet V.
//
// Grid: [ceil(rows / 128), q_heads]; the last rows see the most keys and start first.
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"

namespace stoat::gpu {
namespace {

using Bf16 = __nv_bfloat16;
constexpr std::uint32_t kQueryRows = 128, kKeyRows = 64;

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 bytes to shared memory, zeros where not `valid`.
__device__ __forceinline__ void copy_16(std::uint32_t to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kLeft>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft));
}

template <bool kTransposed>
__device__ __forceinline__ void load_matrices(std::uint32_t (&m)[4], std::uint32_t address) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address));
  }
}

// Byte of 16-byte chunk `chunk` of row `row`; chunks are swapped so that eight rows lie in
// different banks.
template <int kHeadDim>
__device__ __forceinline__ std::uint32_t place(std::uint32_t row, std::uint32_t chunk) {
  return row * kHeadDim * 2 + ((chunk ^ (row & 7)) * 16);
}

// Rows [first, first + 64) of K or V to shared memory; zeros from `context` on.
template <int kHeadDim>
__device__ __forceinline__ void copy_tile(std::uint32_t to, const Bf16* from, std::uint32_t first,
                                          std::uint32_t context) {
  constexpr std::uint32_t kChunks = kHeadDim / 8;
#pragma unroll
  for (std::uint32_t i = 0; i < kKeyRows * kChunks / kThreads; ++i) {
    const std::uint32_t n = i * kThreads + threadIdx.x, row = n / kChunks, chunk = n % kChunks;
    const bool valid = first + row < context;
    copy_16(to + place<kHeadDim>(row, chunk),
            from + static_cast<std::size_t>(valid ? first + row : 0) * kHeadDim + 8 * chunk, valid);
  }
}

// s = q k^T of 16 queries and 64 keys. Value i of s[n]: query lane / 4 + 8 * (i / 2), key
// 8 n + 2 * (lane % 4) + i % 2.
template <int kHeadDim>
__device__ __forceinline__ void score_tile(const std::uint32_t (&q)[kHeadDim / 16][4],
                                           std::uint32_t keys, float (&s)[kKeyRows / 8][4]) {
  const std::uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (auto& n : s) n[0] = n[1] = n[2] = n[3] = 0;
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
#pragma unroll
    for (int pair = 0; pair < static_cast<int>(kKeyRows) / 16; ++pair) {
      std::uint32_t k[4];
      load_matrices<false>(
          k, keys + place<kHeadDim>(16 * pair + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
      mma<Bf16>(s[2 * pair], q[step][0], q[step][1], q[step][2], q[step][3], k[0], k[1]);
      mma<Bf16>(s[2 * pair + 1], q[step][0], q[step][1], q[step][2], q[step][3], k[2], k[3]);
    }
  }
}

// sum += p v of 16 queries, 64 keys.
template <int kHeadDim>
__device__ __forceinline__ void gather_tile(const float (&p)[kKeyRows / 8][4], std::uint32_t values,
                                            float (&sum)[kHeadDim / 8][4]) {
  const std::uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (int step = 0; step < static_cast<int>(kKeyRows) / 16; ++step) {
    const float(&left)[4] = p[2 * step], (&right)[4] = p[2 * step + 1];
    const std::uint32_t a[4] = {pack<Bf16>(left[0], left[1]), pack<Bf16>(left[2], left[3]),
                                pack<Bf16>(right[0], right[1]), pack<Bf16>(right[2], right[3])};
#pragma unroll
    for (int pair = 0; pair < kHeadDim / 16; ++pair) {
      std::uint32_t v[4];
      load_matrices<true>(v, values + place<kHeadDim>(16 * step + lane / 8 % 2 * 8 + lane % 8,
                                                      2 * pair + lane / 16));
      mma<Bf16>(sum[2 * pair], a[0], a[1], a[2], a[3], v[0], v[1]);
      mma<Bf16>(sum[2 * pair + 1], a[0], a[1], a[2], a[3], v[2], v[3]);
    }
  }
}

// Scores to weights 2^(s - maximum); what the rows had so far is rescaled.
template <int kHeadDim>
__device__ __forceinline__ void soften(float (&s)[kKeyRows / 8][4], float scale,
                                       std::uint32_t first_key, std::uint32_t first_query,
                                       float (&maximum)[2], float (&mass)[2],
                                       float (&sum)[kHeadDim / 8][4]) {
  const std::uint32_t lane = threadIdx.x % 32;
  const bool masked = first_key + kKeyRows - 1 > first_query;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t query = first_query + lane / 4 + 8 * half;
    float top = maximum[half];
#pragma unroll
    for (int n = 0; n < static_cast<int>(kKeyRows) / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& value = s[n][2 * half + i];
        value *= scale;
        if (masked && first_key + 8 * n + 2 * (lane % 4) + i > query) value = -kInfinity;
        top = fmaxf(top, value);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    // A row without a visible key so far keeps weight 0.
    const float base = top == -kInfinity ? 0.0F : top;
    const float shrink = exp2f(maximum[half] - base);
    maximum[half] = top;
    float total = 0;
#pragma unroll
    for (int n = 0; n < static_cast<int>(kKeyRows) / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& value = s[n][2 * half + i];
        value = exp2f(value - base);
        total += value;
      }
    }
    mass[half] = mass[half] * shrink + total;
#pragma unroll
    for (auto& column : sum) {
      column[2 * half] *= shrink;
      column[2 * half + 1] *= shrink;
    }
  }
}

template <int kHeadDim>
__global__ __launch_bounds__(kThreads, 1) void prefill(const __grid_constant__ PrefillParams p) {
  extern __shared__ uint4 tiles[];  // K and V, twice
  constexpr std::uint32_t kTileBytes = kKeyRows * kHeadDim * 2;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t block = gridDim.x - 1 - blockIdx.x, head = blockIdx.y;
  const std::uint32_t kv_head = head / (p.q_heads / p.kv_heads);
  const std::size_t kv_at = static_cast<std::size_t>(kv_head) * p.capacity * kHeadDim;
  const Bf16* keys = static_cast<const Bf16*>(p.k) + kv_at;
  const Bf16* values = static_cast<const Bf16*>(p.v) + kv_at;
  const std::uint32_t first_row = block * kQueryRows + 16 * warp;
  const std::uint32_t context = p.start + min(p.rows, (block + 1) * kQueryRows);
  const std::uint32_t count = (context + kKeyRows - 1) / kKeyRows;
  const std::uint32_t base = shared_address(tiles);
  copy_tile<kHeadDim>(base, keys, 0, context);
  commit_copies();
  copy_tile<kHeadDim>(base + kTileBytes, values, 0, context);
  commit_copies();
  std::uint32_t q[kHeadDim / 16][4];
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t row = first_row + lane / 4 + 8 * (i % 2);
      const std::uint32_t column = 16 * step + 8 * (i / 2) + 2 * (lane % 4);
      q[step][i] = row < p.rows
                       ? *reinterpret_cast<const std::uint32_t*>(
                             static_cast<const Bf16*>(p.q) +
                             (static_cast<std::size_t>(row) * p.q_heads + head) * kHeadDim + column)
                       : 0;
    }
  }
  float sum[kHeadDim / 8][4] = {}, maximum[2] = {-kInfinity, -kInfinity}, mass[2] = {};
  const float scale = p.sm_scale * kLog2E;
  for (std::uint32_t tile = 0; tile < count; ++tile) {
    const std::uint32_t here = base + tile % 2 * 2 * kTileBytes;
    const std::uint32_t there = base + (tile + 1) % 2 * 2 * kTileBytes;
    if (tile + 1 < count) {
      copy_tile<kHeadDim>(there, keys, (tile + 1) * kKeyRows, context);
      commit_copies();
      copy_tile<kHeadDim>(there + kTileBytes, values, (tile + 1) * kKeyRows, context);
    } else {
      commit_copies();
    }
    commit_copies();
    wait_copies<3>();
    __syncthreads();
    float s[kKeyRows / 8][4];
    score_tile<kHeadDim>(q, here, s);
    soften<kHeadDim>(s, scale, tile * kKeyRows, p.start + first_row, maximum, mass, sum);
    wait_copies<2>();
    __syncthreads();
    gather_tile<kHeadDim>(s, here + kTileBytes, sum);
    __syncthreads();  // all have read this tile before it is overwritten
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = mass[half];
    total += __shfl_xor_sync(kAllLanes, total, 1);
    total += __shfl_xor_sync(kAllLanes, total, 2);
    const std::uint32_t row = first_row + lane / 4 + 8 * half;
    if (row >= p.rows) continue;
    auto* out = reinterpret_cast<std::uint32_t*>(
        static_cast<Bf16*>(p.out) + (static_cast<std::size_t>(row) * p.q_heads + head) * kHeadDim +
        2 * (lane % 4));
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n)
      out[4 * n] = pack<Bf16>(sum[n][2 * half] / total, sum[n][2 * half + 1] / total);
  }
}

}  // namespace

void launch_prefill_attention(const PrefillParams& params, Stream stream) {
  const std::size_t shared_bytes = std::size_t{4} * kKeyRows * params.head_dim * 2;
  const auto kernel = params.head_dim == 64 ? prefill<64> : prefill<128>;
  check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes)),
             "dynamic shared memory");
  launch_overlapped(kernel, dim3((params.rows + kQueryRows - 1) / kQueryRows, params.q_heads),
                    dim3(kThreads), shared_bytes, stream, params);
}

}  // namespace stoat::gpu
