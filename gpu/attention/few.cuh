// Select and gather of a block with few points, where what counts is how soon it is done: eight
// lanes find the row of a point, and the V rows of all points are read at once. Device only,
// included by select_gather.cu.
#pragma once

#include <cstdint>

#include "gpu/attention/gather.cuh"
#include "gpu/attention/select.cuh"
#include "gpu/attention/stream.cuh"

namespace stoat::gpu {

// Eight neighbouring lanes look for the row of one point: a lane looks at the weight of 32 rows of
// the point's tile, then at four codes of the part that holds it.
constexpr std::uint32_t kTeam = 8, kFewPoints = kThreads / kTeam;
static_assert(kTeam == kTileParts && kTeam * 4 == kPartRows && kFewPoints == 32);

struct FewShared {
  std::uint32_t row[kFewPoints];
  std::uint32_t start[kWarps][kFewPoints + 1];
  std::uint32_t before;   // points before the row of the first point
  std::uint32_t run_end;  // points before the end of the row of the last point
};

// The last lane of the team with `holds`; lane 0 of a team always holds.
__device__ __forceinline__ std::uint32_t last_lane(bool holds) {
  const std::uint32_t lanes = __ballot_sync(kAllLanes, holds);
  const std::uint32_t team = threadIdx.x % 32 / kTeam;
  return 31 - static_cast<std::uint32_t>(
                  __clz(static_cast<int>(lanes >> (kTeam * team) & ((1U << kTeam) - 1))));
}
// The sum of the lanes before this one, modulo 2^32.
__device__ __forceinline__ std::uint32_t team_before(std::uint32_t value) {
  const std::uint32_t lane = threadIdx.x % kTeam;
  std::uint32_t inclusive = value;
#pragma unroll
  for (std::uint32_t distance = 1; distance < kTeam; distance *= 2) {
    const std::uint32_t other = __shfl_up_sync(kAllLanes, inclusive, distance, kTeam);
    if (lane >= distance) inclusive += other;
  }
  return inclusive - value;
}

// place_point() by a team, in three steps for 512 tiles.
template <DrawKind kKind>
__device__ __forceinline__ PointPlace place_by_team(const SelectShared& shared,
                                                    const Points<kKind>& points, std::uint32_t s,
                                                    std::uint32_t tiles,
                                                    std::int32_t max_exponent) {
  const std::uint64_t at = scaled_point(points, s);
  std::uint32_t tile = 0;
  for (std::uint32_t length = tiles; length > 1;) {  // the same for all teams
    const std::uint32_t step = (length + kTeam - 1) / kTeam;
    const std::uint32_t probe = tile + threadIdx.x % kTeam * step;
    tile += step * last_lane(probe < tiles && scaled_begin(shared, points, probe) <= at);
    length = step;
  }
  return place_in_tile(shared, points, s, at, tile, tiles, max_exponent);
}

// A team's point: in the lane that holds the owner its row, and where it begins and ends among the
// tile's weights.
struct TeamFound {
  bool here;
  std::uint32_t row, begin;
  std::uint64_t end;
};
__device__ __forceinline__ TeamFound find_by_team(const Workspace& w, const SelectShared& shared,
                                                  const PointPlace& place, std::size_t first_slot) {
  const std::uint32_t lane = threadIdx.x % kTeam;
  const std::uint32_t* parts =
      shared.part != nullptr
          ? reinterpret_cast<const std::uint32_t*>(shared.part) + place.tile * kTileParts
          : w.part + (first_slot + place.tile) * kTileParts;
  const std::uint32_t parts_before = team_before(parts[lane]);
  const std::uint32_t part = last_lane(parts_before <= place.limit);
  const std::uint32_t before = __shfl_sync(kAllLanes, parts_before, static_cast<int>(part), kTeam);
  const std::uint32_t first_row = place.tile * kTileRows + part * kPartRows + 4 * lane;
  const uint2 codes = *reinterpret_cast<const uint2*>(w.code + first_slot * kTileRows + first_row);
  std::uint32_t weight[4], sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t pair = i < 2 ? codes.x : codes.y;
    weight[i] = weight_of_code(static_cast<std::uint16_t>(pair >> (i % 2 * 16)), shared.lut);
    sum += weight[i];
  }
  std::uint32_t at = before + team_before(sum);
  const bool here = last_lane(at <= place.limit) == lane;
  std::uint32_t row = 0, own = weight[0], end = at;
#pragma unroll
  for (std::uint32_t i = 0; i < 3; ++i) {
    end += weight[i];
    if (end <= place.limit) {
      row = i + 1;
      at = end;
      own = weight[i + 1];
    }
  }
  return {here, first_row + row, at, std::uint64_t{at} + own};
}

// As gather_points(), of at most kFewPoints. The block adds its own points of a run that goes on in
// another block; the trace shows the run in the block that has its first point.
template <class Element, int kHeadDim, DrawKind kKind, bool kTrace>
__device__ float gather_few_points(const LaunchArguments& a, const SelectShared& shared,
                                   const Points<kKind>& points, const PointRange& range,
                                   const RowAddress<Element>& values, std::uint32_t head,
                                   std::uint32_t tiles, std::int32_t max_exponent) {
  __shared__ FewShared few;
  const std::uint32_t lane = threadIdx.x % 32, n = range.end - range.begin;
  const std::uint32_t own = threadIdx.x / kTeam, s = range.begin + min(own, n - 1);
  const std::size_t first_slot = std::size_t{head} * a.tiles_capacity;
  const PointPlace place = place_by_team(shared, points, s, tiles, max_exponent);
  const TeamFound found = find_by_team(a.workspace, shared, place, first_slot);
  if (found.here && own < n) {
    few.row[own] = found.row;
    if constexpr (kTrace) {
      if (own == 0)
        few.before = points_below(shared, points, place.tile, tiles, found.begin, max_exponent);
      if (own + 1 == n)
        few.run_end = points_below(shared, points, place.tile, tiles, found.end, max_exponent);
    }
  }
  __syncthreads();
  // Every warp for itself: start[i] is the first point of the i-th run.
  std::uint32_t* const start = few.start[threadIdx.x / 32];
  const std::uint32_t row = few.row[min(lane, n - 1)];
  const std::uint32_t row_before = __shfl_up_sync(kAllLanes, row, 1);
  const bool first = lane < n && (lane == 0 || row != row_before);
  const std::uint32_t firsts = __ballot_sync(kAllLanes, first);
  const auto runs = static_cast<std::uint32_t>(__popc(static_cast<int>(firsts)));
  if (first) start[__popc(static_cast<int>(firsts & ((1U << lane) - 1)))] = lane;
  if (lane == 0) start[runs] = n;
  __syncwarp();
  const float sum = gather<Element, kHeadDim>(
      values, runs,
      [&](std::uint32_t run) {
        const std::uint32_t of_run = few.row[start[run]];
        return WeightedRow{of_run, run_weight<kKind>(shared, of_run, start[run + 1] - start[run])};
      },
      shared.sums);
  if constexpr (kTrace) {
    const bool begins = lane == 0 ? few.before >= range.begin : first;
    const std::uint32_t all = __ballot_sync(kAllLanes, begins);
    const std::uint32_t later = all >> lane >> 1;
    const std::uint32_t count = later != 0
                                    ? static_cast<std::uint32_t>(__ffs(static_cast<int>(later)))
                                    : few.run_end - (range.begin + lane);
    if (threadIdx.x < n) trace_point(a.params, head, range.begin + lane, row, begins ? count : 0);
  }
  return sum;
}

}  // namespace stoat::gpu
