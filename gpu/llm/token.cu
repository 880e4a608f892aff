// The next token on the device, equal to models/llm/token_choice given the logits.
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"
#include "models/llm/token_choice.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kTokenThreads = 1024;
constexpr std::uint32_t kBins = 256;

struct Best {
  float value;
  std::uint32_t index;
};
__device__ __forceinline__ Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

// The largest logit (lowest index of equals) to every thread; *finite becomes false for NaN and
// infinity.
__device__ Best block_best(const float* logits, std::uint32_t n, bool* finite) {
  __shared__ Best bests[32];
  Best best{-kInfinity, 0xffffffffU};
  bool fine = true;
  constexpr std::uint32_t kUnroll = 16;  // loads under way
  for (std::uint32_t base = threadIdx.x; base < n; base += kUnroll * kTokenThreads) {
    float value[kUnroll];
#pragma unroll
    for (std::uint32_t u = 0; u < kUnroll; ++u) {
      const std::uint32_t i = base + u * kTokenThreads;
      value[u] = i < n ? logits[i] : logits[base];
    }
#pragma unroll
    for (std::uint32_t u = 0; u < kUnroll; ++u) {
      fine = fine && fabsf(value[u]) < kInfinity;
      const std::uint32_t i = base + u * kTokenThreads;
      best = better(best, Best{value[u], i < n ? i : base});
    }
  }
  for (int distance = 16; distance > 0; distance /= 2)
    best = better(best, Best{__shfl_xor_sync(kAllLanes, best.value, distance),
                             __shfl_xor_sync(kAllLanes, best.index, distance)});
  if (threadIdx.x % 32 == 0) bests[threadIdx.x / 32] = best;
  *finite = __syncthreads_and(fine);
  for (std::uint32_t w = 0; w < kTokenThreads / 32; ++w) best = better(best, bests[w]);
  return best;
}

// Adds up weights by `bin`; integer sums do not depend on the order.
template <class BinOf>
__device__ void count_weights(std::uint64_t* bins, const TokenParams& p, const float* logits,
                              std::int32_t exponent, float factor, BinOf bin_of) {
  for (std::uint32_t b = threadIdx.x; b < kBins; b += kTokenThreads) bins[b] = 0;
  __syncthreads();
  for (std::uint32_t i = threadIdx.x; i < p.vocab; i += kTokenThreads) {
    const std::uint16_t code = encode_score(exponent, __fmul_rn(logits[i], factor));
    const std::uint32_t weight = weight_of_code(code, p.lut);
    const std::int32_t bin = bin_of(code);
    if (bin >= 0 && weight > 0)
      atomicAdd(reinterpret_cast<unsigned long long*>(bins + bin),
                static_cast<unsigned long long>(weight));
  }
  __syncthreads();
}

// The largest code that top-p keeps, and the weight of all that it keeps. One thread walks bins.
__device__ std::uint32_t last_code(const TokenParams& p, const float* logits, std::int32_t exponent,
                                   float factor, std::uint64_t share, std::uint64_t* kept) {
  __shared__ std::uint64_t bins[kBins];
  __shared__ std::uint64_t before, wanted;
  __shared__ std::uint32_t coarse, fine;
  count_weights(bins, p, logits, exponent, factor,
                [](std::uint16_t code) { return static_cast<std::int32_t>(code >> 8); });
  if (threadIdx.x == 0) {
    std::uint64_t total = 0;
    for (std::uint32_t b = 0; b < kBins; ++b) total += bins[b];
    wanted = nucleus_weight(total, share);
    before = 0;
    coarse = 0;
    while (before + bins[coarse] < wanted) before += bins[coarse++];
  }
  __syncthreads();
  const std::uint32_t chosen = coarse;
  count_weights(bins, p, logits, exponent, factor, [chosen](std::uint16_t code) {
    return code >> 8 == static_cast<int>(chosen) ? static_cast<std::int32_t>(code & 255) : -1;
  });
  if (threadIdx.x == 0) {
    fine = 0;
    while ((before += bins[fine]) < wanted) ++fine;
  }
  __syncthreads();
  *kept = before;
  return chosen * kBins + fine;
}

// The first token whose inclusive sum of weights passes the point: a block of tokens at a time.
__device__ std::int32_t find_token(const TokenParams& p, const float* logits, std::int32_t exponent,
                                   float factor, std::uint32_t last, std::uint64_t point) {
  __shared__ std::uint64_t warp_sum[32];
  __shared__ std::int32_t found;
  if (threadIdx.x == 0) found = -1;
  std::uint64_t before = 0;
  for (std::uint32_t base = 0; base < p.vocab; base += kTokenThreads) {
    const std::uint32_t i = base + threadIdx.x;
    std::uint64_t weight = 0;
    if (i < p.vocab) {
      const std::uint16_t code = encode_score(exponent, __fmul_rn(logits[i], factor));
      weight = code <= last ? weight_of_code(code, p.lut) : 0;
    }
    std::uint64_t sum = weight;
    for (int distance = 1; distance < 32; distance *= 2) {
      const std::uint64_t other = __shfl_up_sync(kAllLanes, sum, distance);
      if (threadIdx.x % 32 >= static_cast<std::uint32_t>(distance)) sum += other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 31) warp_sum[threadIdx.x / 32] = sum;
    __syncthreads();
    std::uint64_t total = 0, mine = before;
    for (std::uint32_t w = 0; w < kTokenThreads / 32; ++w) {
      if (w < threadIdx.x / 32) mine += warp_sum[w];
      total += warp_sum[w];
    }
    const std::uint64_t end = mine + sum;
    if (point < end && point >= end - weight) found = static_cast<std::int32_t>(i);
    before += total;
    if (point < before) break;
  }
  __syncthreads();
  return found;
}

// A block is a sequence.
__global__ __launch_bounds__(kTokenThreads) void choose_token(const __grid_constant__ TokenParams p,
                                                              std::uint64_t share) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::uint32_t row = blockIdx.x;
  const float* logits = p.logits + static_cast<std::size_t>(row) * p.vocab;
  bool finite = true;
  const Best best = block_best(logits, p.vocab, &finite);
  std::int32_t token = finite ? static_cast<std::int32_t>(best.index) : 0;
  if (finite && p.temperature > 0) {
    const float factor = kLog2E / p.temperature;
    const std::int32_t exponent = tile_exponent(__fmul_rn(best.value, factor));
    std::uint64_t kept = 0;
    const std::uint32_t last = last_code(p, logits, exponent, factor, share, &kept);
    const DrawSite site{p.seed, p.sequence_id ? p.sequence_id[row] : row, p.context_len[row] - 1, 0,
                        0};
    token = find_token(p, logits, exponent, factor, last, token_point(site, kept));
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (!finite) atomicOr(p.status, kBadLogits);
  if (p.fed_out) p.fed_out[row] = p.token[row];
  if (p.context_out) p.context_out[row] = p.context_len[row];
  if (p.chosen_out) p.chosen_out[row] = token;
  p.token[row] = token;
  p.context_len[row] += 1;
}

}  // namespace

void launch_choose_token(const TokenParams& params, Stream stream) {
  const TokenChoice choice{params.temperature, params.top_p};
  launch_overlapped(choose_token, dim3(params.rows), dim3(kTokenThreads), 0, stream, params,
                    choice.share());
}

}  // namespace stoat::gpu
