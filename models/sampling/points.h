// Samplers: where point s lands on a ruler of length budget * total (design decision 3).
//
// To add a sampler: one struct with point(s). Row i owns [budget * B_i, budget * B_{i+1}).
#pragma once

#include <cstdint>

#include "models/host_device.h"
#include "models/sampling/philox.h"

namespace stoat {

// One offset for all points (S2ANTA-sys, arXiv 2605.01910).
struct SystematicPoints {
  std::uint64_t total = 0;
  std::uint64_t offset = 0;  // in [0, total)
  STOAT_HD std::uint64_t point(std::uint32_t s) const { return s * total + offset; }
};

STOAT_HD SystematicPoints systematic_points(const DrawSite& site, std::uint64_t total,
                                            std::uint32_t draw = 0) {
  return SystematicPoints{total, mulhi64(draw_u64(site, Purpose::kValue, draw), total)};
}

// One draw in each of `budget` equal strata (S2ANTA-strat).
struct StratifiedPoints {
  DrawSite site;
  std::uint64_t total = 0;
  STOAT_HD std::uint64_t point(std::uint32_t s) const {
    return s * total + mulhi64(draw_u64(site, Purpose::kValue, s), total);
  }
};

// Independent draws (SANTA).
struct IidPoints {
  DrawSite site;
  std::uint64_t total = 0;
  std::uint64_t budget = 0;
  STOAT_HD std::uint64_t point(std::uint32_t s) const {
    return budget * mulhi64(draw_u64(site, Purpose::kValue, s), total);
  }
};

}  // namespace stoat
