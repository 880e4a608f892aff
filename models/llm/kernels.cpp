// Which kernels this machine can run. STOAT_X86_KERNELS: the AVX2 and AVX-512 files are part of the
// build.
#include "models/llm/kernels.h"

namespace stoat {

extern const Kernels kKernelsBaseline;
#if defined(STOAT_X86_KERNELS)
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;
#endif

std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> list{&kKernelsBaseline};
#if defined(STOAT_X86_KERNELS)
  if (__builtin_cpu_supports("avx2")) list.push_back(&kKernelsAvx2);
  if (__builtin_cpu_supports("avx512f")) list.push_back(&kKernelsAvx512);
#endif
  return list;
}

const Kernels& best_kernels() {
  static const Kernels& best = *runnable_kernels().back();
  return best;
}

}  // namespace stoat
