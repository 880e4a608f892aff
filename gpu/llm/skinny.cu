// Products of a weight matrix with up to 16 rows, at the speed at which the matrix can be read.
//
// A block takes tiles of 16 or 32 output columns (rows of the matrix) and walks along k. Its ninth
// warp copies pieces of the matrix's rows to shared memory (bulk copies that complete on mbarriers,
// several pieces ahead, on into the next tile); the other eight share each piece and multiply it on
// tensor cores, the matrix as operand A, its 16-byte parts in the order in which they lie in memory
// (a sum may run in any order, as in gpu/attention). The matrix does not depend on the kernel
// before, so its first pieces are on their way before that one has finished. Up to 8 rows two
// blocks share a multiprocessor: when the first of them ends, the next product begins there while
// the other still reads. The input of more rows is as large as such a tile, and it comes with every
// tile: then tiles are twice as wide, and one block has all of the shared memory.
#include <algorithm>
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/skinny_copy.cuh"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kBlockThreads = kThreads + 32;
constexpr std::uint32_t kMostStages = 8;
constexpr std::uint32_t kPartialStride = kTileColumns + 1;
constexpr std::uint32_t kMultiprocessorBytes = 224 * 1024;  // of blocks; the rest is for others

// A piece: so many numbers of k of all the tile's columns and of the input. Rows lie 64 bytes
// farther apart than they are long, so that neighbours meet in different banks.
template <int kColumns_, int kRowTiles_, int kPiece_, int kBlocks_>
struct Shape {
  static constexpr std::uint32_t kColumns = kColumns_, kRowTiles = kRowTiles_, kPiece = kPiece_;
  static constexpr std::uint32_t kBlocks = kBlocks_;  // of a multiprocessor
  static constexpr std::uint32_t kRowBytes = kPiece * 2 + 64;
  static constexpr std::uint32_t kShare = kPiece / kWarps;  // of a piece, a warp's
  static constexpr std::uint32_t kSteps = kShare / 32;      // of which a lane has 8 numbers
};

struct Barriers {
  std::uint64_t full[kMostStages], empty[kMostStages];
};

// What a launch adds to its parameters.
struct SkinnyPlan {
  std::uint32_t tiles, pieces, stages, stage_bytes;
};

// Walks over the pieces of a block's tiles and over the stages, without divisions.
struct Walk {
  std::uint32_t tile = blockIdx.x;
  std::uint32_t piece = 0, stage = 0, turn = 0;  // turn: parity of the stage's use

  __device__ void next(const SkinnyPlan& plan) {
    if (++stage == plan.stages) {
      stage = 0;
      turn ^= 1;
    }
    if (++piece == plan.pieces) {
      piece = 0;
      tile += gridDim.x;
    }
  }
};

// The copying warp. All of its threads compute the same, one of them issues: so that a copy is one
// instruction.
template <class S>
struct Feeder {
  const SkinnyParams& p;
  const SkinnyPlan& plan;
  Barriers& barriers;
  std::uint32_t memory;  // shared address of the first stage

  __device__ __forceinline__ std::uint32_t bytes_of(const Walk& at) const {
    return 2 * min(S::kPiece, p.k - at.piece * S::kPiece);
  }
  // Announces the bytes of the piece and copies the matrix's part.
  __device__ __forceinline__ void copy_matrix(const Walk& at) const {
    const std::uint32_t first = at.tile * S::kColumns, bytes = bytes_of(at);
    const std::uint32_t columns = min(S::kColumns, p.columns - first);
    std::uint64_t* barrier = &barriers.full[at.stage];
    if (threadIdx.x % 32 == 0) arrive_expecting(barrier, (columns + p.rows) * bytes);
    __syncwarp();
    const std::uint32_t to = memory + at.stage * plan.stage_bytes;
    const auto* from = static_cast<const __nv_bfloat16*>(p.weight) +
                       static_cast<std::size_t>(first) * p.k + at.piece * S::kPiece;
    const std::uint64_t policy = evict_first();
    if (columns == S::kColumns && p.read_once) {
#pragma unroll
      for (std::uint32_t c = 0; c < S::kColumns; ++c)
        copy_bulk(to + c * S::kRowBytes, from + static_cast<std::size_t>(c) * p.k, bytes, barrier,
                  policy);
    } else {
      for (std::uint32_t c = 0; c < columns; ++c)
        copy_bulk(to + c * S::kRowBytes, from + static_cast<std::size_t>(c) * p.k, bytes, barrier);
    }
  }
  __device__ __forceinline__ void copy_input(const Walk& at) const {
    const std::uint32_t to = memory + at.stage * plan.stage_bytes + S::kColumns * S::kRowBytes;
    const auto* from = static_cast<const __nv_bfloat16*>(p.input) + at.piece * S::kPiece;
    for (std::uint32_t r = 0; r < p.rows; ++r)
      copy_bulk(to + r * S::kRowBytes, from + static_cast<std::size_t>(r) * p.k, bytes_of(at),
                &barriers.full[at.stage]);
  }
  __device__ void run() const {
    Walk ahead, inputs;
    for (std::uint32_t n = 0; n < plan.stages && ahead.tile < plan.tiles; ++n) {
      copy_matrix(ahead);
      ahead.next(plan);
    }
    wait_for_previous_kernel();
    for (std::uint32_t n = 0; n < plan.stages && inputs.tile < plan.tiles; ++n) {
      copy_input(inputs);
      inputs.next(plan);
    }
    for (; ahead.tile < plan.tiles; ahead.next(plan)) {
      wait(&barriers.empty[ahead.stage], ahead.turn ^ 1);
      copy_matrix(ahead);
      copy_input(ahead);
    }
  }
};

// One piece times the input: this warp's eighth of it.
template <class S>
__device__ __forceinline__ void multiply(const SkinnyParams& p, const std::byte* stage,
                                         std::uint32_t left,
                                         float (&sum)[S::kColumns / 16][S::kRowTiles][4]) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto part = [&](std::uint32_t row, std::uint32_t k, bool valid) {
    return valid ? *reinterpret_cast<const uint4*>(stage + row * S::kRowBytes + 2 * k)
                 : make_uint4(0, 0, 0, 0);
  };
#pragma unroll
  for (std::uint32_t step = 0; step < S::kSteps; ++step) {
    const std::uint32_t k = warp * S::kShare + 32 * step + 8 * (lane % 4);
    const bool inside = k < left;
    uint4 x[S::kRowTiles];
#pragma unroll
    for (std::uint32_t t = 0; t < S::kRowTiles; ++t)
      x[t] = part(S::kColumns + 8 * t + lane / 4, k, inside && 8 * t + lane / 4 < p.rows);
#pragma unroll
    for (std::uint32_t c = 0; c < S::kColumns / 16; ++c) {
      const uint4 top = part(16 * c + lane / 4, k, inside);
      const uint4 bottom = part(16 * c + lane / 4 + 8, k, inside);
#pragma unroll
      for (std::uint32_t t = 0; t < S::kRowTiles; ++t) {
        mma<__nv_bfloat16>(sum[c][t], top.x, bottom.x, top.y, bottom.y, x[t].x, x[t].y);
        mma<__nv_bfloat16>(sum[c][t], top.z, bottom.z, top.w, bottom.w, x[t].z, x[t].w);
      }
    }
  }
}

// 1 / root mean square of every row, from the sums of squares of its tiles: a warp has every eighth
// row. Asked for at the beginning, added up when the first tile's products are there.
template <class S>
struct Scales {
  static constexpr std::uint32_t kAtOnce = 8;
  float squares[S::kRowTiles][kAtOnce] = {};

  __device__ __forceinline__ void ask(const SkinnyParams& p) {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (!p.square_sums) return;
#pragma unroll
    for (std::uint32_t t = 0; t < S::kRowTiles; ++t) {
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i)
        if (warp + kWarps * t < p.rows && lane + 32 * i < p.square_tiles)
          squares[t][i] = p.square_sums[(warp + kWarps * t) * p.square_tiles + lane + 32 * i];
    }
  }
  __device__ __forceinline__ void store(const SkinnyParams& p, float* scale) const {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (std::uint32_t t = 0; t < S::kRowTiles; ++t) {
      const std::uint32_t row = warp + kWarps * t;
      float sum = 0;
#pragma unroll
      for (const float square : squares[t]) sum += square;
      if (p.square_sums && row < p.rows) {
        for (std::uint32_t i = 32 * kAtOnce + lane; i < p.square_tiles; i += 32)
          sum += p.square_sums[row * p.square_tiles + i];
      }
      for (int distance = 16; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(kAllLanes, sum, distance);
      if (lane == 0)
        scale[row] = p.square_sums ? 1.0F / sqrtf(sum / p.norm_width + p.norm_eps) : 1.0F;
    }
  }
};

// Product `value` of tile column c and row r, after the norm. Threads with the same r are 16
// neighbours, c = threadIdx.x % 16.
__device__ __forceinline__ void finish(const SkinnyParams& p, std::uint32_t tile, std::uint32_t c,
                                       std::uint32_t r, float value) {
  const std::uint32_t column = tile * kTileColumns + c;
  const bool inside = column < p.columns && r < p.rows;
  const std::size_t at = static_cast<std::size_t>(r) * p.columns + column;
  if (p.end == SkinnyEnd::kStore) {
    if (inside) p.y[at] = value;
    return;
  }
  if (p.end == SkinnyEnd::kSwiGlu) {
    const float up = __shfl_down_sync(kAllLanes, value, 8);
    if (inside && c < 8)
      static_cast<__nv_bfloat16*>(
          p.next)[static_cast<std::size_t>(r) * (p.columns / 2) + tile * 8 + c] =
          __float2bfloat16(value / (1.0F + __expf(-value)) * up);
    return;
  }
  float x = 0;
  if (inside) {
    x = p.y[at] + (value + (p.bias ? p.bias[column] : 0.0F));
    p.y[at] = x;
    static_cast<__nv_bfloat16*>(p.next)[at] = __float2bfloat16(x * p.next_norm[column]);
  }
  float square = x * x;
  for (int distance = 8; distance > 0; distance /= 2)
    square += __shfl_xor_sync(kAllLanes, square, distance);
  // Of the last wide tile the second half may lie past the columns: it has no sum.
  if (c == 0 && r < p.rows && column < p.columns)
    p.next_square_sums[r * ((p.columns + kTileColumns - 1) / kTileColumns) + tile] = square;
}

// The eight multiplying warps wait for each other.
__device__ __forceinline__ void sync_workers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

template <class S>
__device__ void work(const SkinnyParams& p, const SkinnyPlan& plan, Barriers& barriers,
                     const std::byte* stages, float* partial, float* scale) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  wait_for_previous_kernel();
  Scales<S> scales;
  scales.ask(p);
  Walk at;
  bool first = true;
  while (at.tile < plan.tiles) {
    const std::uint32_t tile = at.tile;
    float sum[S::kColumns / 16][S::kRowTiles][4] = {};
    do {
      wait(&barriers.full[at.stage], at.turn);
      multiply<S>(p, stages + at.stage * plan.stage_bytes, p.k - at.piece * S::kPiece, sum);
      __syncwarp();
      if (lane == 0) arrive(&barriers.empty[at.stage]);
      at.next(plan);
    } while (at.piece != 0);
    if (first) scales.store(p, scale);
    first = false;
    // Value i of a thread: column lane / 4 + 8 * (i / 2), row 2 * (lane % 4) + i % 2 of a part.
#pragma unroll
    for (std::uint32_t part = 0; part < S::kColumns / 16 * S::kRowTiles; ++part) {
      const std::uint32_t column = part / S::kRowTiles, t = part % S::kRowTiles;
      sync_workers();
#pragma unroll
      for (std::uint32_t i = 0; i < 4; ++i)
        partial[(warp * 8 + 2 * (lane % 4) + i % 2) * kPartialStride + lane / 4 + 8 * (i / 2)] =
            sum[column][t][i];
      sync_workers();
      if (threadIdx.x >= 8 * kTileColumns) continue;
      const std::uint32_t c = threadIdx.x % kTileColumns, r = threadIdx.x / kTileColumns;
      float total = 0;
#pragma unroll
      for (std::uint32_t w = 0; w < kWarps; ++w) total += partial[(w * 8 + r) * kPartialStride + c];
      finish(p, tile * (S::kColumns / 16) + column, c, 8 * t + r, total * scale[8 * t + r]);
    }
  }
}

template <class S>
__global__ __launch_bounds__(kBlockThreads,
                             S::kBlocks) void skinny(const __grid_constant__ SkinnyParams p,
                                                     const __grid_constant__ SkinnyPlan plan) {
  // Bulk copies to other than whole lines are slow.
  extern __shared__ __align__(128) uint4 stages[];
  __shared__ Barriers barriers;
  __shared__ float partial[kWarps * 8 * kPartialStride];
  __shared__ float scale[kSkinnyRows];
  if (threadIdx.x == 0) {
    for (std::uint32_t i = 0; i < plan.stages; ++i) {
      init_barrier(&barriers.full[i], 1);
      init_barrier(&barriers.empty[i], kWarps);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  let_next_kernel_start();
  // The shuffle tells the compiler that a warp goes one way.
  if (__shfl_sync(kAllLanes, threadIdx.x / 32, 0) == kWarps) {
    Feeder<S>{p, plan, barriers, shared_address(stages)}.run();
  } else {
    work<S>(p, plan, barriers, reinterpret_cast<const std::byte*>(stages), partial, scale);
  }
}

// Static shared memory of a block, and what the system takes.
constexpr std::uint32_t kFixedBytes =
    sizeof(Barriers) + 4 * kWarps * 8 * kPartialStride + 4 * kSkinnyRows + 1024;

template <class S>
void launch(const SkinnyParams& params, std::uint32_t multiprocessors, Stream stream) {
  SkinnyPlan plan{};
  plan.tiles = (params.columns + S::kColumns - 1) / S::kColumns;
  plan.pieces = (params.k + S::kPiece - 1) / S::kPiece;
  plan.stage_bytes = (S::kColumns + params.rows) * S::kRowBytes;
  plan.stages =
      std::min(kMostStages, (kMultiprocessorBytes / S::kBlocks - kFixedBytes) / plan.stage_bytes);
  const std::uint32_t bytes = plan.stages * plan.stage_bytes;
  const auto kernel = skinny<S>;
  check_cuda(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      "dynamic shared memory");
  launch_overlapped(kernel, dim3(std::min(plan.tiles, S::kBlocks * multiprocessors)),
                    dim3(kBlockThreads), bytes, stream, params, plan);
}

}  // namespace

void launch_skinny(const SkinnyParams& params, std::uint32_t multiprocessors, Stream stream) {
  if (params.rows == 1) return launch<Shape<16, 1, 1024, 2>>(params, multiprocessors, stream);
  if (params.rows <= 8) return launch<Shape<16, 1, 512, 2>>(params, multiprocessors, stream);
  launch<Shape<32, 2, 512, 1>>(params, multiprocessors, stream);
}

}  // namespace stoat::gpu
