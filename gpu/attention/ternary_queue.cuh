// What a warp of the ternary score pass reads next: its tiles, and its lanes' asynchronous copies
// of the listed features' rows into shared memory. Device only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/attention/kernels.cuh"
#include "gpu/attention/ternary_draw.cuh"

namespace stoat::gpu {

constexpr std::uint32_t kStages = 2;      // steps in shared memory, 4 KB each; more are no faster
constexpr std::uint32_t kChunkRows = 8;   // 16 bytes of a feature
constexpr std::uint32_t kTilesAhead = 8;  // a power of two above kStages
constexpr std::uint32_t kAskAhead = 2;    // steps: longer than an atomic operation takes
constexpr std::uint32_t kFeatureBytes = kTileRows * 2;
constexpr std::uint32_t kStepBytes = kStepFeatures * kFeatureBytes;
constexpr std::uint32_t kRingBytes = kStages * kStepBytes;  // of a warp

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

// A warp's queue of copies: steps of kStepFeatures features, tile after tile. Feature u of a step
// lies in a row of 512 bytes, its chunk c (8 rows) at place c ^ u: neither copies nor the tensor
// cores' loads have bank conflicts. Rows past the end and features past the list are zeros.
struct Queue {
  const LaunchArguments& a;
  const std::uint32_t* offset;  // the list
  unsigned ring;                // this warp's, in the shared window
  std::uint32_t context;
  const std::byte* features;    // contiguous: of this sequence and KV head; paged: of page 0
  const std::int32_t* indices;  // paged
  std::uint64_t policy;
  // State.
  std::uint32_t tile;
  std::uint32_t listed = 0, step = 0;  // features
  unsigned fill = ring, take = ring;
  const std::byte* rows = nullptr;  // of this lane in `tile`

  __device__ __forceinline__ std::uint32_t steps() const {
    return (listed + kStepFeatures - 1) / kStepFeatures;
  }
  __device__ __forceinline__ void enter() {
    const DecodeParams& p = a.params;
    std::size_t row = tile * kTileRows + kChunkRows * (threadIdx.x % 32);
    if (row >= context) row = tile * kTileRows;
    if (indices) {
      const auto page = static_cast<std::size_t>(indices[row >> a.page_shift]);
      row = (row & (p.page_size - 1)) + page * p.kv_heads * p.head_dim * p.page_size;
    }
    rows = features + 2 * row;
  }
  __device__ __forceinline__ void copy(std::uint32_t u, std::uint32_t from) const {
    const unsigned to = ((fill + 16 * (threadIdx.x % 32)) ^ 16 * u) + u * kFeatureBytes;
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(rows + from), "l"(policy)
                 : "memory");
  }
  __device__ __forceinline__ void copy(std::uint32_t u, std::uint32_t from, int bytes) const {
    const unsigned to = ((fill + 16 * (threadIdx.x % 32)) ^ 16 * u) + u * kFeatureBytes;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(rows + from),
                 "r"(bytes)
                 : "memory");
  }
  __device__ __forceinline__ void push(Tiles& tiles) {
    if (tile < tiles.count) {
      const uint4 low = *reinterpret_cast<const uint4*>(offset + step),
                  high = *reinterpret_cast<const uint4*>(offset + step + 4);
      if (step + kStepFeatures <= listed && (tile + 1) * kTileRows <= context) {
#pragma unroll
        for (std::uint32_t u = 0; u < kStepFeatures; ++u)
          copy(u, word(u < 4 ? low : high, static_cast<int>(u % 4)));
      } else {
        const int row = static_cast<int>(tile * kTileRows + kChunkRows * (threadIdx.x % 32));
        const int bytes = 2 * min(max(static_cast<int>(context) - row, 0), 8);
#pragma unroll
        for (std::uint32_t u = 0; u < kStepFeatures; ++u)
          copy(u, word(u < 4 ? low : high, static_cast<int>(u % 4)), step + u < listed ? bytes : 0);
      }
      if (step / kStepFeatures + kAskAhead == steps() || (step == 0 && steps() < kAskAhead))
        tiles.ask();
      step += kStepFeatures;
      if (step >= listed) {
        step = 0;
        tile = tiles.next();
        if (tile < tiles.count) enter();
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    fill = fill + kStepBytes == ring + kRingBytes ? ring : fill + kStepBytes;
  }
  // The oldest step is there for all lanes.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
    __syncwarp();
  }
  // All lanes have read it: the next copies take its place.
  __device__ __forceinline__ void taken(Tiles& tiles) {
    __syncwarp();
    take = take + kStepBytes == ring + kRingBytes ? ring : take + kStepBytes;
    push(tiles);
  }
};

// The first copies; queue.listed is known.
__device__ __forceinline__ void start(Queue& queue, Tiles& tiles) {
  tiles.put(queue.tile);
  if (queue.listed == 0) queue.tile = tiles.count;  // nothing to copy for an all-zero query
#pragma unroll
  for (std::uint32_t n = 0; n < kStages; ++n) queue.push(tiles);
}

}  // namespace stoat::gpu
