// Ternary queries: each feature is -1, 0 or +1 with probability |q_d| / c of being touched (SANTA's
// Bernoulli qK^T).
//
// c = max|q| or the next power of two (then rescaling is a shift and the score stage is
// multiplier-free). B draws are averaged: E[(c/B) * sum_b t_b] = q exactly up to the 2^-32 grid of
// the thresholds. Heads of a group draw independently, or share one uniform per feature (coupled:
// the union of touched features falls from 1 - prod(1 - p_g) to max p_g), or the features are drawn
// once from the group's mean magnitude and each head is reweighted by q_d / p_d (group-mean:
// unbiased for every head, at the price of one multiplication per touched feature).
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/host_device.h"
#include "models/sampling/philox.h"

namespace stoat {

enum class TernaryCoupling : std::uint8_t { kIndependent, kCoupled, kGroupMean };
enum class TernaryNormaliser : std::uint8_t { kMax, kPow2 };

std::string_view coupling_name(TernaryCoupling coupling);        // independent coupled group-mean
std::string_view normaliser_name(TernaryNormaliser normaliser);  // max pow2
TernaryCoupling coupling_from_name(std::string_view name);
TernaryNormaliser normaliser_from_name(std::string_view name);

// A feature is touched when uniform32 < threshold; threshold = floor(|q| / c * 2^32), 2^32 at |q| =
// c.
STOAT_HD std::uint64_t ternary_threshold(float magnitude, float normaliser) {
  return static_cast<std::uint64_t>(static_cast<double>(magnitude) /
                                    static_cast<double>(normaliser) * 4294967296.0);
}

// Uniform word of feature d at draw b: four features share a Philox block.
STOAT_HD std::uint32_t ternary_uniform(const DrawSite& site, std::uint32_t draw,
                                       std::uint32_t feature, std::uint32_t head_dim) {
  return draw_block(site, Purpose::kTernaryFeature, draw * ((head_dim + 3) / 4) + feature / 4)
      .word[feature % 4];
}

// c: the largest magnitude, or the next power of two; 1 for an all-zero query (then nothing is
// touched).
STOAT_HD float ternary_normaliser(float largest, TernaryNormaliser kind) {
  if (largest == 0) return 1.0F;
  if (kind == TernaryNormaliser::kMax) return largest;
  int exponent = 0;
  // largest = mantissa * 2^exponent, mantissa in [0.5, 1)
  const float mantissa = frexpf(largest, &exponent);
  return ldexpf(1.0F, mantissa == 0.5F ? exponent - 1 : exponent);
}

// Unbiased estimate of feature q that `count` of `draws` draws touched with the probability
// own / normaliser each: for own = |q| it is +-normaliser * count / draws.
STOAT_HD float ternary_estimate(float q, float own, float normaliser, std::uint32_t count,
                                std::uint32_t draws) {
  const double estimate = static_cast<double>(normaliser) * count / draws;
  const float magnitude = fabsf(q);
  const double ratio =
      own == magnitude ? 1.0 : static_cast<double>(magnitude) / static_cast<double>(own);
  return static_cast<float>(copysign(estimate * ratio, static_cast<double>(q)));
}

struct TernaryOptions {
  std::uint32_t draws = 1;  // B, 1 to 64
  TernaryCoupling coupling = TernaryCoupling::kIndependent;
  TernaryNormaliser normaliser = TernaryNormaliser::kMax;
};

// The draws of one KV group at one step.
struct TernaryGroup {
  std::uint32_t heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t draws = 0;
  std::vector<float> normaliser;   // [heads] c
  std::vector<std::uint8_t> mask;  // [heads, draws, head_dim / 8], bit d % 8 of byte d / 8
  std::vector<std::uint8_t> sign;  // [heads, head_dim / 8], 1 = negative
  std::vector<float> effective;    // [heads, head_dim] unbiased estimate of q: what multiplies K

  bool touched(std::uint32_t head, std::uint32_t draw, std::uint32_t feature) const;
  std::uint32_t touched_features(std::uint32_t head) const;  // by any draw of this head
  std::uint32_t touched_by_group() const;                    // by any draw of any head
  std::uint64_t touches(std::uint32_t head) const;           // sum over draws: additions a key row
};

// q: [heads, head_dim] of one group; site.query_head is the group's first query head. head_dim a
// multiple of 8. Throws Error for NaN or infinity in q, draws outside 1..64.
TernaryGroup draw_ternary(std::span<const float> q, std::uint32_t heads, std::uint32_t head_dim,
                          const TernaryOptions& options, const DrawSite& site);

}  // namespace stoat
