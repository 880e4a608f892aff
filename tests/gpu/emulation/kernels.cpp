#include "tests/gpu/emulation/kernels.h"

#include <bit>

#include "gpu/attention/score.cu"
#include "gpu/attention/select_gather.cu"

namespace stoat::emulation {

using namespace gpu;

namespace {

// Without a workspace.
LaunchArguments arguments_of(const DecodeParams& params) {
  LaunchArguments a{};
  a.params = params;
  const std::size_t rows = params.page_size == 0 ? params.kv_capacity : params.page_size;
  a.row_stride =
      params.head_dim * (params.kv_layout == KvLayout::kNhd ? params.kv_heads : std::size_t{1});
  a.page_stride = rows * params.kv_heads * params.head_dim;
  a.page_shift = static_cast<std::uint32_t>(std::countr_zero(params.page_size));
  a.tiles_capacity = max_tiles(params);
  return a;
}

}  // namespace

ScoreResults run_score(const DecodeParams& params, std::uint32_t code_places,
                       const Launch& launch) {
  LaunchArguments a = arguments_of(params);
  const std::size_t slots = std::size_t{params.batch} * params.q_heads * a.tiles_capacity;
  ScoreResults results;
  results.code.assign(slots * kTileRows, 0xabab);
  results.exponent.assign(slots, 12345);
  results.mass.assign(slots, 999);
  results.part.assign(slots * kTileParts, 999);
  results.ready.assign(params.batch, 0);
  std::vector<std::uint32_t> lut(weight_lut(), weight_lut() + kWeightLutSize);
  a.workspace.lut = lut.data();
  a.workspace.ready = results.ready.data();
  a.workspace.code = results.code.data();
  a.workspace.exponent = results.exponent.data();
  a.workspace.mass = results.mass.data();
  a.workspace.part = results.part.data();
  a.workspace.next_tile = &results.next_tile;
  a.code_places = code_places;
  a.signal_group = 1;
  a.splits.score = launch.blocks;
  const bool several_tiles =
      std::size_t{a.tiles_capacity} * params.batch * params.kv_heads > launch.blocks;
  const Kernel kernel = score_kernel(params.element, params.head_dim, several_tiles);
  results.report = run(launch, [&] { kernel(a); });
  return results;
}

GatherResults run_gather(const DecodeParams& params, const ScoreResults& scores,
                         std::uint32_t whole_sequences, Launch launch) {
  const std::size_t heads = std::size_t{params.batch} * params.q_heads;
  GatherResults results;
  results.out.assign(heads * params.head_dim, -1);
  results.lse.assign(heads, -1);
  results.row.assign(heads * params.budget, 0xffffffffU);
  results.count.assign(heads * params.budget, 0xffff);
  // What the score pass left, and what is between launches 0.
  ScoreResults left = scores;
  std::vector<std::uint32_t> lut(weight_lut(), weight_lut() + kWeightLutSize), counter(heads);
  std::vector<float> partial(heads * launch.blocks * params.head_dim);
  LaunchArguments a = arguments_of(params);
  a.params.out = results.out.data();
  a.params.out_is_float = true;
  a.params.lse = results.lse.data();
  a.params.status = &results.status;
  a.params.trace = {results.row.data(), results.count.data(), params.budget, &results.lost};
  a.workspace.lut = lut.data();
  a.workspace.counter = counter.data();
  a.workspace.code = left.code.data();
  a.workspace.exponent = left.exponent.data();
  a.workspace.mass = left.mass.data();
  a.workspace.part = left.part.data();
  a.workspace.partial = partial.data();
  a.splits.gather = launch.blocks;
  a.splits.whole_sequences = whole_sequences;
  a.whole_heads = whole_sequences * params.q_heads;
  launch.rows = static_cast<std::uint32_t>(heads) - a.whole_heads + a.whole_heads / launch.blocks;
  const Kernel kernel = select_gather_kernel(a.params);
  run(launch, [&] { kernel(a); });
  return results;
}

}  // namespace stoat::emulation
