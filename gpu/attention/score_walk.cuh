// The way of the score pass through a launch: which tiles a block takes, and when it may begin.
// Device only, included by score.cu.
#pragma once

#include <cstdint>

#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

// Where tile `index` of the launch lies: sequence after sequence, of each the tiles of the same
// rows of all KV heads, then those of the next rows. Indices only grow.
struct TileWalk {
  const std::uint32_t* contexts;  // [batch] in shared memory
  std::uint32_t batch, kv_heads;
  std::uint32_t sequence = 0,
                first = 0;  // index of its first tile; sequence == batch: past the end
  std::uint32_t tile = 0, kv_head = 0;

  __device__ __forceinline__ std::uint32_t context() const { return contexts[sequence]; }
  __device__ __forceinline__ std::uint32_t tiles() const {
    return (context() + kTileRows - 1) / kTileRows;
  }
  __device__ __forceinline__ void move_to(std::uint32_t index) {
    while (sequence < batch && index - first >= tiles() * kv_heads) {
      first += tiles() * kv_heads;
      ++sequence;
    }
    tile = (index - first) / kv_heads;
    kv_head = (index - first) % kv_heads;
  }
};

// Hands out the tiles: the first two of a block by its number, then who comes first. One thread of
// a block asks, ahead of the copies, and once more than it gets: after so many asks the counter is
// 0 again. Nobody asks where the first two are all.
struct TileCounter {
  std::uint32_t* counter;
  std::uint32_t tiles = 0;  // of the launch
  std::uint32_t index = 0;  // the last one given

  __device__ __forceinline__ void ask() {
    if (index >= tiles) return;
    const std::uint32_t given = 2 * gridDim.x;
    index = tiles <= given ? tiles : given + atomicInc(counter, tiles - given + gridDim.x - 1);
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
