// What the products of skinny.cu are made of: barriers in shared memory, bulk copies that complete
// on them, rings of both. Device only.
#pragma once

#include <cstdint>

#include "gpu/llm/launch.cuh"

namespace stoat::gpu {

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

// By a whole warp, of which one thread issues.
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
// The same with a policy of the L2.
__device__ __forceinline__ void copy_bulk(std::uint32_t to, const void* from, std::uint32_t bytes,
                                          std::uint64_t* barrier, std::uint64_t policy) {
  asm volatile(
      "{\n"
      " .reg .pred chosen;\n"
      " elect.sync _|chosen, 0xffffffff;\n"
      " @chosen cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;\n"
      "}\n" ::"r"(to),
      "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}

// A ring: slots in shared memory that one warp fills with bulk copies and others empty.
constexpr std::uint32_t kMostRingSlots = 16;
struct RingBarriers {
  std::uint64_t full[kMostRingSlots], empty[kMostRingSlots];

  __device__ void init(std::uint32_t slots, std::uint32_t readers) {
    for (std::uint32_t i = 0; i < slots; ++i) {
      init_barrier(&full[i], 1);
      init_barrier(&empty[i], readers);
    }
  }
};
// The way around a ring, without divisions.
struct RingPlace {
  std::uint32_t slots, slot = 0, turn = 0;  // turn: parity of the slot's use

  __device__ explicit RingPlace(std::uint32_t n) : slots(n) {}
  __device__ __forceinline__ void next() {
    if (++slot == slots) {
      slot = 0;
      turn ^= 1;
    }
  }
};

}  // namespace stoat::gpu
