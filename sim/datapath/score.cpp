// Score stages: q.K by multiply-accumulate, and by sign-and-add of the touched features of a
// ternary query.
//
// Lanes hold 16 features of the query for every row in the row buffer, so the query buffer is read
// once a block of rows. Partial sums stay in lane registers, except with K feature-major, where 256
// rows x heads of them live in the accumulator memory and are loaded and stored once a block of
// features.
#include <algorithm>
#include <cstdint>

#include "models/error.h"
#include "models/sampling/ruler.h"
#include "sim/datapath/stage.h"

namespace stoat::sim {
namespace {

// Query and partial-sum traffic of one tile. query_bits: of one feature of one head.
std::uint64_t operand_bits(const EngineWork& work, const EngineShape& shape, const OwnTile& tile,
                           std::uint64_t features, std::uint64_t query_bits) {
  if (shape.point.k_layout == KLayout::kTokenMajor) {
    return ceil_div(tile.rows, shape.buffered_rows()) * features * work.heads * query_bits;
  }
  const std::uint64_t column = kTileRows * element_bytes(shape.point.element).count();
  const std::uint64_t block = std::max<std::uint64_t>(1, shape.point.row_buffer.count() / column);
  return features * work.heads * query_bits +
         ceil_div(features, block) * 2 * kAccumulatorWidth * tile.rows * work.heads;
}

void add_fetched(StagePlan& plan, const WorkItem& item) {
  for (const Fetch& fetch : item.fetches) {
    at(plan.events, Event::kRowBufferWriteBits) += fetch.size.count() * 8;
    at(plan.events, Event::kRowBufferReadBits) += fetch.requested.count() * 8;
  }
}

WorkItem key_item(const EngineWork& work, std::size_t index) {
  WorkItem item;
  item.tile_index = static_cast<std::uint32_t>(index);
  item.rows = work.tiles[index].rows;
  item.logical_rows = std::uint64_t{work.tiles[index].rows} * work.heads;
  return item;
}

StagePlan plan_mac(const EngineWork& work, const EngineShape& shape) {
  StagePlan plan;
  const std::uint64_t lanes = shape.point.dense_lanes;
  const std::uint64_t per_row = std::uint64_t{shape.head_dim} * work.heads;
  const std::uint64_t burst =
      shape.access.count() / element_bytes(shape.point.element).count() * work.heads;
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    const OwnTile& tile = work.tiles[i];
    WorkItem item = key_item(work, i);
    item.fetches = key_fetches(work, shape, tile, nullptr);
    item.busy = CoreCycles(ceil_div(tile.rows * per_row, lanes));
    item.tail = CoreCycles(std::min(ceil_div(burst, lanes), item.busy.count()));
    at(plan.events, Event::kMultiply) += tile.rows * per_row;
    at(plan.events, Event::kAccumulate) += tile.rows * per_row;
    at(plan.events, Event::kAccumulatorBits) +=
        operand_bits(work, shape, tile, shape.head_dim, kQueryWidth);
    add_fetched(plan, item);
    plan.items.push_back(std::move(item));
  }
  at(plan.events, Event::kAccumulatorBits) += per_row * kQueryWidth;  // the query arrives
  // log2(e)/sqrt(d) is folded into the query once a head.
  if (work.first_engine()) at(plan.events, Event::kScale) += per_row;
  return plan;
}

bool power_of_two(std::uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

// What is left of multiplication besides folding: one a key and head unless c and B are powers of
// two; with group-mean draws each touched feature is reweighted, so nothing is saved.
void ternary_operations(const EngineWork& work, const TernaryShare& ternary, std::uint64_t rows,
                        StageEvents& events) {
  const bool reweighted = ternary.options.coupling == TernaryCoupling::kGroupMean;
  for (std::uint32_t head = 0; head < work.heads; ++head) {
    if (reweighted) {
      at(events, Event::kMultiply) += rows * ternary.touched[head];
      at(events, Event::kAccumulate) += rows * ternary.touched[head];
    } else {
      at(events, Event::kTernaryAdd) += rows * ternary.touches[head];
    }
  }
  if (ternary.options.normaliser == TernaryNormaliser::kMax ||
      !power_of_two(ternary.options.draws)) {
    at(events, Event::kScale) += rows * work.heads;
  }
}

StagePlan plan_ternary(const EngineWork& work, const EngineShape& shape) {
  STOAT_ENSURE(work.ternary != nullptr, "the ternary score stage has no key draws");
  const TernaryShare& ternary = *work.ternary;
  StagePlan plan;
  const bool reweighted = ternary.options.coupling == TernaryCoupling::kGroupMean;
  const std::uint64_t lanes = reweighted ? shape.point.dense_lanes : shape.point.ternary_lanes;
  std::uint64_t per_row = 0;
  for (std::uint32_t head = 0; head < work.heads; ++head) {
    per_row += reweighted ? ternary.touched[head] : ternary.touches[head];
  }
  const std::uint64_t query_bits = reweighted ? kQueryWidth : ternary.options.draws + 1;
  const std::uint64_t features =
      shape.point.k_layout == KLayout::kFeatureMajor ? ternary.union_size : shape.head_dim;
  const std::uint64_t bursts_a_row = ceil_div(shape.row_bytes().count(), shape.access.count());
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    const OwnTile& tile = work.tiles[i];
    WorkItem item = key_item(work, i);
    item.fetches = key_fetches(work, shape, tile, &ternary.in_union);
    item.busy = CoreCycles(ceil_div(tile.rows * per_row, lanes));
    item.tail =
        CoreCycles(std::min(ceil_div(ceil_div(per_row, bursts_a_row), lanes), item.busy.count()));
    ternary_operations(work, ternary, tile.rows, plan.events);
    at(plan.events, Event::kAccumulatorBits) +=
        operand_bits(work, shape, tile, features, query_bits);
    add_fetched(plan, item);
    plan.items.push_back(std::move(item));
  }
  at(plan.events, Event::kAccumulatorBits) +=
      std::uint64_t{shape.head_dim} * work.heads * query_bits;
  if (work.first_engine()) {
    // Folding, then B uniforms and thresholds a feature: of each head, or one for the group.
    const std::uint64_t heads =
        ternary.options.coupling == TernaryCoupling::kIndependent ? work.heads : 1;
    const std::uint64_t draws = std::uint64_t{ternary.options.draws} * shape.head_dim;
    at(plan.events, Event::kScale) += std::uint64_t{shape.head_dim} * work.heads;
    at(plan.events, Event::kRandomDraw) += draws * heads;
    at(plan.events, Event::kThresholdCompare) += draws * (reweighted ? 1 : work.heads);
    at(plan.events, Event::kMaxCompare) +=
        std::uint64_t{shape.head_dim} * work.heads;  // c = max|q|
  }
  return plan;
}

std::uint32_t dense_lanes(const DesignPoint& point) { return point.dense_lanes; }
std::uint32_t ternary_lanes(const DesignPoint& point) { return point.ternary_lanes; }

}  // namespace

const ScoreStage kScoreMac{"score_mac", plan_mac, dense_lanes};
const ScoreStage kScoreTernary{"score_ternary", plan_ternary, ternary_lanes};

}  // namespace stoat::sim
