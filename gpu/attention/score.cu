// Score pass: K read once, tensor cores, and of every score only its u16 code is kept
// (models/sampling/ruler.h). Grid: [splits]; a block walks tiles of 256 rows through the whole
// batch, a warp 32 rows of each. K rows are the A operand, the group's queries the n = 8 operand;
// 64 KB a block are on their way while codes are made. One block barrier a tile, for its largest
// score. What all warps would compute of a tile one thread does, ahead (TilePlace):
// power and the gather beside this kernel pay for every instruction.
//
// What comes before the queries: where K is stable, copies start while the kernel before runs,
// usually the gather of the launch before, which is a chain of dependent reads. They begin when the
// last copies of that launch's score pass are done, and with little on its way at once, so that the
// chain does not queue up behind them; the first half of the first tile goes on into registers, and
// its place in shared memory is filled again.
#include <cstdint>

#include "gpu/attention/handover.cuh"
#include "gpu/attention/key_slots.cuh"
#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/score_walk.cuh"
#include "gpu/attention/shared_window.cuh"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kWarpRows = kTileRows / kWarps;  // of a tile

// Of tile t of a block, counted through the batch, in t % (their number): a warp may be a tile
// ahead of one that still reads.
template <int kHeadDim>
struct TileShared {
  alignas(128) uint4 query[2][kMaxGroup * kHeadDim / 8];           // swizzled
  alignas(128) std::uint16_t code[kWarps][kMaxGroup * kWarpRows];  // on their way out; swizzled
  alignas(16) std::uint32_t lut[kWeightLutSize];
  // Of head 2i + j and warp w in [i][2w + j]; padded against bank conflicts.
  alignas(16) float max_x[2][kMaxGroup / 2][2 * kWarps + 4];
  alignas(16) std::uint32_t mass[2][kMaxGroup][kWarps];  // 32 rows of at most 2^24
  TilePlace place[8];  // known a tile before it is copied, needed until its masses are stored
  bool paced;          // the gather of the launch before still runs
};

// Where a lane reads and writes, in the shared window: of tile 0.
template <int kHeadDim>
struct LanePlaces {
  std::uint32_t lut, code, codes, maximum, maxima, mass;

  // Of 8 rows of a head among a warp's codes, in bytes: neither writing two rows of four heads nor
  // reading eight of two meets in a bank.
  __device__ __forceinline__ static std::uint32_t inside(std::uint32_t head, std::uint32_t eight) {
    const std::uint32_t pair = head / 2;
    return 128 * pair + 64 * ((head ^ pair) % 2) + 16 * (eight ^ (pair & 2U));
  }

  __device__ explicit LanePlaces(TileShared<kHeadDim>& shared) {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const std::uint32_t row = lane / 4, pair = lane % 4;
    lut = kept(shared_address(shared.lut));
    const std::uint32_t warp_codes = shared_address(shared.code[warp]);
    code = kept(warp_codes + inside(2 * pair, row / 4) + 4 * (row % 4));
    codes = kept(warp_codes + inside(row, pair));
    maximum = kept(shared_address(&shared.max_x[0][pair][2 * warp + row % 2]));
    maxima = kept(shared_address(shared.max_x[0][pair]));
    mass = kept(shared_address(&shared.mass[0][2 * pair + row % 2][warp]));
  }
};

// The group's queries as tensor core operand, from memory to shared memory to registers: heads
// beyond the group stay zero.
template <class Element, int kHeadDim>
struct Queries {
  static constexpr std::uint32_t kRowPieces = kHeadDim / 8;
  // Threads from this one on bring a piece each: their warps have nothing else to do.
  static constexpr std::uint32_t kFirstThread = 32;

  TileShared<kHeadDim>& shared;
  const DecodeParams& p;
  std::uint32_t group;
  uint4 piece;

  __device__ __forceinline__ std::uint32_t mine() const { return threadIdx.x - kFirstThread; }
  __device__ __forceinline__ bool brings() const { return mine() < group * kRowPieces; }
  __device__ __forceinline__ void clear() const {
    constexpr std::uint32_t kPieces = kMaxGroup * kRowPieces;
    for (std::uint32_t i = threadIdx.x; i < 2 * kPieces; i += kThreads) {
      if (i % kPieces >= group * kRowPieces) shared.query[i / kPieces][i % kPieces] = uint4{};
    }
  }
  __device__ __forceinline__ void ask(const TilePlace& place) {
    if (brings() && place.rows > 0)
      piece = static_cast<const uint4*>(p.q)[place.head * kRowPieces + mine()];
  }
  // Of tile n of the block; to be read after a barrier.
  __device__ __forceinline__ void store(std::uint32_t n) const {
    if (brings()) shared.query[n % 2][mine() ^ mine() / kRowPieces % 8] = piece;
  }
  // Two products each.
  __device__ __forceinline__ void load(std::uint32_t n, uint4 (&q)[kHeadDim / 32]) const {
    const std::uint32_t lane = threadIdx.x % 32, head = lane % 8;
    const auto at = static_cast<std::uint32_t>(
        __cvta_generic_to_shared(&shared.query[n % 2][head * kRowPieces + (lane / 8 ^ head)]));
#pragma unroll
    for (std::uint32_t j = 0; j < kHeadDim / 32; ++j)
      q[j] = load_matrices((at ^ 4 * j % 8 * 16) + 4 * j / 8 * 128);
  }
};

// Dot products of 16 rows with the group's heads: value 2 * i + j is row 2 * (lane / 4) + i, head
// 2 * (lane % 4) + j. keys(s): operand of product s.
template <class Element, int kHeadDim, class Keys>
__device__ __forceinline__ void multiply(const uint4 (&q)[kHeadDim / 32], float (&dot)[4],
                                         Keys keys) {
  // Two sums, since a product waits for the one whose sum it takes.
  float sum[2][4] = {};
#pragma unroll
  for (std::uint32_t s = 0; s < kHeadDim / 16; ++s) {
    const uint4 k = keys(s);
    if (s % 2 == 0) {
      mma<Element>(sum[0], k.x, k.y, k.z, k.w, q[s / 2].x, q[s / 2].y);
    } else {
      mma<Element>(sum[1], k.x, k.y, k.z, k.w, q[s / 2].z, q[s / 2].w);
    }
  }
#pragma unroll
  for (std::uint32_t i = 0; i < 4; ++i) dot[i] = __fadd_rn(sum[0][i], sum[1][i]);
}
template <class Element, int kHeadDim>
__device__ __forceinline__ void multiply_slot(const KeySlots<Element, kHeadDim>& keys,
                                              std::uint32_t half, const uint4 (&q)[kHeadDim / 32],
                                              float (&dot)[4]) {
  keys.wait();
  multiply<Element, kHeadDim>(q, dot, [&](std::uint32_t s) { return keys.load(half, s); });
  __syncwarp();
}

// x = logit * log2(e) in place of the dot products, checked; minus infinity past the end. rows: of
// the sequence from the warp's first on, may be negative.
__device__ __forceinline__ void scale_scores(float (&x)[2][4], float sm_scale, std::int32_t rows) {
  bool unusual = rows < static_cast<std::int32_t>(kWarpRows);
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    float& value = x[i / 4][i % 4];
    value = __fmul_rn(__fmul_rn(value, sm_scale), kLog2E);
    unusual |= !(fabsf(value) < kScoreLimit);
  }
  if (!__any_sync(kAllLanes, unusual)) return;
  const auto first = static_cast<std::int32_t>(2 * (threadIdx.x % 32 / 4));
#pragma unroll
  for (std::int32_t i = 0; i < 8; ++i) {
    float& value = x[i / 4][i % 4];
    value = 16 * (i / 4) + first + i / 2 % 2 < rows ? checked_score(value) : -kInfinity;
  }
}

// Of two values a thread over threads that are 4, 8, 16 apart: one result for lanes whose bit 2 is
// 0, the other for the rest. Fewer instructions than one after the other.
template <class T, class Combine>
__device__ __forceinline__ T combine_over_rows(T even, T odd, Combine combine) {
  const bool second = (threadIdx.x & 4U) != 0;
  T kept = second ? odd : even;
  kept = combine(kept, __shfl_xor_sync(kAllLanes, second ? even : odd, 4));
  kept = combine(kept, __shfl_xor_sync(kAllLanes, kept, 8));
  return combine(kept, __shfl_xor_sync(kAllLanes, kept, 16));
}

template <int kHeadDim>
__device__ __forceinline__ void store_warp_maxima(const LanePlaces<kHeadDim>& to, std::uint32_t n,
                                                  const float (&x)[2][4]) {
  const float of = combine_over_rows(fmaxf(fmaxf(x[0][0], x[0][2]), fmaxf(x[1][0], x[1][2])),
                                     fmaxf(fmaxf(x[0][1], x[0][3]), fmaxf(x[1][1], x[1][3])),
                                     [](float a, float b) { return fmaxf(a, b); });
  if (threadIdx.x % 32 < 8)
    store_shared(to.maximum + n % 2 * sizeof(TileShared<kHeadDim>::max_x[0]), __float_as_uint(of));
}

// Codes of the warp's scores, and their mass in the warp; the tile's largest scores of heads
// 2 * (lane % 4) and + 1.
template <int kHeadDim>
__device__ __forceinline__ void encode_tile(const LanePlaces<kHeadDim>& at, std::uint32_t group,
                                            std::uint32_t n, const float (&x)[2][4],
                                            float (&max_x)[2]) {
  using Shared = TileShared<kHeadDim>;
  std::uint32_t mass[2] = {0, 0};
  max_x[0] = max_x[1] = -kInfinity;
  if (2 * (threadIdx.x % 4) < group) {
    const std::uint32_t maxima = at.maxima + n % 2 * sizeof(Shared::max_x[0]);
#pragma unroll
    for (std::uint32_t w = 0; w < kWarps; w += 2) {
      const uint4 of = load_shared(maxima + 8 * w);  // two warps', two heads'
      max_x[0] = fmaxf(max_x[0], fmaxf(__uint_as_float(of.x), __uint_as_float(of.z)));
      max_x[1] = fmaxf(max_x[1], fmaxf(__uint_as_float(of.y), __uint_as_float(of.w)));
    }
#pragma unroll
    for (std::uint32_t i = 0; i < 2; ++i) {
      // Of an empty tile every code is the largest, whatever x is.
      const float exponent = tile_is_empty(max_x[i])
                                 ? kInfinity
                                 : 2048.0F * static_cast<float>(tile_exponent(max_x[i]));
#pragma unroll
      for (std::uint32_t half = 0; half < 2; ++half) {
        std::uint32_t bits[2];
#pragma unroll
        for (std::uint32_t row = 0; row < 2; ++row) {
          bits[row] = code_bits(exponent, x[half][2 * row + i]);
          std::uint32_t fraction = bits[row] & (kWeightLutSize - 1);
          fraction = kept(fraction);
          mass[i] += __funnelshift_r(load_shared_word(at.lut + 4 * fraction), 0,
                                     bits[row] >> kCodeFractionBits);
        }
        store_shared(at.code ^ 64 * i ^ 32 * half, __byte_perm(bits[0], bits[1], 0x5410));
      }
    }
  }
  const std::uint32_t sum =
      combine_over_rows(mass[0], mass[1], [](std::uint32_t a, std::uint32_t b) { return a + b; });
  if (threadIdx.x % 32 < 8) store_shared(at.mass + n % 2 * sizeof(Shared::mass[0]), sum);
}

// Where a block's results go.
template <int kHeadDim>
struct TileOutput {
  const LaunchArguments& a;
  const TileShared<kHeadDim>& shared;
  const LanePlaces<kHeadDim>& lane_places;
  std::uint32_t group;
  uint4* codes;  // of this lane in tile slot 0

  __device__ TileOutput(const LaunchArguments& arguments, const TileShared<kHeadDim>& in,
                        const LanePlaces<kHeadDim>& places, std::uint32_t heads)
      : a(arguments), shared(in), lane_places(places), group(heads) {
    const std::uint32_t lane = threadIdx.x % 32;
    codes = reinterpret_cast<uint4*>(kept(reinterpret_cast<std::uint64_t>(
        reinterpret_cast<uint4*>(a.workspace.code) +
        lane / 4 * static_cast<std::size_t>(a.tiles_capacity) * (kTileRows / 8) +
        kWarpRows / 8 * (threadIdx.x / 32) + lane % 4)));
  }

  // The warp's codes: 64 bytes a head.
  __device__ __forceinline__ void store_warp_codes(std::uint32_t n) const {
    __syncwarp();
    if (threadIdx.x % 32 / 4 < group)
      store_codes(codes + static_cast<std::size_t>(shared.place[n % 8].code_slot) * (kTileRows / 8),
                  load_shared(lane_places.codes));
    __syncwarp();
  }
  // Lanes 0 to 3 of a warp.
  __device__ __forceinline__ void store_exponents(std::uint32_t n, const float (&max_x)[2]) const {
    const std::uint32_t g = 2 * threadIdx.x;
#pragma unroll
    for (std::uint32_t i = 0; i < 2; ++i) {
      if (g + i < group) a.workspace.exponent[slot(n, g + i)] = stored_exponent(max_x[i]);
    }
  }
  // After the barrier that follows the codes.
  __device__ __forceinline__ void store_masses(std::uint32_t n) const {
    const std::uint32_t g = threadIdx.x;
    if (g >= group) return;
    const auto* mass = reinterpret_cast<const uint4*>(shared.mass[n % 2][g]);
    const uint4 low = mass[0], high = mass[1];
    uint4* parts = reinterpret_cast<uint4*>(a.workspace.part) + 2 * slot(n, g);
    parts[0] = low;
    parts[1] = high;
    // Seven of them fit 32 bits.
    a.workspace.mass[slot(n, g)] =
        std::uint64_t{low.x + low.y + low.z + low.w} + (high.x + high.y + high.z + high.w);
  }

 private:
  __device__ __forceinline__ std::size_t slot(std::uint32_t n, std::uint32_t g) const {
    return shared.place[n % 8].slot + g * static_cast<std::size_t>(a.tiles_capacity);
  }
};

// Bounds of a larger block keep the registers at 96, beside which a block of select_gather fits.
// kStash: for launches with more tiles than blocks.
template <class Element, int kHeadDim, bool kStash>
__global__ __launch_bounds__(kThreads + 64,
                             2) void score(const __grid_constant__ LaunchArguments a) {
  __shared__ TileShared<kHeadDim> shared;
  extern __shared__ __align__(128) uint4 slot_memory[];
  // [batch] Not more than that, so that a block of select_gather finds room.
  auto* const contexts = reinterpret_cast<std::uint32_t*>(
      slot_memory + KeySlots<Element, kHeadDim>::kBytes / sizeof(uint4));
  const DecodeParams& p = a.params;
  const std::uint32_t group = p.q_heads / p.kv_heads, warp = threadIdx.x / 32;
  load_lut(a.workspace, shared.lut);
  Queries<Element, kHeadDim> queries{shared, p, group, {}};
  queries.clear();
  if (!p.kv_is_stable) wait_for_previous_kernel();
  if (threadIdx.x < p.batch) contexts[threadIdx.x] = context_of(p, threadIdx.x);
  if (threadIdx.x == 0)
    shared.paced = p.kv_is_stable && a.signal_group > 0 &&
                   wait_for_score_pass_before(a, context_of(p, p.batch - 1));
  __syncthreads();
  // Tiles 0 and 1 of a block are known by its number.
  TileWalk walk{a, contexts};
  const TilePlace first = walk.move_to(blockIdx.x);
  const KeySlots<Element, kHeadDim> keys(a, slot_memory);
  // Whether the kernel before does not write the warp's first `rows` rows of a tile, or has ended:
  // it may write the newest row of a sequence.
  const auto stable = [&](const TilePlace& place, std::uint32_t rows) {
    return place.rows > 0 && (!p.kv_is_stable || kWarpRows * warp + rows < place.rows);
  };
  const bool paced = shared.paced;
  const bool early[2] = {stable(first, 16), stable(first, 32)};
  if (early[0]) keys.copy(first, 0, paced);
  if (early[1]) keys.copy(first, 1, paced);
  const TilePlace second = kStash ? walk.move_to(gridDim.x + blockIdx.x) : TilePlace{};
  // Half 0 of the first tile out of its slot, until the queries are there.
  uint4 stash[kHeadDim / 16];
  const bool stashed = kStash && p.kv_is_stable && early[1] && stable(second, 16);
  if (stashed) {
    keys.wait();
#pragma unroll
    for (std::uint32_t s = 0; s < kHeadDim / 16; ++s) stash[s] = keys.load(0, s);
    __syncwarp();
    keys.copy(second, 0, paced);
  }
  if (p.kv_is_stable) wait_for_previous_kernel();
  // Whatever runs before this kernel has ended: the next may take the room that is left.
  let_next_kernel_start();
  if (!early[0]) keys.copy(first, 0);
  if (!early[1]) keys.copy(first, 1);
  queries.ask(first);
  TileCounter counter{a.workspace.next_tile};
  const bool asks = threadIdx.x == kThreads - 32;
  if (threadIdx.x >= kThreads - 32) {
    std::uint32_t tiles = 0;
    for (std::uint32_t i = threadIdx.x % 32; i < p.batch; i += 32)
      tiles += (contexts[i] + kTileRows - 1) / kTileRows;
    counter.tiles = __reduce_add_sync(kAllLanes, tiles) * p.kv_heads;
    if (asks) {
      counter.ask();
      shared.place[0] = first;
      shared.place[1] = second;
    }
  }
  if (first.rows == 0) return;
  queries.store(0);
  queries.ask(second);
  __syncthreads();
  float x[2][4];
  uint4 q[kHeadDim / 32];
  queries.load(0, q);
  if (stashed) {
    multiply<Element, kHeadDim>(q, x[0], [&](std::uint32_t s) { return stash[s]; });
  } else {
    multiply_slot(keys, 0, q, x[0]);
    keys.copy(second, 0);
  }
  // While half 1 is on its way: before a barrier all warps would wait for it.
  if (kStash && asks) shared.place[2] = walk.move_to(counter.index());
  multiply_slot(keys, 1, q, x[1]);
  keys.copy(second, 1);
  const LanePlaces<kHeadDim> lane_places(shared);
  const TileOutput<kHeadDim> output(a, shared, lane_places, group);
  std::uint32_t rows = first.rows, done = 0;  // tiles of the same sequence, in warp 0
  for (std::uint32_t n = 0;; ++n) {
    scale_scores(x, p.sm_scale, static_cast<std::int32_t>(rows - kWarpRows * warp));
    store_warp_maxima(lane_places, n, x);
    queries.store(n + 1);
    __syncthreads();
    if (asks) counter.ask();
    float max_x[2];
    encode_tile(lane_places, group, n, x, max_x);
    output.store_warp_codes(n);
    if (threadIdx.x < 4) output.store_exponents(n, max_x);
    rows = shared.place[(n + 1) % 8].rows;
    // Masses of the tile before are stored behind the next barrier: one of its own for the sake of
    // an earlier signal costs more than it gives. Every sequence has a signal of its own.
    if (warp == 0) {
      const auto sequence = [&](std::uint32_t of) { return shared.place[of % 8].sequence; };
      const auto signal = [&](std::uint32_t of) {
        __syncwarp();
        if (threadIdx.x == 0 && a.signal_group > 0) signal_tiles(a, sequence(of), done);
        done = 0;
      };
      if (n > 0) {
        output.store_masses(n - 1);
        ++done;
        if (sequence(n - 1) != sequence(n)) signal(n - 1);
      }
      if (rows == 0) {
        __syncthreads();
        output.store_masses(n);
        ++done;
        signal(n);
      }
    } else if (rows == 0) {
      __syncthreads();
    }
    if (rows == 0) return;
    const TilePlace& next = shared.place[(n + 2) % 8];
    queries.ask(next);
    queries.load(n + 1, q);
#pragma unroll
    for (std::uint32_t half = 0; half < 2; ++half) {
      multiply_slot(keys, half, q, x[half]);
      keys.copy(next, half);
      if (half == 0 && asks) shared.place[(n + 3) % 8] = walk.move_to(counter.index());
    }
  }
}

template <bool kStash>
struct Scores {
  template <class Element, int kHeadDim>
  struct Of {
    static Kernel kernel() { return score<Element, kHeadDim, kStash>; }
  };
};

}  // namespace

std::size_t score_shared_bytes(std::uint32_t head_dim, std::uint32_t batch) {
  return (head_dim == 64 ? KeySlots<__half, 64>::kBytes : KeySlots<__half, 128>::kBytes) +
         batch * sizeof(std::uint32_t);
}

Kernel score_kernel(ElementType element, std::uint32_t head_dim, bool several_tiles) {
  return several_tiles ? instance<Scores<true>::Of>(element, head_dim)
                       : instance<Scores<false>::Of>(element, head_dim);
}

}  // namespace stoat::gpu
