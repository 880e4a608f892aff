// Matrix products of many rows by cuBLASLt, which is loaded when it is first needed: it is half a
// gigabyte, comes with the machine's CUDA, and has no static form.
//
// Found as $STOAT_CUBLASLT (a file), then libcublasLt.so.13 and .12 by the loader's rules and in
// the usual folders of CUDA and of Python's nvidia packages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "gpu/llm/device.h"

namespace stoat::gpu {

class Blas {
 public:
  // Throws Error (resource) that lists what was tried when the library is not there.
  Blas();
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  // y[r, c] = (accumulate ? y[r, c] : 0) + sum_j x[r, j] * w[c, j], fp32 sums.
  // x: bf16 [rows, k]; w: bf16 [columns, k]; y: fp32 [rows, columns]. k a multiple of 8.
  void multiply(const void* x, const void* w, float* y, std::size_t rows, std::size_t columns,
                std::size_t k, bool accumulate, Stream stream);

  const std::string& library() const;  // the file that was loaded

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoat::gpu
