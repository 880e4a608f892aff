// Rotary position embedding as Hugging Face computes it: frequencies and angles rounded to fp32,
// the half-split layout.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/llm/config.h"

namespace stoat {

// Radians a position for each pair (j, j + head_dim / 2), scaling applied. [head_dim / 2]
std::vector<float> rope_frequencies(const RopeConfig& rope, std::uint32_t head_dim);

// cos and sin of `position` times each frequency; the fp32 product's sine in double, rounded to
// fp32, times `factor` (RopeConfig::attention_factor) in fp32. [head_dim / 2]
void rope_angles(std::span<const float> frequencies, std::uint32_t position, float factor,
                 std::span<float> cos, std::span<float> sin);

}  // namespace stoat
