// Select stages: online softmax (all rows) and drawing rows on the integer ruler. Exact top-k is in
// select_topk.cpp.
//
// While scores come in, each becomes a 16-bit code (one exponential, one comparison for the tile's
// maximum) and goes to the stash; the weights' sum is the tile's mass. After the exchange of masses
// only tiles with draws are scanned again: code to weight, prefix sum, comparison with the next
// threshold. Codes beyond the stash spill to DRAM.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "models/sampling/ruler.h"
#include "sim/datapath/stage.h"
#include "sim/datapath/stash.h"

namespace stoat::sim {

std::uint64_t code_bytes(const OwnTile& tile, std::uint32_t heads) {
  return std::uint64_t{tile.rows} * heads * kCodeBits / 8;
}

// First own tile whose codes do not fit the stash.
std::size_t first_spilled(const EngineWork& work, const EngineShape& shape) {
  std::uint64_t used = 0;
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    used += code_bytes(work.tiles[i], work.heads);
    if (used > shape.point.stash.count()) return i;
  }
  return work.tiles.size();
}

WorkItem spill_item(const EngineWork& work, const EngineShape& shape, std::size_t index,
                    Part part) {
  WorkItem item;
  item.tile_index = static_cast<std::uint32_t>(index);
  const std::uint64_t slot_bytes =
      ceil_div(std::uint64_t{kTileRows} * work.heads * kCodeBits / 8, shape.access.count()) *
      shape.access.count();
  item.fetches.push_back(fetch_of(part, work.spill_base + work.tiles[index].slot * slot_bytes,
                                  code_bytes(work.tiles[index], work.heads), shape));
  return item;
}

std::uint64_t sorting_compares(std::uint64_t n) {
  const std::uint64_t padded = std::bit_ceil(std::max<std::uint64_t>(n, 1));
  const auto levels = static_cast<std::uint64_t>(std::bit_width(padded) - 1);
  return padded / 2 * levels * (levels + 1) / 2;
}

// Writes every code to the stash, or to DRAM behind it.
void add_stash_writes(const EngineWork& work, const EngineShape& shape, SelectPlan& plan) {
  const std::size_t spilled = first_spilled(work, shape);
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    plan.stashed.push_back(i >= spilled ? 0 : code_bytes(work.tiles[i], work.heads));
    if (i >= spilled) {
      plan.spill_writes.push_back(spill_item(work, shape, i, Part::kSpillWrite));
    } else {
      at(plan.events, Event::kStashWriteBits) += code_bytes(work.tiles[i], work.heads) * 8;
    }
  }
}

namespace {

// Exponentials and maxima of every own score.
void add_scored(const EngineWork& work, const EngineShape& shape, SelectPlan& plan) {
  for (const OwnTile& tile : work.tiles) {
    const std::uint64_t scores = std::uint64_t{tile.rows} * work.heads;
    plan.scored.emplace_back(ceil_div(scores, shape.point.exp_lanes));
    at(plan.events, Event::kExp) += scores;
    at(plan.events, Event::kMaxCompare) += scores;
    at(plan.events, Event::kAccumulate) += scores;  // the sum of the weights: the tile's mass
  }
}

SelectPlan plan_softmax(const EngineWork& work, const EngineShape& shape) {
  SelectPlan plan;
  plan.streams = true;
  add_scored(work, shape, plan);
  plan.scan.assign(work.tiles.size(), CoreCycles(0));
  // Online softmax: accumulators are rescaled when a tile moves the maximum; every tile is taken
  // to.
  if (!work.tiles.empty()) {
    at(plan.events, Event::kScale) +=
        (work.tiles.size() - 1) * std::uint64_t{shape.head_dim} * work.heads;
  }
  return plan;
}

std::uint64_t random_draws(const EngineWork& work) {
  switch (work.method) {
    case Method::kIid:
    case Method::kStratified:
      return std::uint64_t{work.budget} * work.heads;
    case Method::kFlash:  // one offset a tile and head, one for the remainder
      return (ceil_div(work.context, kTileRows) + 1) * work.heads;
    default:  // one offset for all points
      return work.heads;
  }
}

// Additions of a prefix network over groups of `width` weights (Brent and Kung: 2w - 2 - log2 w),
// and of the running sum to each of its results.
std::uint64_t prefix_additions(std::uint64_t weights, std::uint64_t width) {
  const auto group = [](std::uint64_t w) {
    return w < 2 ? w : 2 * w - 2 - static_cast<std::uint64_t>(std::bit_width(w) - 1) + w;
  };
  return weights / width * group(width) + group(weights % width);
}

// Offsets: a random word times the total mass, the upper half of the product (one multiplication a
// word). Points of a systematic or stratified draw come in order, S points step by Z / S with a
// carried remainder. Independent points must be sorted first; their random words are, while scores
// still come in.
void add_thresholds(const EngineWork& work, const EngineShape& shape, SelectPlan& plan) {
  const std::uint64_t sorted =
      work.method == Method::kIid ? sorting_compares(work.budget) * work.heads : 0;
  plan.prelude = CoreCycles(ceil_div(sorted, shape.point.comparators));
  if (!work.first_engine()) return;
  at(plan.events, Event::kRandomDraw) += random_draws(work);
  at(plan.events, Event::kScale) += random_draws(work);
  at(plan.events, Event::kThresholdCompare) += sorted;
}

SelectPlan plan_sampled(const EngineWork& work, const EngineShape& shape) {
  SelectPlan plan;
  plan.streams = work.method == Method::kFlash;
  add_thresholds(work, shape, plan);
  add_scored(work, shape, plan);
  add_stash_writes(work, shape, plan);
  const std::size_t spilled = first_spilled(work, shape);
  const std::vector<std::uint8_t> drawn = work.drawn_tiles();
  const std::uint64_t width = shape.point.comparators;
  const std::uint64_t all_tiles = ceil_div(work.context, kTileRows);
  if (!plan.streams) {  // every engine sums the masses of all tiles of its heads
    plan.preamble = CoreCycles(ceil_div(all_tiles * work.heads, width));
    at(plan.events, Event::kPrefixAdd) += all_tiles * work.heads;
    at(plan.events, Event::kThresholdCompare) += all_tiles * work.heads;
  }
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    const auto begin = drawn.begin() + static_cast<std::ptrdiff_t>(i * work.heads);
    const auto heads = static_cast<std::uint64_t>(std::count(begin, begin + work.heads, 1));
    const std::uint64_t scanned = heads * work.tiles[i].rows;
    plan.scan.emplace_back(ceil_div(scanned, width));
    at(plan.events, Event::kExp) += scanned;  // code to weight: table and shift
    at(plan.events, Event::kPrefixAdd) += heads * prefix_additions(work.tiles[i].rows, width);
    at(plan.events, Event::kThresholdCompare) += scanned;
    if (i < spilled) {
      at(plan.events, Event::kStashReadBits) += scanned * kCodeBits;
    } else if (heads != 0) {
      plan.spill_reads.push_back(spill_item(work, shape, i, Part::kSpillRead));
    }
  }
  // A threshold that lands in a row is compared once more before the next one is tried.
  for (const std::uint16_t count : work.counts) at(plan.events, Event::kThresholdCompare) += count;
  return plan;
}

}  // namespace

const SelectStage kSelectSoftmax{"select_softmax", plan_softmax};
const SelectStage kSelectSampled{"select_sampled", plan_sampled};

}  // namespace stoat::sim
