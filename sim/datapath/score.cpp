// Score stages: q.K by multiply-accumulate, and by sign-and-add of the touched features of a
// ternary query.
//
// Lanes hold 16 features of the query for every row in the row buffer, so the query buffer is read
// once a block of rows. Partial sums stay in lane registers, except with K feature-major, where 256
// rows x heads of them live in the accumulator memory and are loaded and stored once a block of
// features. fp8 elements are widened to bf16 (exact); int8 ones carry one scale a KV head, folded
// into the query.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "models/error.h"
#include "models/sampling/ruler.h"
#include "sim/datapath/stage.h"

namespace stoat::sim {
namespace {

// Query and partial-sum traffic of one tile. query_bits: of one feature of one head.
std::uint64_t operand_bits(const EngineWork& work, const EngineShape& shape, const OwnTile& tile,
                           std::uint64_t features, std::uint64_t query_bits,
                           AccumulatorFormat format) {
  if (shape.point.k_layout == KLayout::kTokenMajor) {
    return ceil_div(tile.rows, shape.buffered_rows()) * features * work.heads * query_bits;
  }
  const std::uint64_t column = kTileRows * element_bytes(shape.point.element).count();
  const std::uint64_t block = std::max<std::uint64_t>(1, shape.point.row_buffer.count() / column);
  return features * work.heads * query_bits +
         ceil_div(features, block) * 2 * accumulator_bits(format) * tile.rows * work.heads;
}

// `passes`: how often the lanes read what came in.
void add_fetched(StagePlan& plan, const WorkItem& item, std::uint64_t passes = 1) {
  for (const Fetch& fetch : item.fetches) {
    at(plan.events, Event::kRowBufferWriteBits) += fetch.size.count() * 8;
    at(plan.events, Event::kRowBufferReadBits) += passes * fetch.requested.count() * 8;
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
  const AccumulatorFormat format = shape.point.dense_accumulator;
  const std::uint64_t per_row = std::uint64_t{shape.head_dim} * work.heads;
  const std::uint64_t burst =
      shape.access.count() / element_bytes(shape.point.element).count() * work.heads;
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    const OwnTile& tile = work.tiles[i];
    WorkItem item = key_item(work, i);
    item.fetches = key_fetches(work, shape, tile, nullptr);
    item.busy = CoreCycles(ceil_div(tile.rows * per_row, lanes));
    item.tail = CoreCycles(std::min(ceil_div(burst, lanes), item.busy.count()));
    at(plan.events, multiply_event(format)) += tile.rows * per_row;
    at(plan.events, accumulate_event(format)) += tile.rows * per_row;
    at(plan.events, Event::kAccumulatorBits) +=
        operand_bits(work, shape, tile, shape.head_dim, kQueryWidth, format);
    add_fetched(plan, item);
    plan.items.push_back(std::move(item));
  }
  at(plan.events, Event::kAccumulatorBits) += per_row * kQueryWidth;  // the query arrives
  // log2(e)/sqrt(d) is folded into the query once a head.
  if (work.first_engine()) at(plan.events, Event::kScale) += per_row;
  return plan;
}

// What a key costs the lanes of a head, in one of four ways. group-mean draws reweigh each touched
// feature, so nothing is saved; draws of a feature share its sign, so they merge to a count.
struct TernaryWays {
  bool multiplies = false;  // on the dense lanes
  bool merged = false;
  TernaryWays(const TernaryShare& ternary, const DesignPoint& point) {
    const bool reweighted = ternary.options.coupling == TernaryCoupling::kGroupMean;
    merged =
        !reweighted && ternary.options.draws > 1 && point.ternary_draws != TernaryDraws::kPasses;
    multiplies = reweighted || (merged && point.ternary_draws == TernaryDraws::kMergedMultiply);
  }
  std::uint64_t operations(const TernaryShare& ternary, std::uint32_t head) const {
    if (multiplies) return ternary.touched[head];
    return merged ? ternary.plain_bits[head] + ternary.shifted_bits[head] : ternary.touches[head];
  }
};

// What is left of multiplication besides folding: one a key and head unless c and B are powers of
// two.
void ternary_operations(const EngineWork& work, const EngineShape& shape, const TernaryWays& ways,
                        std::uint64_t rows, StageEvents& events) {
  const TernaryShare& ternary = *work.ternary;
  const AccumulatorFormat format =
      ways.multiplies ? shape.point.dense_accumulator : shape.point.ternary_accumulator;
  for (std::uint32_t head = 0; head < work.heads; ++head) {
    if (ways.multiplies) {
      at(events, multiply_event(format)) += rows * ternary.touched[head];
      at(events, accumulate_event(format)) += rows * ternary.touched[head];
    } else if (ways.merged) {
      at(events, ternary_add_event(format)) += rows * ternary.plain_bits[head];
      at(events, shift_add_event(format)) += rows * ternary.shifted_bits[head];
    } else {
      at(events, ternary_add_event(format)) += rows * ternary.touches[head];
    }
  }
  if (ternary.options.normaliser == TernaryNormaliser::kMax ||
      !std::has_single_bit(ternary.options.draws)) {
    at(events, Event::kScale) += rows * work.heads;
  }
}

// Folding, c = max|q|, and B uniforms and thresholds a feature: of each head, or one for the group.
void ternary_query(const EngineWork& work, const EngineShape& shape, StageEvents& events) {
  const TernaryShare& ternary = *work.ternary;
  const std::uint64_t heads =
      ternary.options.coupling == TernaryCoupling::kIndependent ? work.heads : 1;
  const bool shared = ternary.options.coupling == TernaryCoupling::kGroupMean;
  const std::uint64_t draws = std::uint64_t{ternary.options.draws} * shape.head_dim;
  at(events, Event::kScale) += std::uint64_t{shape.head_dim} * work.heads;
  at(events, Event::kRandomDraw) += draws * heads;
  at(events, Event::kThresholdCompare) += draws * (shared ? 1 : work.heads);
  at(events, Event::kMaxCompare) += std::uint64_t{shape.head_dim} * work.heads;
}

StagePlan plan_ternary(const EngineWork& work, const EngineShape& shape) {
  STOAT_ENSURE(work.ternary != nullptr, "the ternary score stage has no key draws");
  const TernaryShare& ternary = *work.ternary;
  StagePlan plan;
  const TernaryWays ways(ternary, shape.point);
  const std::uint64_t lanes = ways.multiplies ? shape.point.dense_lanes : shape.point.ternary_lanes;
  std::uint64_t per_row = 0;
  for (std::uint32_t head = 0; head < work.heads; ++head) per_row += ways.operations(ternary, head);
  // A feature of the query: a real weight, a count with its sign, or B bits and a sign.
  std::uint64_t query_bits = ternary.options.draws + 1;
  if (ternary.options.coupling == TernaryCoupling::kGroupMean) {
    query_bits = kQueryWidth;
  } else if (ways.merged) {
    query_bits = static_cast<std::uint64_t>(std::bit_width(ternary.options.draws)) + 1;
  }
  const std::uint64_t passes = ways.merged || ways.multiplies ? 1 : ternary.options.draws;
  const std::uint64_t features =
      shape.point.k_layout == KLayout::kFeatureMajor ? ternary.union_size : shape.head_dim;
  const std::uint64_t bursts_a_row = ceil_div(shape.row_bytes().count(), shape.access.count());
  const AccumulatorFormat format =
      ways.multiplies ? shape.point.dense_accumulator : shape.point.ternary_accumulator;
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    const OwnTile& tile = work.tiles[i];
    WorkItem item = key_item(work, i);
    item.fetches = key_fetches(work, shape, tile, &ternary.in_union);
    item.busy = CoreCycles(ceil_div(tile.rows * per_row, lanes));
    item.tail =
        CoreCycles(std::min(ceil_div(ceil_div(per_row, bursts_a_row), lanes), item.busy.count()));
    ternary_operations(work, shape, ways, tile.rows, plan.events);
    at(plan.events, Event::kAccumulatorBits) +=
        operand_bits(work, shape, tile, features, query_bits, format);
    add_fetched(plan, item, passes);
    plan.items.push_back(std::move(item));
  }
  at(plan.events, Event::kAccumulatorBits) +=
      std::uint64_t{shape.head_dim} * work.heads * query_bits;
  if (work.first_engine()) ternary_query(work, shape, plan.events);
  return plan;
}

std::uint32_t dense_lanes(const DesignPoint& point) { return point.dense_lanes; }
std::uint32_t ternary_lanes(const DesignPoint& point) { return point.ternary_lanes; }

}  // namespace

const ScoreStage kScoreMac{"score_mac", plan_mac, dense_lanes};
const ScoreStage kScoreTernary{"score_ternary", plan_ternary, ternary_lanes};

}  // namespace stoat::sim
