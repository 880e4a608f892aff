// Score pass: K read once, tensor cores, and of every score only its u16 code is kept
// (models/sampling/ruler.h). Grid: [splits]; a block walks tiles of 256 rows through the whole
// batch, a warp 32 rows of each. K rows are the A operand, in the pieces in which they lie in
// memory (the sum over head_dim may run in any order); the group's queries are the n = 8 operand;
// 64 KB a block are on their way while codes are made. One block barrier a tile, for its largest
// score.
#include "gpu/attention/ring.cuh"
#include "gpu/attention/score_encode.cuh"

#include <cstdint>

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kWarpRows = kTileRows / kWarps;  // of a tile
constexpr std::uint32_t kCodeStride = kWarpRows + 8;     // without bank conflicts between heads

// Two slots a warp: enough in flight, and a block of select_gather fits beside two of these.
template <int kHeadDim>
using KeyRing = Ring<kHeadDim, kWarps, 2>;

struct TileShared {
  alignas(16) std::uint32_t lut[kWeightLutSize];
  alignas(16) std::uint16_t code[kWarps][kMaxGroup][kCodeStride];  // of a warp on its way out
  // Of tile t in t % 3 and t % 2: a warp may be ahead of one that still reads.
  float max_x[3][kWarps][kMaxGroup];
  std::uint32_t mass[2][kWarps][kMaxGroup];  // 32 rows of at most 2^24
  std::uint32_t queue[4];  // tile n of the block, counted through the batch, in n % 4
  std::uint32_t over;      // 1: the kernel before has ended
};

// Where tile `index` of the launch lies: sequence after sequence, of each the tiles of the same
// rows of all KV heads, then those of the next rows. Indices only grow.
struct TileWalk {
  const std::uint32_t* contexts;  // [batch] in shared memory
  std::uint32_t batch, kv_heads;
  std::uint32_t sequence = 0,
                first = 0;  // index of its first tile; sequence == batch: past the end
  std::uint32_t tile = 0, kv_head = 0;

  __device__ __forceinline__ std::uint32_t context() const { return contexts[sequence]; }
  __device__ __forceinline__ std::uint32_t tiles() const {
    return (context() + kTileRows - 1) / kTileRows;
  }
  __device__ __forceinline__ void move_to(std::uint32_t index) {
    while (sequence < batch && index - first >= tiles() * kv_heads) {
      first += tiles() * kv_heads;
      ++sequence;
    }
    tile = (index - first) / kv_heads;
    kv_head = (index - first) % kv_heads;
  }
};

// Tiles of a block that are known from the start beyond its first: where the blocks have more than
// one of a single sequence each, one more, since time without copies is a large part of such a
// launch, and tiles that are known can be fetched into the L2.
__device__ __forceinline__ std::uint32_t known_tiles(const TileWalk& walk) {
  const std::uint32_t tiles = (walk.contexts[0] + kTileRows - 1) / kTileRows * walk.kv_heads;
  return walk.batch == 1 && tiles > gridDim.x ? 2 : 1;
}

// Hands out the tiles: the first ones of a block by its number, then who comes first. One thread of
// a block asks, ahead of the copies, and once more than it gets: after so many asks the counter is
// 0 again.
struct TileCounter {
  std::uint32_t* counter;
  std::uint32_t known;
  std::uint32_t tiles = 0;
  std::uint32_t index = 0;  // the last one given

  __device__ __forceinline__ void ask() {
    if (index >= tiles) return;
    const std::uint32_t given = (known + 1) * gridDim.x;
    const std::uint32_t asks = (tiles > given ? tiles - given : 0) + gridDim.x;
    index = given + atomicInc(counter, asks - 1);
  }
};

// While the kernel before ends: the tiles that the block copies next on their way to the L2. One
// thread asks for them, in pieces that leave what that kernel still reads its share of the memory;
// `over` says when there is nothing to wait for any more.
template <class Element, int kHeadDim>
__device__ __forceinline__ void fetch_known_tiles(const LaunchArguments& a, TileWalk walk,
                                                  std::uint32_t known, std::uint32_t* over) {
#if __CUDA_ARCH__ >= 900
  constexpr std::uint32_t kPieces = 8, kPieceRows = kTileRows / kPieces;
  constexpr long long kCyclesPerPiece = 570;
  const std::uint32_t page_size = a.params.page_size;
  if (a.row_stride != kHeadDim || (page_size != 0 && page_size < kTileRows)) return;
  long long next = clock64();
  for (std::uint32_t i = 1; i <= known; ++i) {
    walk.move_to(blockIdx.x + i * gridDim.x);
    if (walk.sequence >= walk.batch || (walk.tile + 1) * kTileRows > walk.context()) return;
    const RowAddress<Element> keys(a, a.params.k, walk.sequence, walk.kv_head);
    const Element* from = keys.row(walk.tile * kTileRows);
    for (std::uint32_t piece = 0; piece < kPieces; ++piece, next += kCyclesPerPiece) {
      while (atomicOr(over, 0) == 0 && clock64() < next) __nanosleep(64);
      if (atomicOr(over, 0) != 0) return;
      asm volatile(
          "cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from + piece * kPieceRows * kHeadDim),
          "n"(kPieceRows * kHeadDim * sizeof(Element))
          : "memory");
    }
  }
#endif
}

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
  __device__ __forceinline__ void copy(KeyRing<kHeadDim>& ring, std::uint32_t half) const {
    if (walk.sequence < walk.batch)
      ring.copy(keys, walk.tile * kTileRows + kWarpRows * (threadIdx.x / 32) + 16 * half,
                walk.context());
    ring.commit();
  }
};

// Dot products of the oldest slot's rows with the group's heads: value 2 * half + i is row
// 8 * half + lane / 4, head 2 * (lane % 4) + i.
template <class Element, int kHeadDim>
__device__ __forceinline__ void multiply(KeyRing<kHeadDim>& ring, const uint4 (&q)[kHeadDim / 32],
                                         float (&dot)[4]) {
  ring.wait();
#pragma unroll
  for (float& value : dot) value = 0;
#pragma unroll
  for (std::uint32_t j = 0; j < kHeadDim / 32; ++j) {
    uint4 top, bottom;
    ring.load_keys(j, top, bottom);
    mma<Element>(dot, top.x, bottom.x, top.y, bottom.y, q[j].x, q[j].y);
    mma<Element>(dot, top.z, bottom.z, top.w, bottom.w, q[j].z, q[j].w);
  }
  ring.taken();
}

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

  __device__ __forceinline__ std::size_t slot(const TileWalk& at, std::uint32_t g) const {
    const std::size_t head =
        static_cast<std::size_t>(at.sequence) * a.params.q_heads + at.kv_head * group + g;
    return head * a.tiles_capacity + at.tile;
  }
  // The warp's codes: 64 bytes a head.
  __device__ __forceinline__ void store_warp_codes(const TileShared& shared,
                                                   const TileWalk& of) const {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4;
    __syncwarp();
    if (g < group) {
      const std::size_t at = slot(of, g) * (kTileRows / 8) + kWarpRows / 8 * warp + lane % 4;
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
  // `tiles` more of a sequence are in the workspace. Warp 0 calls it, after the block's barrier
  // that follows the codes and after its own store_marks.
  __device__ __forceinline__ void signal(std::uint32_t sequence, std::uint32_t tiles) const {
    if (!a.signals) return;
    __syncwarp();
    if (threadIdx.x == 0) {
      asm volatile("fence.acq_rel.gpu; red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(
                       a.workspace.ready + sequence),
                   "r"(tiles)
                   : "memory");
    }
  }
};

// Bounds of a larger block keep the registers at 96, beside which a block of select_gather fits.
template <class Element, int kHeadDim>
__global__ __launch_bounds__(kThreads + 64,
                             2) void score(const __grid_constant__ LaunchArguments a) {
  __shared__ TileShared shared;
  __shared__ std::uint32_t contexts[kMaxBatch];
  extern __shared__ __align__(128) uint4 ring_memory[];
  const DecodeParams& p = a.params;
  if (!p.kv_is_stable) wait_for_previous_kernel();
  if (threadIdx.x < p.batch) contexts[threadIdx.x] = context_of(p, threadIdx.x);
  if (threadIdx.x == 0) shared.over = 0;
  __syncthreads();
  const std::uint32_t group = p.q_heads / p.kv_heads;
  TileWalk walk{contexts, p.batch, p.kv_heads};
  walk.move_to(blockIdx.x);
  const bool any = walk.sequence < p.batch;
  // K is on its way before the kernel before has ended, if that one does not write it: of the last
  // tile it may have written the last row.
  const bool early = p.kv_is_stable && any && walk.tile + 1 < walk.tiles();
  if (p.kv_is_stable && !early) wait_for_previous_kernel();
  KeyRing<kHeadDim> ring(ring_memory);
  KeyCopies<Element, kHeadDim> copies(a, walk);
  copies.copy(ring, 0);
  copies.copy(ring, 1);
  load_lut(a.workspace, shared.lut);
  const std::uint32_t known = known_tiles(walk);
  if (early && known > 1 && threadIdx.x == kThreads - 1)
    fetch_known_tiles<Element, kHeadDim>(a, walk, known, &shared.over);
  if (early) wait_for_previous_kernel();
  // Whatever runs before this kernel has ended: the next may take the room that is left.
  let_next_kernel_start();
  if (known > 1 && threadIdx.x == 0) atomicExch(&shared.over, 1);
  TileCounter counter{a.workspace.next_tile, known};
  const bool asks = threadIdx.x / 32 == kWarps - 1;
  if (asks) {
    std::uint32_t tiles = 0;
    for (std::uint32_t i = threadIdx.x % 32; i < p.batch; i += 32)
      tiles += (contexts[i] + kTileRows - 1) / kTileRows;
    counter.tiles = __reduce_add_sync(kAllLanes, tiles) * p.kv_heads;
    if (threadIdx.x % 32 == 0) {
      counter.ask();
      for (std::uint32_t i = 1; i <= known; ++i) shared.queue[i] = i * gridDim.x + blockIdx.x;
    }
  }
  if (!any) return;
  uint4 q[kHeadDim / 32];
  load_query<Element, kHeadDim>(p, walk.sequence, walk.kv_head, q);
  const TileOutput output{a, group};
  __syncthreads();
  std::uint32_t last_sequence = walk.sequence, done = 0;
  std::size_t last_slot = 0;
  for (std::uint32_t n = 0; walk.sequence < p.batch; ++n) {
    TileWalk ahead = walk;
    ahead.move_to(shared.queue[(n + 1) % 4]);
    copies.move_to(shared.queue[(n + 1) % 4]);
    uint4 next_q[kHeadDim / 32];
    const bool turns = (ahead.sequence != walk.sequence || ahead.kv_head != walk.kv_head) &&
                       ahead.sequence < p.batch;
    if (turns) load_query<Element, kHeadDim>(p, ahead.sequence, ahead.kv_head, next_q);
    float x[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      multiply<Element, kHeadDim>(ring, q, x[half]);
      copies.copy(ring, half);
    }
    scale_scores(x, p.sm_scale,
                 walk.tile * kTileRows + kWarpRows * (threadIdx.x / 32) + threadIdx.x % 32 / 4,
                 walk.context());
    warp_maxima(shared.max_x[n % 3][threadIdx.x / 32], x);
    if (asks && threadIdx.x % 32 == 0) shared.queue[(n + 1 + known) % 4] = counter.index;
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
    last_slot = output.slot(walk, 0);
    walk = ahead;
    if (turns) {
#pragma unroll
      for (int j = 0; j < kHeadDim / 32; ++j) q[j] = next_q[j];
    }
    if (walk.sequence == p.batch) {
      __syncthreads();
      if (threadIdx.x < 32) {
        output.store_marks(shared, n, last_slot);
        output.signal(last_sequence, done);
      }
    }
  }
}

template <class Element, int kHeadDim>
struct ScoreInstance {
  static Kernel kernel() { return score<Element, kHeadDim>; }
};

}  // namespace

std::size_t ring_bytes(std::uint32_t head_dim) {
  return head_dim == 64 ? Ring<64>::kBytes : Ring<128>::kBytes;
}

std::size_t key_ring_bytes(std::uint32_t head_dim) {
  return head_dim == 64 ? KeyRing<64>::kBytes : KeyRing<128>::kBytes;
}

Kernel score_kernel(ElementType element, std::uint32_t head_dim) {
  return instance<ScoreInstance>(element, head_dim);
}

}  // namespace stoat::gpu
