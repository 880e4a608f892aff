// Launching with programmatic dependent launch: a kernel may start while the one before it ends,
// and waits (wait_for_previous_kernel) before it touches what others write. All kernels ask for the
// same split of the first-level cache, so that they can share a multiprocessor. Device only.
#pragma once

#include <cuda_runtime.h>

#include "gpu/attention/kernels.cuh"
#include "gpu/llm/device.h"

namespace stoat::gpu {

template <class... Parameters, class... Arguments>
void launch_overlapped(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                       std::size_t shared_bytes, Stream stream, const Arguments&... arguments) {
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = 100;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attributes;
  config.numAttrs = 2;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...),
             "kernel launch");
}

// Sum over the block in a fixed order; every thread gets it. scratch: [32] in shared memory.
__device__ __forceinline__ float block_sum(float value, float* scratch) {
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kAllLanes, value, distance);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) total += scratch[w];
  return total;
}

}  // namespace stoat::gpu
