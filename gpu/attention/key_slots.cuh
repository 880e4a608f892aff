// A warp's 32 rows of K of a tile in shared memory: two slots of 16 rows, filled asynchronously,
// slot i always with the tile's half i. No block barrier stands between memory and the tensor
// cores. Device only, included by score.cu.
//
// Copies run along the rows, so that neighbouring lanes fetch whole 128-byte lines (half lines cost
// a quarter of the bandwidth); ldmatrix brings rows as the tensor core takes them, without a move:
// what the multiplication executes beside its products is little. Pieces of 16 bytes are swizzled:
// neither has bank conflicts. All addresses are one of a lane's few and a constant.
#pragma once

#include <cstdint>

#include "gpu/attention/score_walk.cuh"
#include "gpu/attention/shared_window.cuh"

namespace stoat::gpu {

template <class Element, int kHeadDim>
struct KeySlots {
  static constexpr std::uint32_t kRows = 16, kWarpRows = kTileRows / kWarps;
  static constexpr std::uint32_t kRowPieces = kHeadDim / 8, kRowBytes = 2 * kHeadDim;
  static constexpr std::uint32_t kRowsAtOnce = 32 / kRowPieces;  // that a warp copies in one go
  static constexpr std::uint32_t kCopies = kRows / kRowsAtOnce;  // of a slot
  static constexpr std::uint32_t kSlotBytes = kRows * kRowBytes;
  static constexpr std::size_t kBytes = std::size_t{2} * kSlotBytes * kWarps;
  // Copies of a warp, 512 bytes each, on their way beside the one that it waits for: 32 KB of a
  // multiprocessor are enough to keep the memory busy.
  static constexpr int kPacedAhead = 3;

  const LaunchArguments& a;
  std::uint32_t fill[kCopies];  // where this lane's piece of a copy goes, in the shared window
  std::uint32_t read[4];        // this lane's row of the first products' matrices
  std::uint32_t step;           // bytes of K from one copy to the next
  std::uint64_t from;           // bytes from a tile's first row to this lane's piece of copy 0
  std::uint64_t read_once = evict_first();

  __device__ KeySlots(const LaunchArguments& arguments, void* shared) : a(arguments) {
    const std::uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const auto base =
        static_cast<std::uint32_t>(__cvta_generic_to_shared(shared)) + 2 * kSlotBytes * warp;
    const std::uint32_t first = base + inside(lane / kRowPieces, lane % kRowPieces);
#pragma unroll
    for (std::uint32_t i = 0; i < kCopies; ++i) fill[i] = kept(target(first, i));
    // Matrices of a product: even rows, odd rows, of two pieces. A thread so gets two rows that
    // follow each other.
    const std::uint32_t matrices = base + inside(2 * (lane % 8) + lane / 8 % 2, lane / 16);
#pragma unroll
    for (std::uint32_t i = 0; i < 4; ++i) read[i] = kept(matrices ^ 32 * i);
    step = kept(static_cast<std::uint32_t>(kRowsAtOnce * sizeof(Element) * a.row_stride));
    from = kept(sizeof(Element) *
                ((kWarpRows * warp + lane / kRowPieces) * a.row_stride + 8 * (lane % kRowPieces)));
  }

  // Of a row's piece in its slot, in bytes.
  __device__ __forceinline__ static std::uint32_t inside(std::uint32_t row, std::uint32_t piece) {
    return row * kRowBytes + 16 * (piece ^ (row / 2 % 8));
  }

  // Of copy i, where that of copy 0 is `first`.
  __device__ __forceinline__ static std::uint32_t target(std::uint32_t first, std::uint32_t i) {
    return (first ^ i * kRowsAtOnce / 2 % 8 * 16) + i * kRowsAtOnce * kRowBytes;
  }

  // Rows 16 * half to + 15 of the warp's of a tile, past the end the last one again; nothing of a
  // tile that is none. Ends a group of copies in any case. paced: with little on its way at once.
  __device__ __forceinline__ void copy(const TilePlace& place, std::uint32_t half,
                                       bool paced = false) const {
    const std::uint32_t first = kWarpRows * (threadIdx.x / 32) + kRows * half;
    if (first + kRows <= place.rows && a.params.page_size == 0) {
      const std::uint64_t source = reinterpret_cast<std::uint64_t>(place.keys) + from;
      if (a.row_stride == kHeadDim) {
        const std::uint64_t at = source + half * kSlotBytes;
        paced ? copy_rows<true, true>(at, half) : copy_rows<false, true>(at, half);
      } else {
        const std::uint64_t at = source + half * std::uint64_t{kCopies} * step;
        paced ? copy_rows<true, false>(at, half) : copy_rows<false, false>(at, half);
      }
    } else if (first + kRows <= place.rows && a.params.page_size >= kRows) {
      const std::uint32_t lane = threadIdx.x % 32;
      const std::uint64_t source =
          row(place, first) +
          sizeof(Element) * (lane / kRowPieces * a.row_stride + 8 * (lane % kRowPieces));
      paced ? copy_rows<true, false>(source, half) : copy_rows<false, false>(source, half);
    } else if (place.rows > 0) {
      copy_singly(place, half, first);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  // Waits for the older of two groups of copies.
  __device__ __forceinline__ static void wait() {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncwarp();
  }
  // Operand of product `s` of a slot that is there: of lane l rows 2 * (l / 4) and + 1, pieces 2s
  // and 2s + 1.
  __device__ __forceinline__ uint4 load(std::uint32_t half, std::uint32_t s) const {
    return load_matrices(read[s % 4] + s / 4 * 128 + half * kSlotBytes);
  }

 private:
  // source: of this lane; kPacked: the rows of a KV head follow each other, and no address need be
  // computed.
  template <bool kPaced, bool kPacked>
  __device__ __forceinline__ void copy_rows(std::uint64_t source, std::uint32_t half) const {
    const std::uint32_t further = kPacked ? kRowsAtOnce * kRowBytes : step;
#pragma unroll
    for (std::uint32_t i = 0; i < kCopies; ++i) {
      asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(
                       fill[i] + half * kSlotBytes),
                   "l"(source + std::uint64_t{further} * i), "l"(read_once)
                   : "memory");
      if constexpr (kPaced)
        asm volatile("cp.async.commit_group; cp.async.wait_group %0;" ::"n"(kPacedAhead)
                     : "memory");
    }
  }
  // Row `index` of a tile.
  __device__ __forceinline__ std::uint64_t row(const TilePlace& place, std::uint32_t index) const {
    const DecodeParams& p = a.params;
    std::size_t element;
    if (p.page_size == 0) {
      element = index * a.row_stride;
    } else {
      const std::uint32_t at = place.tile * kTileRows + index;
      element = static_cast<std::size_t>(p.indices[place.first_page + (at >> a.page_shift)]) *
                    a.page_stride +
                (at & (p.page_size - 1)) * a.row_stride;
    }
    return reinterpret_cast<std::uint64_t>(place.keys) + sizeof(Element) * element;
  }
  __device__ __forceinline__ void copy_singly(const TilePlace& place, std::uint32_t half,
                                              std::uint32_t first) const {
    const std::uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
    for (std::uint32_t i = 0; i < kCopies; ++i) {
      const std::uint64_t source =
          row(place, min(first + i * kRowsAtOnce + lane / kRowPieces, place.rows - 1)) +
          16 * (lane % kRowPieces);
      // Without the hint: with it this loop ends in an illegal instruction (nvcc 13.0, sm_90a).
      asm volatile(
          "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target(fill[0], i) + half * kSlotBytes),
          "l"(source)
          : "memory");
    }
  }
};

}  // namespace stoat::gpu
