// The way of the score pass through a launch: which tiles a block takes, and when it may begin.
// Device only, included by score.cu.
#pragma once

#include <cstdint>

#include "gpu/attention/handover.cuh"
#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

// What a block needs to know of a tile.
struct alignas(16) TilePlace {
  const void* keys;    // its first row; of pages: row 0 of its KV head in the pool's first page
  std::uint32_t rows;  // of the sequence from its first row on; 0: the launch has no such tile
  std::uint32_t tile;  // of the sequence
  std::uint32_t sequence;
  std::uint32_t head;        // first of the group, counted through the batch
  std::uint32_t slot;        // of that head's results, in tiles
  std::uint32_t code_slot;   // of its codes
  std::uint32_t first_page;  // of the sequence, in DecodeParams::indices
};

// Where tile `index` of the launch lies: sequence after sequence, of each the tiles of the same
// rows of all KV heads, then those of the next rows. Indices only grow.
struct TileWalk {
  const LaunchArguments& a;
  const std::uint32_t* contexts;  // [batch] in shared memory
  std::uint32_t sequence = 0,
                first = 0;  // index of its first tile; sequence == batch: past the end

  __device__ __forceinline__ TilePlace move_to(std::uint32_t index) {
    const DecodeParams& p = a.params;
    TilePlace place = {};
    for (; sequence < p.batch; ++sequence) {
      const std::uint32_t tiles = (contexts[sequence] + kTileRows - 1) / kTileRows * p.kv_heads;
      if (index - first < tiles) break;
      first += tiles;
    }
    if (sequence == p.batch) return place;
    const std::uint32_t kv_head = (index - first) % p.kv_heads, group = p.q_heads / p.kv_heads;
    place.sequence = sequence;
    place.tile = (index - first) / p.kv_heads;
    place.rows = contexts[sequence] - place.tile * kTileRows;
    place.head = sequence * p.q_heads + kv_head * group;
    place.slot = place.head * a.tiles_capacity + place.tile;
    place.code_slot =
        (code_place(a, sequence) * p.q_heads + kv_head * group) * a.tiles_capacity + place.tile;
    const std::size_t rows = p.page_size == 0 ? p.kv_capacity : p.page_size;
    std::size_t element =
        kv_head * (p.kv_layout == KvLayout::kNhd ? p.head_dim : rows * p.head_dim);
    if (p.page_size == 0) {
      element += sequence * a.page_stride +
                 static_cast<std::size_t>(place.tile) * kTileRows * a.row_stride;
    } else {
      place.first_page = static_cast<std::uint32_t>(p.indptr[sequence]);
    }
    place.keys = static_cast<const std::uint16_t*>(p.k) + element;
    return place;
  }
};

// Hands out the tiles: the first two of a block by its number, then who comes first. One thread of
// a block asks, ahead of the copies, and once more than it gets: after so many asks the counter is
// 0 again. Nobody asks where the first two are all.
struct TileCounter {
  std::uint32_t* counter;
  std::uint32_t tiles = 0;  // of the launch
  // The last one given, less `given`: as it comes, so that nobody waits for it before index().
  std::uint32_t taken = 0;
  std::uint32_t given = 2 * gridDim.x;

  __device__ __forceinline__ std::uint32_t index() const { return given + taken; }
  __device__ __forceinline__ void ask() {
    if (index() < tiles) taken = atomicInc(counter, tiles - given + gridDim.x - 1);
  }
};

// While the gather of a launch on the same workspace comes directly before this kernel: waits until
// the score pass of that launch is done with its last sequence, of `context` rows, whose last
// copies shall not share the memory with the first ones of this launch. True if the gather still
// runs. No result depends on what is read here; where it makes no sense the wait ends by itself.
__device__ __forceinline__ bool wait_for_score_pass_before(const LaunchArguments& a,
                                                           std::uint32_t context) {
  constexpr long long kPatience = 20000;  // cycles, longer than the last tile of a block takes
  const std::uint32_t all = (context + kTileRows - 1) / kTileRows * a.params.kv_heads;
  const long long end = clock64() + kPatience;
  while (clock64() < end) {
    std::uint32_t done;
    asm volatile("ld.relaxed.gpu.u32 %0, [%1];"
                 : "=r"(done)
                 : "l"(a.workspace.ready + a.params.batch - 1)
                 : "memory");
    if (done == 0) return false;  // read by all of the gather, or none of it runs
    if (done >= all) return true;
    __nanosleep(50);
  }
  return false;
}

}  // namespace stoat::gpu
