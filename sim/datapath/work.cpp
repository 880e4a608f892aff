// Sums over a share, addresses and bursts: what several stages need.
#include "sim/datapath/work.h"

#include <algorithm>

#include "models/error.h"
#include "models/sampling/ruler.h"
#include "sim/datapath/stage.h"

namespace stoat::sim {

std::uint64_t EngineShape::buffered_rows() const {
  return std::max<std::uint64_t>(1, point.row_buffer.count() / row_bytes().count());
}

std::uint64_t EngineWork::own_keys() const {
  std::uint64_t keys = 0;
  for (const OwnTile& tile : tiles) keys += tile.rows;
  return keys;
}

std::uint64_t EngineWork::row_address(std::uint64_t base, std::uint64_t place,
                                      const EngineShape& shape) const {
  if (pages != nullptr) {
    const std::uint64_t page = shape.point.page_rows;
    place = pages[place / page] * page + place % page;
  }
  return base + place * shape.row_bytes().count();
}

std::vector<std::uint8_t> EngineWork::drawn_tiles() const {
  std::vector<std::uint8_t> drawn(tiles.size() * heads, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::uint32_t head = 0; head < heads; ++head) {
      if (counts[i * heads + head] != 0) {
        drawn[std::size_t{rows[i].tile_index} * heads + head] = 1;
      }
    }
  }
  return drawn;
}

std::string_view part_name(Part part) {
  constexpr std::string_view kNames[kParts] = {"key", "value", "spill_write", "spill_read",
                                               "append"};
  return kNames[static_cast<std::size_t>(part)];
}

Stage stage_of(Part part) {
  switch (part) {
    case Part::kKey:
      return Stage::kScore;
    case Part::kValue:
      return Stage::kGather;
    case Part::kAppend:
      return Stage::kAppend;
    case Part::kSpillWrite:
    case Part::kSpillRead:
      break;
  }
  return Stage::kSelect;
}

namespace {
Event format_event(AccumulatorFormat format, Event base, Event first_other) {
  if (format == AccumulatorFormat::kFp32) return base;
  return static_cast<Event>(static_cast<std::size_t>(first_other) +
                            static_cast<std::size_t>(format) - 1);
}
}  // namespace

Event multiply_event(AccumulatorFormat format) {
  return format == AccumulatorFormat::kInt32 ? Event::kMultiplyInt8 : Event::kMultiply;
}
Event accumulate_event(AccumulatorFormat format) {
  return format_event(format, Event::kAccumulate, Event::kAccumulateBf16);
}
Event ternary_add_event(AccumulatorFormat format) {
  return format_event(format, Event::kTernaryAdd, Event::kTernaryAddBf16);
}
Event shift_add_event(AccumulatorFormat format) {
  return format_event(format, Event::kShiftAdd, Event::kShiftAddBf16);
}

std::uint64_t additions(const EventCounts& events, Stage stage) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kAccumulatorFormats; ++i) {
    const auto format = static_cast<AccumulatorFormat>(i);
    sum += events.at(stage, accumulate_event(format)) +
           events.at(stage, ternary_add_event(format)) + events.at(stage, shift_add_event(format));
  }
  return sum;
}

Fetch fetch_of(Part part, std::uint64_t address, std::uint64_t bytes, const EngineShape& shape) {
  const std::uint64_t access = shape.access.count();
  const std::uint64_t begin = address / access * access;
  const std::uint64_t end = ceil_div(address + bytes, access) * access;
  return Fetch{part, begin, Bytes(end - begin), Bytes(bytes)};
}

std::vector<Fetch> tile_fetches(Part part, std::uint64_t base, const EngineWork& work,
                                const EngineShape& shape, const OwnTile& tile) {
  const std::uint64_t first = std::uint64_t{tile.slot} * kTileRows;
  const std::uint64_t page = work.pages == nullptr ? kTileRows : shape.point.page_rows;
  std::vector<Fetch> fetches;
  for (std::uint64_t from = 0; from < tile.rows; from += page) {
    const std::uint64_t rows = std::min<std::uint64_t>(page, tile.rows - from);
    fetches.push_back(fetch_of(part, work.row_address(base, first + from, shape),
                               rows * shape.row_bytes().count(), shape));
  }
  return fetches;
}

std::vector<Fetch> key_fetches(const EngineWork& work, const EngineShape& shape,
                               const OwnTile& tile, const std::vector<std::uint8_t>* touched) {
  if (shape.point.k_layout == KLayout::kTokenMajor) {
    return tile_fetches(Part::kKey, work.key_base, work, shape, tile);
  }
  const std::uint64_t base =
      work.row_address(work.key_base, std::uint64_t{tile.slot} * kTileRows, shape);
  // Feature d of the tile's 256 rows is contiguous; neighbouring features of a full tile form one
  // run.
  const std::uint64_t element = element_bytes(shape.point.element).count();
  const std::uint64_t stride = kTileRows * element;
  std::vector<Fetch> fetches;
  std::uint32_t feature = 0;
  while (feature < shape.head_dim) {
    if (touched != nullptr && (*touched)[feature] == 0) {
      ++feature;
      continue;
    }
    std::uint32_t end = feature + 1;
    if (tile.rows == kTileRows) {
      while (end < shape.head_dim && (touched == nullptr || (*touched)[end] != 0)) ++end;
    }
    const std::uint64_t bytes = (end - feature - 1) * stride + tile.rows * element;
    fetches.push_back(fetch_of(Part::kKey, base + feature * stride, bytes, shape));
    feature = end;
  }
  return fetches;
}

// The newest row of the context was computed by this layer and is written before it is read.
// Feature-major K: one element into each feature's column, a burst each.
std::vector<Fetch> append_fetches(const EngineWork& work, const EngineShape& shape) {
  std::vector<Fetch> fetches;
  if (!shape.point.append || work.tiles.empty()) return fetches;
  const std::uint32_t row = work.context - 1;
  const OwnTile& tile = work.tiles.back();  // increasing: the newest row is in the last own tile
  if (tile.tile != row / kTileRows) return fetches;
  const std::uint64_t row_bytes = shape.row_bytes().count();
  const std::uint64_t place = std::uint64_t{tile.slot} * kTileRows + row % kTileRows;
  if (shape.point.k_layout == KLayout::kTokenMajor) {
    fetches.push_back(
        fetch_of(Part::kAppend, work.row_address(work.key_base, place, shape), row_bytes, shape));
  } else {
    const std::uint64_t element = element_bytes(shape.point.element).count();
    const std::uint64_t base =
        work.row_address(work.key_base, std::uint64_t{tile.slot} * kTileRows, shape) +
        row % kTileRows * element;
    for (std::uint32_t d = 0; d < shape.head_dim; ++d) {
      fetches.push_back(fetch_of(Part::kAppend, base + d * kTileRows * element, element, shape));
    }
  }
  fetches.push_back(
      fetch_of(Part::kAppend, work.row_address(work.value_base, place, shape), row_bytes, shape));
  return fetches;
}

}  // namespace stoat::sim
