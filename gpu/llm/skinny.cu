// Products of a matrix with up to 16 rows, at the speed at which the matrix can be read.
//
// A block has a range of units (16 output columns each, rows of the matrix) and walks along k with
// one or two of them side by side. Its ninth warp copies pieces of the matrix to shared memory, the
// tenth pieces of the input (bulk copies that complete on mbarriers, as far ahead as there is
// room). The other eight share each piece and multiply it on tensor cores, its 16-byte parts in the
// order in which they lie in memory (a sum may run in any order, as in gpu/attention; which one
// depends on neither the block nor the launch). The matrix does not depend on the kernel before, so
// it is on its way before that one has ended. Up to 8 rows two blocks share a multiprocessor: when
// the first of them ends, the next product begins there while the other still reads. The input of
// more rows is as large as a unit, and has two units side by side: then one block has all of the
// shared memory.
#include <algorithm>
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/skinny_copy.cuh"
#include "gpu/llm/skinny_ends.cuh"
#include "models/error.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kBlockThreads = kThreads + 64;
// A piece: so many numbers of k of half a unit's columns, or of the input's rows.
constexpr std::uint32_t kPiece = 1024;
constexpr std::uint32_t kRowBytes = kPiece * 2;
constexpr std::uint32_t kHalf = kTileColumns / 2;
constexpr std::uint32_t kSlotBytes = kHalf * kRowBytes;
constexpr std::uint32_t kShare = kPiece / kWarps;  // of a piece, a warp's
constexpr std::uint32_t kSteps = kShare / 32;      // of which a lane has 8 numbers
constexpr std::uint32_t kInputSlots = 2;
constexpr std::uint32_t kMultiprocessorBytes = 226 * 1024;  // the rest is for other kernels

template <std::uint32_t kEights_, std::uint32_t kUnits_, std::uint32_t kBlocks_>
struct Shape {
  static constexpr std::uint32_t kEights = kEights_, kRows = 8 * kEights;  // of rows
  static constexpr std::uint32_t kUnits = kUnits_;                         // side by side at most
  static constexpr std::uint32_t kBlocks = kBlocks_;                       // of a multiprocessor
  static constexpr std::uint32_t kWarpSums = kRows * kTileColumns, kSums = kWarps * kWarpSums;
};

// What a launch adds to its parameters.
struct Plan {
  std::uint32_t matrix_slots, input_bytes;  // of the rings
};

// A block's part of a product. Passes: units side by side, about as many in each.
template <class S>
struct Part {
  std::uint32_t first, units, passes;

  __device__ explicit Part(std::uint32_t columns) {
    const std::uint32_t all = (columns + kTileColumns - 1) / kTileColumns;
    first = blockIdx.x * all / gridDim.x;
    units = (blockIdx.x + 1) * all / gridDim.x - first;
    passes = (units + S::kUnits - 1) / S::kUnits;
  }
  __device__ std::uint32_t begin(std::uint32_t pass) const { return first + units * pass / passes; }
};

// The pieces of a block's part of a matrix in the order in which they are copied: passes, along k,
// units, halves.
template <class S>
struct Walk {
  const SkinnyParams& p;
  const Part<S> part;
  std::uint32_t pass = 0, k = 0, column = 0, end = 0;

  __device__ explicit Walk(const SkinnyParams& product) : p(product), part(product.columns) {
    turn();
  }
  __device__ bool there() const { return pass < part.passes; }
  __device__ void turn() {  // to the pass's first column
    column = kTileColumns * part.begin(pass);
    end = kTileColumns * part.begin(pass + 1);
  }
  __device__ void next() {
    column += kHalf;
    if (column < end) return;
    k += kPiece;
    if (k >= p.k) {
      k = 0;
      ++pass;
    }
    turn();
  }
  __device__ std::uint32_t columns() const {
    return column < p.columns ? min(kHalf, p.columns - column) : 0;
  }
  // The matrix's row of the first of them. A unit that rotates has 8 features of each half of a
  // head (HeadPart), so that partners meet.
  __device__ std::uint32_t row() const {
    if (p.end != SkinnyEnd::kRotate) return column;
    const HeadPart part(p.turn.head_dim, column / kTileColumns);
    return part.head * p.turn.head_dim + part.feature(column % kTileColumns);
  }
};

// The warp that copies the matrix. All of its threads compute the same, one of them issues: so that
// a copy is one instruction.
template <class S>
__device__ void copy_matrix(const SkinnyParams& p, const Plan& plan, RingBarriers& barriers,
                            std::uint32_t memory) {
  RingPlace at(plan.matrix_slots);
  const std::uint64_t policy = evict_first();
  for (Walk<S> walk(p); walk.there(); walk.next(), at.next()) {
    const std::uint32_t bytes = 2 * min(kPiece, p.k - walk.k), columns = walk.columns();
    std::uint64_t* barrier = &barriers.full[at.slot];
    wait(&barriers.empty[at.slot], at.turn ^ 1);
    if (threadIdx.x % 32 == 0) arrive_expecting(barrier, columns * bytes);
    __syncwarp();
    const std::uint32_t to = memory + at.slot * kSlotBytes;
    const auto* from = static_cast<const __nv_bfloat16*>(p.weight) +
                       static_cast<std::size_t>(walk.row()) * p.k + walk.k;
    if (columns == kHalf && p.read_once) {
#pragma unroll
      for (std::uint32_t c = 0; c < kHalf; ++c)
        copy_bulk(to + c * kRowBytes, from + static_cast<std::size_t>(c) * p.k, bytes, barrier,
                  policy);
    } else {
      for (std::uint32_t c = 0; c < columns; ++c)
        copy_bulk(to + c * kRowBytes, from + static_cast<std::size_t>(c) * p.k, bytes, barrier);
    }
  }
}

// The warp that copies the input.
template <class S>
__device__ void copy_input(const SkinnyParams& p, const Plan& plan, RingBarriers& barriers,
                           std::uint32_t memory) {
  RingPlace at(kInputSlots);
  const Part<S> part(p.columns);
  wait_for_previous_kernel();
  for (std::uint32_t pass = 0; pass < part.passes; ++pass) {
    for (std::uint32_t k = 0; k < p.k; k += kPiece, at.next()) {
      const std::uint32_t bytes = 2 * min(kPiece, p.k - k);
      wait(&barriers.empty[at.slot], at.turn ^ 1);
      std::uint64_t* barrier = &barriers.full[at.slot];
      if (threadIdx.x % 32 == 0) arrive_expecting(barrier, p.rows * bytes);
      __syncwarp();
      const std::uint32_t to = memory + at.slot * plan.input_bytes;
      const auto* from = static_cast<const __nv_bfloat16*>(p.input) + k;
      for (std::uint32_t r = 0; r < p.rows; ++r)
        copy_bulk(to + r * kRowBytes, from + static_cast<std::size_t>(r) * p.k, bytes, barrier);
    }
  }
}

// The eight multiplying warps wait for each other.
__device__ __forceinline__ void sync_workers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

// A lane's 16-byte parts of a row of a piece, all of its warp's share. Rows lie whole lines apart:
// so that neighbours meet in different banks, odd rows read the steps of a pair in turned order.
struct RowParts {
  uint4 part[kSteps];

  __device__ __forceinline__ void load(const std::byte* piece, std::uint32_t row, bool valid,
                                       std::uint32_t left) {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const bool odd = lane / 4 % 2 != 0;
    const std::uint32_t first = warp * kShare + 8 * (lane % 4);
    const auto at = [&](std::uint32_t step) {
      const std::uint32_t k = first + 32 * step;
      return valid && k < left ? *reinterpret_cast<const uint4*>(piece + row * kRowBytes + 2 * k)
                               : make_uint4(0, 0, 0, 0);
    };
#pragma unroll
    for (std::uint32_t step = 0; step < kSteps; step += 2) {
      const uint4 a = at(odd ? step + 1 : step), b = at(odd ? step : step + 1);
      part[step] = odd ? b : a;
      part[step + 1] = odd ? a : b;
    }
  }
};

template <class S>
struct Workers {
  const SkinnyParams& p;
  const Plan& plan;
  RingBarriers& matrix;
  RingBarriers& input;
  const std::byte* matrix_memory;
  const std::byte* input_memory;
  float* partial;  // [8, kWarpSums]
  float* scale;    // [16]
  RingPlace matrix_at, input_at;

  using Sums = float[S::kUnits][2][4];

  // A piece of the input times a piece of each unit: this warp's eighth of it. left: of k.
  __device__ __forceinline__ void multiply(std::uint32_t left, std::uint32_t units, Sums& sum) {
    const std::uint32_t lane = threadIdx.x % 32, g = lane / 4;
    const std::byte* piece = input_memory + input_at.slot * plan.input_bytes;
    wait(&input.full[input_at.slot], input_at.turn);
    RowParts x[S::kEights];
#pragma unroll
    for (std::uint32_t t = 0; t < S::kEights; ++t)
      x[t].load(piece, 8 * t + g, 8 * t + g < p.rows, left);
    // In registers: the next piece may come.
    __syncwarp();
    if (lane == 0) arrive(&input.empty[input_at.slot]);
    input_at.next();
#pragma unroll
    for (std::uint32_t u = 0; u < S::kUnits; ++u) {
      if (u >= units) break;
      RingPlace used = matrix_at;
      RowParts w[2];
#pragma unroll
      for (std::uint32_t h = 0; h < 2; ++h) {
        wait(&matrix.full[matrix_at.slot], matrix_at.turn);
        w[h].load(matrix_memory + matrix_at.slot * kSlotBytes, g, true, left);
        matrix_at.next();
      }
#pragma unroll
      for (std::uint32_t step = 0; step < kSteps; ++step) {
        const uint4 top = x[0].part[step];
        const uint4 bottom =
            S::kEights == 2 ? x[S::kEights - 1].part[step] : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (std::uint32_t h = 0; h < 2; ++h) {
          const uint4 in = w[h].part[step];
          mma<__nv_bfloat16>(sum[u][h], top.x, bottom.x, top.y, bottom.y, in.x, in.y);
          mma<__nv_bfloat16>(sum[u][h], top.z, bottom.z, top.w, bottom.w, in.z, in.w);
        }
      }
      __syncwarp();
#pragma unroll
      for (std::uint32_t h = 0; h < 2; ++h, used.next())
        if (lane == 0) arrive(&matrix.empty[used.slot]);
    }
  }

  // Where the sum of a row and a column stands among a warp's: no two threads of a half warp meet
  // in a bank.
  __device__ __forceinline__ static std::uint32_t place(std::uint32_t r, std::uint32_t c) {
    return r * kTileColumns + (c ^ r / 2 % 2 * 8);
  }
  // The warps' sums together, unit by unit. Value i of a thread: row lane / 4 + 8 * (i / 2), column
  // 2 * (lane % 4) + i % 2 of half a unit.
  __device__ __forceinline__ void add_up(std::uint32_t first, std::uint32_t units, const Sums& sum,
                                         const Before<S>& before) {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const std::uint32_t c = threadIdx.x % kTileColumns, r = threadIdx.x / kTileColumns;
#pragma unroll
    for (std::uint32_t u = 0; u < S::kUnits; ++u) {
      if (u >= units) break;
      sync_workers();  // the sums before have been read
#pragma unroll
      for (std::uint32_t h = 0; h < 2; ++h) {
#pragma unroll
        for (std::uint32_t t = 0; t < S::kEights; ++t)
          *reinterpret_cast<float2*>(partial + warp * S::kWarpSums +
                                     place(8 * t + lane / 4, 8 * h + 2 * (lane % 4))) =
              make_float2(sum[u][h][2 * t], sum[u][h][2 * t + 1]);
      }
      sync_workers();
      if (r >= S::kRows) continue;
      float total = 0;
#pragma unroll
      for (std::uint32_t w = 0; w < kWarps; ++w) total += partial[w * S::kWarpSums + place(r, c)];
      // Rounded before anything is added, as where the product is stored first.
      finish(p, first + u, __fmul_rn(total, scale[r]), before, u);
    }
  }

  __device__ void run() {
    const Part<S> part(p.columns);
    Scales<S> scales;
    wait_for_previous_kernel();
    scales.ask(p);
    for (std::uint32_t pass = 0; pass < part.passes; ++pass) {
      const std::uint32_t first = part.begin(pass), units = part.begin(pass + 1) - first;
      Before<S> before;
      before.ask(p, first, units);
      Sums sum = {};
      for (std::uint32_t k = 0; k < p.k; k += kPiece) multiply(p.k - k, units, sum);
      if (pass == 0) scales.store(p, scale);
      add_up(first, units, sum, before);
    }
  }
};

template <class S>
__global__ __launch_bounds__(kBlockThreads,
                             S::kBlocks) void skinny(const __grid_constant__ SkinnyParams p,
                                                     const __grid_constant__ Plan plan) {
  // Bulk copies to other than whole lines are slow.
  extern __shared__ __align__(128) std::byte memory[];
  __shared__ RingBarriers matrix, input;
  __shared__ __align__(16) float partial[S::kSums];
  __shared__ float scale[kSkinnyRows];
  if (threadIdx.x == 0) {
    matrix.init(plan.matrix_slots, kWarps);
    input.init(kInputSlots, kWarps);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  let_next_kernel_start();
  std::byte* const inputs = memory + plan.matrix_slots * kSlotBytes;
  // The shuffle tells the compiler that a warp goes one way.
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x / 32), 0);
  if (warp < static_cast<int>(kWarps)) {
    Workers<S>{p,
               plan,
               matrix,
               input,
               memory,
               inputs,
               partial,
               scale,
               RingPlace(plan.matrix_slots),
               RingPlace(kInputSlots)}
        .run();
  } else if (warp > static_cast<int>(kWarps)) {
    copy_input<S>(p, plan, input, shared_address(inputs));
  } else {
    copy_matrix<S>(p, plan, matrix, shared_address(memory));
  }
}

template <class S>
void launch(const SkinnyParams& params, std::uint32_t multiprocessors, Stream stream) {
  // Static shared memory of a block, and what the system takes.
  constexpr std::uint32_t kFixedBytes =
      2 * sizeof(RingBarriers) + 4 * S::kSums + 4 * kSkinnyRows + 1024;
  Plan plan{};
  plan.input_bytes = params.rows * kRowBytes;
  plan.matrix_slots = std::min(kMostRingSlots, (kMultiprocessorBytes / S::kBlocks - kFixedBytes -
                                                kInputSlots * plan.input_bytes) /
                                                   kSlotBytes);
  const std::uint32_t bytes = plan.matrix_slots * kSlotBytes + kInputSlots * plan.input_bytes;
  const std::uint32_t units = (params.columns + kTileColumns - 1) / kTileColumns;
  const auto kernel = skinny<S>;
  // The limit is the same for all rows, so that no launch takes room from one of another thread.
  check_cuda(cudaFuncSetAttribute(
                 reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                 static_cast<int>(kMultiprocessorBytes / S::kBlocks - kFixedBytes)),
             "dynamic shared memory");
  launch_overlapped(kernel, dim3(std::min(units, S::kBlocks * multiprocessors)),
                    dim3(kBlockThreads), bytes, stream, params, plan);
}

}  // namespace

void launch_skinny(const SkinnyParams& params, std::uint32_t multiprocessors, Stream stream) {
  STOAT_ENSURE(params.rows >= 1 && params.rows <= kSkinnyRows, "1 to 16 rows");
  STOAT_ENSURE(params.columns % 8 == 0 || params.end == SkinnyEnd::kStore, "columns in eights");
  STOAT_ENSURE(params.columns % 16 == 0 || params.end != SkinnyEnd::kSwiGlu, "gates and ups");
  STOAT_ENSURE(params.k > 0 && params.k % 8 == 0, "copies of 16 bytes");
  if (params.end == SkinnyEnd::kRotate) {
    const RotateParams& turn = params.turn;
    STOAT_ENSURE(turn.head_dim % kTileColumns == 0 && turn.rows == params.rows, "whole units");
    STOAT_ENSURE(params.columns == (turn.q_heads + 2 * turn.kv_heads) * turn.head_dim, "all heads");
    STOAT_ENSURE(turn.context_len != nullptr, "rows of a decode");
    STOAT_ENSURE(turn.q_norm == nullptr && turn.k_norm == nullptr, "norms need whole heads");
  }
  if (params.rows <= 8) return launch<Shape<1, 1, 2>>(params, multiprocessors, stream);
  launch<Shape<2, 2, 1>>(params, multiprocessors, stream);
}

}  // namespace stoat::gpu
