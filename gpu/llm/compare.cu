// Errors of attention outputs against exact ones, and the distance between two rows of logits.
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"

namespace stoat::gpu {
namespace {

using Bf16 = __nv_bfloat16;

// A warp is a head.
__global__ __launch_bounds__(kThreads) void compare_outputs(
    const __grid_constant__ CompareParams p) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::uint32_t head = blockIdx.x * kWarps + threadIdx.x / 32;
  if (head >= p.heads) return;
  const std::size_t first = static_cast<std::size_t>(head) * p.head_dim;
  float difference = 0, size = 0;
  for (std::uint32_t d = threadIdx.x % 32; d < p.head_dim; d += 32) {
    const float found = p.found[first + d];
    if (p.rounded) static_cast<Bf16*>(p.rounded)[first + d] = __float2bfloat16(found);
    if (!p.exact) continue;
    const float exact = p.exact[first + d];
    difference += (found - exact) * (found - exact);
    size += exact * exact;
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    difference += __shfl_xor_sync(kAllLanes, difference, distance);
    size += __shfl_xor_sync(kAllLanes, size, distance);
  }
  if (threadIdx.x % 32 == 0 && p.exact)
    p.error[static_cast<std::size_t>(head) * p.error_stride] =
        difference == 0 ? 0.0F : sqrtf(difference / size);
}

// The largest of a row (lowest index of equals) to every thread.
__device__ void row_best(const float* row, std::uint32_t n, float* value, std::uint32_t* index) {
  __shared__ float values[32];
  __shared__ std::uint32_t indices[32];
  float best = -kInfinity;
  std::uint32_t at = 0xffffffffU;
  const auto take = [&](float other, std::uint32_t place) {
    if (other > best || (other == best && place < at)) {
      best = other;
      at = place;
    }
  };
  for (std::uint32_t i = threadIdx.x; i < n; i += blockDim.x) take(row[i], i);
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, best, distance);
    take(other, __shfl_xor_sync(kAllLanes, at, distance));
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) {
    values[threadIdx.x / 32] = best;
    indices[threadIdx.x / 32] = at;
  }
  __syncthreads();
  for (std::uint32_t w = 0; w < blockDim.x / 32; ++w) take(values[w], indices[w]);
  *value = best;
  *index = at;
}

constexpr std::uint32_t kRowThreads = 1024;

// A block is a row.
__global__ __launch_bounds__(kRowThreads) void compare_logits(const float* a, const float* b,
                                                              float* out, std::uint32_t vocab) {
  __shared__ float scratch[32];
  wait_for_previous_kernel();
  let_next_kernel_start();
  a += static_cast<std::size_t>(blockIdx.x) * vocab;
  b += static_cast<std::size_t>(blockIdx.x) * vocab;
  float top_a = 0, top_b = 0, sum_a = 0, sum_b = 0, distance = 0;
  std::uint32_t at_a = 0, at_b = 0;
  row_best(a, vocab, &top_a, &at_a);
  row_best(b, vocab, &top_b, &at_b);
  for (std::uint32_t i = threadIdx.x; i < vocab; i += kRowThreads) {
    sum_a += expf(a[i] - top_a);
    sum_b += expf(b[i] - top_b);
  }
  sum_a = block_sum(sum_a, scratch);
  sum_b = block_sum(sum_b, scratch);
  for (std::uint32_t i = threadIdx.x; i < vocab; i += kRowThreads)
    distance += fabsf(expf(a[i] - top_a) / sum_a - expf(b[i] - top_b) / sum_b);
  distance = block_sum(distance, scratch);
  if (threadIdx.x != 0) return;
  out[2 * blockIdx.x] = 0.5F * distance;
  out[2 * blockIdx.x + 1] = at_a == at_b ? 1.0F : 0.0F;
}

}  // namespace

void launch_compare_outputs(const CompareParams& params, Stream stream) {
  launch_overlapped(compare_outputs, dim3((params.heads + kWarps - 1) / kWarps), dim3(kThreads), 0,
                    stream, params);
}

void launch_compare_logits(const float* a, const float* b, float* out, std::uint32_t rows,
                           std::uint32_t vocab, Stream stream) {
  launch_overlapped(compare_logits, dim3(rows), dim3(kRowThreads), 0, stream, a, b, out, vocab);
}

}  // namespace stoat::gpu
