// Exact top-k, the deterministic rival, with one of three units. Each keeps k candidates a head;
// after all scores came in, a head's engines merge their candidates.
//
// radix    codes go to the stash and are read four times, four bits a pass, then winners are known.
// heap     each score is compared with the smallest of k in a heap as it comes in; the few that are
//          larger replace it and sink. How many do: k (H(n) - H(k)) for scores in random order
//          (H: harmonic numbers); sinks and recency make it fewer or more. No score is stored.
// bitonic  k scores at a time are sorted, the better halves of them and of the best k so far kept
// and
//          merged (Batcher 1968). No score is stored.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "sim/datapath/stage.h"
#include "sim/datapath/stash.h"

namespace stoat::sim {
namespace {

constexpr std::uint64_t kRadixPasses = 4;
constexpr std::uint64_t kEntryBits = kCodeBits + 32;  // a candidate: score and row

SelectPlan plan_radix(const EngineWork& work, const EngineShape& shape) {
  SelectPlan plan;
  add_stash_writes(work, shape, plan);
  const std::size_t spilled = first_spilled(work, shape);
  const std::uint64_t width = shape.point.comparators;
  const std::uint64_t keys = work.own_keys() * work.heads;
  plan.preamble = CoreCycles(ceil_div(keys * (kRadixPasses - 1), width));
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    const std::uint64_t scores = std::uint64_t{work.tiles[i].rows} * work.heads;
    plan.scored.emplace_back(ceil_div(scores, shape.point.exp_lanes));
    plan.scan.emplace_back(ceil_div(scores, width));
    at(plan.events, Event::kMaxCompare) += scores;  // codes count from the tile's maximum
    at(plan.events, Event::kThresholdCompare) += scores * kRadixPasses;
    if (i < spilled) {
      at(plan.events, Event::kStashReadBits) += scores * kCodeBits * kRadixPasses;
    } else {
      for (std::uint64_t pass = 0; pass < kRadixPasses; ++pass) {
        plan.spill_reads.push_back(spill_item(work, shape, i, Part::kSpillRead));
      }
    }
  }
  return plan;
}

double harmonic(std::uint64_t n) {
  if (n == 0) return 0;
  const auto x = static_cast<double>(n);
  return std::log(x) + 0.57721566490153286 + 1 / (2 * x) - 1 / (12 * x * x);
}

// Replacements in a heap of k after n scores in random order; the first k fill it.
std::uint64_t heap_inserts(std::uint64_t n, std::uint64_t k) {
  if (n <= k) return n;
  const double replaced = static_cast<double>(k) * (harmonic(n) - harmonic(k));
  return k + static_cast<std::uint64_t>(std::llround(replaced));
}

// Comparisons with the roots go `comparators` wide; a replacement sinks through a pipelined heap,
// one a cycle and head.
void rank_in_heap(const EngineWork& work, const EngineShape& shape, SelectPlan& plan) {
  const std::uint64_t k = std::max<std::uint32_t>(work.budget, 1);
  const auto levels = static_cast<std::uint64_t>(std::bit_width(k));
  std::uint64_t seen = 0;
  for (const OwnTile& tile : work.tiles) {
    const std::uint64_t inserts = heap_inserts(seen + tile.rows, k) - heap_inserts(seen, k);
    seen += tile.rows;
    const std::uint64_t compares = std::uint64_t{tile.rows} * work.heads;
    plan.ranked.emplace_back(ceil_div(compares, shape.point.comparators) + inserts);
    at(plan.events, Event::kThresholdCompare) += compares + 2 * levels * inserts * work.heads;
    at(plan.events, Event::kStashReadBits) += 2 * levels * inserts * work.heads * kEntryBits;
    at(plan.events, Event::kStashWriteBits) += levels * inserts * work.heads * kEntryBits;
  }
}

void rank_in_network(const EngineWork& work, const EngineShape& shape, SelectPlan& plan) {
  const std::uint64_t k = std::bit_ceil(std::max<std::uint64_t>(work.budget, 2));
  const auto levels = static_cast<std::uint64_t>(std::bit_width(k) - 1);
  const std::uint64_t chunk = sorting_compares(k) + k + k / 2 * levels;  // sort, keep, merge
  std::uint64_t seen = 0;
  for (const OwnTile& tile : work.tiles) {
    const std::uint64_t chunks = ceil_div(seen + tile.rows, k) - ceil_div(seen, k);
    seen += tile.rows;
    const std::uint64_t compares = chunks * chunk * work.heads;
    plan.ranked.emplace_back(ceil_div(compares, shape.point.comparators));
    at(plan.events, Event::kThresholdCompare) += compares;
    at(plan.events, Event::kStashReadBits) += chunks * k * work.heads * kEntryBits;
    at(plan.events, Event::kStashWriteBits) += chunks * k * work.heads * kEntryBits;
  }
}

SelectPlan plan_streaming(const EngineWork& work, const EngineShape& shape) {
  SelectPlan plan;
  plan.scored.assign(work.tiles.size(), CoreCycles(0));
  plan.scan.assign(work.tiles.size(), CoreCycles(0));
  if (shape.point.topk == TopKUnit::kHeap) {
    rank_in_heap(work, shape, plan);
  } else {
    rank_in_network(work, shape, plan);
  }
  // Every engine merges the sorted candidates of all of its head.
  const std::uint64_t candidates =
      std::min<std::uint64_t>(work.budget, work.context) * work.active_engines * work.heads;
  plan.preamble = CoreCycles(ceil_div(candidates, shape.point.comparators));
  at(plan.events, Event::kThresholdCompare) += candidates;
  return plan;
}

SelectPlan plan_topk(const EngineWork& work, const EngineShape& shape) {
  SelectPlan plan =
      shape.point.topk == TopKUnit::kRadix ? plan_radix(work, shape) : plan_streaming(work, shape);
  for (const std::uint16_t count : work.counts) {  // the winners' weights
    if (count != 0) at(plan.events, Event::kExp) += 1;
  }
  return plan;
}

}  // namespace

const SelectStage kSelectTopK{"select_topk", plan_topk};

}  // namespace stoat::sim
