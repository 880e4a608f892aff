// Select stages: online softmax (all rows), drawing rows on the integer ruler, and exact top-k.
//
// While scores come in, each becomes a 16-bit code (one exponential, one comparison for the tile's
// maximum) and goes to the stash; the weights' sum is the tile's mass. After the exchange of masses
// only tiles with draws are scanned again: code to weight, prefix sum, comparison with the next
// threshold. Codes beyond the stash spill to DRAM.
#include <algorithm>
#include <cstdint>

#include "models/sampling/ruler.h"
#include "sim/datapath/stage.h"

namespace stoat::sim {
namespace {

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

// Writes every code to the stash, or to DRAM behind it.
void add_stash_writes(const EngineWork& work, const EngineShape& shape, SelectPlan& plan) {
  const std::size_t spilled = first_spilled(work, shape);
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    if (i >= spilled) {
      plan.spill_writes.push_back(spill_item(work, shape, i, Part::kSpillWrite));
    } else {
      at(plan.events, Event::kStashWriteBits) += code_bytes(work.tiles[i], work.heads) * 8;
    }
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

SelectPlan plan_sampled(const EngineWork& work, const EngineShape& shape) {
  SelectPlan plan;
  plan.streams = work.method == Method::kFlash;
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
    at(plan.events, Event::kPrefixAdd) += scanned;
    at(plan.events, Event::kThresholdCompare) += scanned;
    if (i < spilled) {
      at(plan.events, Event::kStashReadBits) += scanned * kCodeBits;
    } else if (heads != 0) {
      plan.spill_reads.push_back(spill_item(work, shape, i, Part::kSpillRead));
    }
  }
  // A threshold that lands in a row is compared once more before the next one is tried.
  for (const std::uint16_t count : work.counts) at(plan.events, Event::kThresholdCompare) += count;
  if (work.first_engine()) at(plan.events, Event::kRandomDraw) += random_draws(work);
  return plan;
}

// Radix selection over 16-bit codes, four bits a pass: every code is read four times, then the
// winners' weights are taken.
constexpr std::uint64_t kRadixPasses = 4;

SelectPlan plan_topk(const EngineWork& work, const EngineShape& shape) {
  SelectPlan plan;
  add_scored(work, shape, plan);
  add_stash_writes(work, shape, plan);
  const std::size_t spilled = first_spilled(work, shape);
  const std::uint64_t width = shape.point.comparators;
  const std::uint64_t keys = work.own_keys() * work.heads;
  plan.preamble = CoreCycles(ceil_div(keys * (kRadixPasses - 1), width));
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    const std::uint64_t scores = std::uint64_t{work.tiles[i].rows} * work.heads;
    plan.scan.emplace_back(ceil_div(scores, width));
    at(plan.events, Event::kThresholdCompare) += scores * kRadixPasses;
    if (i < spilled) {
      at(plan.events, Event::kStashReadBits) += scores * kCodeBits * kRadixPasses;
    } else {
      for (std::uint64_t pass = 0; pass < kRadixPasses; ++pass) {
        plan.spill_reads.push_back(spill_item(work, shape, i, Part::kSpillRead));
      }
    }
  }
  for (const std::uint16_t count : work.counts) {
    if (count != 0) at(plan.events, Event::kExp) += 1;
  }
  return plan;
}

}  // namespace

const SelectStage kSelectSoftmax{"select_softmax", plan_softmax};
const SelectStage kSelectSampled{"select_sampled", plan_sampled};
const SelectStage kSelectTopK{"select_topk", plan_topk};

}  // namespace stoat::sim
