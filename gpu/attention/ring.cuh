// A warp's queue of K or V rows in shared memory, filled asynchronously. No block barrier stands
// between memory and the tensor cores. Device only.
//
// A slot holds 16 rows of the warp. Copies run along the rows, so that 8 neighbouring lanes fetch
// whole 128-byte lines (half lines cost a quarter of the bandwidth); reads take the 16-byte pieces
// that tensor core operands want. Pieces are swizzled: neither has bank conflicts. Addresses are
// kept ready, a few instructions a copy: one that computes them row by row is bound by that. The
// slots begin at a multiple of 128 bytes.
#pragma once

#include <cstdint>

#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

// Rows that a ring copies next: this lane's 16 bytes of the first of them, or null when they must
// be looked up one by one (pages smaller than a slot, the end of a sequence).
template <class Element, int kHeadDim>
__device__ __forceinline__ const Element* slot_source(const RowAddress<Element>& rows,
                                                      std::uint32_t first_row,
                                                      std::uint32_t context) {
  constexpr std::uint32_t kRowPieces = kHeadDim / 8;
  const std::uint32_t lane = threadIdx.x % 32, page_size = rows.a.params.page_size;
  if (first_row + 16 > context || (page_size != 0 && page_size < 16)) return nullptr;
  return rows.row(first_row) + lane / kRowPieces * rows.a.row_stride + 8 * (lane % kRowPieces);
}

template <int kHeadDim, int kRingWarps = kWarps, int kRingSlots = 384 / kHeadDim>
struct Ring {
  static constexpr int kRows = 16;
  static constexpr int kPieces = kHeadDim / 16;  // of a thread in a slot
  static constexpr std::uint32_t kRowPieces = kHeadDim / 8;
  static constexpr std::uint32_t kRowsAtOnce = 32 / kRowPieces;  // that a warp copies in one go
  static constexpr int kSlots = kRingSlots;
  static constexpr std::uint32_t kRowBytes = 2 * kHeadDim;
  static constexpr std::uint32_t kSlotBytes = kRows * kRowBytes;
  static constexpr std::uint32_t kWarpBytes = kSlotBytes * kSlots;
  static constexpr std::size_t kBytes = std::size_t{kWarpBytes} * kRingWarps;

  std::uint32_t fill;  // where this lane copies to next, in the shared window
  std::uint32_t take;  // the slot that is read next
  std::uint32_t end;   // of this warp's slots
  std::uint64_t read_once = evict_first();

  __device__ explicit Ring(void* shared)
      : fill(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared)) +
             kWarpBytes * (threadIdx.x / 32)),
        take(fill),
        end(fill + kWarpBytes) {
    const std::uint32_t lane = threadIdx.x % 32;
    fill += inside(lane / kRowPieces, lane % kRowPieces);
  }

  // Of a row's piece in its slot, in bytes.
  __device__ __forceinline__ static std::uint32_t inside(std::uint32_t row, std::uint32_t piece) {
    return row * kRowBytes + 16 * (piece ^ (row & 6U) ^ (row & 1U) << 2);
  }

  // Where this lane's piece of row `first` (a multiple of kRowsAtOnce) and following ones goes.
  __device__ __forceinline__ std::uint32_t target(std::uint32_t first) const {
    return (fill ^ (first & 6U) << 4) + first * kRowBytes;
  }
  // 16 rows from slot_source() on. kAhead: at most so many copies of the warp are on their way
  // beside the one that it waits for; below 0 it waits for none.
  template <int kAhead, class Element>
  __device__ __forceinline__ void copy(const Element* source, std::size_t row_stride) const {
#pragma unroll
    for (std::uint32_t first = 0; first < kRows; first += kRowsAtOnce) {
      asm volatile(
          "cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(target(first)),
          "l"(source), "l"(read_once)
          : "memory");
      source += kRowsAtOnce * row_stride;
      if constexpr (kAhead >= 0)
        asm volatile("cp.async.commit_group; cp.async.wait_group %0;" ::"n"(kAhead) : "memory");
    }
  }
  // Rows first_row to first_row + 15; past the end the last one again. commit() ends the slot.
  template <int kAhead = -1, class Element>
  __device__ __forceinline__ void copy(const RowAddress<Element>& rows, std::uint32_t first_row,
                                       std::uint32_t context) const {
    const Element* source = slot_source<Element, kHeadDim>(rows, first_row, context);
    if (source != nullptr) {
      copy<kAhead>(source, rows.a.row_stride);
    } else {
      copy_singly(rows, first_row, context);
    }
  }
  template <class Element>
  __device__ __forceinline__ void copy_singly(const RowAddress<Element>& rows,
                                              std::uint32_t first_row,
                                              std::uint32_t context) const {
    const std::uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
    for (std::uint32_t first = 0; first < kRows; first += kRowsAtOnce) {
      const Element* source = rows.row(min(first_row + first + lane / kRowPieces, context - 1)) +
                              8 * (lane % kRowPieces);
      // Without the hint: with it this loop ends in an illegal instruction (nvcc 13.0, sm_90a).
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target(first)), "l"(source)
                   : "memory");
    }
  }
  // Ends a slot, also one without copies.
  __device__ __forceinline__ void commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
    fill += kSlotBytes;
    if (fill >= end) fill -= kWarpBytes;
  }

  __device__ __forceinline__ static uint4 load(std::uint32_t address) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(address)
                 : "memory");
    return value;
  }
  // Waits for the oldest slot; kSlots slots have been committed beyond those taken.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kSlots - 1) : "memory");
    __syncwarp();
  }
  __device__ __forceinline__ void taken() {
    __syncwarp();
    take += kSlotBytes;
    if (take >= end) take -= kWarpBytes;
  }
  // The oldest slot's rows g and g + 8, pieces t + 4j: a tensor core operand each. To be waited
  // for, and taken() after the last.
  __device__ __forceinline__ void load_keys(std::uint32_t j, uint4& top, uint4& bottom) const {
    const std::uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const std::uint32_t at = take + (inside(g, t) ^ j % 2 * 64) + j / 2 * 128;
    top = load(at);
    bottom = load(at + 8 * kRowBytes);
  }
  // Takes a slot as rows g and g + 8, pieces t + 4j: pieces[half * head_dim / 32 + j].
  __device__ __forceinline__ void take_keys(uint4 (&pieces)[kPieces]) {
    wait();
#pragma unroll
    for (std::uint32_t j = 0; j < kHeadDim / 32; ++j)
      load_keys(j, pieces[j], pieces[kHeadDim / 32 + j]);
    taken();
  }
  // Takes a slot as rows 2t, 2t + 1, 2t + 8, 2t + 9 (i = 0 to 3), pieces g + 8c:
  // pieces[i * head_dim / 64 + c].
  __device__ __forceinline__ void take_values(uint4 (&pieces)[kPieces]) {
    const std::uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    constexpr std::uint32_t kColumns = kHeadDim / 64;
    wait();
#pragma unroll
    for (std::uint32_t n = 0; n < kPieces; ++n) {
      const std::uint32_t i = n / kColumns;
      const std::uint32_t even = inside(2 * t, g) + i / 2 * 8 * kRowBytes + n % kColumns * 128;
      pieces[n] = load(take + (i % 2 == 0 ? even : (even ^ 64U) + kRowBytes));
    }
    taken();
  }
  __device__ __forceinline__ static void drain() {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
  }
};

}  // namespace stoat::gpu
