// What a warp of the ternary score pass reads next: its chunks of tiles, and its lanes'
// asynchronous copies of the listed features' rows into shared memory. Device only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/attention/kernels.cuh"
#include "gpu/attention/ternary_draw.cuh"

namespace stoat::gpu {

constexpr std::uint32_t kStages = 2;     // steps in shared memory, 4 KB each; more are no faster
constexpr std::uint32_t kPieceRows = 8;  // 16 bytes of a feature
constexpr std::uint32_t kFeatureBytes = kTileRows * 2;
constexpr std::uint32_t kStepBytes = kStepFeatures * kFeatureBytes;
constexpr std::uint32_t kRingBytes = kStages * kStepBytes;  // of a warp

// Where chunk `index` of the launch lies: sequence after sequence, of each the first tiles of all
// KV heads, then the next ones. Indices only grow.
struct ChunkWalk {
  const std::uint32_t* contexts;  // [batch] in shared memory
  std::uint32_t batch, kv_heads;
  std::uint32_t chunk_tiles, chunked;  // tiles of a chunk, 1 from sequence `chunked` on
  std::uint32_t sequence = 0,
                first = 0;  // index of its first chunk; sequence == batch: past the end
  std::uint32_t chunk = 0, kv_head = 0;

  __device__ __forceinline__ std::uint32_t context() const { return contexts[sequence]; }
  __device__ __forceinline__ std::uint32_t tiles_of(std::uint32_t s) const {  // of a chunk
    return s < chunked ? chunk_tiles : 1;
  }
  __device__ __forceinline__ std::uint32_t chunks_of(std::uint32_t s) const {
    const std::uint32_t tiles = tiles_of(s);
    return ((contexts[s] + kTileRows - 1) / kTileRows + tiles - 1) / tiles * kv_heads;
  }
  __device__ __forceinline__ std::uint32_t chunks() const {  // of the launch
    std::uint32_t n = 0;
    for (std::uint32_t s = threadIdx.x % 32; s < batch; s += 32) n += chunks_of(s);
    return __reduce_add_sync(kAllLanes, n);
  }
  __device__ __forceinline__ bool any() const { return sequence < batch; }
  __device__ __forceinline__ void move_to(std::uint32_t index) {
    while (sequence < batch && index - first >= chunks_of(sequence)) first += chunks_of(sequence++);
    chunk = (index - first) / kv_heads;
    kv_head = (index - first) % kv_heads;
  }
};

// Hands out the chunks: a warp's first by its number, then who comes first. A warp asks while it
// stores the last tile of its chunk, once more than it gets: after so many asks the counter is 0
// again. Nobody asks where the first ones are all.
struct ChunkCounter {
  std::uint32_t* counter;
  std::uint32_t chunks;     // of the launch
  std::uint32_t index = 0;  // lane 0

  __device__ __forceinline__ void ask() {
    const std::uint32_t given = gridDim.x * kWarps;
    if (threadIdx.x % 32 == 0)
      index = chunks <= given ? chunks : given + atomicInc(counter, chunks - 1);
  }
  __device__ __forceinline__ std::uint32_t answer() const {
    return __shfl_sync(kAllLanes, index, 0);
  }
};

// A chunk and what was drawn for it, in shared memory, since registers are short.
template <class List>
struct Chunk {
  List list;
  const std::byte* features;      // contiguous: of its sequence and KV head; paged: of page 0
  const std::int32_t* indices;    // paged
  std::uint32_t context, id;      // of its sequence
  std::uint32_t slot, code_slot;  // of tile 0 of its first head
};

// A warp's queue of copies: steps of kStepFeatures features, tile after tile of a chunk. Feature u
// of a step lies in a row of 512 bytes, its 16-byte piece c at place c ^ u: neither copies nor the
// tensor cores' loads have bank conflicts. Rows past the end and features past the list are zeros.
template <class List>
struct Queue {
  const LaunchArguments& a;
  const Chunk<List>& chunk;
  unsigned ring;  // this warp's, in the shared window
  std::uint64_t policy;
  // State.
  std::uint32_t tile = 0, left = 0, step = 0, listed = 0;  // left: tiles, this one included
  unsigned place = ring;  // of the step that is added up, then of the one that is copied next
  bool whole = false;     // the tile has all rows
  const std::byte* rows = nullptr;  // of this lane in `tile`

  __device__ __forceinline__ std::uint32_t steps() const {
    return (max(listed, 1U) + kStepFeatures - 1) / kStepFeatures;
  }
  __device__ __forceinline__ std::uint32_t stride() const {  // bytes from feature to feature
    const DecodeParams& p = a.params;
    return 2 * (p.page_size == 0 ? p.ternary.capacity : p.page_size);
  }
  __device__ __forceinline__ void enter(std::uint32_t index) {
    const DecodeParams& p = a.params;
    tile = index;
    whole = (tile + 1) * kTileRows <= chunk.context;
    std::size_t row = tile * kTileRows + kPieceRows * (threadIdx.x % 32);
    if (row >= chunk.context) row = tile * kTileRows;
    if (p.page_size != 0) {
      const auto page = static_cast<std::size_t>(chunk.indices[row >> a.page_shift]);
      row = (row & (p.page_size - 1)) + page * p.kv_heads * p.head_dim * p.page_size;
    }
    rows = chunk.features + 2 * row;
  }
  __device__ __forceinline__ void copy(std::uint32_t u, std::uint32_t feature) const {
    const unsigned to = ((place + 16 * (threadIdx.x % 32)) ^ 16 * u) + u * kFeatureBytes;
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(rows + static_cast<std::size_t>(feature) * stride()), "l"(policy)
                 : "memory");
  }
  __device__ __forceinline__ void copy(std::uint32_t u, std::uint32_t feature, int bytes) const {
    const unsigned to = ((place + 16 * (threadIdx.x % 32)) ^ 16 * u) + u * kFeatureBytes;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(rows + static_cast<std::size_t>(feature) * stride()), "r"(bytes)
                 : "memory");
  }
  __device__ __forceinline__ void push() {
    if (left > 0) {
      const uint2 features = *reinterpret_cast<const uint2*>(chunk.list.feature + step);
      const auto feature = [&](std::uint32_t u) {
        return __byte_perm(u < 4 ? features.x : features.y, 0, 0x4440 + u % 4);
      };
      if (whole && step + kStepFeatures <= listed) {
#pragma unroll
        for (std::uint32_t u = 0; u < kStepFeatures; ++u) copy(u, feature(u));
      } else {
        const int row = static_cast<int>(tile * kTileRows + kPieceRows * (threadIdx.x % 32));
        const int bytes = 2 * min(max(static_cast<int>(chunk.context) - row, 0), 8);
#pragma unroll
        for (std::uint32_t u = 0; u < kStepFeatures; ++u)
          copy(u, feature(u), step + u < listed ? bytes : 0);
      }
      step += kStepFeatures;
      if (step >= listed) {
        step = 0;
        if (--left > 0) enter(tile + 1);
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    place = place + kStepBytes == ring + kRingBytes ? ring : place + kStepBytes;
  }
  // The first copies of a chunk.
  __device__ __forceinline__ void start(std::uint32_t features) {
    listed = features;
#pragma unroll 1
    for (std::uint32_t n = 0; n < kStages; ++n) push();
  }
  // The oldest step is there for all lanes.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
    __syncwarp();
  }
  // All lanes have read it: the next copies take its place.
  __device__ __forceinline__ void taken() {
    __syncwarp();
    push();
  }
};

}  // namespace stoat::gpu
