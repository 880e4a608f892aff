#include "models/sampling/ruler.h"

#include <algorithm>
#include <array>
#include <string>

#include "models/error.h"

namespace stoat {

const std::uint32_t* weight_lut() {
  static const std::array<std::uint32_t, kWeightLutSize> lut = [] {
    std::array<std::uint32_t, kWeightLutSize> values{};
    for (std::uint32_t f = 0; f < kWeightLutSize; ++f) {
      values[f] = static_cast<std::uint32_t>(
          std::rint(std::ldexp(std::exp2(-static_cast<double>(f) / kWeightLutSize), 24)));
    }
    return values;
  }();
  return lut.data();
}

ScoreCodes encode_scores(std::span<const float> logits, const char* what) {
  if (logits.empty())
    throw usage_error({what}, "no scores at all (context 0)", "a context of at least one row");
  constexpr float kLimit = 1073741824.0F;  // 2^30: exponents stay far inside int32
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  ScoreCodes codes;
  codes.code.resize(logits.size());
  codes.exponent.reserve((logits.size() + kTileRows - 1) / kTileRows);
  bool any = false;
  for (std::size_t first = 0; first < logits.size(); first += kTileRows) {
    const std::size_t last = std::min(logits.size(), first + kTileRows);
    float max_x = kMinusInfinity;
    for (std::size_t i = first; i < last; ++i) {
      const float x = logits[i] * kLog2E;
      if (!(x < kLimit) || (x <= -kLimit && x != kMinusInfinity)) {
        throw damaged_error(
            {what}, "the score of row " + std::to_string(i) + " is " + std::to_string(logits[i]),
            "finite scores (or minus infinity for a masked row)",
            "look for NaN or infinity in the weights or the KV cache");
      }
      max_x = std::max(max_x, x);
    }
    if (max_x == kMinusInfinity) {
      codes.exponent.push_back(kMaskedTile);
      std::fill(codes.code.begin() + static_cast<std::ptrdiff_t>(first),
                codes.code.begin() + static_cast<std::ptrdiff_t>(last), std::uint16_t{65535});
      continue;
    }
    any = true;
    const std::int32_t exponent = tile_exponent(max_x);
    codes.exponent.push_back(exponent);
    for (std::size_t i = first; i < last; ++i)
      codes.code[i] = encode_score(exponent, logits[i] * kLog2E);
  }
  if (!any)
    throw damaged_error({what}, "all scores are minus infinity",
                        "at least one row that is not masked");
  return codes;
}

Ruler::Ruler(const ScoreCodes& codes) : rows_(static_cast<std::uint32_t>(codes.code.size())) {
  STOAT_ENSURE(!codes.code.empty() &&
                   codes.exponent.size() == (codes.code.size() + kTileRows - 1) / kTileRows,
               "one exponent per tile of 256 rows");
  const std::uint32_t* lut = weight_lut();
  const std::int32_t max_exponent = *std::max_element(codes.exponent.begin(), codes.exponent.end());
  prefix_.resize(rows_);
  tile_begin_.push_back(0);
  for (std::size_t tile = 0; tile < codes.exponent.size(); ++tile) {
    const std::size_t last = std::min<std::size_t>(rows_, (tile + 1) * kTileRows);
    std::uint64_t sum = 0;
    for (std::size_t row = tile * kTileRows; row < last; ++row) {
      sum += codes.exponent[tile] == kMaskedTile ? 0 : weight_of_code(codes.code[row], lut);
      prefix_[row] = sum;
    }
    shift_.push_back(tile_shift(codes.exponent[tile], max_exponent));
    tile_begin_.push_back(tile_begin_.back() + scaled_mass(sum, shift_.back()));
  }
  if (total() > kMaxRulerTotal) {
    throw usage_error(
        {"sampling"},
        "a context of " + std::to_string(rows_) + " rows is too long for the integer ruler",
        "at most 1,048,576 rows");
  }
  STOAT_ENSURE(total() > 0, "the tile with the largest score has mass");
}

std::uint64_t Ruler::prefix_begin(std::uint32_t row) const {
  return row % kTileRows == 0 ? 0 : prefix_[row - 1];
}

std::uint64_t Ruler::tile_weight(std::uint32_t tile) const {
  return prefix_[std::min<std::size_t>(rows_, (tile + std::size_t{1}) * kTileRows) - 1];
}

std::uint64_t Ruler::begin(std::uint32_t row) const {
  const std::uint32_t tile = row / kTileRows;
  return tile_begin_[tile] + scaled_mass(prefix_begin(row), shift_[tile]);
}

std::uint64_t Ruler::end(std::uint32_t row) const {
  const std::uint32_t tile = row / kTileRows;
  return tile_begin_[tile] + scaled_mass(prefix_[row], shift_[tile]);
}

}  // namespace stoat
