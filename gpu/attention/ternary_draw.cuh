// The Bernoulli draws of a group of query heads, by the warp that scores with them, and the list of
// features that some head touches. models/sampling/ternary.h is the specification: masks, signs and
// counts are equal to its, bit for bit. Device only.
//
// draw_exactly() follows the specification's words and does everything. CoupledDraw is what a warp
// waits for before it can ask for the first key, so it does little before it has the list's
// offsets: draws that heads share, compared in fp32; when one is too close it says so.
#pragma once

#include <cstdint>

#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/ternary_score.h"

namespace stoat::gpu {

constexpr std::uint32_t kStepFeatures = 8;  // what one product of the tensor cores adds up
constexpr std::uint32_t kMaxSteps = 128 / kStepFeatures;

// What a warp adds up: the features of its group that some head touches, in increasing order, in
// whole steps, at least one: the last one is filled up with features of weight 0. Weight: a signed
// count (std::int8_t, at most 64 draws), or float for group-mean.
template <class Weight, int kHeads>
struct FeatureList {
  static constexpr int kGroup = kHeads;
  alignas(16) Weight weight[kMaxSteps][kHeads][kStepFeatures];
  alignas(16) std::uint8_t feature[kMaxSteps * kStepFeatures];
  float scale[kHeads];  // NaN: the query is damaged

  template <class Value>
  __device__ __forceinline__ void put(std::uint32_t place, int head, Value value) {
    weight[place / kStepFeatures][head][place % kStepFeatures] = static_cast<Weight>(value);
  }
};

// The query heads that share a KV head, at one step of one sequence.
struct HeadGroup {
  DrawSite site;
  std::size_t first_head;  // of all heads of the batch
  std::uint32_t heads;
};

// A lane has four features. Their uniforms of draw b: one Philox block.
__device__ __forceinline__ PhiloxBlock feature_words(const DecodeParams& p, DrawSite site,
                                                     std::uint32_t head, std::uint32_t b) {
  if (p.ternary.coupling == TernaryCoupling::kIndependent)
    site.query_head = static_cast<std::uint16_t>(site.query_head + head);
  return draw_block(site, Purpose::kTernaryFeature, b * (p.head_dim / 4) + threadIdx.x % 32);
}

// This lane's features of every head as they lie in memory. source: those of head 0, or any address
// of the query for a lane without features. Volatile, since it is the first thing to do when the
// query is there.
template <class Element, int kHeads>
__device__ __forceinline__ void load_bits(const DecodeParams& p, std::uint32_t heads,
                                          const Element* source, uint2 (&bits)[kHeads]) {
#pragma unroll
  for (std::uint32_t h = 0; h < kHeads; ++h) {
    uint2& of = bits[h];
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];"
                 : "=r"(of.x), "=r"(of.y)
                 : "l"(source + min(h, heads - 1) * p.head_dim)
                 : "memory");
  }
#pragma unroll
  for (std::uint32_t h = 0; h < kHeads; ++h)
    if (h >= heads || 4 * (threadIdx.x % 32) >= p.head_dim) bits[h] = make_uint2(0, 0);
}

// A head's normaliser; NaN: its query is damaged. Magnitudes and their bits have the same order,
// infinity and NaN above all.
__device__ __forceinline__ float normaliser_of(const DecodeParams& p, float largest_of_lane) {
  const std::uint32_t largest = __reduce_max_sync(kAllLanes, __float_as_uint(largest_of_lane));
  return largest >= __float_as_uint(kInfinity)
             ? nanf("")
             : ternary_normaliser(__uint_as_float(largest), p.ternary.normaliser);
}

// Where this lane's first touched feature comes in the list, and how long it is. `touched` has a
// byte a feature.
struct Places {
  std::uint32_t mine = 0, total = 0;

  __device__ __forceinline__ explicit Places(std::uint32_t touched) {
    const std::uint32_t before = (1U << threadIdx.x % 32) - 1;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t lanes = __ballot_sync(kAllLanes, (touched >> 8 * i & 255) != 0);
      mine += static_cast<std::uint32_t>(__popc(lanes & before));
      total += static_cast<std::uint32_t>(__popc(lanes));
    }
  }
  __device__ __forceinline__ std::uint32_t steps() const {
    return (max(total, 1U) + kStepFeatures - 1) / kStepFeatures;
  }
};

// What was touched, and the filling of the last step.
template <class List>
__device__ __forceinline__ void list_features(const Places& places, std::uint32_t touched,
                                              List& list) {
  const std::uint32_t lane = threadIdx.x % 32;
  std::uint32_t place = places.mine;
#pragma unroll
  for (std::uint32_t i = 0; i < 4; ++i) {
    if ((touched >> 8 * i & 255) != 0)
      list.feature[place++] = static_cast<std::uint8_t>(4 * lane + i);
  }
  const std::uint32_t extra = places.total + lane;
  if (extra < places.steps() * kStepFeatures) {
    list.feature[extra] = 0;
#pragma unroll
    for (int h = 0; h < List::kGroup; ++h) list.put(extra, h, 0);
  }
  __syncwarp();
}

// The rest of the list: counts (a byte a feature) become weights by `weight(h, i, count)`.
template <int kHeads, class WeightOf, class List>
__device__ __forceinline__ void list_weights(const DecodeParams& p, const Places& places,
                                             const std::uint32_t (&count)[kHeads],
                                             const float (&c)[kHeads], const WeightOf& weight,
                                             List& list) {
  const std::uint32_t lane = threadIdx.x % 32;
  std::uint32_t touched = 0, place = places.mine;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) touched |= count[h];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if ((touched >> 8 * i & 255) == 0) continue;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) list.put(place, h, weight(h, i, count[h] >> 8 * i & 255));
    ++place;
  }
  float own = 0;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) own = lane == static_cast<std::uint32_t>(h) ? c[h] : own;
  if (lane < kHeads)
    list.scale[lane] =
        isnan(own) ? own : ternary_scale(own, p.ternary.draws, p.ternary.coupling, p.sm_scale);
  __syncwarp();
}

// Draws in every coupling, as the specification says it; returns how many features it lists.
// `record`: this warp tells what was drawn.
template <class Element, int kHeads, class List>
__device__ __noinline__ std::uint32_t draw_exactly(const DecodeParams& p, HeadGroup group,
                                                   const Element* source, bool record, List& list) {
  const std::uint32_t lane = threadIdx.x % 32, draws = p.ternary.draws;
  const std::size_t bytes = p.head_dim / 8;
  const TernaryCoupling coupling = p.ternary.coupling;
  const bool by_mean = coupling == TernaryCoupling::kGroupMean;
  const auto store = [&](std::uint8_t* to, std::uint32_t bits) {  // feature 0 in bit 0
    const std::uint32_t both = bits | __shfl_down_sync(kAllLanes, bits, 1) << 4;
    if (lane % 2 == 0 && 4 * lane < p.head_dim) to[lane / 2] = static_cast<std::uint8_t>(both);
  };
  uint2 bits[kHeads];
  load_bits(p, group.heads, source, bits);
  float q[kHeads][4], mean[4], c[kHeads];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    double sum = 0;  // in draw_ternary's order
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float2 pair = unpack<Element>(i < 2 ? bits[h].x : bits[h].y);
      q[h][i] = i % 2 == 0 ? pair.x : pair.y;
      sum += static_cast<double>(fabsf(q[h][i]));
    }
    mean[i] = by_mean ? static_cast<float>(sum / group.heads) : 0.0F;
  }
  std::uint32_t count[kHeads] = {}, touched = 0;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    c[h] = 1;
    if (h >= static_cast<int>(group.heads)) continue;
    const std::size_t head = group.first_head + h;
    float largest = 0;
    std::uint32_t negative = 0;
    std::uint64_t threshold[4];
    for (int i = 0; i < 4; ++i) {
      const float own = by_mean ? mean[i] : fabsf(q[h][i]);
      largest = isnan(own) ? own : fmaxf(largest, own);
      if (isnan(own)) break;
    }
    c[h] = normaliser_of(p, fabsf(largest));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      threshold[i] = isnan(c[h]) ? 0 : ternary_threshold(by_mean ? mean[i] : fabsf(q[h][i]), c[h]);
      negative |= signbit(q[h][i]) ? 1U << i : 0U;
    }
    for (std::uint32_t b = 0; b < draws; ++b) {
      const PhiloxBlock words = feature_words(p, group.site, static_cast<std::uint32_t>(h), b);
      std::uint32_t hits = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) hits |= words.word[i] < threshold[i] ? 1U << i : 0U;
      count[h] += (hits & 1) | (hits & 2) << 7 | (hits & 4) << 14 | (hits & 8) << 21;
      if (record) store(p.ternary.sink.mask + (head * draws + b) * bytes, hits);
    }
    if (record) store(p.ternary.sink.sign + head * bytes, negative);
    touched |= count[h];
  }
  const Places places(touched);
  list_features(places, touched, list);
  list_weights(
      p, places, count, c,
      [&](int h, int i, std::uint32_t n) {
        return n == 0 ? 0.0F
                      : ternary_weight(q[h][i], by_mean ? mean[i] : fabsf(q[h][i]), c[h], n, draws,
                                       coupling);
      },
      list);
  return places.total;
}

// Coupled draws, from their uniforms to the list.
template <class Element, int kHeads>
struct CoupledDraw {
  uint2 bits[kHeads];
  std::uint32_t count[kHeads];  // a byte a feature
  float c[kHeads];

  __device__ __forceinline__ void load(const DecodeParams& p, std::uint32_t heads,
                                       const Element* source) {
    load_bits(p, heads, source, bits);
  }
  // After load(). False: some uniform and probability are closer than 2^-20, which is more than
  // fp32 can be off by, so nothing is decided. `first`: the uniforms of the first draw.
  __device__ __forceinline__ bool draw(const DecodeParams& p, const HeadGroup& group,
                                       const float (&first)[4]) {
    constexpr float kSure = 1.0F / (1 << 20), kSmallest = 1e-30F, kLargest = 1e30F;
    float inverse[kHeads], uniform[4] = {first[0], first[1], first[2], first[3]};
    float nearest = 1;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      // The largest of this lane's four magnitudes, two at a time: 16 bits keep their order.
      const std::uint32_t two = __vmaxu2(bits[h].x & 0x7fff7fffU, bits[h].y & 0x7fff7fffU);
      c[h] = normaliser_of(p, unpack<Element>(max(two & 0xffffU, two >> 16)).x);
      asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse[h]) : "f"(c[h]));
      if (c[h] < kSmallest || c[h] > kLargest) nearest = 0;
      count[h] = 0;
    }
    for (std::uint32_t b = 0; b < p.ternary.draws; ++b) {
      if (b > 0) uniforms(feature_words(p, group.site, 0, b), uniform);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 pair = unpack<Element>(i < 2 ? bits[h].x : bits[h].y);
          const float above = fmaf(fabsf(i % 2 == 0 ? pair.x : pair.y), inverse[h], -uniform[i]);
          count[h] += above > 0 ? 1U << 8 * i : 0;
          nearest = fminf(nearest, fabsf(above));
        }
      }
    }
    return !__any_sync(kAllLanes, nearest < kSure);
  }
  __device__ __forceinline__ static void uniforms(const PhiloxBlock& words, float (&uniform)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      uniform[i] = static_cast<float>(words.word[i]) * (1.0F / 4294967296.0F);
  }
  __device__ __forceinline__ std::uint32_t touched() const {
    std::uint32_t some = 0;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) some |= count[h];
    return some;
  }
  template <class List>
  __device__ __forceinline__ void weights(const DecodeParams& p, const Places& places,
                                          List& list) const {
    list_weights(
        p, places, count, c,
        [&](int h, int i, std::uint32_t n) {
          const std::uint32_t two = i < 2 ? bits[h].x : bits[h].y;
          const bool negative = ((i % 2 == 0 ? two << 16 : two) & 0x80000000U) != 0;
          return negative ? -static_cast<int>(n) : static_cast<int>(n);
        },
        list);
  }
};

}  // namespace stoat::gpu
