// The words of CUDA that the emulated kernels use, on top of warps.h. Included in place of CUDA's
// headers (include/), by rewritten kernels only.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "models/bf16.h"
#include "tests/gpu/emulation/warps.h"

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local

// Objects, not macros: a launch's configuration has members of these names.
namespace stoat::emulation {
template <Index (*kOf)()>
struct IndexWord {
  template <std::uint32_t Index::*kMember>
  struct Member {
    operator std::uint32_t() const { return kOf().*kMember; }
  };
  Member<&Index::x> x;
  Member<&Index::y> y;
  Member<&Index::z> z;
};
}  // namespace stoat::emulation
inline constexpr stoat::emulation::IndexWord<stoat::emulation::thread_index> threadIdx{};
inline constexpr stoat::emulation::IndexWord<stoat::emulation::block_index> blockIdx{};
inline constexpr stoat::emulation::IndexWord<stoat::emulation::block_count> gridDim{};
inline constexpr stoat::emulation::IndexWord<stoat::emulation::block_size> blockDim{};

struct uint2 {
  std::uint32_t x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(std::uint32_t x, std::uint32_t y) { return {x, y}; }
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}
inline float2 make_float2(float x, float y) { return {x, y}; }

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct __half {
  std::uint16_t bits;
};
inline float __half2float(__half value) {
  return static_cast<float>(std::bit_cast<_Float16>(value));
}
inline __half __float2half(float value) {
  return std::bit_cast<__half>(static_cast<_Float16>(value));
}
inline __half __ushort_as_half(std::uint16_t bits) { return {bits}; }
inline __nv_bfloat16 __float2bfloat16(float value) { return {stoat::to_bf16(value).bits}; }

inline float __bfloat162float(__nv_bfloat16 value) {
  return stoat::to_float(stoat::Bf16{value.bits});
}

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline std::uint32_t __float_as_uint(float value) { return std::bit_cast<std::uint32_t>(value); }
inline float __uint_as_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
inline std::int32_t __float_as_int(float value) { return std::bit_cast<std::int32_t>(value); }
inline float __int_as_float(std::int32_t bits) { return std::bit_cast<float>(bits); }
inline std::uint32_t __funnelshift_r(std::uint32_t low, std::uint32_t high, std::uint32_t shift) {
  return static_cast<std::uint32_t>((std::uint64_t{high} << 32 | low) >> shift % 32);
}
inline std::uint32_t __byte_perm(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
  const std::uint64_t bytes = std::uint64_t{high} << 32 | low;
  std::uint32_t result = 0;
  for (std::uint32_t i = 0; i < 4; ++i)
    result |= static_cast<std::uint32_t>(bytes >> (selector >> 4 * i) % 8 * 8 & 0xffU) << 8 * i;
  return result;
}
template <class A, class B>
auto min(A a, B b) {
  using Common = std::common_type_t<A, B>;
  return std::min(static_cast<Common>(a), static_cast<Common>(b));
}

template <class A, class B>
auto max(A a, B b) {
  using Common = std::common_type_t<A, B>;
  return std::max(static_cast<Common>(a), static_cast<Common>(b));
}
inline float __expf(float value) { return std::exp(value); }
inline int __popc(int bits) { return std::popcount(static_cast<std::uint32_t>(bits)); }
inline int __clz(int bits) { return std::countl_zero(static_cast<std::uint32_t>(bits)); }
inline int __clzll(long long bits) { return std::countl_zero(static_cast<std::uint64_t>(bits)); }
inline int __ffs(int bits) {
  return bits == 0 ? 0 : 1 + std::countr_zero(static_cast<std::uint32_t>(bits));
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}

inline void __syncthreads() { stoat::emulation::wait_for_block(); }
inline void __syncwarp() { stoat::emulation::exchange(0); }
inline void __threadfence() {}
inline void __nanosleep(std::uint32_t) { stoat::emulation::let_others_run(); }
// Only the kernels' patience looks at it.
inline long long clock64() {
  static std::atomic<long long> now{0};
  return now += 1000;
}
// What lane `from` brings; all lanes call it.
template <class T>
T exchanged(T value, std::uint32_t from) {
  std::uint64_t word = 0;
  static_assert(sizeof(T) <= sizeof(word));
  std::memcpy(&word, &value, sizeof(T));
  word = stoat::emulation::exchange(word)[from];
  std::memcpy(&value, &word, sizeof(T));
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned, T value, std::uint32_t distance) {
  return exchanged(value, threadIdx.x % 32 ^ distance);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane, std::uint32_t width = 32) {
  return exchanged(value,
                   threadIdx.x % 32 / width * width + static_cast<std::uint32_t>(lane) % width);
}
template <class T>
T __shfl_up_sync(unsigned, T value, std::uint32_t distance, std::uint32_t width = 32) {
  const std::uint32_t lane = threadIdx.x % 32;
  return exchanged(value, lane % width >= distance ? lane - distance : lane);
}
template <class T>
T __shfl_down_sync(unsigned, T value, std::uint32_t distance, std::uint32_t width = 32) {
  const std::uint32_t lane = threadIdx.x % 32;
  return exchanged(value, lane % width + distance < width ? lane + distance : lane);
}
inline std::uint32_t __ballot_sync(unsigned, bool value) {
  const auto all = stoat::emulation::exchange(value ? 1 : 0);
  std::uint32_t bits = 0;
  for (std::uint32_t lane = 0; lane < 32; ++lane)
    bits |= static_cast<std::uint32_t>(all[lane]) << lane;
  return bits;
}
inline bool __any_sync(unsigned, bool value) {
  return std::ranges::any_of(stoat::emulation::exchange(value ? 1 : 0),
                             [](std::uint64_t other) { return other != 0; });
}
inline std::uint32_t __reduce_add_sync(unsigned, std::uint32_t value) {
  std::uint32_t sum = 0;
  for (const std::uint64_t other : stoat::emulation::exchange(value))
    sum += static_cast<std::uint32_t>(other);
  return sum;
}
inline std::int32_t __reduce_max_sync(unsigned, std::int32_t value) {
  for (const std::uint64_t other : stoat::emulation::exchange(static_cast<std::uint32_t>(value)))
    value = std::max(value, static_cast<std::int32_t>(other));
  return value;
}
inline std::uint32_t atomicInc(std::uint32_t* address, std::uint32_t most) {
  std::atomic_ref<std::uint32_t> at(*address);
  std::uint32_t old = at.load();
  while (!at.compare_exchange_weak(old, old >= most ? 0 : old + 1)) {
  }
  return old;
}
inline std::uint32_t atomicAdd(std::uint32_t* address, std::uint32_t value) {
  return std::atomic_ref<std::uint32_t>(*address).fetch_add(value);
}
inline std::uint32_t atomicOr(std::uint32_t* address, std::uint32_t bits) {
  return std::atomic_ref<std::uint32_t>(*address).fetch_or(bits);
}
inline std::uint32_t __cvta_generic_to_shared(const void* pointer) {
  return stoat::emulation::shared_address(pointer);
}

// What rewrite_ptx.py writes in place of inline PTX.
namespace stoat::emulation::ptx {

inline void multiply_bf16(float& c0, float& c1, float& c2, float& c3, std::uint32_t a0,
                          std::uint32_t a1, std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                          std::uint32_t b1) {
  multiply({&c0, &c1, &c2, &c3}, {a0, a1, a2, a3}, {b0, b1},
           [](std::uint16_t bits) { return to_float(Bf16{bits}); });
}
inline void multiply_fp16(float& c0, float& c1, float& c2, float& c3, std::uint32_t a0,
                          std::uint32_t a1, std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                          std::uint32_t b1) {
  multiply({&c0, &c1, &c2, &c3}, {a0, a1, a2, a3}, {b0, b1},
           [](std::uint16_t bits) { return __half2float(__half{bits}); });
}
inline void load_matrices(std::uint32_t& x, std::uint32_t& y, std::uint32_t& z, std::uint32_t& w,
                          std::uint32_t address) {
  const auto got = emulation::load_matrices(address);
  x = got[0];
  y = got[1];
  z = got[2];
  w = got[3];
}
inline void load_shared(std::uint32_t& x, std::uint32_t& y, std::uint32_t& z, std::uint32_t& w,
                        std::uint32_t address) {
  if (address % 16 != 0) throw std::runtime_error("a load of 16 bytes that are not aligned");
  uint4 value;
  std::memcpy(&value, shared_pointer(address), sizeof(value));
  x = value.x;
  y = value.y;
  z = value.z;
  w = value.w;
}
inline void load_shared_word(std::uint32_t& value, std::uint32_t address) {
  std::memcpy(&value, shared_pointer(address), sizeof(value));
}
inline void store_shared_word(std::uint32_t address, std::uint32_t value) {
  std::memcpy(shared_pointer(address), &value, sizeof(value));
}
inline void store_global(uint4* to, std::uint32_t x, std::uint32_t y, std::uint32_t z,
                         std::uint32_t w, std::uint64_t) {
  *to = {x, y, z, w};
}
inline void add(std::uint32_t* to, std::uint32_t value) {
  std::atomic_ref<std::uint32_t>(*to).fetch_add(value);
}
inline void load_word(std::uint32_t& value, const std::uint32_t* from) {
  value = std::atomic_ref<std::uint32_t>(*const_cast<std::uint32_t*>(from)).load();
}
inline void copy_async(std::uint32_t to, const void* from, std::uint64_t = 0) {
  emulation::copy_async(to, from);
}
inline void copy_async(std::uint32_t to, std::uint64_t from, std::uint64_t = 0) {
  emulation::copy_async(to, reinterpret_cast<const void*>(from));
}
inline void commit() { commit_copies(); }
inline void wait(int groups) { wait_for_copies(static_cast<std::uint32_t>(groups)); }
inline void commit_and_wait(int groups) {
  commit();
  wait(groups);
}
using emulation::arrive_at_cluster;
using emulation::wait_for_cluster;
inline void wait_for_all() {
  commit();
  wait(0);
}
inline void send_to_first(std::uint32_t to, std::uint32_t barrier, std::uint32_t value) {
  *static_cast<std::uint32_t*>(of_first_block(to)) = value;
  complete_bytes(static_cast<std::uint64_t*>(of_first_block(barrier)), sizeof(value));
}
inline void init(std::uint32_t barrier, std::uint32_t arrivals) { init_barrier(barrier, arrivals); }
inline void arrive(std::uint32_t barrier) { arrive_at(barrier); }
inline void wait_until_passed(std::uint32_t barrier, std::uint32_t parity) {
  wait_for_barrier(barrier, parity);
}
inline void bulk_copy(std::uint32_t to, const void* from, std::uint32_t bytes,
                      std::uint32_t barrier, std::uint64_t = 0) {
  copy_bulk(to, from, bytes, barrier);
}
inline void sync_some(int threads) { wait_for_some(static_cast<std::uint32_t>(threads)); }
inline void expect(std::uint32_t barrier, std::uint32_t bytes) {
  arrive_and_expect(barrier, bytes);
}
inline void try_wait(std::uint32_t& done, std::uint32_t barrier) {
  done = is_complete(barrier, 0) ? 1 : 0;
}
// What is discarded may be anything.
inline void discard_line(std::uint16_t* codes) { std::memset(codes, 0xcd, 128); }
// A few bits of 1 / x, as many as the instruction gives.
inline void about_inverse(double& y, double x) {
  y = std::bit_cast<double>(std::bit_cast<std::uint64_t>(1 / x) & 0xffffffff00000000U);
}
inline void policy(std::uint64_t& value) { value = 0; }
inline void nothing() {}

}  // namespace stoat::emulation::ptx
