// The select stage of one query head on the device: the ruler from tile masses and exponents, where
// the points of a method lie on it, and the rows that own them. Integer arithmetic only; models/
// sampling is the specification. Device only, included by select_gather.cu.
//
// Three levels (design decision 3, with the weights of 32 rows between tile and row): a thread
// finds the tile of a point by prefix sums of the tiles' masses, eight lanes its row by the
// residual.
#pragma once

#include <cstdint>

#include "gpu/attention/kernels.cuh"
#include "models/sampling/points.h"

namespace stoat::gpu {

// Parts of dynamic shared memory; sizes from the shape of the launch.
struct SelectShared {
  std::uint64_t* tile_begin;  // [tiles + 1] ruler boundaries; first the masses
  std::uint64_t* sorted;      // iid [power of two >= budget]: points in order; flash [2, tiles]:
                              // masses and offsets of the tiles' own points
  std::uint32_t* first;       // [tiles + 1] first point of a tile; before that, the exponents
  std::uint32_t* row;         // [budget] of every point of this block
  std::uint32_t* start;       // [budget + 1] first point of each distinct row
  std::uint32_t* lut;         // [kWeightLutSize]

  __host__ __device__ static std::uint32_t sorted_size(const DecodeParams& p, std::uint32_t tiles) {
    if (p.method == Method::kFlash) return 2 * tiles;
    if (p.method != Method::kIid) return 0;
    std::uint32_t size = 1;
    while (size < p.budget) size *= 2;
    return size;
  }
  // Places the parts from `base` on; returns the bytes.
  __host__ __device__ std::size_t place(std::uint64_t* base, const DecodeParams& p,
                                        std::uint32_t tiles) {
    lut = reinterpret_cast<std::uint32_t*>(base);  // aligned to 16 bytes
    tile_begin = base + kWeightLutSize / 2;
    sorted = tile_begin + tiles + 1;
    first = reinterpret_cast<std::uint32_t*>(sorted + sorted_size(p, tiles));
    row = first + tiles + 1;
    start = row + p.budget;
    return (tiles + 1 + sorted_size(p, tiles)) * sizeof(std::uint64_t) +
           (tiles + 1 + 2 * p.budget + 1 + kWeightLutSize) * sizeof(std::uint32_t);
  }
};

// Sum over the block, and of the threads before this one. All threads call it.
template <class T>
struct Scan {
  T before, total;
};
template <class T>
__device__ Scan<T> block_scan(T value) {
  __shared__ T warp_sum[kWarps];
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  T inclusive = value;
  for (std::uint32_t distance = 1; distance < 32; distance *= 2) {
    const T other = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane >= distance) inclusive += other;
  }
  if (lane == 31) warp_sum[warp] = inclusive;
  __syncthreads();
  T before = 0, total = 0;
  for (std::uint32_t w = 0; w < kWarps; ++w) {
    if (w == warp) before = total;
    total += warp_sum[w];
  }
  __syncthreads();
  return {before + inclusive - value, total};
}

__device__ inline std::int32_t block_max(std::int32_t value) {
  __shared__ std::int32_t warp_max[kWarps];
  value = __reduce_max_sync(kAllLanes, value);
  if (threadIdx.x % 32 == 0) warp_max[threadIdx.x / 32] = value;
  __syncthreads();
  for (std::uint32_t w = 0; w < kWarps; ++w) value = max(value, warp_max[w]);
  __syncthreads();
  return value;
}

// The ruler of one head: tile boundaries and exponents. Returns the largest exponent.
struct HeadRuler {
  std::int32_t max_exponent;
  std::uint64_t total;  // Z
};
__device__ inline HeadRuler build_ruler(const Workspace& w, std::size_t first_slot,
                                        std::uint32_t tiles, SelectShared& shared) {
  __shared__ std::int32_t warp_top[kWarps];
  __shared__ std::uint64_t warp_sum[kWarps];
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  // A thread takes tiles that lie behind each other; of up to one a thread they stay in registers.
  const std::uint32_t chunk = (tiles + kThreads - 1) / kThreads;
  const std::uint32_t begin = min(tiles, threadIdx.x * chunk), end = min(tiles, begin + chunk);
  std::int32_t exponent = kMaskedTile, top = kMaskedTile;
  std::uint64_t mass = 0;
  if (chunk == 1) {
    if (begin < end) {
      exponent = top = w.exponent[first_slot + begin];
      mass = w.mass[first_slot + begin];
      shared.first[begin] = static_cast<std::uint32_t>(exponent);
    }
  } else {
    for (std::uint32_t t = threadIdx.x; t < tiles; t += kThreads) {
      const std::int32_t of_tile = w.exponent[first_slot + t];
      shared.tile_begin[t] = w.mass[first_slot + t];
      shared.first[t] = static_cast<std::uint32_t>(of_tile);
      top = max(top, of_tile);
    }
  }
  top = __reduce_max_sync(kAllLanes, top);
  if (lane == 0) warp_top[warp] = top;
  __syncthreads();
#pragma unroll
  for (std::uint32_t i = 0; i < kWarps; ++i) top = max(top, warp_top[i]);
  if (top == kMaskedTile || top == kDamagedTile) return {top, 0};
  std::uint64_t sum = 0;
  if (chunk == 1) {
    if (begin < end) sum = scaled_mass(mass, tile_shift(exponent, top));
  } else {
    for (std::uint32_t t = begin; t < end; ++t) {
      const auto of_tile = static_cast<std::int32_t>(shared.first[t]);
      const std::uint64_t scaled = scaled_mass(shared.tile_begin[t], tile_shift(of_tile, top));
      shared.tile_begin[t] = sum;  // before it in this thread's chunk
      sum += scaled;
    }
  }
  std::uint64_t inclusive = sum;
#pragma unroll
  for (std::uint32_t distance = 1; distance < 32; distance *= 2) {
    const std::uint64_t other = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane >= distance) inclusive += other;
  }
  if (lane == 31) warp_sum[warp] = inclusive;
  __syncthreads();
  std::uint64_t before = inclusive - sum, total = 0;
#pragma unroll
  for (std::uint32_t i = 0; i < kWarps; ++i) {
    if (i < warp) before += warp_sum[i];
    total += warp_sum[i];
  }
  if (chunk == 1) {
    if (begin < end) shared.tile_begin[begin] = before;
  } else {
    for (std::uint32_t t = begin; t < end; ++t) shared.tile_begin[t] += before;
  }
  if (threadIdx.x == 0) shared.tile_begin[tiles] = total;
  __syncthreads();
  return {top, total};
}

// About 1 / x, without the care for what cannot be here that a division takes.
__device__ __forceinline__ double inverse(std::uint64_t x) {
  const auto exact = static_cast<double>(x);
  double y;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(exact));
#pragma unroll
  for (int step = 0; step < 2; ++step) y = fma(y, fma(-exact, y, 1.0), y);
  return y;
}

// a / b, with 1 / b at hand: a guess in double, which is off by one at most where the quotient is
// below 2^50, then exact.
__device__ __forceinline__ std::uint64_t quotient(std::uint64_t a, std::uint64_t b,
                                                  double inverse) {
  auto q = static_cast<std::uint64_t>(static_cast<double>(a) * inverse);
  while (q * b > a) --q;
  while (a - q * b >= b) ++q;
  return q;
}

// A kernel is made for each kind: most of one would be dead weight in the instruction cache.
enum class DrawKind : std::uint8_t { kSystematic, kFlash, kOther };  // sys, prop; flash; iid, strat

// Where points lie; flash only uses site and budget.
template <DrawKind kKind>
struct Points {
  Method method;
  DrawSite site;
  std::uint64_t total;
  std::uint64_t offset;  // systematic
  std::uint32_t budget;
  const std::uint64_t* sorted;  // iid
  double inverse_budget;

  __device__ std::uint64_t point(std::uint32_t s) const {
    if (kKind == DrawKind::kOther && method == Method::kIid) return sorted[s];
    if (kKind == DrawKind::kOther) return StratifiedPoints{site, total}.point(s);
    return SystematicPoints{total, offset}.point(s);
  }
  // How many points lie below budget * boundary.
  __device__ std::uint32_t below(std::uint64_t boundary) const {
    const std::uint64_t end = budget * boundary;
    if (kKind == DrawKind::kOther && method == Method::kIid) {
      std::uint32_t low = 0, high = budget;
      while (low < high) {
        const std::uint32_t middle = (low + high) / 2;
        if (sorted[middle] < end) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      return low;
    }
    if (kKind == DrawKind::kOther) {
      const auto stratum = static_cast<std::uint32_t>(quotient(end, total, inverse(total)));
      return stratum + (stratum < budget && point(stratum) < end ? 1U : 0U);
    }
    return end > offset ? static_cast<std::uint32_t>(
                              quotient(end - offset + total - 1, total, inverse(total)))
                        : 0;
  }
};

__device__ inline void sort_points(std::uint64_t* sorted, std::uint32_t size) {
  for (std::uint32_t run = 2; run <= size; run *= 2) {
    for (std::uint32_t distance = run / 2; distance > 0; distance /= 2) {
      for (std::uint32_t i = threadIdx.x; i < size; i += kThreads) {
        const std::uint32_t j = i ^ distance;
        if (j > i && (sorted[i] > sorted[j]) == ((i & run) == 0)) {
          const std::uint64_t swapped = sorted[i];
          sorted[i] = sorted[j];
          sorted[j] = swapped;
        }
      }
      __syncthreads();
    }
  }
}

// flash_budgets of models/sampling: budget / live tiles each, the remainder by one systematic draw
// over the live tiles. Returns false when there are fewer samples than live tiles.
__device__ inline bool flash_first(SelectShared& shared, std::uint32_t tiles, std::uint32_t budget,
                                   const DrawSite& site) {
  const std::uint32_t chunk = (tiles + kThreads - 1) / kThreads;
  const std::uint32_t begin = min(tiles, threadIdx.x * chunk), end = min(tiles, begin + chunk);
  std::uint32_t live = 0;
  for (std::uint32_t t = begin; t < end; ++t)
    live += shared.tile_begin[t + 1] > shared.tile_begin[t] ? 1 : 0;
  const Scan<std::uint32_t> scan = block_scan(live);
  if (budget < scan.total) return false;
  const std::uint32_t each = budget / scan.total, remainder = budget % scan.total;
  const std::uint64_t offset = mulhi64(draw_u64(site, Purpose::kTileRemainder, 0), scan.total);
  // Live tile j gets one more when a point s * live + offset lies in [remainder * j, ... * (j +
  // 1)).
  const auto extra_below = [&](std::uint32_t j) {
    const std::uint64_t bound = static_cast<std::uint64_t>(j) * remainder;
    return bound > offset
               ? static_cast<std::uint32_t>((bound - offset + scan.total - 1) / scan.total)
               : 0U;
  };
  std::uint32_t j = scan.before;
  for (std::uint32_t t = begin; t < end; ++t) {
    shared.first[t] = j * each + extra_below(j);
    j += shared.tile_begin[t + 1] > shared.tile_begin[t] ? 1 : 0;
  }
  if (threadIdx.x == 0) shared.first[tiles] = budget;
  __syncthreads();
  return true;
}

// What a block prepares of its head before it looks for rows: iid sorts its points, flash gives
// every tile its share. Returns false when flash has fewer samples than live tiles.
template <DrawKind kKind>
__device__ inline bool prepare_points(const Workspace& w, SelectShared& shared,
                                      const Points<kKind>& points, std::size_t first_slot,
                                      std::uint32_t tiles) {
  if constexpr (kKind == DrawKind::kFlash) {
    for (std::uint32_t t = threadIdx.x; t < tiles; t += kThreads) {
      const std::uint64_t mass = w.mass[first_slot + t];
      shared.sorted[t] = mass;
      shared.sorted[tiles + t] = systematic_points(points.site, mass, t).offset;
    }
    return flash_first(shared, tiles, points.budget, points.site);
  }
  if (kKind == DrawKind::kOther && points.method == Method::kIid) {
    const IidPoints iid{points.site, points.total, points.budget};
    std::uint32_t size = 1;
    while (size < points.budget) size *= 2;
    for (std::uint32_t s = threadIdx.x; s < size; s += kThreads)
      shared.sorted[s] = s < points.budget ? iid.point(s) : ~std::uint64_t{0};
    __syncthreads();
    sort_points(shared.sorted, size);
  }
  return true;
}

// The points that a block works on.
struct PointRange {
  std::uint32_t begin, end;
};
// Where the row of the block's first point begins and that of its last point ends: a tile, a sum of
// its first rows' weights, and how many points lie before it.
struct RunEdges {
  std::uint32_t tile[2];
  std::uint64_t boundary[2];
  std::uint32_t points[2];
};

// Eight neighbouring lanes look for the row of one point: a lane loads the weight of 32 rows of
// the point's tile, then four codes of the part that holds it.
constexpr std::uint32_t kTeam = 8, kTeams = kThreads / kTeam;
static_assert(kTeam == kTileParts && kTeam * 4 == kPartRows);

// The last lane of the team with `holds`; lane 0 of a team always holds.
__device__ __forceinline__ std::uint32_t last_lane(bool holds) {
  const std::uint32_t lanes = __ballot_sync(kAllLanes, holds);
  const std::uint32_t team = threadIdx.x % 32 / kTeam;
  return 31 - static_cast<std::uint32_t>(
                  __clz(static_cast<int>(lanes >> (kTeam * team) & ((1U << kTeam) - 1))));
}
template <class T>
__device__ __forceinline__ T of_lane(T value, std::uint32_t lane) {
  return __shfl_sync(kAllLanes, value, static_cast<int>(lane), kTeam);
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

// A point's tile, and the limit: the sum of weights before its row is at most this. A row owns the
// points from scale * its boundary on, so the owner is the last row whose boundary is not above the
// point (a row without weight has the boundary of the next one, or the tile's end). (C << 6) >> k
// <= r is C <= (((r + 1) << k) - 1) >> 6: one division a point, then a search among 32-bit sums.
struct PointPlace {
  std::uint32_t tile, limit;
};
template <DrawKind kKind>
__device__ __forceinline__ PointPlace place_point(const SelectShared& shared,
                                                  const Points<kKind>& points, std::uint32_t s,
                                                  std::uint32_t tiles, std::int32_t max_exponent) {
  constexpr bool flash = kKind == DrawKind::kFlash;
  const std::uint64_t at = flash ? s : points.point(s);
  std::uint32_t tile = 0, end = tiles;  // the last tile that begins at or before the point
  while (end - tile > 1) {
    const std::uint32_t middle = (tile + end) / 2;
    const std::uint64_t begin =
        flash ? shared.first[middle] : points.budget * shared.tile_begin[middle];
    if (begin <= at) {
      tile = middle;
    } else {
      end = middle;
    }
  }
  if constexpr (flash) {
    const std::uint32_t first = shared.first[tile], scale = shared.first[tile + 1] - first;
    const SystematicPoints own{shared.sorted[tile], shared.sorted[tiles + tile]};
    return {tile,
            static_cast<std::uint32_t>(quotient(own.point(s - first), scale, inverse(scale)))};
  }
  const std::uint32_t shift =
      tile_shift(static_cast<std::int32_t>(shared.first[tile]), max_exponent);
  const std::uint64_t residual = at - points.budget * shared.tile_begin[tile];
  const std::uint64_t unit = quotient(residual, points.budget, points.inverse_budget);
  return {tile, static_cast<std::uint32_t>((((unit + 1) << shift) - 1) >> kMassGuardBits)};
}

// How many points lie below `boundary`, a sum of weights of the tile's first rows.
template <DrawKind kKind>
__device__ inline std::uint32_t points_below(const SelectShared& shared,
                                             const Points<kKind>& points, std::uint32_t tile,
                                             std::uint32_t tiles, std::uint64_t boundary,
                                             std::int32_t max_exponent) {
  if constexpr (kKind != DrawKind::kFlash) {
    const std::uint32_t shift =
        tile_shift(static_cast<std::int32_t>(shared.first[tile]), max_exponent);
    return points.below(shared.tile_begin[tile] + scaled_mass(boundary, shift));
  }
  const std::uint32_t begin = shared.first[tile], scale = shared.first[tile + 1] - begin;
  const std::uint64_t mass = shared.sorted[tile], offset = shared.sorted[tiles + tile];
  const std::uint64_t bound = scale * boundary;
  if (bound <= offset) return begin;
  return begin +
         static_cast<std::uint32_t>(quotient(bound - offset + mass - 1, mass, inverse(mass)));
}

// A team's search for the row of one point: first the 32 rows that hold it, then the row.
struct RowSearch {
  PointPlace place;
  std::uint32_t part;    // weight of this lane's 32 rows of the tile
  std::uint32_t before;  // weights before the 32 rows that hold the owner
  std::uint32_t first_row;
  uint2 codes;

  __device__ __forceinline__ void load_parts(const Workspace& w, std::size_t first_slot) {
    part = w.part[(first_slot + place.tile) * kTileParts + threadIdx.x % kTeam];
  }
  __device__ __forceinline__ void load_codes(const Workspace& w, std::size_t first_slot) {
    const std::uint32_t sum = team_before(part);
    const std::uint32_t lane = last_lane(sum <= place.limit);
    before = of_lane(sum, lane);
    first_row = place.tile * kTileRows + lane * kPartRows;
    codes = *reinterpret_cast<const uint2*>(w.code + first_slot * kTileRows + first_row +
                                            4 * (threadIdx.x % kTeam));
  }
  // In the lane that holds the owner: its row, and where it begins and ends among the tile's
  // weights.
  struct Found {
    bool here;
    std::uint32_t row, begin;
    std::uint64_t end;
  };
  __device__ __forceinline__ Found find(const std::uint32_t* lut) const {
    std::uint32_t weight[4], sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t pair = i < 2 ? codes.x : codes.y;
      weight[i] = weight_of_code(static_cast<std::uint16_t>(pair >> (i % 2 * 16)), lut);
      sum += weight[i];
    }
    std::uint32_t at = before + team_before(sum);
    const bool here = last_lane(at <= place.limit) == threadIdx.x % kTeam;
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
    return {here, first_row + 4 * (threadIdx.x % kTeam) + row, at, std::uint64_t{at} + own};
  }
};

template <int kAtOnce>
__device__ inline void find_rows(const Workspace& w, SelectShared& shared, const PointRange& range,
                                 std::size_t first_slot, RunEdges& edges) {
#pragma unroll 1
  for (std::uint32_t base = range.begin; base < range.end; base += kAtOnce * kTeams) {
    RowSearch search[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      // Teams past the end go along with the last point and store nothing.
      const std::uint32_t s = min(base + i * kTeams + threadIdx.x / kTeam, range.end - 1);
      search[i].place = {shared.row[s], shared.start[s]};
      search[i].load_parts(w, first_slot);
    }
    __syncthreads();  // every team has its places before rows take theirs
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) search[i].load_codes(w, first_slot);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const std::uint32_t s = base + i * kTeams + threadIdx.x / kTeam;
      const RowSearch::Found found = search[i].find(shared.lut);
      if (!found.here || s >= range.end) continue;
      shared.row[s] = found.row;
      if (s == range.begin) {
        edges.tile[0] = search[i].place.tile;
        edges.boundary[0] = found.begin;
      }
      if (s + 1 == range.end) {
        edges.tile[1] = search[i].place.tile;
        edges.boundary[1] = found.end;
      }
    }
  }
}

// Fills shared.row of this block's points, and the edges: for thread 0 at once, for the others
// after the next barrier.
template <DrawKind kKind>
__device__ inline void select_points(const LaunchArguments& a, SelectShared& shared,
                                     const Points<kKind>& points, const PointRange& range,
                                     std::size_t first_slot, std::uint32_t tiles,
                                     std::int32_t max_exponent, RunEdges& edges) {
  for (std::uint32_t s = range.begin + threadIdx.x; s < range.end; s += kThreads) {
    const PointPlace place = place_point(shared, points, s, tiles, max_exponent);
    shared.row[s] = place.tile;
    shared.start[s] = place.limit;
  }
  __syncthreads();
  if (range.end - range.begin <= kTeams) {
    find_rows<1>(a.workspace, shared, range, first_slot, edges);
  } else {
    find_rows<4>(a.workspace, shared, range, first_slot, edges);
  }
  __syncthreads();
  // Thread 0 reads them after its own, or after the next barrier.
  if (threadIdx.x < 2 && range.begin < range.end)
    edges.points[threadIdx.x] = points_below(shared, points, edges.tile[threadIdx.x], tiles,
                                             edges.boundary[threadIdx.x], max_exponent);
}

}  // namespace stoat::gpu
