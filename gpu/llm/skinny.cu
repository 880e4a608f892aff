// Products of a weight matrix with up to 16 rows, at the speed at which the matrix can be read.
//
// A block takes a tile of 16 or 32 output columns (rows of the matrix) and walks along k. Its ninth
// warp copies pieces of the matrix's rows and of the input to shared memory (bulk copies that
// complete on mbarriers, several pieces ahead, on into the next tile); the other eight share each
// piece and multiply it on tensor cores, the matrix as operand A, its 16-byte parts in the order in
// which they lie in memory (a sum may run in any order, as in gpu/attention). The matrix does not
// depend on the kernel before, so its first pieces are on their way before that one has finished.
// With many rows the input is nearly as large as a tile: where all of it fits beside enough pieces,
// a block keeps it and reads it once.
#include <algorithm>
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kSharedBytes = 200 * 1024;      // for stages
constexpr std::uint32_t kMoreSharedBytes = 216 * 1024;  // the same, with the input beside them
constexpr std::uint32_t kMostStages = 8, kEnoughStages = 4;
constexpr std::uint32_t kMostKept = 16;  // pieces of an input that is kept
constexpr std::uint32_t kBlockThreads = kThreads + 32;

// A piece: so many numbers of k of all the tile's columns and of the input. The longer, the fewer
// copies; but some pieces must fit. Rows lie 64 bytes farther apart than they are long, so that
// neighbours meet in different banks.
template <int kColumns, int kRowTiles>
struct Shape {
  static constexpr std::uint32_t kPiece = kRowTiles == 1 ? 1024 : 512;
  static constexpr std::uint32_t kRowBytes = kPiece * 2 + 64;
};

struct Barriers {
  std::uint64_t full[kMostStages], empty[kMostStages], kept[kMostKept];
};

// What a launch adds to its parameters.
struct SkinnyPlan {
  std::uint32_t tiles, pieces, stages, stage_bytes;
  std::uint32_t kept_bytes;  // of the input, before the stages; 0: it comes with every piece
};

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}
__device__ __forceinline__ void init_barrier(std::uint64_t* barrier, std::uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(count));
}
__device__ __forceinline__ void arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
__device__ __forceinline__ void arrive_expecting(std::uint64_t* barrier, std::uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void wait(std::uint64_t* barrier, std::uint32_t parity) {
  asm volatile(
      "{\n"
      " .reg .pred done;\n"
      "again:\n"
      " mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      " @!done bra again;\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void copy_bulk(std::uint32_t to, const void* from, std::uint32_t bytes,
                                          std::uint64_t* barrier) {
  asm volatile(
      "{\n"
      " .reg .pred chosen;\n"
      " elect.sync _|chosen, 0xffffffff;\n"
      " @chosen cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
      "[%3];\n"
      "}\n" ::"r"(to),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

// Walks over the pieces of a block's tiles and over the stages, without divisions.
struct Walk {
  std::uint32_t tile, piece = 0, stage = 0, turn = 0;  // turn: parity of the stage's use

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
template <int kColumns, int kRowTiles>
struct Feeder {
  static constexpr std::uint32_t kPiece = Shape<kColumns, kRowTiles>::kPiece;
  static constexpr std::uint32_t kRowBytes = Shape<kColumns, kRowTiles>::kRowBytes;
  const SkinnyParams& p;
  const SkinnyPlan& plan;
  Barriers& barriers;
  std::uint32_t memory;  // shared address of the first stage

  // Announces the bytes of the piece and copies the matrix's part.
  __device__ __forceinline__ void copy_matrix(const Walk& at) const {
    const std::uint32_t first = at.tile * kColumns, k = at.piece * kPiece;
    const std::uint32_t columns = min(static_cast<std::uint32_t>(kColumns), p.columns - first);
    const std::uint32_t bytes = 2 * min(kPiece, p.k - k);
    std::uint64_t* barrier = &barriers.full[at.stage];
    const std::uint32_t rows = plan.kept_bytes > 0 ? 0 : p.rows;
    if (threadIdx.x % 32 == 0) arrive_expecting(barrier, (columns + rows) * bytes);
    __syncwarp();
    const std::uint32_t to = memory + plan.kept_bytes + at.stage * plan.stage_bytes;
    const auto* from =
        static_cast<const __nv_bfloat16*>(p.weight) + static_cast<std::size_t>(first) * p.k + k;
    if (columns == kColumns) {
#pragma unroll
      for (std::uint32_t c = 0; c < kColumns; ++c)
        copy_bulk(to + c * kRowBytes, from + static_cast<std::size_t>(c) * p.k, bytes, barrier);
    } else {
      for (std::uint32_t c = 0; c < columns; ++c)
        copy_bulk(to + c * kRowBytes, from + static_cast<std::size_t>(c) * p.k, bytes, barrier);
    }
  }
  __device__ __forceinline__ void copy_rows(std::uint32_t to, std::uint32_t piece,
                                            std::uint64_t* barrier) const {
    const std::uint32_t k = piece * kPiece, bytes = 2 * min(kPiece, p.k - k);
    const auto* from = static_cast<const __nv_bfloat16*>(p.input) + k;
    for (std::uint32_t r = 0; r < p.rows; ++r)
      copy_bulk(to + r * kRowBytes, from + static_cast<std::size_t>(r) * p.k, bytes, barrier);
  }
  __device__ __forceinline__ void copy_input(const Walk& at) const {
    copy_rows(memory + at.stage * plan.stage_bytes + kColumns * kRowBytes, at.piece,
              &barriers.full[at.stage]);
  }
  __device__ __forceinline__ void keep_input() const {
    for (std::uint32_t piece = 0; piece < plan.pieces; ++piece) {
      if (threadIdx.x % 32 == 0)
        arrive_expecting(&barriers.kept[piece], p.rows * 2 * min(kPiece, p.k - piece * kPiece));
      __syncwarp();
      copy_rows(memory + piece * p.rows * kRowBytes, piece, &barriers.kept[piece]);
    }
  }
  __device__ void run() const {
    Walk ahead{blockIdx.x}, inputs{blockIdx.x};
    for (std::uint32_t n = 0; n < plan.stages && ahead.tile < plan.tiles; ++n) {
      copy_matrix(ahead);
      ahead.next(plan);
    }
    wait_for_previous_kernel();
    const bool kept = plan.kept_bytes > 0;
    if (kept) keep_input();
    for (std::uint32_t n = 0; !kept && n < plan.stages && inputs.tile < plan.tiles; ++n) {
      copy_input(inputs);
      inputs.next(plan);
    }
    for (; ahead.tile < plan.tiles; ahead.next(plan)) {
      wait(&barriers.empty[ahead.stage], ahead.turn ^ 1);
      copy_matrix(ahead);
      if (!kept) copy_input(ahead);
    }
  }
};

// One piece times the input: this warp's eighth of it.
template <int kColumns, int kRowTiles>
__device__ __forceinline__ void multiply(const SkinnyParams& p, const std::byte* stage,
                                         const std::byte* input, std::uint32_t left,
                                         float (&sum)[kColumns / 16][kRowTiles][4]) {
  constexpr std::uint32_t kRowBytes = Shape<kColumns, kRowTiles>::kRowBytes;
  constexpr std::uint32_t kShare = Shape<kColumns, kRowTiles>::kPiece / kWarps;
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint4 zero = make_uint4(0, 0, 0, 0);
  const auto part = [&](const std::byte* from, std::uint32_t row, std::uint32_t k, bool valid) {
    return valid ? *reinterpret_cast<const uint4*>(from + row * kRowBytes + 2 * k) : zero;
  };
#pragma unroll
  for (std::uint32_t step = 0; step < kShare / 32; ++step) {
    const std::uint32_t k = warp * kShare + 32 * step + 8 * (lane % 4);
    const bool inside = k < left;
    uint4 x[kRowTiles];
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t)
      x[t] = part(input, 8 * t + lane / 4, k, inside && 8 * t + lane / 4 < p.rows);
#pragma unroll
    for (int c = 0; c < kColumns / 16; ++c) {
      const uint4 top = part(stage, 16 * c + lane / 4, k, inside);
      const uint4 bottom = part(stage, 16 * c + lane / 4 + 8, k, inside);
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        mma<__nv_bfloat16>(sum[c][t], top.x, bottom.x, top.y, bottom.y, x[t].x, x[t].y);
        mma<__nv_bfloat16>(sum[c][t], top.z, bottom.z, top.w, bottom.w, x[t].z, x[t].w);
      }
    }
  }
}

// 1 / root mean square of every row, from the sums of squares of its tiles.
__device__ void find_scales(const SkinnyParams& p, float* scale) {
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (std::uint32_t row = warp; row < kSkinnyRows; row += kWarps) {
    float sum = 0;
    if (p.square_sums && row < p.rows) {
      for (std::uint32_t i = lane; i < p.square_tiles; i += 32)
        sum += p.square_sums[row * p.square_tiles + i];
    }
    for (int distance = 16; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(kAllLanes, sum, distance);
    if (lane == 0)
      scale[row] = p.square_sums ? 1.0F / sqrtf(sum / p.norm_width + p.norm_eps) : 1.0F;
  }
}

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
  if (c == 0 && r < p.rows)
    p.next_square_sums[r * ((p.columns + kTileColumns - 1) / kTileColumns) + tile] = square;
}

// The eight multiplying warps wait for each other.
__device__ __forceinline__ void sync_workers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

template <int kColumns, int kRowTiles>
__device__ void work(const SkinnyParams& p, const SkinnyPlan& plan, Barriers& barriers,
                     const std::byte* stages, float* partial, float* scale) {
  constexpr std::uint32_t kRows = 8 * kRowTiles, kStride = kColumns + 1;
  constexpr std::uint32_t kPiece = Shape<kColumns, kRowTiles>::kPiece;
  constexpr std::uint32_t kRowBytes = Shape<kColumns, kRowTiles>::kRowBytes;
  const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  wait_for_previous_kernel();
  find_scales(p, scale);
  Walk at{blockIdx.x};
  while (at.tile < plan.tiles) {
    const std::uint32_t tile = at.tile;
    float sum[kColumns / 16][kRowTiles][4] = {};
    do {
      wait(&barriers.full[at.stage], at.turn);
      const std::byte* stage = stages + plan.kept_bytes + at.stage * plan.stage_bytes;
      const std::byte* input = stage + kColumns * kRowBytes;
      if (plan.kept_bytes > 0) {
        wait(&barriers.kept[at.piece], 0);  // at once, from the second tile on
        input = stages + at.piece * p.rows * kRowBytes;
      }
      multiply<kColumns, kRowTiles>(p, stage, input, p.k - at.piece * kPiece, sum);
      __syncwarp();
      if (lane == 0) arrive(&barriers.empty[at.stage]);
      at.next(plan);
    } while (at.piece != 0);
    sync_workers();
    // Value i of a thread: column lane / 4 + 8 * (i / 2), row 2 * (lane % 4) + i % 2.
#pragma unroll
    for (int c = 0; c < kColumns / 16; ++c) {
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          partial[(warp * kRows + 8 * t + 2 * (lane % 4) + i % 2) * kStride + 16 * c + lane / 4 +
                  8 * (i / 2)] = sum[c][t][i];
      }
    }
    sync_workers();
#pragma unroll
    for (int part = 0; part < kColumns / 16; ++part) {
      if (threadIdx.x >= kRows * kTileColumns) break;
      const std::uint32_t c = threadIdx.x % kTileColumns, r = threadIdx.x / kTileColumns;
      float total = 0;
#pragma unroll
      for (std::uint32_t w = 0; w < kWarps; ++w)
        total += partial[(w * kRows + r) * kStride + 16 * part + c];
      finish(p, tile * (kColumns / 16) + part, c, r, total * scale[r]);
    }
  }
}

template <int kColumns, int kRowTiles>
__global__ __launch_bounds__(kBlockThreads,
                             1) void skinny(const __grid_constant__ SkinnyParams p,
                                            const __grid_constant__ SkinnyPlan plan) {
  extern __shared__ uint4 stages[];
  __shared__ Barriers barriers;
  __shared__ float partial[kWarps * 8 * kRowTiles * (kColumns + 1)];
  __shared__ float scale[kSkinnyRows];
  if (threadIdx.x == 0) {
    for (std::uint32_t i = 0; i < plan.stages; ++i) {
      init_barrier(&barriers.full[i], 1);
      init_barrier(&barriers.empty[i], kWarps);
    }
    for (std::uint32_t i = 0; i < kMostKept; ++i) init_barrier(&barriers.kept[i], 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  let_next_kernel_start();
  // The shuffle tells the compiler that a warp goes one way.
  if (__shfl_sync(kAllLanes, threadIdx.x / 32, 0) == kWarps) {
    Feeder<kColumns, kRowTiles>{p, plan, barriers, shared_address(stages)}.run();
  } else {
    work<kColumns, kRowTiles>(p, plan, barriers, reinterpret_cast<const std::byte*>(stages),
                              partial, scale);
  }
}

template <int kColumns, int kRowTiles>
SkinnyPlan plan_of(const SkinnyParams& params) {
  using S = Shape<kColumns, kRowTiles>;
  SkinnyPlan plan{};
  plan.tiles = (params.columns + kColumns - 1) / kColumns;
  plan.pieces = (params.k + S::kPiece - 1) / S::kPiece;
  plan.stage_bytes = (kColumns + params.rows) * S::kRowBytes;
  plan.stages = std::min(kMostStages, kSharedBytes / plan.stage_bytes);
  return plan;
}

// The same with the input kept; stages 0 where it does not fit.
template <int kColumns, int kRowTiles>
SkinnyPlan keeping_plan_of(const SkinnyParams& params) {
  using S = Shape<kColumns, kRowTiles>;
  SkinnyPlan plan = plan_of<kColumns, kRowTiles>(params);
  plan.stage_bytes = kColumns * S::kRowBytes;
  plan.kept_bytes = plan.pieces * params.rows * S::kRowBytes;
  const bool fits = plan.pieces <= kMostKept &&
                    plan.kept_bytes + kEnoughStages * plan.stage_bytes <= kMoreSharedBytes;
  plan.stages =
      fits ? std::min(kMostStages, (kMoreSharedBytes - plan.kept_bytes) / plan.stage_bytes) : 0;
  return plan;
}

template <int kColumns, int kRowTiles>
void launch(const SkinnyParams& params, const SkinnyPlan& plan, std::uint32_t multiprocessors,
            Stream stream) {
  const std::uint32_t bytes = plan.kept_bytes + plan.stages * plan.stage_bytes;
  const auto kernel = skinny<kColumns, kRowTiles>;
  check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(std::max(bytes, kSharedBytes))),
             "dynamic shared memory");
  launch_overlapped(kernel, dim3(std::min(plan.tiles, multiprocessors)), dim3(kBlockThreads), bytes,
                    stream, params, plan);
}

// Share of the blocks' time that is work when tiles are dealt to so many blocks.
double balance(std::uint32_t columns, std::uint32_t tile, std::uint32_t blocks) {
  const std::uint32_t tiles = (columns + tile - 1) / tile;
  return static_cast<double>(tiles) / ((tiles + blocks - 1) / blocks * blocks);
}

}  // namespace

void launch_skinny(const SkinnyParams& params, std::uint32_t multiprocessors, Stream stream) {
  if (params.rows <= 8)
    return launch<16, 1>(params, plan_of<16, 1>(params), multiprocessors, stream);
  const SkinnyPlan keeping = keeping_plan_of<16, 2>(params);
  if (keeping.stages > 0 && keeping.tiles > multiprocessors)
    return launch<16, 2>(params, keeping, multiprocessors, stream);
  // Wide tiles read the input half as often.
  if (balance(params.columns, 32, multiprocessors) + 0.1 >
      balance(params.columns, 16, multiprocessors))
    return launch<32, 2>(params, plan_of<32, 2>(params), multiprocessors, stream);
  launch<16, 2>(params, plan_of<16, 2>(params), multiprocessors, stream);
}

}  // namespace stoat::gpu
