// What the kernels of a decode get and work on, as decode_launch.cu places it. Included by
// rewritten kernels only.
#pragma once

#include <bit>
#include <vector>

#include "gpu/attention/kernels.cuh"
#include "tests/gpu/emulation/kernels.h"

namespace stoat::emulation {

// Without results.
inline gpu::LaunchArguments arguments_of(const gpu::DecodeParams& params,
                                         std::vector<std::uint32_t>& lut,
                                         std::uint32_t score_blocks = 1) {
  gpu::LaunchArguments a{};
  a.params = params;
  const std::size_t rows = params.page_size == 0 ? params.kv_capacity : params.page_size;
  a.row_stride = params.head_dim *
                 (params.kv_layout == gpu::KvLayout::kNhd ? params.kv_heads : std::size_t{1});
  a.page_stride = rows * params.kv_heads * params.head_dim;
  a.page_shift = static_cast<std::uint32_t>(std::countr_zero(params.page_size));
  a.tiles_capacity = gpu::max_tiles(params);
  a.code_places = 1U << 31;
  a.splits.score = score_blocks;
  lut.assign(weight_lut(), weight_lut() + kWeightLutSize);
  a.workspace.lut = lut.data();
  return a;
}

inline void place(gpu::Workspace& w, ScoreResults& results) {
  w.ready = results.ready.data();
  w.code = results.code.data();
  w.exponent = results.exponent.data();
  w.mass = results.mass.data();
  w.part = results.part.data();
  w.next_tile = &results.next_tile;
}

inline ScoreResults no_scores(const gpu::LaunchArguments& a) {
  const std::size_t slots = std::size_t{a.params.batch} * a.params.q_heads * a.tiles_capacity;
  ScoreResults results;
  results.code.assign(slots * kTileRows, 0xabab);
  results.exponent.assign(slots, 12345);
  results.mass.assign(slots, 999);
  results.part.assign(slots * gpu::kTileParts, 999);
  results.ready.assign(a.params.batch, 0);
  return results;
}

// Results of node 2, and what it works on.
struct Gather {
  GatherResults results;
  std::vector<std::uint32_t> counter, seen;
  std::vector<float> partial;

  Gather(gpu::LaunchArguments& a, const Cut& cut) {
    const gpu::DecodeParams& p = a.params;
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

inline void queue_gather(gpu::Kernel kernel, const gpu::LaunchArguments& a, Launch launch) {
  const std::uint32_t heads = a.params.batch * a.params.q_heads;
  launch.blocks = a.splits.gather;
  launch.rows = heads - a.whole_heads + a.whole_heads / launch.blocks;
  run(launch, [kernel, &a] { kernel(a); });
}

}  // namespace stoat::emulation
