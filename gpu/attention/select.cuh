// The select stage of one query head on the device: the ruler from tile masses and exponents, where
// the points of a method lie on it, and the rows that own them. Integer arithmetic only; models/
// sampling is the specification. Device only.
//
// Three levels (design decision 3, with the weights of 32 rows between tile and row): the tile of a
// point by prefix sums of the tiles' masses, its part of 32 rows and its row by the residual. Here
// the first; the others lane by lane in stream.cuh, eight lanes together in few.cuh.
#pragma once

#include <cstdint>

#include "gpu/attention/gather.cuh"
#include "models/sampling/points.h"

namespace stoat::gpu {

// A run of points on one row that a warp has found: its V row, counted in rows of head_dim elements
// from the begin of V, and what it weighs before a factor common to all rows.
struct FoundRun {
  std::uint32_t row;
  float weight;
};
// Points that a warp looks for at once, and its runs: as many, and a step of rows (stream.cuh).
constexpr std::uint32_t kChunk = 32, kFoundRuns = 48;
// Weights of the parts of so many tiles are copied to shared memory.
constexpr std::uint32_t kCopiedTiles = 128;

// Parts of dynamic shared memory; sizes from the shape of the launch.
struct SelectShared {
  std::uint64_t* tile_begin;  // [tiles + 1] ruler boundaries; first the masses
  std::uint64_t* sorted;      // iid [power of two >= budget]: points in order; flash [2, tiles]:
                              // masses and offsets of the tiles' own points
  std::uint32_t* first;       // [tiles + 1] first point of a tile; before that, the exponents
  std::uint32_t* lut;         // [kWeightLutSize]
  float* sums;                // [kWarps, head_dim]
  FoundRun* runs;             // [kWarps, kFoundRuns]
  float* weight;              // flash [tiles]: what a point of a tile weighs
  bool flash;
  uint4* part;  // [tiles, kTileParts / 4] weights of 32 rows; null: too many to copy

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
    flash = p.method == Method::kFlash;
    // What is read 16 bytes at a time comes first.
    lut = reinterpret_cast<std::uint32_t*>(base);
    auto* const parts = reinterpret_cast<uint4*>(lut + kWeightLutSize);
    const std::uint32_t copied = tiles <= kCopiedTiles ? tiles : 0;
    part = copied > 0 ? parts : nullptr;
    sums = reinterpret_cast<float*>(parts + copied * (kTileParts / 4));
    runs = reinterpret_cast<FoundRun*>(sums + kWarps * p.head_dim);
    tile_begin = reinterpret_cast<std::uint64_t*>(runs + kWarps * kFoundRuns);
    sorted = tile_begin + tiles + 1;
    first = reinterpret_cast<std::uint32_t*>(sorted + sorted_size(p, tiles));
    weight = reinterpret_cast<float*>(first + tiles + 1);
    return kWeightLutSize * sizeof(std::uint32_t) + copied * (kTileParts * sizeof(std::uint32_t)) +
           kWarps * (p.head_dim * sizeof(float) + kFoundRuns * sizeof(FoundRun)) +
           (tiles + 1 + sorted_size(p, tiles)) * sizeof(std::uint64_t) +
           (tiles + 1) * sizeof(std::uint32_t) + (flash ? tiles * sizeof(float) : 0);
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

// The weights of the parts on their way to shared memory, where they fit.
__device__ __forceinline__ void copy_parts(const Workspace& w, std::size_t first_slot,
                                           std::uint32_t tiles, const SelectShared& shared) {
  if (shared.part == nullptr) return;
  const auto* parts = reinterpret_cast<const uint4*>(w.part) + 2 * first_slot;
#pragma unroll 1
  for (std::uint32_t i = threadIdx.x; i < 2 * tiles; i += kThreads) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<std::uint32_t>(__cvta_generic_to_shared(shared.part + i))),
                 "l"(parts + i)
                 : "memory");
  }
}

// The ruler of one head: tile boundaries and exponents. Returns the largest exponent.
struct HeadRuler {
  std::int32_t max_exponent;
  std::uint64_t total;                   // Z
  std::uint32_t live = 0, live_sum = 0;  // tiles of some mass: before this thread's, and all
};
// Z is at most 2^50; above it the live tiles are counted in the same sums.
constexpr std::uint32_t kLiveShift = 51;
constexpr std::uint64_t kMassMask = (std::uint64_t{1} << kLiveShift) - 1;
static_assert(kMaxContext <= 1U << 20 && kMaxContext / kTileRows < 1U << (64 - kLiveShift));
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
    }
    copy_parts(w, first_slot, tiles, shared);
    if (begin < end) {
      shared.first[begin] = static_cast<std::uint32_t>(exponent);
      if (shared.flash) shared.sorted[begin] = mass;
    }
  } else {
    copy_parts(w, first_slot, tiles, shared);
    for (std::uint32_t t = threadIdx.x; t < tiles; t += kThreads) {
      const std::int32_t of_tile = w.exponent[first_slot + t];
      shared.tile_begin[t] = w.mass[first_slot + t];
      if (shared.flash) shared.sorted[t] = w.mass[first_slot + t];
      shared.first[t] = static_cast<std::uint32_t>(of_tile);
      top = max(top, of_tile);
    }
  }
  top = __reduce_max_sync(kAllLanes, top);
  if (lane == 0) warp_top[warp] = top;
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
#pragma unroll
  for (std::uint32_t i = 0; i < kWarps; ++i) top = max(top, warp_top[i]);
  if (top == kMaskedTile || top == kDamagedTile) return {top, 0};
  std::uint64_t sum = 0, live = 0;
  if (chunk == 1) {
    if (begin < end) sum = scaled_mass(mass, tile_shift(exponent, top));
    live = sum > 0 ? 1 : 0;
  } else {
    for (std::uint32_t t = begin; t < end; ++t) {
      const auto of_tile = static_cast<std::int32_t>(shared.first[t]);
      const std::uint64_t scaled = scaled_mass(shared.tile_begin[t], tile_shift(of_tile, top));
      shared.tile_begin[t] = sum;  // before it in this thread's chunk
      sum += scaled;
      live += scaled > 0 ? 1 : 0;
    }
  }
  sum |= live << kLiveShift;
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
  const auto live_before = static_cast<std::uint32_t>(before >> kLiveShift);
  const auto live_sum = static_cast<std::uint32_t>(total >> kLiveShift);
  before &= kMassMask;
  total &= kMassMask;
  if (chunk == 1) {
    if (begin < end) shared.tile_begin[begin] = before;
  } else {
    for (std::uint32_t t = begin; t < end; ++t) shared.tile_begin[t] += before;
  }
  if (threadIdx.x == 0) shared.tile_begin[tiles] = total;
  __syncthreads();
  return {top, total, live_before, live_sum};
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

// Where points lie; flash only uses site, budget and offset.
template <DrawKind kKind>
struct Points {
  Method method;
  DrawSite site;
  std::uint64_t total;
  std::uint64_t offset;  // systematic; flash: the draw that says which tiles get one point more
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
// over the live tiles; also the own points of the tiles and what a point weighs. Returns false when
// there are fewer samples than live tiles.
__device__ inline bool share_among_tiles(SelectShared& shared, std::uint32_t tiles,
                                         std::uint32_t budget, std::uint64_t draw,
                                         const HeadRuler& ruler) {
  const std::uint32_t live = ruler.live_sum;
  if (budget < live) return false;
  const std::uint32_t chunk = (tiles + kThreads - 1) / kThreads;
  const std::uint32_t begin = min(tiles, threadIdx.x * chunk), end = min(tiles, begin + chunk);
  const std::uint32_t each = budget / live, remainder = budget % live;
  const auto offset = static_cast<std::uint32_t>(mulhi64(draw, live));
  // Live tile j gets one more when a point s * live + offset lies in [remainder * j, ... * (j +
  // 1)). All of it is below 2^25.
  const auto first_of = [&](std::uint32_t j) {
    const std::uint32_t bound = j * remainder;
    return j * each + (bound > offset ? (bound - offset + live - 1) / live : 0U);
  };
  const float inverse_total = 1.0F / static_cast<float>(ruler.total);
  std::uint32_t j = ruler.live, first = first_of(j);
  for (std::uint32_t t = begin; t < end; ++t) {
    shared.first[t] = first;
    // systematic_points() of the tile's mass.
    shared.sorted[tiles + t] = mulhi64(shared.sorted[tiles + t], shared.sorted[t]);
    const std::uint64_t mass = shared.tile_begin[t + 1] - shared.tile_begin[t];
    if (mass == 0) continue;
    const std::uint32_t next = first_of(++j);
    shared.weight[t] = static_cast<float>(mass) * inverse_total / static_cast<float>(next - first);
    first = next;
  }
  if (threadIdx.x == 0) shared.first[tiles] = budget;
  __syncthreads();
  return true;
}

// What flash draws needs no scores.
template <DrawKind kKind>
__device__ __forceinline__ void draw_early(SelectShared& shared, const Points<kKind>& points,
                                           std::uint32_t tiles) {
  if constexpr (kKind == DrawKind::kFlash) {
    for (std::uint32_t t = threadIdx.x; t < tiles; t += kThreads)
      shared.sorted[tiles + t] = draw_u64(points.site, Purpose::kValue, t);
  }
}

// What a block prepares of its head before it looks for rows: iid sorts its points, flash gives
// every tile its share. Returns false when flash has fewer samples than live tiles.
template <DrawKind kKind>
__device__ inline bool prepare_points(SelectShared& shared, const Points<kKind>& points,
                                      std::uint32_t tiles, const HeadRuler& ruler) {
  if constexpr (kKind == DrawKind::kFlash)
    return share_among_tiles(shared, tiles, points.budget, points.offset, ruler);
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

// A point's tile, and the limit: the sum of weights before its row is at most this. A row owns the
// points from scale * its boundary on, so the owner is the last row whose boundary is not above the
// point (a row without weight has the boundary of the next one, or the tile's end). (C << 6) >> k
// <= r is C <= (((r + 1) << k) - 1) >> 6: one division a point, then a search among 32-bit sums.
struct PointPlace {
  std::uint32_t tile, limit;
};
template <DrawKind kKind>
__device__ __forceinline__ PointPlace place_in_tile(const SelectShared& shared,
                                                    const Points<kKind>& points, std::uint32_t s,
                                                    std::uint64_t at, std::uint32_t tile,
                                                    std::uint32_t tiles,
                                                    std::int32_t max_exponent) {
  constexpr bool flash = kKind == DrawKind::kFlash;
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

// Where point s lies and where a tile begins, on one scale: of flash the numbers of the points.
template <DrawKind kKind>
__device__ __forceinline__ std::uint64_t scaled_point(const Points<kKind>& points,
                                                      std::uint32_t s) {
  return kKind == DrawKind::kFlash ? s : points.point(s);
}
template <DrawKind kKind>
__device__ __forceinline__ std::uint64_t scaled_begin(const SelectShared& shared,
                                                      const Points<kKind>& points,
                                                      std::uint32_t tile) {
  return kKind == DrawKind::kFlash ? shared.first[tile] : points.budget * shared.tile_begin[tile];
}

template <DrawKind kKind>
__device__ __forceinline__ PointPlace place_point(const SelectShared& shared,
                                                  const Points<kKind>& points, std::uint32_t s,
                                                  std::uint32_t tiles, std::int32_t max_exponent) {
  const std::uint64_t at = scaled_point(points, s);
  std::uint32_t tile = 0, end = tiles;  // the last tile that begins at or before the point
  while (end - tile > 1) {
    const std::uint32_t middle = (tile + end) / 2;
    if (scaled_begin(shared, points, middle) <= at) {
      tile = middle;
    } else {
      end = middle;
    }
  }
  return place_in_tile(shared, points, s, at, tile, tiles, max_exponent);
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

}  // namespace stoat::gpu
