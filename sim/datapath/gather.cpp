// Gather stages: every row times its probability, sampled rows by addition, and selected rows times
// their weights.
//
// Lanes keep 16 elements of the accumulators for the rows in the row buffer, so accumulators are
// loaded and stored once a block of rows and head. Partial outputs of a KV head's engines are
// merged slice by slice.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "models/error.h"
#include "models/sampling/ruler.h"
#include "sim/datapath/stage.h"

namespace stoat::sim {
namespace {

// Loading and storing a head's accumulators once a block.
std::uint64_t block_bits(std::uint64_t blocks, AccumulatorFormat format, const EngineShape& shape) {
  return blocks * 2 * accumulator_bits(format) * shape.head_dim;
}

// Merging the partial outputs: every engine adds up its slice of the outputs from all engines that
// have tiles. `weighted`: each partial has its own scale, as in split softmax.
void add_merge(const EngineWork& work, const EngineShape& shape, std::uint64_t lanes, bool weighted,
               bool normalised, AccumulatorFormat format, StagePlan& plan) {
  const std::uint64_t outputs = std::uint64_t{shape.head_dim} * work.heads;
  const std::uint64_t slice =
      outputs * (work.engine + 1) / shape.engines - outputs * work.engine / shape.engines;
  const std::uint64_t others = work.active_engines - 1;
  if (weighted && others > 0 && !work.tiles.empty()) at(plan.events, Event::kScale) += outputs;
  at(plan.events, accumulate_event(format)) += slice * others;
  if (normalised) at(plan.events, Event::kScale) += slice;
  plan.merge = CoreCycles(ceil_div(slice * (others + (normalised ? 1 : 0)), lanes));
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
    WorkItem item;
    item.tile_index = static_cast<std::uint32_t>(i);
    item.rows = tile.rows;
    item.logical_rows = std::uint64_t{tile.rows} * work.heads;
    item.fetches = tile_fetches(Part::kValue, work.value_base, work, shape, tile);
    item.busy = CoreCycles(ceil_div(tile.rows * per_row, lanes));
    item.tail = CoreCycles(std::min(ceil_div(burst, lanes), item.busy.count()));
    at(plan.events, multiply_event(format)) += tile.rows * per_row;
    at(plan.events, accumulate_event(format)) += tile.rows * per_row;
    for (const Fetch& fetch : item.fetches) {
      at(plan.events, Event::kRowBufferWriteBits) += fetch.size.count() * 8;
      at(plan.events, Event::kRowBufferReadBits) += fetch.requested.count() * 8;
    }
    at(plan.events, Event::kAccumulatorBits) +=
        block_bits(ceil_div(tile.rows, shape.buffered_rows()) * work.heads, format, shape);
    plan.items.push_back(std::move(item));
  }
  add_merge(work, shape, lanes, true, true, format, plan);
  return plan;
}

// Lane passes over a row drawn `count` times, and its events. A pass handles head_dim elements.
std::uint64_t add_row(std::uint16_t count, Repeats repeats, AccumulatorFormat format,
                      std::uint64_t head_dim, StageEvents& events) {
  switch (repeats) {
    case Repeats::kAdds:
      at(events, accumulate_event(format)) += count * head_dim;
      return count;
    case Repeats::kShiftAdds: {  // one addition a set bit of the count; bit 0 needs no shift
      const auto bits = static_cast<std::uint64_t>(std::popcount(count));
      const std::uint64_t plain = count & 1U;
      at(events, accumulate_event(format)) += plain * head_dim;
      at(events, shift_add_event(format)) += (bits - plain) * head_dim;
      return bits;
    }
    case Repeats::kMultiply:
      if (count > 1) at(events, multiply_event(format)) += head_dim;
      at(events, accumulate_event(format)) += head_dim;
      return 1;
  }
  throw Bug("unknown way to treat repeated rows");
}

struct RowWalk {
  std::uint64_t uses = 0;    // (row, head) pairs
  std::uint64_t blocks = 0;  // (row buffer fill, head) pairs with a use
};

// One item a selected row; `passes(count)` adds the events of one head's use and returns its passes
// over head_dim.
template <class Passes>
RowWalk plan_rows(const EngineWork& work, const EngineShape& shape, std::uint64_t lanes,
                  AccumulatorFormat format, StagePlan& plan, Passes passes) {
  const std::uint64_t row_bytes = shape.row_bytes().count();
  RowWalk walk;
  std::vector<std::uint64_t> block_of_head(work.heads, ~std::uint64_t{0});
  for (std::size_t i = 0; i < work.rows.size(); ++i) {
    const OwnRow& row = work.rows[i];
    const OwnTile& tile = work.tiles[row.tile_index];
    WorkItem item;
    item.tile_index = row.tile_index;
    item.rows = 1;
    const std::uint64_t place = std::uint64_t{tile.slot} * kTileRows + row.row % kTileRows;
    item.fetches = {
        fetch_of(Part::kValue, work.row_address(work.value_base, place, shape), row_bytes, shape)};
    std::uint64_t all_passes = 0;
    for (std::uint32_t head = 0; head < work.heads; ++head) {
      const std::uint16_t count = work.counts[i * work.heads + head];
      if (count == 0) continue;
      ++item.logical_rows;
      all_passes += passes(count);
      const std::uint64_t block = i / shape.buffered_rows();
      if (block_of_head[head] != block) ++walk.blocks;
      block_of_head[head] = block;
    }
    walk.uses += item.logical_rows;
    const std::uint64_t elements = all_passes * shape.head_dim;
    item.busy = CoreCycles(ceil_div(elements, lanes));
    const std::uint64_t bursts = item.fetches[0].size.count() / shape.access.count();
    item.tail = CoreCycles(ceil_div(ceil_div(elements, bursts), lanes));
    at(plan.events, Event::kRowBufferWriteBits) += item.fetches[0].size.count() * 8;
    plan.items.push_back(std::move(item));
  }
  at(plan.events, Event::kRowBufferReadBits) += walk.uses * row_bytes * 8;
  at(plan.events, Event::kAccumulatorBits) += block_bits(walk.blocks, format, shape);
  return walk;
}

StagePlan plan_add(const EngineWork& work, const EngineShape& shape) {
  StagePlan plan;
  const std::uint64_t lanes = shape.point.gather_add_lanes;
  const AccumulatorFormat format = shape.point.gather_add_accumulator;
  plan_rows(work, shape, lanes, format, plan, [&](std::uint16_t count) {
    return add_row(count, shape.point.repeats, format, shape.head_dim, plan.events);
  });
  if (work.method == Method::kFlash) {
    // Deferred rescaling: a tile's mean is weighted by its mass before it joins the output.
    const std::vector<std::uint8_t> drawn = work.drawn_tiles();
    const auto tiles = static_cast<std::uint64_t>(std::count(drawn.begin(), drawn.end(), 1));
    at(plan.events, Event::kScale) += tiles * shape.head_dim;
    at(plan.events, accumulate_event(format)) += tiles * shape.head_dim;
  }
  // 1/S is a shift when S is a power of two; the scale of int8 elements is not.
  const bool shifts = work.method != Method::kFlash && std::has_single_bit(work.budget) &&
                      shape.point.element != KvElement::kInt8;
  add_merge(work, shape, lanes, false, !shifts, format, plan);
  return plan;
}

StagePlan plan_weighted(const EngineWork& work, const EngineShape& shape) {
  StagePlan plan;
  const std::uint64_t lanes = shape.point.dense_lanes;
  const AccumulatorFormat format = shape.point.dense_accumulator;
  plan_rows(work, shape, lanes, format, plan, [&](std::uint16_t) {
    at(plan.events, multiply_event(format)) += shape.head_dim;
    at(plan.events, accumulate_event(format)) += shape.head_dim;
    return std::uint64_t{1};
  });
  add_merge(work, shape, lanes, false, true, format, plan);
  return plan;
}

std::uint32_t dense_lanes(const DesignPoint& point) { return point.dense_lanes; }
std::uint32_t add_lanes(const DesignPoint& point) { return point.gather_add_lanes; }

}  // namespace

const GatherStage kGatherMac{"gather_mac", plan_mac, dense_lanes, true, false};
const GatherStage kGatherAdd{"gather_add", plan_add, add_lanes, false, true};
const GatherStage kGatherWeighted{"gather_weighted", plan_weighted, dense_lanes, true, true};

}  // namespace stoat::sim
