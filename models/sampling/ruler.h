// The ruler: attention weights as integers, so that sampling is integer arithmetic (design decision
// 3).
//
// Rows are cut into tiles of 256 by absolute row. x = logit * log2(e). A tile keeps e = ceil(max x)
// and, a row, the u16 code min(65535, rint((e - x) * 2^11)); weight = LUT[code & 2047] >> (code >>
// 11), a pure integer function of the code. Tile mass T = (M << 6) >> k with k = min(63, e_max -
// e), and a row's boundary inside its tile is (C << 6) >> k: the cumulative sum is truncated, never
// the weights. Scalar functions here run on host and device; ScoreCodes and Ruler are host side.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "models/host_device.h"

namespace stoat {

inline constexpr std::uint32_t kTileRows = 256;
inline constexpr int kCodeFractionBits = 11;  // a code counts 1/2048 of a binary order of magnitude
inline constexpr std::uint32_t kWeightLutSize = 1U << kCodeFractionBits;
inline constexpr int kMassGuardBits = 6;
inline constexpr float kLog2E = 1.44269504088896340736F;
// Exponent of a tile whose scores are all minus infinity: no mass.
inline constexpr std::int32_t kMaskedTile = std::numeric_limits<std::int32_t>::min();
inline constexpr std::uint64_t kMaxRulerTotal = std::uint64_t{1} << 50;   // Z at 2^20 rows
inline constexpr std::uint64_t kMaxRulerLength = std::uint64_t{1} << 62;  // S * Z

// LUT[f] = rint(2^24 * 2^(-f/2048)), f in [0, 2048).
const std::uint32_t* weight_lut();

STOAT_HD std::int32_t tile_exponent(float max_x) { return static_cast<std::int32_t>(ceilf(max_x)); }

// max_exponent >= x; x may be minus infinity.
STOAT_HD std::uint16_t encode_score(std::int32_t exponent, float x) {
  const float scaled = (static_cast<float>(exponent) - x) * static_cast<float>(kWeightLutSize);
  return scaled >= 65535.0F ? std::uint16_t{65535} : static_cast<std::uint16_t>(rintf(scaled));
}

STOAT_HD std::uint32_t weight_of_code(std::uint16_t code, const std::uint32_t* lut) {
  return lut[code & (kWeightLutSize - 1)] >> (code >> kCodeFractionBits);
}

// k = min(63, e_max - e); a masked tile shifts everything out.
STOAT_HD std::uint32_t tile_shift(std::int32_t exponent, std::int32_t max_exponent) {
  if (exponent == kMaskedTile) return 63;
  const std::int64_t difference = static_cast<std::int64_t>(max_exponent) - exponent;
  return difference > 63 ? 63U : static_cast<std::uint32_t>(difference);
}

// (cumulative << 6) >> k: the ruler's boundary of a cumulative weight inside a tile, and the tile's
// mass.
STOAT_HD std::uint64_t scaled_mass(std::uint64_t cumulative, std::uint32_t shift) {
  return (cumulative << kMassGuardBits) >> shift;
}

// The stored scores of one query head at one step.
struct ScoreCodes {
  std::vector<std::uint16_t> code;     // [context_len]
  std::vector<std::int32_t> exponent;  // [tiles], kMaskedTile where a tile has no finite score
};

// Scores (natural-log logits) to codes. Minus infinity masks a row. Throws Error for NaN, plus
// infinity, no finite score at all, or |logit * log2 e| >= 2^30; `what` names the place in the
// message.
ScoreCodes encode_scores(std::span<const float> logits, const char* what = "attention scores");

// All boundaries of one row of scores.
class Ruler {
 public:
  explicit Ruler(const ScoreCodes& codes);

  std::uint32_t rows() const { return rows_; }
  std::uint32_t tiles() const { return static_cast<std::uint32_t>(shift_.size()); }
  std::uint64_t total() const { return tile_begin_.back(); }                        // Z
  std::uint64_t tile_begin(std::uint32_t tile) const { return tile_begin_[tile]; }  // [tiles + 1]
  std::uint64_t tile_mass(std::uint32_t tile) const {
    return tile_begin_[tile + 1] - tile_begin_[tile];
  }
  std::uint32_t shift(std::uint32_t tile) const { return shift_[tile]; }
  // Exclusive prefix sum of the weights inside the row's tile; prefix_end(row) is the inclusive
  // one.
  std::uint64_t prefix_begin(std::uint32_t row) const;
  std::uint64_t prefix_end(std::uint32_t row) const { return prefix_[row]; }
  std::uint64_t tile_weight(std::uint32_t tile) const;  // M_t, before the shift
  // Row i owns [begin, end) of [0, Z).
  std::uint64_t begin(std::uint32_t row) const;
  std::uint64_t end(std::uint32_t row) const;

 private:
  std::uint32_t rows_ = 0;
  std::vector<std::uint64_t> prefix_;      // [rows] inclusive, restarting in every tile
  std::vector<std::uint32_t> shift_;       // [tiles]
  std::vector<std::uint64_t> tile_begin_;  // [tiles + 1]
};

}  // namespace stoat
