// Which value rows a decode step reads, and how often each: the select stage on the host, for every
// method.
//
// prop is systematic sampling computed in two levels (tiles, then rows): its counts equal those of
// kSystematic, which is computed in one. flash gives each tile a fixed budget and defers the
// rescaling by tile mass. top-k is the deterministic comparator. Sources: SANTA, arXiv 2605.01910;
// the unbiased form of prop: design decision 3.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/sampling/philox.h"
#include "models/sampling/ruler.h"

namespace stoat {

enum class Method : std::uint8_t { kDense, kIid, kStratified, kSystematic, kProp, kFlash, kTopK };

std::string_view method_name(Method method);  // dense iid strat sys prop flash topk
// Throws Error naming the nearest method.
Method method_from_name(std::string_view name);
const std::vector<std::string>& method_names();

struct RowCount {
  std::uint32_t row = 0;
  std::uint16_t count = 0;
  friend bool operator==(const RowCount&, const RowCount&) = default;
};

// flash: what deferred rescaling needs. The estimate is sum over tiles of (mass / total mass) *
// mean of the tile's draws.
struct TileMass {
  std::uint32_t tile = 0;
  std::uint64_t mass = 0;  // T_t of the ruler
  friend bool operator==(const TileMass&, const TileMass&) = default;
};

struct Selection {
  std::vector<RowCount> rows;   // strictly increasing rows, counts >= 1
  std::vector<TileMass> tiles;  // flash only: every tile with mass, increasing
  friend bool operator==(const Selection&, const Selection&) = default;
};

inline constexpr std::uint32_t kMaxBudget = 65535;  // counts are u16

// Draws `budget` rows. Budget above the context is legal (rows repeat; top-k takes every row once).
// Throws Error for budget 0 or above kMaxBudget, for budget * Z > 2^62, for flash with budget <
// tiles; Bug for kDense.
Selection select_rows(Method method, const ScoreCodes& codes, std::uint32_t budget,
                      const DrawSite& site);
Selection select_rows(Method method, const ScoreCodes& codes, const Ruler& ruler,
                      std::uint32_t budget, const DrawSite& site);

// Systematic counts for a given offset in [0, Z), in one level and in two (prop); equal for every
// offset. Draws nothing.
Selection select_systematic_at(const Ruler& ruler, std::uint32_t budget, std::uint64_t offset);
Selection select_prop_at(const Ruler& ruler, std::uint32_t budget, std::uint64_t offset);

// Tiles' budgets under flash: budget / T each, the remainder spread by one systematic draw over the
// tiles with mass.
std::vector<std::uint32_t> flash_budgets(const Ruler& ruler, std::uint32_t budget,
                                         const DrawSite& site);

// Weight of each selected row in the estimate of the attention output; the weights sum to 1. [rows]
// Sampled: count / S (flash: rescaled by tile mass). Top-k: softmax over the selected rows, from
// the codes.
std::vector<double> selection_weights(Method method, const ScoreCodes& codes,
                                      const Selection& selection);

// For methods whose counts are floor or ceil of S * p (systematic, prop): does this selection keep
// the promise?
bool counts_within_one(const Ruler& ruler, const Selection& selection, std::uint32_t budget);

}  // namespace stoat
