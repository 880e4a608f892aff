// Products with few rows (gpu/llm/skinny.cu), for their tests. Needs a device.
#pragma once

#include <cstdint>

#include "gpu/llm/kernels.h"
#include "tests/gpu/llm_kernel_case.h"

namespace stoat::gpu {

inline SkinnyParams params_of(const DeviceMemory& input, const DeviceMemory& weight,
                              std::uint32_t rows, std::uint32_t columns, std::uint32_t k) {
  SkinnyParams p;
  p.input = input.as<void>();
  p.weight = weight.as<void>();
  p.rows = rows;
  p.columns = columns;
  p.k = k;
  return p;
}

class LlmProduct : public LlmKernel {
 protected:
  void multiply(const SkinnyParams& p) {
    launch_skinny(p, device_multiprocessors(), stream_.get());
  }
};

}  // namespace stoat::gpu
