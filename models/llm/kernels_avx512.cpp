// The kernels with AVX-512F: 16 floats a vector. Compiled with -mavx512f; run only where the
// machine has it.
#include "models/llm/kernels_impl.h"

namespace stoat {
extern const Kernels kKernelsAvx512;
const Kernels kKernelsAvx512 = make_kernels<16, 12, 2>("avx512");
}  // namespace stoat
