#include "tests/gpu/emulation/kernels.h"

#include <bit>
#include <exception>
#include <thread>

#include "gpu/attention/score.cu"
#include "gpu/attention/select_gather.cu"

namespace stoat::emulation {

using namespace gpu;

namespace {

// Without results.
LaunchArguments arguments_of(const DecodeParams& params, std::vector<std::uint32_t>& lut,
                             std::uint32_t score_blocks = 1) {
  LaunchArguments a{};
  a.params = params;
  const std::size_t rows = params.page_size == 0 ? params.kv_capacity : params.page_size;
  a.row_stride =
      params.head_dim * (params.kv_layout == KvLayout::kNhd ? params.kv_heads : std::size_t{1});
  a.page_stride = rows * params.kv_heads * params.head_dim;
  a.page_shift = static_cast<std::uint32_t>(std::countr_zero(params.page_size));
  a.tiles_capacity = max_tiles(params);
  a.code_places = 1U << 31;
  a.splits.score = score_blocks;
  lut.assign(weight_lut(), weight_lut() + kWeightLutSize);
  a.workspace.lut = lut.data();
  return a;
}

void place(Workspace& w, ScoreResults& results) {
  w.ready = results.ready.data();
  w.code = results.code.data();
  w.exponent = results.exponent.data();
  w.mass = results.mass.data();
  w.part = results.part.data();
  w.next_tile = &results.next_tile;
}

ScoreResults no_scores(const LaunchArguments& a) {
  const std::size_t slots = std::size_t{a.params.batch} * a.params.q_heads * a.tiles_capacity;
  ScoreResults results;
  results.code.assign(slots * kTileRows, 0xabab);
  results.exponent.assign(slots, 12345);
  results.mass.assign(slots, 999);
  results.part.assign(slots * kTileParts, 999);
  results.ready.assign(a.params.batch, 0);
  return results;
}

Report queue_score(const LaunchArguments& a, const Launch& launch) {
  const std::size_t tiles = std::size_t{a.tiles_capacity} * a.params.batch * a.params.kv_heads;
  const Kernel kernel = score_kernel(a.params.element, a.params.head_dim, tiles > launch.blocks);
  return run(launch, [kernel, &a] { kernel(a); });
}

// Results of node 2, and what it works on.
struct Gather {
  GatherResults results;
  std::vector<std::uint32_t> counter, seen;
  std::vector<float> partial;

  Gather(LaunchArguments& a, const Cut& cut) {
    const DecodeParams& p = a.params;
    const std::size_t heads = std::size_t{p.batch} * p.q_heads;
    results.out.assign(heads * p.head_dim, -1);
    results.lse.assign(heads, -1);
    results.row.assign(heads * p.budget, 0xffffffffU);
    results.count.assign(heads * p.budget, 0xffff);
    counter.resize(heads);
    seen.resize(p.batch);
    partial.resize(heads * cut.blocks * p.head_dim);
    a.params.out = results.out.data();
    a.params.out_is_float = true;
    a.params.lse = results.lse.data();
    a.params.status = &results.status;
    a.params.trace = {results.row.data(), results.count.data(), p.budget, &results.lost};
    a.workspace.counter = counter.data();
    a.workspace.seen = seen.data();
    a.workspace.partial = partial.data();
    a.splits.gather = cut.blocks;
    a.splits.whole_sequences = cut.whole_sequences;
    a.whole_heads = cut.whole_sequences * p.q_heads;
  }
};

void queue_gather(const LaunchArguments& a, Launch launch) {
  const std::uint32_t heads = a.params.batch * a.params.q_heads;
  launch.blocks = a.splits.gather;
  launch.rows = heads - a.whole_heads + a.whole_heads / launch.blocks;
  const Kernel kernel = select_gather_kernel(a.params);
  run(launch, [kernel, &a] { kernel(a); });
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
  queue_gather(a, launch);
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
  std::thread score([&] {
    try {
      queue_score(a, launch);
    } catch (...) {
      error = std::current_exception();
    }
  });
  queue_gather(a, launch);
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
