// What the ternary score kernel computes, number by number, for the kernel and for its CPU twin:
//
//   x(row) = scale * sum of weight_d * k_d(row) over the features d that the group touched,
//
// in fp32, then one multiplication. Independent and coupled draws: weight is a signed count of at
// most B (B = 1: additions and subtractions only, which tensor cores do as products by +-1), scale
// holds the normaliser. The order of the additions is the hardware's. It cannot matter where all
// products are multiples of a unit and their magnitudes sum to less than 2^24 of it, as those of
// nearly all rows of 16-bit keys do: there x is the twin's, bit for bit; elsewhere it is off by the
// rounding of a few additions. Group-mean: weight is the estimate of the feature, one
// multiplication each, in increasing d, one rounding a feature.
//
// What remains besides: one multiplication a row and head (scale), into which log2(e) and sm_scale
// are folded. A NaN or an infinity in a feature that a head touches damages its tile for the whole
// group.
#pragma once

#include <cmath>
#include <cstdint>

#include "models/sampling/ruler.h"
#include "models/sampling/ternary.h"

namespace stoat::gpu {

// Of a feature that `count` >= 1 draws of its head touched. own: the magnitude that decided it.
STOAT_HD float ternary_weight(float q, float own, float normaliser, std::uint32_t count,
                              std::uint32_t draws, TernaryCoupling coupling) {
  if (coupling == TernaryCoupling::kGroupMean)
    return ternary_estimate(q, own, normaliser, count, draws);
  return copysignf(static_cast<float>(count), q);
}

STOAT_HD float ternary_scale(float normaliser, std::uint32_t draws, TernaryCoupling coupling,
                             float sm_scale) {
  const float unit =
      coupling == TernaryCoupling::kGroupMean ? 1.0F : normaliser / static_cast<float>(draws);
  return unit * sm_scale * kLog2E;
}

// The sum with one feature more.
STOAT_HD float ternary_add(float sum, float weight, float k) { return fmaf(weight, k, sum); }

}  // namespace stoat::gpu
