// The kernels with AVX2: 8 floats a vector. Compiled with -mavx2; run only where the machine has
// it.
#include "models/llm/kernels_impl.h"

namespace stoat {
extern const Kernels kKernelsAvx2;
const Kernels kKernelsAvx2 = make_kernels<8, 6, 2>("avx2");
}  // namespace stoat
