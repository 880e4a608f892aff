// The kernels for every machine: 4 floats a vector (SSE2 on x86-64, NEON on aarch64).
#include "models/llm/kernels_impl.h"

namespace stoat {
extern const Kernels kKernelsBaseline;
const Kernels kKernelsBaseline = make_kernels<4, 4, 2>("baseline");
}  // namespace stoat
