// Select and gather of a block's points, warp by warp: a lane finds the row of a point, and the V
// rows of the points found so far are on their way while the next ones are looked for. No barrier
// stands between the points and the sum over the block. Device only, included by select_gather.cu.
#pragma once

#include <cstdint>

#include "gpu/attention/gather.cuh"
#include "gpu/attention/select.cuh"

namespace stoat::gpu {

// A lane's search for the row of one point: of its tile's parts the one that holds it, then the
// row.
struct RowSearch {
  std::uint32_t limit;      // sums before the owner, of the part's weights alone, are at most this
  std::uint32_t before;     // weights of the tile before the part
  std::uint32_t first_row;  // of the part
  uint4 codes[kPartRows / 8];

  __device__ __forceinline__ void load(const Workspace& w, const SelectShared& shared,
                                       const PointPlace& place, std::size_t first_slot) {
    const uint4* parts = shared.part != nullptr ? shared.part + 2 * place.tile
                                                : reinterpret_cast<const uint4*>(w.part) +
                                                      2 * (first_slot + place.tile);
    const uint4 low = parts[0], high = parts[1];
    std::uint32_t sum = 0, part = 0;
    before = 0;
#pragma unroll
    for (std::uint32_t i = 0; i + 1 < kTileParts; ++i) {
      sum += i < 4 ? word(low, static_cast<int>(i)) : word(high, static_cast<int>(i) - 4);
      if (sum <= place.limit) {
        part = i + 1;
        before = sum;
      }
    }
    limit = place.limit - before;
    first_row = place.tile * kTileRows + part * kPartRows;
    const auto* from = reinterpret_cast<const uint4*>(w.code + first_slot * kTileRows + first_row);
#pragma unroll
    for (std::uint32_t i = 0; i < kPartRows / 8; ++i) codes[i] = from[i];
  }

  // weight_of_code() of the low 16 bits: the shift takes its amount modulo 32.
  __device__ __forceinline__ static std::uint32_t weight_of(std::uint32_t bits,
                                                            const std::uint32_t* lut) {
    return __funnelshift_r(lut[bits & (kWeightLutSize - 1)], 0, bits >> kCodeFractionBits);
  }

  // The row, and where it begins and ends among the tile's weights.
  struct Found {
    std::uint32_t row, begin;
    std::uint64_t end;
  };
  __device__ __forceinline__ Found find(const std::uint32_t* lut) {
    std::uint32_t sum = 0, at = 0, row = first_row, end = ~0U, weight = 0;
#pragma unroll 1
    for (std::uint32_t i = 0; i < kPartRows / 8; ++i) {
#pragma unroll
      for (std::uint32_t j = 0; j < 8; ++j) {
        // A row's weights before it: those of the part's first 31 rows are below 2^32.
        if (i + j > 0) {
          sum += weight;
          if (sum <= limit) {
            ++row;
            at = sum;
          } else {
            end = min(end, sum);
          }
        }
        weight = weight_of(word(codes[0], static_cast<int>(j / 2)) >> (j % 2 * 16), lut);
      }
#pragma unroll
      for (std::uint32_t k = 0; k + 1 < kPartRows / 8; ++k) codes[k] = codes[k + 1];
    }
    const std::uint64_t inside = end != ~0U ? end : std::uint64_t{sum} + weight;
    return {row, before + at, before + inside};
  }
};

// A warp's queue of V rows: the runs that it has found, and shared memory for those on their way.
// A lane copies and reads the same 16 bytes of a row, so that no lane waits for another.
template <class Element, int kHeadDim>
struct RowQueue {
  static constexpr std::uint32_t kLanes = kHeadDim / 8;                // of a row
  static constexpr std::uint32_t kRowsAtOnce = 32 / kLanes;            // of a copy of the warp
  static constexpr std::uint32_t kRows = kCopiesAtOnce * kRowsAtOnce;  // of a step

  const QueuedRun* runs;                // [kQueuedRuns] of this warp, run i in i % kQueuedRuns
  std::uint32_t ring, fill, take;       // in the shared window, this lane's 16 bytes
  std::uint32_t copied = 0, added = 0;  // runs
  float sum[8] = {};

  __device__ __forceinline__ std::uint32_t row_of_lane() const { return threadIdx.x % 32 / kLanes; }
  // A step of copies; of the last one some lanes may have none.
  __device__ __forceinline__ void copy(std::uint32_t found) {
#pragma unroll
    for (std::uint32_t u = 0; u < kCopiesAtOnce; ++u) {
      const std::uint32_t run = copied + u * kRowsAtOnce + row_of_lane();
      if (run >= found) continue;
      const Element* source =
          static_cast<const Element*>(runs[run % kQueuedRuns].source) + 8 * (threadIdx.x % kLanes);
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(ring + fill + u * kCopyBytes),
                   "l"(source)
                   : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    copied += kRows;
    fill = next(fill);
  }
  // The oldest step, which has come.
  __device__ __forceinline__ void add(std::uint32_t found) {
#pragma unroll
    for (std::uint32_t u = 0; u < kCopiesAtOnce; ++u) {
      const std::uint32_t run = added + u * kRowsAtOnce + row_of_lane();
      if (run >= found) continue;
      uint4 data;
      asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(data.x), "=r"(data.y), "=r"(data.z), "=r"(data.w)
                   : "r"(ring + take + u * kCopyBytes)
                   : "memory");
      const float weight = runs[run % kQueuedRuns].weight;
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const float2 pair = unpack<Element>(word(data, w));
        sum[2 * w] = fmaf(weight, pair.x, sum[2 * w]);
        sum[2 * w + 1] = fmaf(weight, pair.y, sum[2 * w + 1]);
      }
    }
    added += kRows;
    take = next(take);
  }
  __device__ __forceinline__ static std::uint32_t next(std::uint32_t at) {
    return at + kCopiesAtOnce * kCopyBytes == kWarpRing ? 0 : at + kCopiesAtOnce * kCopyBytes;
  }
  __device__ __forceinline__ bool full() const { return copied - added == kRingSteps * kRows; }
};

// One point of a trace: its row, and in the first point of a run how many are on it.
__device__ __forceinline__ void trace_point(const DecodeParams& p, std::size_t head,
                                            std::uint32_t s, std::uint32_t row,
                                            std::uint32_t count) {
  const TraceSink& sink = p.trace;
  if (s < sink.capacity) {
    sink.row[head * sink.capacity + s] = row;
    sink.count[head * sink.capacity + s] = static_cast<std::uint16_t>(count);
  } else if (count > 0) {
    atomicAdd(sink.lost, 1U);
    atomicOr(p.status, kTraceOverflow);
  }
}

// What a run of points on one row weighs before the scale of the head: their count, for flash
// rescaled by the tile's mass.
template <DrawKind kKind>
__device__ __forceinline__ float run_weight(const SelectShared& shared, std::uint32_t row,
                                            std::uint32_t count, std::uint32_t tiles) {
  auto weight = static_cast<float>(count);
  if constexpr (kKind == DrawKind::kFlash) {
    const std::uint32_t tile = row / kTileRows;
    const std::uint64_t mass = shared.tile_begin[tile + 1] - shared.tile_begin[tile];
    const float inverse_total = 1.0F / static_cast<float>(shared.tile_begin[tiles]);
    weight *= static_cast<float>(mass) * inverse_total /
              static_cast<float>(shared.first[tile + 1] - shared.first[tile]);
  }
  return weight;
}

// Points of a block in chunks of up to 32, chunk c by warp c % kWarps. A run of points on one row
// belongs to the chunk that has its first point. Returns the sum of weight * V row over the block's
// runs: thread d < head_dim has feature d.
template <class Element, int kHeadDim, DrawKind kKind, bool kTrace>
__device__ float gather_points(const LaunchArguments& a, const SelectShared& shared,
                               const Points<kKind>& points, const PointRange& range,
                               const RowAddress<Element>& values, std::uint32_t head,
                               std::uint32_t tiles, std::int32_t max_exponent) {
  using Queue = RowQueue<Element, kHeadDim>;
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t first_slot = head * a.tiles_capacity;  // below 2^28
  QueuedRun* const runs = shared.runs + warp * kQueuedRuns;
  Queue queue{runs,
              static_cast<std::uint32_t>(__cvta_generic_to_shared(shared.ring)) + warp * kWarpRing +
                  16 * lane,
              0, 0};
  // Of narrow rows more are on their way; the queue holds those and a chunk.
  constexpr std::uint32_t kChunk = kHeadDim == 64 ? 16 : 32;
  static_assert((kRingSteps + 1) * Queue::kRows + kChunk <= kQueuedRuns);
  const std::uint32_t chunk = min(kChunk, (range.end - range.begin + kWarps - 1) / kWarps);
  std::uint32_t next = range.begin + warp * chunk;  // first point of the chunk to look for
  std::uint32_t begin = 0, found = 0;
  bool searching = false;  // for the chunk from `begin` on
  RowSearch search;
#pragma unroll 1
  for (;;) {
#pragma unroll 1
    while (queue.copied + Queue::kRows > found && (searching || next < range.end)) {
      if (searching) {
        const std::uint32_t s = begin + lane, last = min(chunk, range.end - begin) - 1;
        const RowSearch::Found own = search.find(shared.lut);
        // In lane 0 the first point's row and how many points lie before it, in the last lane the
        // last point's row and how many lie before its end.
        const std::uint32_t end_row = __shfl_sync(kAllLanes, own.row, static_cast<int>(last));
        const std::uint64_t end = __shfl_sync(kAllLanes, own.end, static_cast<int>(last));
        const std::uint32_t before =
            points_below(shared, points, (lane == 31 ? end_row : own.row) / kTileRows, tiles,
                         lane == 31 ? end : own.begin, max_exponent);
        const std::uint32_t row_before = __shfl_up_sync(kAllLanes, own.row, 1);
        const bool first = lane <= last && (lane == 0 ? before >= s : own.row != row_before);
        const std::uint32_t firsts = __ballot_sync(kAllLanes, first);
        const std::uint32_t later = firsts >> lane >> 1;
        const std::uint32_t run_end = __shfl_sync(kAllLanes, before, 31);
        const std::uint32_t count =
            later != 0 ? static_cast<std::uint32_t>(__ffs(static_cast<int>(later))) : run_end - s;
        if (first) {
          const float weight = run_weight<kKind>(shared, own.row, count, tiles);
          const auto at = found + static_cast<std::uint32_t>(
                                      __popc(static_cast<int>(firsts & ((1U << lane) - 1))));
          runs[at % kQueuedRuns] = {values.row(own.row), weight};
        }
        if constexpr (kTrace) {
          if (lane <= last) trace_point(a.params, head, s, own.row, first ? count : 0);
        }
        found += static_cast<std::uint32_t>(__popc(static_cast<int>(firsts)));
        __syncwarp();
      }
      searching = next < range.end;
      if (searching) {
        begin = next;
        next += kWarps * chunk;
        const std::uint32_t s = min(begin + min(lane, chunk - 1), range.end - 1);
        search.load(a.workspace, shared, place_point(shared, points, s, tiles, max_exponent),
                    first_slot);
      }
    }
    if (queue.copied < found) {
      queue.copy(found);
      if (!queue.full()) continue;
      asm volatile("cp.async.wait_group %0;" ::"n"(kRingSteps - 1) : "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
      if (queue.added >= queue.copied) break;
    }
    queue.add(found);
  }
  return sum_of_block<kHeadDim>(queue.sum, reinterpret_cast<float*>(shared.ring),
                                kWarpRing / sizeof(float));
}

}  // namespace stoat::gpu
