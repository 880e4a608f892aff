#include "gpu/attention/select_topk.cu"
#include "tests/gpu/emulation/arguments.h"
#include "tests/gpu/emulation/kernels.h"

namespace stoat::emulation {

GatherResults run_topk(const gpu::DecodeParams& params, const ScoreResults& scores, const Cut& cut,
                       const Launch& launch) {
  std::vector<std::uint32_t> lut;
  gpu::LaunchArguments a = arguments_of(params, lut);
  ScoreResults left = scores;
  place(a.workspace, left);
  Gather gather(a, cut);
  queue_gather(gpu::select_topk_kernel(a.params), a, launch);
  return gather.results;
}

}  // namespace stoat::emulation
