// A warp's queue of K or V rows in shared memory, filled asynchronously. No block barrier stands
// between memory and the tensor cores. Device only.
//
// A slot holds 16 rows of the warp. Copies run along the rows, so that 8 neighbouring lanes fetch
// whole 128-byte lines (half lines cost a quarter of the bandwidth); reads take the 16-byte pieces
// that tensor core operands want. Pieces are swizzled: neither has bank conflicts.
#pragma once

#include <cstdint>

#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

template <int kHeadDim>
struct Ring {
  static constexpr int kRows = 16;
  static constexpr int kPieces = kHeadDim / 16;  // of a thread in a slot
  static constexpr int kRowPieces = kHeadDim / 8;
  static constexpr int kSlots = 384 / kHeadDim;  // 96 KB of slots; two blocks a multiprocessor
  static constexpr std::size_t kBytes = std::size_t{2} * kRows * kHeadDim * kWarps * kSlots;

  unsigned base;  // of this warp, in the shared window
  int fill = 0;   // slot that the next copy goes to
  int take = 0;   // slot that is read next

  __device__ explicit Ring(void* shared)
      : base(static_cast<unsigned>(__cvta_generic_to_shared(shared)) +
             2 * kRows * kHeadDim * (threadIdx.x / 32)) {}

  __device__ __forceinline__ unsigned address(int slot, unsigned row, unsigned piece) const {
    const unsigned swizzled = piece ^ (row & 6U) ^ ((row & 1U) << 2);
    return base + static_cast<unsigned>(slot) * (2 * kRows * kHeadDim * kWarps) +
           row * (2 * kHeadDim) + 16 * swizzled;
  }
  // Rows first_row to first_row + 15; past the end the last one again. commit() ends the slot.
  template <class Element>
  __device__ __forceinline__ void copy(const RowAddress<Element>& rows, std::uint32_t first_row,
                                       std::uint32_t context) const {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const unsigned row = static_cast<unsigned>(i) * (kRows / kPieces) + lane / kRowPieces;
      const Element* source = rows.row(min(first_row + row, context - 1)) + 8 * (lane % kRowPieces);
      asm volatile(
          "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(fill, row, lane % kRowPieces)),
          "l"(source)
          : "memory");
    }
  }
  // Ends a slot, also one without copies.
  __device__ __forceinline__ void commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
    fill = fill + 1 == kSlots ? 0 : fill + 1;
  }
  __device__ __forceinline__ uint4 load(unsigned row, unsigned piece) const {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(address(take, row, piece))
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
    take = take + 1 == kSlots ? 0 : take + 1;
  }
  // Takes a slot as rows g and g + 8, pieces t + 4j: pieces[half * head_dim / 32 + j].
  __device__ __forceinline__ void take_keys(uint4 (&pieces)[kPieces]) {
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    wait();
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      constexpr unsigned kHalf = kHeadDim / 32;
      const auto u = static_cast<unsigned>(i);
      pieces[i] = load(g + 8 * (u / kHalf), t + 4 * (u % kHalf));
    }
    taken();
  }
  // Takes a slot as rows 2t, 2t + 1, 2t + 8, 2t + 9 (i = 0 to 3), pieces g + 8c:
  // pieces[i * head_dim / 64 + c].
  __device__ __forceinline__ void take_values(uint4 (&pieces)[kPieces]) {
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    wait();
#pragma unroll
    for (int n = 0; n < kPieces; ++n) {
      constexpr unsigned kColumns = kHeadDim / 64;
      const auto u = static_cast<unsigned>(n), i = u / kColumns;
      pieces[n] = load(2 * t + i % 2 + 8 * (i / 2), g + 8 * (u % kColumns));
    }
    taken();
  }
  __device__ __forceinline__ static void drain() {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
  }
};

}  // namespace stoat::gpu
