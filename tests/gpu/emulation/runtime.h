// The part of CUDA's runtime that launching takes, on top of warps.h. Included by rewritten kernels
// only.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "tests/gpu/emulation/warps.h"

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3() = default;
  constexpr dim3(unsigned a, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
using cudaError_t = int;
using cudaStream_t = void*;
inline constexpr cudaError_t cudaSuccess = 0;
inline constexpr int cudaLaunchAttributeProgrammaticStreamSerialization = 0,
                     cudaLaunchAttributePreferredSharedMemoryCarveout = 1,
                     cudaFuncAttributeMaxDynamicSharedMemorySize = 0;
struct cudaLaunchAttribute {
  int id = 0;
  struct {
    int programmaticStreamSerializationAllowed = 0;
    unsigned sharedMemCarveout = 0;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace stoat::emulation {

// Copies land late in about half of the launches, whichever of a few kernels take turns.
inline Launch next_launch(dim3 grid, dim3 block) {
  static std::uint64_t launches = 0;
  ++launches;
  return {grid.x, grid.y, block.x, launches, std::popcount(launches) % 2 == 0};
}
template <class... Parameters, class... Arguments>
void launch_once(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                 const Arguments&... arguments) {
  run(next_launch(grid, block), [&] { kernel(static_cast<Parameters>(arguments)...); });
}
// kernel<<<grid, block, shared, stream>>>(...)
template <class... Parameters>
auto queued(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t = 0,
            cudaStream_t = nullptr) {
  return [=](const auto&... arguments) { launch_once(kernel, grid, block, arguments...); };
}

}  // namespace stoat::emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  stoat::emulation::launch_once(kernel, config->gridDim, config->blockDim, arguments...);
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void*, int, int) { return cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
