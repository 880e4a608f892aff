#include "tests/gpu/emulation/kernels.h"

#include <exception>
#include <thread>

#include "gpu/attention/score.cu"
#include "gpu/attention/select_gather.cu"
#include "tests/gpu/emulation/arguments.h"

namespace stoat::emulation {

using namespace gpu;

namespace {

Report queue_score(const LaunchArguments& a, const Launch& launch) {
  const std::size_t tiles = std::size_t{a.tiles_capacity} * a.params.batch * a.params.kv_heads;
  const Kernel kernel = score_kernel(a.params.element, a.params.head_dim, tiles > launch.blocks);
  return run(launch, [kernel, &a] { kernel(a); });
}

}  // namespace

ScoreResults run_score(const DecodeParams& params, std::uint32_t code_places,
                       const Launch& launch) {
  std::vector<std::uint32_t> lut;
  LaunchArguments a = arguments_of(params, lut, launch.blocks);
  ScoreResults results = no_scores(a);
  place(a.workspace, results);
  a.code_places = code_places;
  a.signal_group = 1;
  results.report = queue_score(a, launch);
  return results;
}

GatherResults run_gather(const DecodeParams& params, const ScoreResults& scores, const Cut& cut,
                         const Launch& launch) {
  std::vector<std::uint32_t> lut;
  LaunchArguments a = arguments_of(params, lut);
  ScoreResults left = scores;
  place(a.workspace, left);
  Gather gather(a, cut);
  queue_gather(select_gather_kernel(a.params), a, launch);
  return gather.results;
}

DecodeResults run_decode(const DecodeParams& params, const Cut& cut, const Launch& launch) {
  std::vector<std::uint32_t> lut;
  LaunchArguments a = arguments_of(params, lut, launch.blocks);
  DecodeResults results{no_scores(a), {}, true};
  place(a.workspace, results.scores);
  Gather gather(a, cut);
  a.params.keep_codes = true;
  a.signal_group = 1;
  std::exception_ptr error;
  std::jthread score([&] {
    try {
      queue_score(a, launch);
    } catch (...) {
      error = std::current_exception();
    }
  });
  queue_gather(select_gather_kernel(a.params), a, launch);
  score.join();
  if (error) std::rethrow_exception(error);
  results.gather = gather.results;
  for (const auto* counts : {&results.scores.ready, &gather.seen, &gather.counter}) {
    for (const std::uint32_t count : *counts) results.is_ready_again &= count == 0;
  }
  results.is_ready_again &= results.scores.next_tile == 0;
  return results;
}

}  // namespace stoat::emulation
