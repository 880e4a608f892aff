// Indices that cannot be mixed: layer, query head, KV head, row of the KV cache, tile of 256 rows,
// decode step.
#pragma once

#include <compare>
#include <cstdint>

namespace stoat {

template <class Tag, class T = std::uint32_t>
struct Id {
  T value = 0;
  constexpr Id() = default;
  constexpr explicit Id(T v) : value(v) {}
  friend constexpr auto operator<=>(Id, Id) = default;
};

using LayerId = Id<struct LayerTag, std::uint16_t>;
using QueryHeadId = Id<struct QueryHeadTag, std::uint16_t>;
using KvHeadId = Id<struct KvHeadTag, std::uint16_t>;
using SequenceId = Id<struct SequenceTag>;
using RowId = Id<struct RowTag>;    // token position in the KV cache
using TileId = Id<struct TileTag>;  // row / 256
using StepId = Id<struct StepTag>;  // decode step, from 0

}  // namespace stoat
