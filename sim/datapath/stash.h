// Scores at rest: 16-bit codes in the stash, and behind it in DRAM. What select stages share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sim/datapath/stage.h"

namespace stoat::sim {

// Bytes of a tile's codes.
std::uint64_t code_bytes(const OwnTile& tile, std::uint32_t heads);
// First own tile whose codes do not fit the stash.
std::size_t first_spilled(const EngineWork& work, const EngineShape& shape);
// The transfer of a tile's codes to (kSpillWrite) or from (kSpillRead) DRAM.
WorkItem spill_item(const EngineWork& work, const EngineShape& shape, std::size_t index, Part part);
void add_stash_writes(const EngineWork& work, const EngineShape& shape, SelectPlan& plan);
// Compare-and-exchange operations of a bitonic sorting network of n values, n padded to a power of
// two: n/2 * L (L + 1) / 2 with L = log2 n (Batcher 1968).
std::uint64_t sorting_compares(std::uint64_t n);

}  // namespace stoat::sim
