#include "models/sampling/selection.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "models/error.h"
#include "models/sampling/points.h"

namespace stoat {

namespace {

struct MethodName {
  Method method;
  std::string_view name;
};
constexpr std::array<MethodName, 7> kMethods{{{Method::kDense, "dense"},
                                              {Method::kIid, "iid"},
                                              {Method::kStratified, "strat"},
                                              {Method::kSystematic, "sys"},
                                              {Method::kProp, "prop"},
                                              {Method::kFlash, "flash"},
                                              {Method::kTopK, "topk"}}};

void add_point(Selection& selection, std::uint32_t row) {
  if (!selection.rows.empty() && selection.rows.back().row == row) {
    ++selection.rows.back().count;
  } else {
    selection.rows.push_back({row, 1});
  }
}

// Points in increasing order against the boundaries of all rows: one level.
template <class NextPoint>
void walk_rows(Selection& selection, const Ruler& ruler, std::uint32_t budget,
               NextPoint next_point) {
  std::uint32_t row = 0;
  for (std::uint32_t s = 0; s < budget; ++s) {
    const std::uint64_t point = next_point(s);
    while (point >= budget * ruler.end(row)) ++row;
    add_point(selection, row);
  }
}

// The row of a tile that owns `residual` of a ruler of length scale * scaled_mass(M, shift).
std::uint32_t row_in_tile(const Ruler& ruler, std::uint32_t tile, std::uint64_t scale,
                          std::uint32_t shift, bool scaled, std::uint64_t residual) {
  std::uint32_t row = tile * kTileRows;
  const auto boundary = [&](std::uint32_t r) {
    return scaled ? scaled_mass(ruler.prefix_end(r), shift) : ruler.prefix_end(r);
  };
  while (residual >= scale * boundary(row)) ++row;
  return row;
}

void select_iid(Selection& selection, const Ruler& ruler, std::uint32_t budget,
                const DrawSite& site) {
  const IidPoints points{site, ruler.total(), budget};
  std::vector<std::uint64_t> sorted(budget);
  for (std::uint32_t s = 0; s < budget; ++s) sorted[s] = points.point(s);
  std::sort(sorted.begin(), sorted.end());
  walk_rows(selection, ruler, budget, [&](std::uint32_t s) { return sorted[s]; });
}

// Each tile's points are systematic on its own ruler of length S_t * M_t; its offset is draw number
// `tile`.
void select_flash(Selection& selection, const Ruler& ruler, std::uint32_t budget,
                  const DrawSite& site) {
  const std::vector<std::uint32_t> budgets = flash_budgets(ruler, budget, site);
  for (std::uint32_t tile = 0; tile < ruler.tiles(); ++tile) {
    if (budgets[tile] == 0) continue;
    selection.tiles.push_back({tile, ruler.tile_mass(tile)});
    const SystematicPoints points = systematic_points(site, ruler.tile_weight(tile), tile);
    for (std::uint32_t s = 0; s < budgets[tile]; ++s) {
      add_point(selection, row_in_tile(ruler, tile, budgets[tile], 0, false, points.point(s)));
    }
  }
}

// x * 2^11 of a row: the order of the scores as integers.
std::int64_t score_key(const ScoreCodes& codes, std::uint32_t row) {
  const std::int32_t exponent = codes.exponent[row / kTileRows];
  if (exponent == kMaskedTile) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(exponent) * kWeightLutSize - codes.code[row];
}

void select_topk(Selection& selection, const ScoreCodes& codes, std::uint32_t budget) {
  std::vector<std::uint32_t> order(codes.code.size());
  for (std::uint32_t row = 0; row < order.size(); ++row) order[row] = row;
  const std::size_t k = std::min<std::size_t>(budget, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
                    [&](std::uint32_t a, std::uint32_t b) {
                      const std::int64_t key_a = score_key(codes, a);
                      const std::int64_t key_b = score_key(codes, b);
                      return key_a != key_b ? key_a > key_b : a < b;
                    });
  order.resize(k);
  std::sort(order.begin(), order.end());
  for (const std::uint32_t row : order) selection.rows.push_back({row, 1});
}

}  // namespace

std::string_view method_name(Method method) {
  for (const MethodName& entry : kMethods) {
    if (entry.method == method) return entry.name;
  }
  throw Bug("a method without a name");
}

const std::vector<std::string>& method_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const MethodName& entry : kMethods) all.emplace_back(entry.name);
    return all;
  }();
  return names;
}

Method method_from_name(std::string_view name) {
  for (const MethodName& entry : kMethods) {
    if (entry.name == name) return entry.method;
  }
  throw usage_error({}, "unknown method '" + std::string(name) + "'", "an attention method",
                    nearest_name_hint(name, method_names()));
}

Selection select_systematic_at(const Ruler& ruler, std::uint32_t budget, std::uint64_t offset) {
  const SystematicPoints points{ruler.total(), offset};
  Selection selection;
  walk_rows(selection, ruler, budget, [&](std::uint32_t s) { return points.point(s); });
  return selection;
}

Selection select_prop_at(const Ruler& ruler, std::uint32_t budget, std::uint64_t offset) {
  const SystematicPoints points{ruler.total(), offset};
  Selection selection;
  std::uint32_t tile = 0;
  for (std::uint32_t s = 0; s < budget; ++s) {
    const std::uint64_t point = points.point(s);
    while (point >= budget * ruler.tile_begin(tile + 1)) ++tile;
    const std::uint64_t residual = point - budget * ruler.tile_begin(tile);
    add_point(selection, row_in_tile(ruler, tile, budget, ruler.shift(tile), true, residual));
  }
  return selection;
}

std::vector<std::uint32_t> flash_budgets(const Ruler& ruler, std::uint32_t budget,
                                         const DrawSite& site) {
  std::vector<std::uint32_t> live;
  for (std::uint32_t tile = 0; tile < ruler.tiles(); ++tile) {
    if (ruler.tile_mass(tile) > 0) live.push_back(tile);
  }
  const auto tiles = static_cast<std::uint32_t>(live.size());
  if (budget < tiles) {
    throw usage_error({"flash"},
                      "a budget of " + std::to_string(budget) + " for " + std::to_string(tiles) +
                          " tiles of 256 rows",
                      "at least one sample a tile", "raise the budget, or use prop");
  }
  std::vector<std::uint32_t> budgets(ruler.tiles(), 0);
  for (const std::uint32_t tile : live) budgets[tile] = budget / tiles;
  // The remainder: systematic over tiles of equal weight. Tile t owns [remainder * t, remainder *
  // (t + 1)).
  const std::uint32_t remainder = budget % tiles;
  if (remainder > 0) {
    const std::uint64_t offset = mulhi64(draw_u64(site, Purpose::kTileRemainder, 0), tiles);
    for (std::uint32_t s = 0; s < remainder; ++s) {
      ++budgets[live[(std::uint64_t{s} * tiles + offset) / remainder]];
    }
  }
  return budgets;
}

Selection select_rows(Method method, const ScoreCodes& codes, std::uint32_t budget,
                      const DrawSite& site) {
  return select_rows(method, codes, Ruler(codes), budget, site);
}

Selection select_rows(Method method, const ScoreCodes& codes, const Ruler& ruler,
                      std::uint32_t budget, const DrawSite& site) {
  if (budget == 0 || budget > kMaxBudget) {
    throw usage_error({}, "a budget of " + std::to_string(budget),
                      "1 to " + std::to_string(kMaxBudget) + " samples");
  }
  if (ruler.total() > kMaxRulerLength / budget) {
    throw usage_error({},
                      "budget " + std::to_string(budget) + " at a context of " +
                          std::to_string(ruler.rows()) + " rows overflows the integer ruler",
                      "budget * total weight of at most 2^62", "lower the budget");
  }
  Selection selection;
  switch (method) {
    case Method::kDense:
      throw Bug("dense attention selects nothing");
    case Method::kIid:
      select_iid(selection, ruler, budget, site);
      break;
    case Method::kStratified: {
      const StratifiedPoints points{site, ruler.total()};
      walk_rows(selection, ruler, budget, [&](std::uint32_t s) { return points.point(s); });
      break;
    }
    case Method::kSystematic:
      return select_systematic_at(ruler, budget, systematic_points(site, ruler.total()).offset);
    case Method::kProp:
      return select_prop_at(ruler, budget, systematic_points(site, ruler.total()).offset);
    case Method::kFlash:
      select_flash(selection, ruler, budget, site);
      break;
    case Method::kTopK:
      select_topk(selection, codes, budget);
      break;
  }
  return selection;
}

std::vector<double> selection_weights(Method method, const ScoreCodes& codes,
                                      const Selection& selection) {
  std::vector<double> weights(selection.rows.size());
  if (method == Method::kTopK) {
    std::int64_t top = std::numeric_limits<std::int64_t>::min();
    for (const RowCount& entry : selection.rows) top = std::max(top, score_key(codes, entry.row));
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::int64_t key = score_key(codes, selection.rows[i].row);
      const bool masked = key == std::numeric_limits<std::int64_t>::min();
      weights[i] = masked ? 0.0 : std::exp2(static_cast<double>(key - top) / kWeightLutSize);
      sum += weights[i];
    }
    for (double& weight : weights) weight /= sum;
    return weights;
  }
  if (method == Method::kFlash) {
    double total = 0;
    for (const TileMass& tile : selection.tiles) total += static_cast<double>(tile.mass);
    std::size_t i = 0;
    for (const TileMass& tile : selection.tiles) {
      std::size_t last = i;
      std::uint64_t samples = 0;
      while (last < weights.size() && selection.rows[last].row / kTileRows == tile.tile)
        samples += selection.rows[last++].count;
      for (; i < last; ++i) {
        weights[i] = static_cast<double>(tile.mass) / total * selection.rows[i].count /
                     static_cast<double>(samples);
      }
    }
    return weights;
  }
  std::uint64_t budget = 0;
  for (const RowCount& entry : selection.rows) budget += entry.count;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<double>(selection.rows[i].count) / static_cast<double>(budget);
  }
  return weights;
}

bool counts_within_one(const Ruler& ruler, const Selection& selection, std::uint32_t budget) {
  std::size_t next = 0;
  const std::uint64_t total = ruler.total();
  for (std::uint32_t row = 0; row < ruler.rows(); ++row) {
    std::uint64_t count = 0;
    if (next < selection.rows.size() && selection.rows[next].row == row)
      count = selection.rows[next++].count;
    // budget * Z <= 2^62, so budget * weight fits.
    const std::uint64_t expected = budget * (ruler.end(row) - ruler.begin(row));
    if (count < expected / total || count > (expected + total - 1) / total) return false;
  }
  return next == selection.rows.size();
}

}  // namespace stoat
