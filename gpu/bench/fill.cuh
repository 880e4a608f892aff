// Normal numbers for measurements, and device memory that frees itself.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "models/error.h"
#include "models/sampling/philox.h"

namespace stoat::gpu {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw resource_error({"CUDA"}, std::string(what) + ": " + cudaGetErrorString(status),
                       "a working device with enough free memory");
}

// As bf16 (Box-Muller of Philox words). data: [n], n even.
static __global__ void fill_normal(__nv_bfloat16* data, std::uint64_t n, float spread,
                                   std::uint32_t key) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n / 2;
       i += stride) {
    const PhiloxBlock block = philox4x32_10(
        {{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), 0, 0}}, key, 1);
    const float u = (static_cast<float>(block.word[0] >> 8) + 1) / 16777216.0F;
    const float angle = static_cast<float>(block.word[1]) * (6.2831853F / 4294967296.0F);
    const float radius = spread * sqrtf(-2 * logf(u));
    data[2 * i] = __float2bfloat16(radius * cosf(angle));
    data[2 * i + 1] = __float2bfloat16(radius * sinf(angle));
  }
}

// Frees what it owns.
class Block {
 public:
  void allocate(std::size_t bytes) {
    cudaFree(data_);
    data_ = nullptr;
    check(cudaMalloc(&data_, std::max<std::size_t>(bytes, 256)), "cudaMalloc");
    size_ = bytes;
  }
  Block() = default;
  ~Block() { cudaFree(data_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

inline void fill(const Block& block, float spread, std::uint32_t key, cudaStream_t stream) {
  fill_normal<<<2048, 256, 0, stream>>>(block.as<__nv_bfloat16>(), block.size() / 2, spread, key);
  check(cudaGetLastError(), "fill_normal");
}

}  // namespace stoat::gpu
