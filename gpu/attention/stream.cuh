// Select and gather of a block's points, warp by warp: a lane finds the row of a point, then V rows
// come in steps straight to registers, the codes of the next points meanwhile. No barrier stands
// between the points and the sum over the block. Device only, included by select_gather.cu.
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

// A step of V rows on their way from memory to registers: a lane has 16 bytes of every
// kRowsAtOnce-th row.
template <class Element, int kHeadDim>
struct RowStep {
  static constexpr std::uint32_t kLanes = kHeadDim / 8;      // of a row
  static constexpr std::uint32_t kRowsAtOnce = 32 / kLanes;  // of a load of the warp
  static constexpr std::uint32_t kLoads = 4, kRows = kLoads * kRowsAtOnce;

  uint4 data[kLoads];

  // Rows of runs i to i + kRows - 1 of n; zeros where there is none.
  __device__ __forceinline__ void load(const Element* v, const FoundRun* runs, std::uint32_t i,
                                       std::uint32_t n) {
    const std::uint32_t lane = threadIdx.x % 32;
    const Element* const piece = v + 8 * (lane % kLanes);
#pragma unroll
    for (std::uint32_t u = 0; u < kLoads; ++u) {
      const std::uint32_t run = i + u * kRowsAtOnce + lane / kLanes;
      data[u] = make_uint4(0, 0, 0, 0);
      if (run < n) {
        data[u] =
            __ldg(reinterpret_cast<const uint4*>(piece + std::size_t{runs[run].row} * kHeadDim));
      }
    }
  }
  __device__ __forceinline__ void add(float (&sum)[8], const FoundRun* runs,
                                      std::uint32_t i) const {
#pragma unroll
    for (std::uint32_t u = 0; u < kLoads; ++u) {
      const float weight = runs[i + u * kRowsAtOnce + threadIdx.x % 32 / kLanes].weight;
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const float2 pair = unpack<Element>(word(data[u], w));
        sum[2 * w] = fmaf(weight, pair.x, sum[2 * w]);
        sum[2 * w + 1] = fmaf(weight, pair.y, sum[2 * w + 1]);
      }
    }
  }
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

// The points of a chunk in a trace, from `begin` on up to lane `last`: a lane has the row of one,
// and `firsts` says where the chunk's runs begin. A run that another chunk has begun goes on.
template <DrawKind kKind>
__device__ __forceinline__ void trace_chunk(const DecodeParams& p, const SelectShared& shared,
                                            const Points<kKind>& points, std::size_t head,
                                            std::uint32_t begin, std::uint32_t last,
                                            const RowSearch::Found& own, std::uint32_t firsts,
                                            std::uint32_t tiles, std::int32_t max_exponent) {
  const std::uint32_t lane = threadIdx.x % 32, s = begin + lane;
  // In lane 0 the first point's row and how many points lie before it, in the last lane the last
  // point's row and how many lie before its end.
  const std::uint32_t end_row = __shfl_sync(kAllLanes, own.row, static_cast<int>(last));
  const std::uint64_t end = __shfl_sync(kAllLanes, own.end, static_cast<int>(last));
  const std::uint32_t before =
      points_below(shared, points, (lane == 31 ? end_row : own.row) / kTileRows, tiles,
                   lane == 31 ? end : own.begin, max_exponent);
  const std::uint32_t run_end = __shfl_sync(kAllLanes, before, 31);
  const std::uint32_t later = firsts >> lane >> 1;
  const std::uint32_t count =
      later != 0 ? static_cast<std::uint32_t>(__ffs(static_cast<int>(later))) : run_end - s;
  const bool first = lane == 0 ? before >= s : (firsts >> lane & 1) != 0;
  if (lane <= last) trace_point(p, head, s, own.row, first ? count : 0);
}

// What a run of points on one row weighs before the scale of the head: their count, for flash
// rescaled by the tile's mass.
template <DrawKind kKind>
__device__ __forceinline__ float run_weight(const SelectShared& shared, std::uint32_t row,
                                            std::uint32_t count) {
  auto weight = static_cast<float>(count);
  if constexpr (kKind == DrawKind::kFlash) weight *= shared.weight[row / kTileRows];
  return weight;
}

// Points of a block in chunks of up to 32, chunk c by warp c % kWarps. A chunk adds its own points
// of a run that goes on in another one; the trace shows the run where its first point is. Returns
// the sum of weight * V row over the block's runs: thread d < head_dim has feature d.
template <class Element, int kHeadDim, DrawKind kKind, bool kTrace>
__device__ float gather_points(const LaunchArguments& a, const SelectShared& shared,
                               const Points<kKind>& points, const PointRange& range,
                               const RowAddress<Element>& values, std::uint32_t head,
                               std::uint32_t tiles, std::int32_t max_exponent) {
  using Step = RowStep<Element, kHeadDim>;
  static_assert(kChunk + Step::kRows <= kFoundRuns);
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::uint32_t first_slot = head * a.tiles_capacity;  // below 2^28
  const std::uint32_t chunk = min(kChunk, (range.end - range.begin + kWarps - 1) / kWarps);
  const auto* const v = static_cast<const Element*>(a.params.v);
  FoundRun* const runs = shared.runs + warp * kFoundRuns;
  // The last step of a chunk multiplies zeros with what stands behind its runs.
  for (std::uint32_t i = lane; i < kFoundRuns; i += 32) runs[i] = {0, 0};
  __syncwarp();
  float sum[8] = {};
  RowSearch search;
  const auto look_for = [&](std::uint32_t begin) {
    const std::uint32_t s = min(begin + min(lane, chunk - 1), range.end - 1);
    search.load(a.workspace, shared, place_point(shared, points, s, tiles, max_exponent),
                first_slot);
  };
  std::uint32_t begin = range.begin + warp * chunk;
  if (begin < range.end) look_for(begin);
#pragma unroll 1
  while (begin < range.end) {
    const std::uint32_t last = min(chunk, range.end - begin) - 1;
    const RowSearch::Found own = search.find(shared.lut);
    const std::uint32_t row_before = __shfl_up_sync(kAllLanes, own.row, 1);
    const bool first = lane <= last && (lane == 0 || own.row != row_before);
    const std::uint32_t firsts = __ballot_sync(kAllLanes, first);
    if (first) {
      const std::uint32_t later = firsts >> lane >> 1;
      const std::uint32_t count =
          later != 0 ? static_cast<std::uint32_t>(__ffs(static_cast<int>(later))) : last + 1 - lane;
      runs[__popc(static_cast<int>(firsts & ((1U << lane) - 1)))] = {
          static_cast<std::uint32_t>((values.row(own.row) - v) / kHeadDim),
          run_weight<kKind>(shared, own.row, count)};
    }
    if constexpr (kTrace)
      trace_chunk(a.params, shared, points, head, begin, last, own, firsts, tiles, max_exponent);
    __syncwarp();
    const auto n = static_cast<std::uint32_t>(__popc(static_cast<int>(firsts)));
    Step step;
    step.load(v, runs, 0, n);
    begin += kWarps * chunk;
    if (begin < range.end) look_for(begin);
    step.add(sum, runs, 0);
#pragma unroll 1
    for (std::uint32_t i = Step::kRows; i < n; i += Step::kRows) {
      step.load(v, runs, i, n);
      step.add(sum, runs, i);
    }
    __syncwarp();  // before the next chunk's runs
  }
  return sum_of_block<kHeadDim>(sum, shared.sums, kHeadDim);
}

}  // namespace stoat::gpu
