#include "gpu/attention/dense.cu"
#include "tests/gpu/emulation/arguments.h"
#include "tests/gpu/emulation/kernels.h"

namespace stoat::emulation {

std::vector<float> run_dense(const gpu::DecodeParams& params, Launch launch) {
  std::vector<std::uint32_t> lut;
  gpu::LaunchArguments a = arguments_of(params, lut, launch.blocks);
  const std::size_t heads = std::size_t{params.batch} * params.q_heads;
  std::vector<float> out(heads * params.head_dim, -1), partial(out.size() * launch.blocks),
      partial_max(heads * launch.blocks), partial_sum(heads * launch.blocks);
  std::vector<std::uint32_t> counter(heads);
  std::uint32_t status = 0;
  a.params.out = out.data();
  a.params.out_is_float = true;
  a.params.status = &status;
  a.workspace.counter = counter.data();
  a.workspace.partial = partial.data();
  a.workspace.partial_max = partial_max.data();
  a.workspace.partial_sum = partial_sum.data();
  launch.rows = params.batch * params.kv_heads;
  const gpu::Kernel kernel = gpu::dense_kernel(params.element, params.head_dim);
  run(launch, [kernel, &a] { kernel(a); });
  return out;
}

}  // namespace stoat::emulation
