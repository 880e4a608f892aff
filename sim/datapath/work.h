// One engine's share of one layer step: what its stages are asked to do. Plain numbers; no time, no
// memory model.
//
// An engine belongs to one KV head and owns some of its 256-row tiles. Its share holds the tiles,
// the rows that any query head of the group selected in them (each once: the union), and how often
// each head drew each of them.
#pragma once

#include <cstdint>
#include <vector>

#include "models/sampling/selection.h"
#include "models/sampling/ternary.h"
#include "models/units.h"
#include "sim/design_point.h"

namespace stoat::sim {

// What all shares of a run have in common.
struct EngineShape {
  DesignPoint point;
  std::uint32_t head_dim = 0;
  std::uint32_t engines = 0;  // of a KV head that work
  std::uint32_t stride = 0;   // of a KV head that the memory allows: head h starts at h * stride
  Bytes access{0};            // of the memory: bytes of one burst
  Bytes row_bytes() const { return element_bytes(point.element) * head_dim; }
  // Rows of one KV head that the row buffer holds, at least 1.
  std::uint64_t buffered_rows() const;
};

struct OwnTile {
  std::uint32_t tile = 0;  // of the sequence
  std::uint32_t slot = 0;  // of this engine's memory
  std::uint32_t rows = 0;  // 256, fewer in the last one
};

struct OwnRow {
  std::uint32_t row = 0;         // of the sequence
  std::uint32_t tile_index = 0;  // into EngineWork::tiles
};

// Features that a ternary query touches, of the whole group.
struct TernaryShare {
  TernaryOptions options;
  std::vector<std::uint32_t> touched;  // [heads] features touched by any draw of the head
  std::vector<std::uint64_t> touches;  // [heads] summed over draws: additions a key
  // The same draws merged to a count a feature: one addition a set bit of the count.
  std::vector<std::uint64_t> plain_bits, shifted_bits;  // [heads] bit 0 of the counts, and the rest
  std::vector<std::uint8_t> in_union;                   // [head_dim] 1 = touched by any head
  std::uint32_t union_size = 0;
};

struct EngineWork {
  std::uint32_t context = 0;         // rows of the whole sequence
  std::uint32_t heads = 0;           // query heads of the group
  Method method = Method::kDense;    // that selected the rows
  std::uint32_t budget = 0;          // S
  std::uint32_t engine = 0;          // of its KV head; engine 0 does what is done once a head
  std::uint32_t active_engines = 1;  // of the KV head, those with tiles
  std::vector<OwnTile> tiles;
  std::vector<OwnRow> rows;           // increasing
  std::vector<std::uint16_t> counts;  // [rows, heads], 0 = this head did not draw it
  const TernaryShare* ternary = nullptr;
  std::uint64_t key_base = 0, value_base = 0,
                spill_base = 0;  // byte addresses in the engine's pseudo-channel
  // The page that holds the rows [i * page_rows, ...) of this engine's part of the sequence, from
  // key_base or value_base on; null: they lie in one piece.
  const std::uint32_t* pages = nullptr;  // [pages]

  bool first_engine() const { return engine == 0; }
  std::uint64_t own_keys() const;
  // Where a row lies; `place` counts the engine's rows: slot x 256 + row of the tile.
  std::uint64_t row_address(std::uint64_t base, std::uint64_t place,
                            const EngineShape& shape) const;
  // Does any query head / this head select in this own tile?  [tiles, heads]
  std::vector<std::uint8_t> drawn_tiles() const;
};

}  // namespace stoat::sim
