#include "tests/gpu/emulation/score_case.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "models/sampling/ruler.h"

namespace stoat::emulation {

using namespace gpu;

namespace {

// The tile's scores, its largest, and whether one is refused.
struct TileScores {
  std::vector<double> x = std::vector<double>(kTileRows, -HUGE_VAL);
  double largest = -HUGE_VAL;
  bool damaged = false;

  TileScores(const Batch& batch, std::uint32_t sequence, std::uint32_t head, std::uint32_t tile,
             std::uint32_t context) {
    constexpr double kLimit = 1073741824.0;
    for (std::uint32_t i = 0; i < kTileRows && tile * kTileRows + i < context; ++i) {
      x[i] = batch.score(sequence, head, tile * kTileRows + i);
      damaged |=
          std::isnan(x[i]) || (!std::isinf(x[i]) && std::fabs(x[i]) >= kLimit) || x[i] == HUGE_VAL;
      largest = std::max(largest, x[i]);
    }
  }
  // fp32 may see the other side of an integer.
  bool has_exponent(std::int32_t exponent) const {
    constexpr std::int32_t kDamagedTile = 0x7fffffff;
    if (damaged) return exponent == kDamagedTile;
    if (largest == -HUGE_VAL) return exponent == kMaskedTile;
    return exponent == static_cast<std::int32_t>(std::ceil(largest)) ||
           (std::fabs(largest - std::round(largest)) < 1e-4 && std::abs(exponent - largest) < 2);
  }
  double code(std::uint32_t row, std::int32_t exponent) const {
    if (damaged || largest == -HUGE_VAL) return 65535;
    return std::min(65535.0, std::round((exponent - x[row]) * kWeightLutSize));
  }
};

std::string place(const char* what, std::uint32_t sequence, std::uint32_t head, std::uint32_t at,
                  double got, double expected) {
  return std::string(what) + " of sequence " + std::to_string(sequence) + ", head " +
         std::to_string(head) + " at " + std::to_string(at) + " is " + std::to_string(got) +
         ", expected " + std::to_string(expected);
}

}  // namespace

std::string what_is_wrong(const BatchCase& of, Launch launch) {
  const Batch batch(of, 17 + launch.seed);
  DecodeParams p = batch.params();
  p.method = Method::kProp;
  p.budget = 64;
  launch.blocks = of.blocks;
  ScoreResults got;
  try {
    got = run_score(p, of.code_places, launch);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  const std::uint32_t capacity = max_tiles(p);
  if (got.next_tile != 0) return place("counter of tiles", 0, 0, 0, got.next_tile, 0);
  if (got.report.conflicts != 0)
    return std::to_string(got.report.conflicts) + " of " + std::to_string(got.report.matrix_reads) +
           " reads of matrices meet in a bank";
  const bool codes_are_kept = of.code_places >= p.batch;
  std::size_t codes = 0, unequal = 0;
  for (std::uint32_t s = 0; s < p.batch; ++s) {
    const std::uint32_t tiles = (of.contexts[s] + kTileRows - 1) / kTileRows;
    if (got.ready[s] != tiles * p.kv_heads)
      return place("signal", s, 0, 0, got.ready[s], tiles * p.kv_heads);
    for (std::uint32_t h = 0; codes_are_kept && h < p.q_heads; ++h) {
      for (std::uint32_t t = 0; t < tiles; ++t) {
        const std::size_t slot = (std::size_t{s} * p.q_heads + h) * capacity + t;
        const TileScores expected(batch, s, h, t, of.contexts[s]);
        const std::int32_t exponent = got.exponent[slot];
        if (!expected.has_exponent(exponent))
          return place("exponent", s, h, t, exponent, std::ceil(expected.largest));
        std::vector<std::uint32_t> parts(kTileParts);
        for (std::uint32_t i = 0; i < kTileRows; ++i) {
          const std::uint16_t code = got.code[slot * kTileRows + i];
          const double distance = std::fabs(expected.code(i, exponent) - code);
          if (distance > 1)
            return place("code", s, h, t * kTileRows + i, code, expected.code(i, exponent));
          ++codes;
          unequal += distance > 0 ? 1 : 0;
          parts[i / (kTileRows / kTileParts)] += weight_of_code(code, weight_lut());
        }
        std::uint64_t mass = 0;
        for (std::uint32_t i = 0; i < kTileParts; ++i) {
          const std::uint32_t part = got.part[slot * kTileParts + i];
          if (part != parts[i])
            return place("mass of a part", s, h, t * kTileParts + i, part, parts[i]);
          mass += part;
        }
        if (got.mass[slot] != mass)
          return place("mass", s, h, t, static_cast<double>(got.mass[slot]),
                       static_cast<double>(mass));
      }
    }
  }
  if (100 * unequal > codes)
    return std::to_string(unequal) + " of " + std::to_string(codes) + " codes are off by one";
  return "";
}

}  // namespace stoat::emulation
