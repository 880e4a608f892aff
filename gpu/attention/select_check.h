// The selection core on a CUDA device: counts and ternary masks computed by the same headers as on
// the host.
//
// Correctness only (one thread block a query head, boundaries in global memory): it proves that
// given the codes, CPU and GPU counts are equal bit for bit (design decision 3). The fast kernels
// come later and are judged by the same test.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/sampling/philox.h"
#include "models/sampling/selection.h"

namespace stoat::gpu {

// Why no CUDA device can be used ("no CUDA device was found (...)"); empty when one can.
std::string device_obstacle();

// Stored scores of several query heads with the same context.
struct DeviceScores {
  std::span<const std::uint16_t> code;     // [heads, context_len]
  std::span<const std::int32_t> exponent;  // [heads, tiles]
  std::uint32_t context_len = 0;
};

// Draws `budget` rows for every head; sites: [heads]. Method: iid, strat, sys or prop (Bug
// otherwise). Returns [heads, context_len] counts. Throws Error (resource) when the device fails.
std::vector<std::uint32_t> device_counts(Method method, const DeviceScores& scores,
                                         std::uint32_t budget, std::span<const DrawSite> sites);

// Masks of `draws` ternary draws a head, laid out as TernaryGroup::mask: [heads, draws, head_dim /
// 8]. magnitude: [heads, head_dim]; normaliser, sites: [heads].
std::vector<std::uint8_t> device_ternary_masks(std::span<const float> magnitude,
                                               std::span<const float> normaliser,
                                               std::span<const DrawSite> sites,
                                               std::uint32_t head_dim, std::uint32_t draws);

}  // namespace stoat::gpu
