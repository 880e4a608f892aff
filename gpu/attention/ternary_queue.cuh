// What a warp of the ternary score pass reads next: its tiles, and its lanes' asynchronous copies
// of the listed features' rows into shared memory. Device only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/attention/kernels.cuh"
#include "gpu/attention/ternary_draw.cuh"

namespace stoat::gpu {

constexpr std::uint32_t kStages = 3;  // steps in shared memory: 6 KB a warp; more are no faster
constexpr std::uint32_t kRowsOfLane = 8;
constexpr std::uint32_t kTilesAhead = 8;  // a power of two above kStages
constexpr std::uint32_t kAskAhead = 4;    // steps: longer than an atomic operation takes
constexpr std::uint32_t kSlotBytes = kTileRows * 2;
constexpr std::uint32_t kRingBytes = kWarps * kStages * kBatch * kSlotBytes;

// The tiles of a warp: the first is given, every further one belongs to the warp of the same KV
// head that asks for it first, since multiprocessors are not served equally fast. The copies run
// ahead of the sums, so a few tiles are on their way in shared memory.
struct Tiles {
  std::uint32_t count;          // of the sequence
  std::uint32_t shared_from;    // first that is asked for
  std::uint32_t* counter;       // asked for so far; returns to 0 when all warps have asked in vain
  volatile std::uint32_t* way;  // [kTilesAhead] of this warp
  std::uint32_t entered = 0;
  std::uint32_t ticket = 0;  // lane 0

  __device__ __forceinline__ void ask() {
    if (shared_from < count && threadIdx.x % 32 == 0) ticket = atomicInc(counter, count - 1);
  }
  // After ask(); count or more: there is none left.
  __device__ __forceinline__ std::uint32_t next() {
    const std::uint32_t tile =
        shared_from < count ? shared_from + __shfl_sync(kAllLanes, ticket, 0) : count;
    put(tile);
    return tile;
  }
  __device__ __forceinline__ void put(std::uint32_t tile) {
    if (threadIdx.x % 32 == 0) way[entered % kTilesAhead] = tile;
    ++entered;
  }
  __device__ __forceinline__ std::uint32_t taken(std::uint32_t n) const {
    __syncwarp();
    return way[n % kTilesAhead];
  }
};

// This lane's queue of copies: steps of kBatch features, tile after tile of its warp. Copies are
// without conditions: a lane past the end copies the rows of the tile's first lane.
struct Queue {
  const LaunchArguments& a;
  const std::uint32_t* offset;  // the list
  unsigned base;                // this lane's part of the ring, in the shared window
  std::uint32_t context;
  const std::byte* features;    // contiguous: of this sequence and KV head; paged: of page 0
  const std::int32_t* indices;  // paged
  std::uint64_t policy;
  // State.
  std::uint32_t tile;
  std::uint32_t steps = 0, step = 0;
  unsigned fill = 0, take = 0;
  const std::byte* rows = nullptr;  // of this lane in `tile`

  __device__ __forceinline__ void enter() {
    const DecodeParams& p = a.params;
    std::size_t row = tile * kTileRows + kRowsOfLane * (threadIdx.x % 32);
    if (row >= context) row = tile * kTileRows;
    if (indices) {
      const auto page = static_cast<std::size_t>(indices[row >> a.page_shift]);
      row = (row & (p.page_size - 1)) + page * p.kv_heads * p.head_dim * p.page_size;
    }
    rows = features + 2 * row;
  }
  __device__ __forceinline__ unsigned slot(unsigned stage, std::uint32_t u) const {
    return base + (stage * kBatch + u) * kSlotBytes;
  }
  __device__ __forceinline__ void push(Tiles& tiles) {
    if (tile < tiles.count) {
      const uint4 from = *reinterpret_cast<const uint4*>(offset + step * kBatch);
#pragma unroll
      for (std::uint32_t u = 0; u < kBatch; ++u) {
        asm volatile(
            "cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(slot(fill, u)),
            "l"(rows + word(from, static_cast<int>(u))), "l"(policy)
            : "memory");
      }
      if (step + kAskAhead == steps || (step == 0 && steps < kAskAhead)) tiles.ask();
      if (++step == steps) {
        step = 0;
        tile = tiles.next();
        if (tile < tiles.count) enter();
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    fill = fill + 1 == kStages ? 0 : fill + 1;
  }
  // The step that is worked on leaves the other kStages - 1 on their way.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
  }
  __device__ __forceinline__ uint4 load(std::uint32_t u) const {
    uint4 data;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(data.x), "=r"(data.y), "=r"(data.z), "=r"(data.w)
                 : "r"(slot(take, u))
                 : "memory");
    return data;
  }
  __device__ __forceinline__ void taken() { take = take + 1 == kStages ? 0 : take + 1; }
};

// The first copies; queue.steps is known.
__device__ __forceinline__ void start(Queue& queue, Tiles& tiles) {
  tiles.put(queue.tile);
  if (queue.steps == 0) queue.tile = tiles.count;  // nothing to copy for an all-zero query
#pragma unroll
  for (std::uint32_t n = 0; n + 1 < kStages; ++n) queue.push(tiles);
}

}  // namespace stoat::gpu
