// Score pass: K read once, tensor cores, and of every score only its u16 code is kept
// (models/sampling/ruler.h). Grid: [splits]; a block walks tiles of 256 rows through the whole
// batch, a warp 32 rows of each. K rows are the A operand, in the pieces in which they lie in
// memory (the sum over head_dim may run in any order); the group's queries are the n = 8 operand;
// 64 KB a block are on their way while codes are made. One block barrier a tile, for its largest
// score.
//
// What comes before the queries: where K is stable, copies start while the kernel before runs,
// usually the gather of the launch before, which is a chain of dependent reads. They begin when the
// last copies of that launch's score pass are done, and with little on its way at once, so that the
// chain does not queue up behind them; the first half of the first tile goes on into registers, and
// its place in shared memory is filled again.
#include <cstdint>

#include "gpu/attention/handover.cuh"
#include "gpu/attention/ring.cuh"
#include "gpu/attention/score_encode.cuh"
#include "gpu/attention/score_walk.cuh"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kWarpRows = kTileRows / kWarps;  // of a tile
constexpr std::uint32_t kCodeStride = kWarpRows + 8;     // without bank conflicts between heads

// Two slots a warp: enough in flight, and a block of select_gather fits beside two of these.
template <int kHeadDim>
using KeyRing = Ring<kHeadDim, kWarps, 2>;
// Copies of a warp, 512 bytes each, on their way beside the one that it waits for: 32 KB of a
// multiprocessor are enough to keep the memory busy.
constexpr int kPacedAhead = 3;

struct TileShared {
  alignas(16) std::uint32_t lut[kWeightLutSize];
  alignas(16) std::uint16_t code[kWarps][kMaxGroup][kCodeStride];  // of a warp on its way out
  // Of tile t in t % 3 and t % 2: a warp may be ahead of one that still reads.
  float max_x[3][kWarps][kMaxGroup];
  std::uint32_t mass[2][kWarps][kMaxGroup];  // 32 rows of at most 2^24
  std::uint32_t queue[4];  // tile n of the block, counted through the batch, in n % 4
  bool paced;              // the gather of the launch before still runs
};

// A warp's copies of its rows of a tile: two slots.
template <class Element, int kHeadDim>
struct KeyCopies {
  const LaunchArguments& a;
  TileWalk walk;  // of the next copy
  RowAddress<Element> keys;

  __device__ KeyCopies(const LaunchArguments& arguments, const TileWalk& begin)
      : a(arguments),
        walk(begin),
        keys(arguments, arguments.params.k, min(begin.sequence, begin.batch - 1), begin.kv_head) {}

  __device__ __forceinline__ void move_to(std::uint32_t index) {
    walk.move_to(index);
    if (walk.sequence < walk.batch) keys.move_to(a.params.k, walk.sequence, walk.kv_head);
  }
  // Rows 16 * half to + 15 of the warp's; paced: with little on its way at once.
  __device__ __forceinline__ void copy(KeyRing<kHeadDim>& ring, std::uint32_t half,
                                       bool paced = false) const {
    if (walk.sequence < walk.batch) {
      const std::uint32_t row = walk.tile * kTileRows + kWarpRows * (threadIdx.x / 32) + 16 * half;
      if (paced) {
        ring.template copy<kPacedAhead>(keys, row, walk.context());
      } else {
        ring.copy(keys, row, walk.context());
      }
    }
    ring.commit();
  }
};

// Dot products of 16 rows with the group's heads: value 2 * half + i is row 8 * half + lane / 4,
// head 2 * (lane % 4) + i. keys(j, top, bottom): KeyRing::load_keys().
template <class Element, int kHeadDim, class Keys>
__device__ __forceinline__ void multiply(const uint4 (&q)[kHeadDim / 32], float (&dot)[4],
                                         Keys keys) {
#pragma unroll
  for (float& value : dot) value = 0;
#pragma unroll
  for (std::uint32_t j = 0; j < kHeadDim / 32; ++j) {
    uint4 top, bottom;
    keys(j, top, bottom);
    mma<Element>(dot, top.x, bottom.x, top.y, bottom.y, q[j].x, q[j].y);
    mma<Element>(dot, top.z, bottom.z, top.w, bottom.w, q[j].z, q[j].w);
  }
}
// Of the oldest slot's rows.
template <class Element, int kHeadDim>
__device__ __forceinline__ void multiply_slot(KeyRing<kHeadDim>& ring,
                                              const uint4 (&q)[kHeadDim / 32], float (&dot)[4]) {
  ring.wait();
  multiply<Element, kHeadDim>(
      q, dot, [&](std::uint32_t j, uint4& top, uint4& bottom) { ring.load_keys(j, top, bottom); });
  ring.taken();
}

// 16 rows of a warp out of the ring, until the queries are there.
template <int kHeadDim>
struct KeyStash {
  uint4 top[kHeadDim / 32], bottom[kHeadDim / 32];

  __device__ __forceinline__ void take(KeyRing<kHeadDim>& ring) {
    ring.wait();
#pragma unroll
    for (std::uint32_t j = 0; j < kHeadDim / 32; ++j) ring.load_keys(j, top[j], bottom[j]);
    ring.taken();
  }
};

// x = logit * log2(e) in place of the dot products, checked; minus infinity past the end.
__device__ __forceinline__ void scale_scores(float (&x)[2][4], float sm_scale,
                                             std::uint32_t first_row, std::uint32_t context) {
  bool unusual = first_row + kWarpRows > context;
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    float& value = x[i / 4][i % 4];
    value = __fmul_rn(__fmul_rn(value, sm_scale), kLog2E);
    unusual |= !(fabsf(value) < kScoreLimit);
  }
  if (!__any_sync(kAllLanes, unusual)) return;
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    float& value = x[i / 4][i % 4];
    value =
        first_row + 16 * (i / 4) + 8 * (i / 2 % 2) < context ? checked_score(value) : -kInfinity;
  }
}

__device__ __forceinline__ void warp_maxima(float (&max_of)[kMaxGroup], const float (&x)[2][4]) {
  const std::uint32_t lane = threadIdx.x % 32;
  float max_x[2];
#pragma unroll
  for (std::uint32_t i = 0; i < 2; ++i)
    max_x[i] = fmaxf(fmaxf(x[0][i], x[0][2 + i]), fmaxf(x[1][i], x[1][2 + i]));
#pragma unroll
  for (int distance = 4; distance < 32; distance *= 2) {
#pragma unroll
    for (float& value : max_x) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  if (lane < 4) *reinterpret_cast<float2*>(&max_of[2 * lane]) = make_float2(max_x[0], max_x[1]);
}

// Codes of the warp's scores, and their mass in the warp.
__device__ __forceinline__ void encode_tile(TileShared& shared, std::uint32_t group,
                                            std::uint32_t tile, const float (&x)[2][4]) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  std::uint32_t mass[2] = {0, 0};
  if (2 * (lane % 4) < group) {
    float2 max_x = make_float2(-kInfinity, -kInfinity);
#pragma unroll
    for (std::uint32_t w = 0; w < kWarps; ++w) {
      const float2 of =
          *reinterpret_cast<const float2*>(&shared.max_x[tile % 3][w][2 * (lane % 4)]);
      max_x = make_float2(fmaxf(max_x.x, of.x), fmaxf(max_x.y, of.y));
    }
#pragma unroll
    for (std::uint32_t i = 0; i < 2; ++i) {
      const float of = i == 0 ? max_x.x : max_x.y;
      const bool empty = tile_is_empty(of);
      const float exponent = empty ? 0.0F : 2048.0F * static_cast<float>(tile_exponent(of));
      std::uint16_t* code = &shared.code[warp][2 * (lane % 4) + i][lane / 4];
#pragma unroll
      for (std::uint32_t part = 0; part < 4; ++part) {
        const std::uint32_t value =
            empty ? 65535U : code_bits(exponent, x[part / 2][2 * (part % 2) + i]) & 0xffffU;
        code[8 * part] = static_cast<std::uint16_t>(value);
        mass[i] += shared.lut[value & (kWeightLutSize - 1)] >> (value >> kCodeFractionBits);
      }
    }
  }
#pragma unroll
  for (int distance = 4; distance < 32; distance *= 2) {
#pragma unroll
    for (std::uint32_t& value : mass) value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  if (lane < 4)
    *reinterpret_cast<uint2*>(&shared.mass[tile % 2][warp][2 * lane]) =
        make_uint2(mass[0], mass[1]);
}

// Where a block's results go.
struct TileOutput {
  const LaunchArguments& a;
  std::uint32_t group;

  __device__ __forceinline__ std::size_t slot(std::uint32_t sequence, const TileWalk& at,
                                              std::uint32_t g) const {
    const std::size_t head =
        static_cast<std::size_t>(sequence) * a.params.q_heads + at.kv_head * group + g;
    return head * a.tiles_capacity + at.tile;
  }
  // The warp's codes: 64 bytes a head.
  __device__ __forceinline__ void store_warp_codes(const TileShared& shared,
                                                   const TileWalk& of) const {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4;
    __syncwarp();
    if (g < group) {
      const std::size_t at = slot(code_place(a, of.sequence), of, g) * (kTileRows / 8) +
                             kWarpRows / 8 * warp + lane % 4;
      const uint4 codes = *reinterpret_cast<const uint4*>(&shared.code[warp][g][8 * (lane % 4)]);
      store_codes(reinterpret_cast<uint4*>(a.workspace.code) + at, codes);
    }
    __syncwarp();
  }
  // Exponent and mass; after a barrier.
  __device__ __forceinline__ void store_marks(const TileShared& shared, std::uint32_t n,
                                              std::size_t first_slot) const {
    const std::uint32_t g = threadIdx.x;
    if (g >= group) return;
    const std::size_t at = first_slot + g * static_cast<std::size_t>(a.tiles_capacity);
    float max_x = -kInfinity;
    std::uint64_t mass = 0;
    for (std::uint32_t w = 0; w < kWarps; ++w) {
      max_x = fmaxf(max_x, shared.max_x[n % 3][w][g]);
      mass += shared.mass[n % 2][w][g];
    }
    uint4* parts = reinterpret_cast<uint4*>(a.workspace.part) + 2 * at;
    const auto part = [&](std::uint32_t w) { return shared.mass[n % 2][w][g]; };
    parts[0] = make_uint4(part(0), part(1), part(2), part(3));
    parts[1] = make_uint4(part(4), part(5), part(6), part(7));
    a.workspace.exponent[at] = stored_exponent(max_x);
    a.workspace.mass[at] = mass;
  }
  // Warp 0 calls it, after the block's barrier that follows the codes and after its own
  // store_marks. Every sequence has a signal of its own.
  __device__ __forceinline__ void signal(std::uint32_t sequence, std::uint32_t tiles) const {
    if (a.signal_group == 0) return;
    __syncwarp();
    if (threadIdx.x == 0) signal_tiles(a, sequence, tiles);
  }
};

// Bounds of a larger block keep the registers at 96, beside which a block of select_gather fits.
// kStash: for launches with more tiles than blocks.
template <class Element, int kHeadDim, bool kStash>
__global__ __launch_bounds__(kThreads + 64,
                             2) void score(const __grid_constant__ LaunchArguments a) {
  __shared__ TileShared shared;
  __shared__ std::uint32_t contexts[kMaxBatch];
  extern __shared__ __align__(128) uint4 ring_memory[];
  const DecodeParams& p = a.params;
  if (!p.kv_is_stable) wait_for_previous_kernel();
  if (threadIdx.x < p.batch) contexts[threadIdx.x] = context_of(p, threadIdx.x);
  if (threadIdx.x == 0)
    shared.paced = p.kv_is_stable && a.signal_group > 0 &&
                   wait_for_score_pass_before(a, context_of(p, p.batch - 1));
  __syncthreads();
  const std::uint32_t group = p.q_heads / p.kv_heads;
  TileWalk walk{contexts, p.batch, p.kv_heads};
  walk.move_to(blockIdx.x);
  const bool any = walk.sequence < p.batch;
  // Whether the kernel before does not write the warp's first `rows` rows of a tile: it may write
  // the newest row of a sequence.
  const auto stable = [&](const TileWalk& at, std::uint32_t rows) {
    return p.kv_is_stable && at.sequence < p.batch &&
           at.tile * kTileRows + kWarpRows * (threadIdx.x / 32) + rows < at.context();
  };
  KeyRing<kHeadDim> ring(ring_memory);
  KeyCopies<Element, kHeadDim> copies(a, walk);
  const bool paced = shared.paced;
  load_lut(a.workspace, shared.lut);
  const bool early[2] = {stable(walk, 16), stable(walk, 32)};
  if (early[0]) copies.copy(ring, 0, paced);
  if (early[1]) copies.copy(ring, 1, paced);
  // Tiles 0 and 1 of a block are known by its number.
  const std::uint32_t second = gridDim.x + blockIdx.x;
  KeyStash<kHeadDim> stash;
  bool stashed = false;
  if (kStash && early[1]) {
    copies.move_to(second);
    stashed = stable(copies.walk, 16);
    if (stashed) {
      stash.take(ring);
      copies.copy(ring, 0, paced);
    }
  }
  if (p.kv_is_stable) wait_for_previous_kernel();
  // Whatever runs before this kernel has ended: the next may take the room that is left.
  let_next_kernel_start();
  if (!early[0]) copies.copy(ring, 0);
  if (!early[1]) copies.copy(ring, 1);
  uint4 q[kHeadDim / 32];
  if (any) load_query<Element, kHeadDim>(p, walk.sequence, walk.kv_head, q);
  TileCounter counter{a.workspace.next_tile};
  const bool asks = threadIdx.x / 32 == kWarps - 1;
  if (asks) {
    std::uint32_t tiles = 0;
    for (std::uint32_t i = threadIdx.x % 32; i < p.batch; i += 32)
      tiles += (contexts[i] + kTileRows - 1) / kTileRows;
    counter.tiles = __reduce_add_sync(kAllLanes, tiles) * p.kv_heads;
    if (threadIdx.x % 32 == 0) {
      counter.ask();
      shared.queue[1] = second;
    }
  }
  if (!any) return;
  // Queries of the tile that is copied next, where it is another KV head's.
  uint4 next_q[kHeadDim / 32];
  bool turns = false;
  const auto load_next_query = [&] {
    const TileWalk& next = copies.walk;
    turns =
        next.sequence < p.batch && (next.sequence != walk.sequence || next.kv_head != walk.kv_head);
    if (turns) load_query<Element, kHeadDim>(p, next.sequence, next.kv_head, next_q);
  };
  const TileOutput output{a, group};
  float x[2][4];
  if (stashed) {
    load_next_query();
    multiply<Element, kHeadDim>(q, x[0], [&](std::uint32_t j, uint4& top, uint4& bottom) {
      top = stash.top[j];
      bottom = stash.bottom[j];
    });
  } else {
    copies.move_to(second);
    load_next_query();
    multiply_slot<Element, kHeadDim>(ring, q, x[0]);
    copies.copy(ring, 0);
  }
  multiply_slot<Element, kHeadDim>(ring, q, x[1]);
  copies.copy(ring, 1);
  __syncthreads();
  // The tile before, whose marks are stored behind the next barrier: one of its own for the sake of
  // an earlier signal costs more than it gives.
  std::uint32_t last_sequence = walk.sequence, done = 0;  // tiles of it
  std::size_t last_slot = 0;
  for (std::uint32_t n = 0;; ++n) {
    scale_scores(x, p.sm_scale,
                 walk.tile * kTileRows + kWarpRows * (threadIdx.x / 32) + threadIdx.x % 32 / 4,
                 walk.context());
    warp_maxima(shared.max_x[n % 3][threadIdx.x / 32], x);
    if (asks && threadIdx.x % 32 == 0) shared.queue[(n + 2) % 4] = counter.index;
    __syncthreads();
    if (asks && threadIdx.x % 32 == 0) counter.ask();
    encode_tile(shared, group, n, x);
    output.store_warp_codes(shared, walk);
    if (n > 0 && threadIdx.x < 32) {
      output.store_marks(shared, n - 1, last_slot);
      if (last_sequence != walk.sequence) output.signal(last_sequence, done);
    }
    done = last_sequence == walk.sequence ? done + 1 : 1;
    last_sequence = walk.sequence;
    last_slot = output.slot(walk.sequence, walk, 0);
    if (copies.walk.sequence == p.batch) {
      __syncthreads();
      if (threadIdx.x < 32) {
        output.store_marks(shared, n, last_slot);
        output.signal(last_sequence, done);
      }
      break;
    }
    walk = copies.walk;
    if (turns) {
#pragma unroll
      for (int j = 0; j < kHeadDim / 32; ++j) q[j] = next_q[j];
    }
    copies.move_to(shared.queue[(n + 2) % 4]);
    load_next_query();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      multiply_slot<Element, kHeadDim>(ring, q, x[half]);
      copies.copy(ring, half);
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

std::size_t ring_bytes(std::uint32_t head_dim) {
  return head_dim == 64 ? Ring<64>::kBytes : Ring<128>::kBytes;
}

std::size_t key_ring_bytes(std::uint32_t head_dim) {
  return head_dim == 64 ? KeyRing<64>::kBytes : KeyRing<128>::kBytes;
}

Kernel score_kernel(ElementType element, std::uint32_t head_dim, bool several_tiles) {
  return several_tiles ? instance<Scores<true>::Of>(element, head_dim)
                       : instance<Scores<false>::Of>(element, head_dim);
}

}  // namespace stoat::gpu
