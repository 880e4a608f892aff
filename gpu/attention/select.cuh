// The select stage of one query head on the device: the ruler from tile masses and exponents, where
// the points of a method lie on it, and the rows that own them. Integer arithmetic only; models/
// sampling is the specification. Device only, included by select_gather.cu.
//
// Two levels (design decision 3): prefix sums of the tiles' masses give every tile its points, and
// a warp finds the rows of one tile by the residuals.
#pragma once

#include <cstdint>

#include "gpu/attention/kernels.cuh"
#include "models/sampling/points.h"

namespace stoat::gpu {

// Parts of dynamic shared memory; sizes from the shape of the launch.
struct SelectShared {
  std::uint64_t* tile_begin;  // [tiles + 1] ruler boundaries; first the masses
  std::uint64_t* sorted;      // [power of two >= budget] iid: points in order
  std::uint32_t* first;       // [tiles + 1] first point of a tile; before that, the exponents
  std::uint32_t* row;         // [budget] of every point of this block
  std::uint32_t* start;       // [budget + 1] first point of each distinct row
  std::uint32_t* lut;         // [kWeightLutSize]
  std::uint32_t* prefix;      // [kWarps, 256] exclusive weights of the warp's tile

  __host__ __device__ static std::uint32_t sorted_size(const DecodeParams& p) {
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
    first = reinterpret_cast<std::uint32_t*>(sorted + sorted_size(p));
    row = first + tiles + 1;
    start = row + p.budget;
    prefix = start + p.budget + 1;
    return (tiles + 1 + sorted_size(p)) * sizeof(std::uint64_t) +
           (tiles + 1 + 2 * p.budget + 1 + kWeightLutSize + kWarps * kTileRows) *
               sizeof(std::uint32_t);
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
  std::int32_t max_exponent = kMaskedTile;
  for (std::uint32_t t = threadIdx.x; t < tiles; t += kThreads) {
    const std::int32_t exponent = w.exponent[first_slot + t];
    shared.tile_begin[t] = w.mass[first_slot + t];
    shared.first[t] = static_cast<std::uint32_t>(exponent);
    max_exponent = max(max_exponent, exponent);
  }
  max_exponent = block_max(max_exponent);  // a barrier, too
  if (max_exponent == kMaskedTile || max_exponent == kDamagedTile) return {max_exponent, 0};
  const std::uint32_t chunk = (tiles + kThreads - 1) / kThreads;
  const std::uint32_t begin = min(tiles, threadIdx.x * chunk), end = min(tiles, begin + chunk);
  std::uint64_t sum = 0;
  for (std::uint32_t t = begin; t < end; ++t) {
    const auto exponent = static_cast<std::int32_t>(shared.first[t]);
    const std::uint64_t mass =
        scaled_mass(shared.tile_begin[t], tile_shift(exponent, max_exponent));
    shared.tile_begin[t] = sum;  // before it in this thread's chunk
    sum += mass;
  }
  const Scan<std::uint64_t> scan = block_scan(sum);
  for (std::uint32_t t = begin; t < end; ++t) shared.tile_begin[t] += scan.before;
  if (threadIdx.x == 0) shared.tile_begin[tiles] = scan.total;
  __syncthreads();
  return {max_exponent, scan.total};
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

// Points of the methods that are one ruler for all tiles.
struct Points {
  Method method;
  DrawSite site;
  std::uint64_t total;
  std::uint64_t offset;  // systematic
  std::uint32_t budget;
  const std::uint64_t* sorted;  // iid
  double inverse_total, inverse_budget;

  __device__ std::uint64_t point(std::uint32_t s) const {
    if (method == Method::kIid) return sorted[s];
    if (method == Method::kStratified) return StratifiedPoints{site, total}.point(s);
    return SystematicPoints{total, offset}.point(s);
  }
  // How many points lie below budget * boundary.
  __device__ std::uint32_t below(std::uint64_t boundary) const {
    const std::uint64_t end = budget * boundary;
    if (method == Method::kIid) {
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
    if (method == Method::kStratified) {
      const auto stratum = static_cast<std::uint32_t>(quotient(end, total, inverse_total));
      return stratum + (stratum < budget && point(stratum) < end ? 1U : 0U);
    }
    return end > offset ? static_cast<std::uint32_t>(
                              quotient(end - offset + total - 1, total, inverse_total))
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

__device__ inline bool find_first_points(SelectShared& shared, const Points& points,
                                         std::uint32_t tiles) {
  if (points.method == Method::kFlash)
    return flash_first(shared, tiles, points.budget, points.site);
  if (points.method == Method::kIid) {
    const IidPoints iid{points.site, points.total, points.budget};
    std::uint32_t size = 1;
    while (size < points.budget) size *= 2;
    for (std::uint32_t s = threadIdx.x; s < size; s += kThreads)
      shared.sorted[s] = s < points.budget ? iid.point(s) : ~std::uint64_t{0};
    __syncthreads();
    sort_points(shared.sorted, size);
  }
  for (std::uint32_t t = threadIdx.x; t <= tiles; t += kThreads)
    shared.first[t] = points.below(shared.tile_begin[t]);
  __syncthreads();
  return true;
}

// A tile's stored scores, loaded ahead of use.
struct TileCodes {
  std::uint32_t tile;
  std::int32_t exponent;
  uint4 packed;  // of this lane: 8 codes
};
__device__ __forceinline__ TileCodes load_tile(const Workspace& w, std::size_t first_slot,
                                               std::uint32_t tile) {
  const std::size_t slot = first_slot + tile;
  return {tile, w.exponent[slot],
          reinterpret_cast<const uint4*>(w.code + slot * kTileRows)[threadIdx.x % 32]};
}

// Where row i's sum lies in a warp's prefix[256]: lanes write rows 8 apart without bank conflicts.
__device__ __forceinline__ std::uint32_t prefix_slot(std::uint32_t i) { return i % 8 * 32 + i / 8; }

// The weights of a tile: eight rows a lane, and the sums before them and of all.
struct TileWeights {
  std::uint32_t weight[8];
  std::uint32_t before;
  std::uint64_t total;

  __device__ __forceinline__ TileWeights(const uint4& packed, const std::uint32_t* lut) {
    const std::uint32_t lane = threadIdx.x % 32;
    std::uint32_t sum = 0;  // at most 8 * 2^24
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t pair = word(packed, i);
      weight[2 * i] = weight_of_code(static_cast<std::uint16_t>(pair), lut);
      weight[2 * i + 1] = weight_of_code(static_cast<std::uint16_t>(pair >> 16), lut);
      sum += weight[2 * i] + weight[2 * i + 1];
    }
    // 256 * 2^24 does not fit 32 bits, but every exclusive sum does.
    std::uint32_t inclusive = sum;
#pragma unroll
    for (std::uint32_t distance = 1; distance < 32; distance *= 2) {
      const std::uint32_t other = __shfl_up_sync(kAllLanes, inclusive, distance);
      if (lane >= distance) inclusive += other;
    }
    before = inclusive - sum;
    total = __shfl_sync(kAllLanes, std::uint64_t{before} + sum, 31);
  }
  // Exclusive sums to prefix[256].
  __device__ __forceinline__ void store(std::uint32_t* prefix) const {
    std::uint32_t sum = before;
    __syncwarp();
#pragma unroll
    for (std::uint32_t i = 0; i < 8; ++i) {
      prefix[prefix_slot(8 * (threadIdx.x % 32) + i)] = sum;
      sum += weight[i];
    }
    __syncwarp();
  }
  // The last row with no more than limit before it. All lanes call it with the same limit.
  __device__ __forceinline__ std::uint32_t row(std::uint32_t limit) const {
    const int lane = __popc(__ballot_sync(kAllLanes, before <= limit)) - 1;
    std::uint32_t sum = before, row = 0;
#pragma unroll
    for (int i = 0; i < 7; ++i) {
      sum += weight[i];
      row += sum <= limit ? 1 : 0;
    }
    return 8 * static_cast<std::uint32_t>(lane) + __shfl_sync(kAllLanes, row, lane);
  }
};

// The points that a block works on. A run of points on one row belongs to the block that has its
// first point, so a block also looks at the point before its own, and at its last run's end.
struct PointRange {
  std::uint32_t begin, end;  // own points
  __device__ std::uint32_t first_seen() const { return begin > 0 ? begin - 1 : 0; }
};

// Rows of a tile's points in the range; a warp calls it, and takes the points `start` + lane,
// + `step`, ... of them. A row owns the points from scale * its boundary on, so the owner is the
// last row whose boundary is not above the point (a row without weight has the boundary of the next
// one, or the tile's end). (C << 6) >> k <= r is C <= (((r + 1) << k) - 1) >> 6: one division a
// point, then a search among 32-bit sums; of very few points, by all lanes together in registers.
__device__ inline void select_tile(SelectShared& shared, const Points& points,
                                   const PointRange& range, const TileCodes& codes,
                                   std::int32_t max_exponent, std::uint32_t start,
                                   std::uint32_t step, std::uint32_t* last_end) {
  constexpr std::uint32_t kVeryFew = 6;
  const std::uint32_t tile = codes.tile, lane = threadIdx.x % 32;
  const TileWeights weights(codes.packed, shared.lut);
  const std::uint32_t begin = shared.first[tile], end = shared.first[tile + 1];
  const bool flash = points.method == Method::kFlash;
  const std::uint32_t shift = tile_shift(codes.exponent, max_exponent);
  const std::uint64_t scale = flash ? end - begin : points.budget;
  const double inverse_scale = flash ? 1.0 / static_cast<double>(scale) : points.inverse_budget;
  const std::uint64_t tile_begin = shared.tile_begin[tile];
  const SystematicPoints own =
      flash ? systematic_points(points.site, weights.total, tile) : SystematicPoints{};
  const std::uint32_t stop = min(end, range.end);
  // The sum of weights before the owner of point s is at most this.
  const auto limit_of = [&](std::uint32_t s) {
    // residual / scale: below 2^32 for flash (M), below 2^38 else (T), and then shifted back.
    const std::uint64_t residual =
        flash ? own.point(s - begin) : points.point(s) - scale * tile_begin;
    const std::uint64_t unit = quotient(residual, scale, inverse_scale);
    return static_cast<std::uint32_t>(flash ? unit : (((unit + 1) << shift) - 1) >> kMassGuardBits);
  };
  const std::uint32_t seen = max(begin, range.first_seen());
  if (stop - seen <= kVeryFew && start == 0 && stop != range.end) {
    const std::uint32_t limits = seen + lane < stop ? limit_of(seen + lane) : 0;
#pragma unroll 1
    for (std::uint32_t s = seen; s < stop; ++s) {
      const std::uint32_t row =
          weights.row(__shfl_sync(kAllLanes, limits, static_cast<int>(s - seen)));
      if (lane == 0) shared.row[s] = tile * kTileRows + row;
    }
    return;
  }
  std::uint32_t* prefix = shared.prefix + threadIdx.x / 32 * kTileRows;
  weights.store(prefix);
  for (std::uint32_t s = seen + start + lane; s < stop; s += step) {
    const std::uint32_t limit = limit_of(s);
    std::uint32_t row = 0;
#pragma unroll
    for (std::uint32_t bit = kTileRows / 2; bit > 0; bit /= 2) {
      if (prefix[prefix_slot(row + bit)] <= limit) row += bit;
    }
    shared.row[s] = tile * kTileRows + row;
    if (s + 1 == range.end) {
      const std::uint64_t boundary =
          row + 1 < kTileRows ? prefix[prefix_slot(row + 1)] : weights.total;
      if (!flash) {
        *last_end = points.below(tile_begin + scaled_mass(boundary, shift));
      } else {
        const std::uint64_t bound = scale * boundary, mass = weights.total;
        *last_end =
            begin + (bound > own.offset
                         ? static_cast<std::uint32_t>(quotient(bound - own.offset + mass - 1, mass,
                                                               1.0 / static_cast<double>(mass)))
                         : 0);
      }
    }
  }
}

// Fills shared.row of this block's points, and *last_end with the end of their last run. A warp
// takes tiles with few points, one loading while one is worked on; tiles with many are shared by
// all warps.
__device__ inline void select_points(const LaunchArguments& a, SelectShared& shared,
                                     const Points& points, const PointRange& range,
                                     std::size_t first_slot, std::uint32_t tiles,
                                     std::int32_t max_exponent, std::uint32_t* last_end) {
  constexpr std::uint32_t kMany = 64;
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto points_of = [&](std::uint32_t tile) {
    const std::uint32_t low = max(shared.first[tile], range.first_seen());
    const std::uint32_t high = min(shared.first[tile + 1], range.end);
    return high > low ? high - low : 0;
  };
  TileCodes waiting{};
  bool any = false;
  for (std::uint32_t base = 0; base < tiles; base += kThreads) {
    const std::uint32_t tile = base + lane * kWarps + warp;
    const std::uint32_t n = tile < tiles ? points_of(tile) : 0;
    for (std::uint32_t todo = __ballot_sync(kAllLanes, n > 0 && n <= kMany); todo != 0;
         todo &= todo - 1) {
      const auto source = static_cast<std::uint32_t>(__ffs(static_cast<int>(todo)) - 1);
      const TileCodes next = load_tile(a.workspace, first_slot, base + source * kWarps + warp);
      if (any) select_tile(shared, points, range, waiting, max_exponent, 0, 32, last_end);
      waiting = next;
      any = true;
    }
  }
  if (any) select_tile(shared, points, range, waiting, max_exponent, 0, 32, last_end);
  for (std::uint32_t base = 0; base < tiles; base += 32) {
    const bool many = base + lane < tiles && points_of(base + lane) > kMany;
    for (std::uint32_t todo = __ballot_sync(kAllLanes, many); todo != 0; todo &= todo - 1) {
      const auto source = static_cast<std::uint32_t>(__ffs(static_cast<int>(todo)) - 1);
      if (points_of(base + source) <= 32 * warp) continue;  // nothing for this warp
      select_tile(shared, points, range, load_tile(a.workspace, first_slot, base + source),
                  max_exponent, 32 * warp, kThreads, last_end);
    }
  }
  __syncthreads();
}

}  // namespace stoat::gpu
