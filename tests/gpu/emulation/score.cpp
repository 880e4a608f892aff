#include "tests/gpu/emulation/score.h"

#include <bit>

#include "gpu/attention/score.cu"

namespace stoat::emulation {

using namespace gpu;

ScoreResults run_score(const DecodeParams& params, std::uint32_t code_places,
                       const Launch& launch) {
  const std::uint32_t tiles = max_tiles(params);
  const std::size_t heads = std::size_t{params.batch} * params.q_heads, slots = heads * tiles;
  ScoreResults results;
  results.code.assign(slots * kTileRows, 0xabab);
  results.exponent.assign(slots, 12345);
  results.mass.assign(slots, 999);
  results.part.assign(slots * kTileParts, 999);
  results.ready.assign(params.batch, 0);
  std::vector<std::uint32_t> lut(weight_lut(), weight_lut() + kWeightLutSize);
  LaunchArguments a{};
  a.params = params;
  a.workspace.lut = lut.data();
  a.workspace.ready = results.ready.data();
  a.workspace.code = results.code.data();
  a.workspace.exponent = results.exponent.data();
  a.workspace.mass = results.mass.data();
  a.workspace.part = results.part.data();
  a.workspace.next_tile = &results.next_tile;
  const std::size_t rows = params.page_size == 0 ? params.kv_capacity : params.page_size;
  a.row_stride =
      params.head_dim * (params.kv_layout == KvLayout::kNhd ? params.kv_heads : std::size_t{1});
  a.page_stride = rows * params.kv_heads * params.head_dim;
  a.page_shift = static_cast<std::uint32_t>(std::countr_zero(params.page_size));
  a.tiles_capacity = tiles;
  a.code_places = code_places;
  a.signal_group = 1;
  a.splits.score = launch.blocks;
  const bool several_tiles = std::size_t{tiles} * params.batch * params.kv_heads > launch.blocks;
  const Kernel kernel = score_kernel(params.element, params.head_dim, several_tiles);
  results.report = run(launch, [&] { kernel(a); });
  return results;
}

}  // namespace stoat::emulation
