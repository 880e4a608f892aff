// The Bernoulli draws of a group of query heads, by the block that scores with them, and the list
// of features that some head touches. models/sampling/ternary.h is the specification: masks and
// signs are equal to its, bit for bit. Device only.
#pragma once

#include <cstdint>

#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/ternary_score.h"

namespace stoat::gpu {

constexpr std::uint32_t kBatch = 4;  // features of one step of the queue that reads them
constexpr std::uint32_t kMaxHeadDim = 128;
constexpr std::uint32_t kListSize = kMaxHeadDim + kBatch;

template <int kHeads>
struct TernaryShared {
  alignas(16) std::uint32_t lut[kWeightLutSize];
  alignas(16) float weight[kListSize][kHeads];  // of the listed features
  alignas(16) std::uint32_t offset[kListSize];  // bytes from a row's feature 0
  float drawn[kMaxGroup][kMaxHeadDim];          // weight of every feature
  std::uint8_t touched[kMaxGroup][kMaxHeadDim];
  float scale[kMaxGroup];  // NaN: the query is damaged
  std::uint32_t part[kMaxHeadDim / 32];
};

// Four query features of a lane: one Philox block draws for them.
struct Features {
  float q[4], own[4];
};

template <class Element>
__device__ __forceinline__ void load_features(const DecodeParams& p, std::size_t head,
                                              float (&q)[4]) {
  const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const Element*>(p.q) +
                                                     head * p.head_dim + 4 * (threadIdx.x % 32));
  const float2 low = unpack<Element>(bits.x), high = unpack<Element>(bits.y);
  q[0] = low.x;
  q[1] = low.y;
  q[2] = high.x;
  q[3] = high.y;
}

// A head's features and the magnitudes that decide its draws. Sums as draw_ternary.
template <class Element>
__device__ Features features_of(const DecodeParams& p, std::size_t first_head, std::uint32_t group,
                                std::uint32_t head) {
  Features f{};
  if (4 * (threadIdx.x % 32) >= p.head_dim) return f;
  load_features<Element>(p, first_head + head, f.q);
  for (int i = 0; i < 4; ++i) f.own[i] = fabsf(f.q[i]);
  if (p.ternary.coupling != TernaryCoupling::kGroupMean) return f;
  double sum[4] = {};
  for (std::uint32_t h = 0; h < group; ++h) {
    float q[4];
    load_features<Element>(p, first_head + h, q);
    for (int i = 0; i < 4; ++i) sum[i] += static_cast<double>(fabsf(q[i]));
  }
  for (int i = 0; i < 4; ++i) f.own[i] = static_cast<float>(sum[i] / group);
  return f;
}

// Four bits a lane to bytes of two lanes, feature 0 in bit 0.
__device__ __forceinline__ void store_bits(std::uint8_t* bytes, std::uint32_t bits,
                                           std::uint32_t head_dim) {
  const std::uint32_t lane = threadIdx.x % 32;
  const std::uint32_t both = bits | __shfl_down_sync(kAllLanes, bits, 1) << 4;
  if (lane % 2 == 0 && 4 * lane < head_dim) bytes[lane / 2] = static_cast<std::uint8_t>(both);
}

// The draws of one head, by one warp.
template <int kHeads>
__device__ void draw_head(const DecodeParams& p, TernaryShared<kHeads>& shared, const Features& f,
                          DrawSite site, std::size_t first_head, std::uint32_t head) {
  const std::uint32_t lane = threadIdx.x % 32;
  const TernaryScore& ternary = p.ternary;
  const bool inside = 4 * lane < p.head_dim;
  float largest = 0;
  bool damaged = false;
  for (int i = 0; i < 4; ++i) {
    damaged |= !isfinite(f.q[i]) || !isfinite(f.own[i]);
    largest = fmaxf(largest, f.own[i]);
  }
  damaged = __any_sync(kAllLanes, damaged);
  const float c = ternary_normaliser(warp_max(largest), ternary.normaliser);
  if (lane == 0)
    shared.scale[head] =
        damaged ? nanf("") : ternary_scale(c, ternary.draws, ternary.coupling, p.sm_scale);
  if (ternary.coupling == TernaryCoupling::kIndependent)
    site.query_head = static_cast<std::uint16_t>(site.query_head + head);
  std::uint64_t threshold[4] = {};
  std::uint32_t count[4] = {}, negative = 0;
  for (int i = 0; i < 4; ++i) {
    if (!damaged && inside) threshold[i] = ternary_threshold(f.own[i], c);
    negative |= signbit(f.q[i]) ? 1U << i : 0U;
  }
  const bool record = ternary.sink.mask != nullptr && blockIdx.x == 0;
  const std::size_t bytes = p.head_dim / 8, sink_head = first_head + head;
  for (std::uint32_t b = 0; b < ternary.draws; ++b) {
    const PhiloxBlock block =
        draw_block(site, Purpose::kTernaryFeature, b * (p.head_dim / 4) + lane);
    std::uint32_t hit = 0;
    for (int i = 0; i < 4; ++i) hit |= block.word[i] < threshold[i] ? 1U << i : 0U;
    for (int i = 0; i < 4; ++i) count[i] += hit >> i & 1;
    if (record)
      store_bits(ternary.sink.mask + (sink_head * ternary.draws + b) * bytes, hit, p.head_dim);
  }
  if (record) store_bits(ternary.sink.sign + sink_head * bytes, negative, p.head_dim);
  for (std::uint32_t i = 0; i < 4; ++i) {
    shared.touched[head][4 * lane + i] = count[i] > 0 ? 1 : 0;
    shared.drawn[head][4 * lane + i] =
        count[i] > 0
            ? ternary_weight(f.q[i], f.own[i], c, count[i], ternary.draws, ternary.coupling)
            : 0.0F;
  }
}

// Lists the features that some head touched, in increasing order; returns the steps of the queue.
// The last step is filled up with the last feature again, of weight 0.
template <int kHeads>
__device__ std::uint32_t list_features(TernaryShared<kHeads>& shared, std::uint32_t group,
                                       std::uint32_t feature_stride) {
  const std::uint32_t d = threadIdx.x, lane = d % 32;
  bool any = false;
  if (d < kMaxHeadDim) {
    for (std::uint32_t h = 0; h < group; ++h) any |= shared.touched[h][d] != 0;
  }
  const std::uint32_t votes = __ballot_sync(kAllLanes, any);
  if (lane == 0 && d < kMaxHeadDim) shared.part[d / 32] = __popc(votes);
  __syncthreads();
  std::uint32_t before = 0, total = 0;
  for (std::uint32_t w = 0; w < kMaxHeadDim / 32; ++w) {
    if (w == d / 32) before = total;
    total += shared.part[w];
  }
  const std::uint32_t i = before + __popc(votes & ((1U << lane) - 1));
  const std::uint32_t fill = (kBatch - total % kBatch) % kBatch;
  if (any) {
    for (std::uint32_t h = 0; h < kHeads; ++h)
      shared.weight[i][h] = h < group ? shared.drawn[h][d] : 0.0F;
    shared.offset[i] = 2 * d * feature_stride;
  }
  const bool again = any && i == total - 1;
  for (std::uint32_t n = 0; again && n < fill; ++n) {
    for (std::uint32_t h = 0; h < kHeads; ++h) shared.weight[total + n][h] = 0;
    shared.offset[total + n] = 2 * d * feature_stride;
  }
  __syncthreads();
  return (total + kBatch - 1) / kBatch;
}

}  // namespace stoat::gpu
