// Attention of one layer at a decode step: the method's launch, and what a recording asks for
// beside it (codes, statistics, errors against exact attention, other budgets).
#include <algorithm>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/engine_state.h"
#include "models/error.h"

namespace stoat::gpu {

DecodeParams Engine::State::cache_params(std::uint32_t layer, Lane lane) const {
  DecodeParams p;
  p.batch = options.batch;
  p.q_heads = config.n_q_heads;
  p.kv_heads = config.n_kv_heads;
  p.head_dim = config.head_dim;
  p.max_context = capacity;
  p.q = buffers.q.as<void>();
  p.k = cache(lane_cache(lane).keys, layer, 0);
  p.v = cache(lane_cache(lane).values, layer, 0);
  p.kv_layout = KvLayout::kHnd;
  p.kv_capacity = capacity;
  p.context_len = context.as<std::uint32_t>();
  p.page_size = options.page_size;
  p.indptr = page_indptr.as<std::int32_t>();
  p.indices = page_indices.as<std::int32_t>();
  p.last_page_len = last_page_len.as<std::int32_t>();
  p.sm_scale = sm_scale;
  p.seed = options.seed;
  p.layer = layer;
  p.out = buffers.attended.as<void>();
  p.status = status.as<std::uint32_t>();
  return p;
}

DecodeParams Engine::State::decode_params(std::uint32_t layer, std::uint32_t slot) const {
  DecodeParams p = cache_params(layer, Lane::kMethod);
  p.method = options.method;
  p.budget = options.budget_of_layer(layer);
  p.kv_is_stable = true;  // the kernel before writes the newest row only
  use_workspace(p, workspace, layer);
  if (options.method == Method::kDense) return p;
  const DeviceMemory& record = records[slot];
  const std::size_t heads = std::size_t{options.batch} * config.n_q_heads;
  if (options.record) {
    const std::size_t at = layer * heads * layout.slots;
    p.trace = TraceSink{record.as<std::uint32_t>(layout.row) + at,
                        record.as<std::uint16_t>(layout.count) + at, layout.slots,
                        status.as<std::uint32_t>() + 1};
  }
  p.scores = score_sink(layer, slot);
  p.keep_codes = wants_codes(options);
  if (!options.ternary) return p;
  const std::size_t bytes = heads * config.head_dim / 8;
  p.ternary = attention_shape(config, options).ternary;
  p.ternary.k_features = cache(features, layer, 0);
  if (options.record)
    p.ternary.sink = {
        record.as<std::uint8_t>(layout.key_mask) + layer * bytes * options.ternary->draws,
        record.as<std::uint8_t>(layout.key_sign) + layer * bytes};
  return p;
}

// Where a layer's codes are kept; nowhere unless they are asked for.
ScoreSink Engine::State::score_sink(std::uint32_t layer, std::uint32_t slot) const {
  if (layer >= options.score_layers.size() || !options.score_layers[layer]) return {};
  const auto before = static_cast<std::size_t>(
      std::count(options.score_layers.begin(), options.score_layers.begin() + layer, true));
  const std::size_t tiles = before * options.batch * config.n_q_heads * layout.tiles;
  return {records[slot].as<std::uint16_t>(layout.code) + tiles * kTileRows,
          records[slot].as<std::int32_t>(layout.exponent) + tiles, nullptr};
}

// The scores of a dense step: a sampled launch of its own, or its first node alone.
DecodeParams Engine::State::score_params(std::uint32_t layer, std::uint32_t slot) const {
  DecodeParams p = cache_params(layer, Lane::kMethod);
  p.method = Method::kProp;
  p.budget = 1;
  p.out = spare.as<void>();
  p.keep_codes = true;
  p.kv_is_stable = true;
  p.scores = score_sink(layer, slot);
  use_workspace(p, score_workspace, layer);
  return p;
}

// Dense attention beside a method: the exact output, and the twin's.
DecodeParams Engine::State::exact_params(std::uint32_t layer, Lane lane) const {
  DecodeParams p = cache_params(layer, lane);
  if (options.method == Method::kDense) {
    use_workspace(p, workspace, layer);
    return p;
  }
  p.workspace = exact_workspace.as<void>();
  p.workspace_size = exact_workspace.size();
  return p;
}

// A layer's part of a workspace of several layers.
void Engine::State::use_workspace(DecodeParams& params, const DeviceMemory& memory,
                                  std::uint32_t layer) const {
  params.workspace_size = memory.size() / together;
  params.workspace = memory.as<std::byte>(layer % together * params.workspace_size);
}

// From the codes in the workspaces, where they stay until a later layer's.
void Engine::State::record_stats(std::uint32_t first_layer, std::uint32_t layers,
                                 std::uint32_t slot) {
  const std::size_t heads = std::size_t{options.batch} * config.n_q_heads;
  const DeviceMemory& to = records[slot];
  const DeviceMemory& from = options.method == Method::kDense ? score_workspace : workspace;
  StatsParams p;
  p.code = from.as<std::uint16_t>(code_at);
  p.exponent = from.as<std::int32_t>(exponent_at);
  p.layers = layers;
  p.layer_stride = from.size() / together;
  p.tiles = layout.tiles;
  p.sequences = options.batch;
  p.q_heads = config.n_q_heads;
  p.context_len = context.as<std::uint32_t>();
  p.lut = lut.as<std::uint32_t>();
  p.columns = options.stats_columns();
  p.forget = together == 1 && p.columns == kFastStats;
  if (options.stats) p.stats = to.as<float>(layout.stats) + first_layer * heads * p.columns;
  if (flash_trace())
    p.tile_mass = to.as<std::uint64_t>(layout.tile_mass) + first_layer * heads * layout.tiles;
  if (p.stats || p.tile_mass) launch_stats(p, stream.get());
}

// `found` holds the method's output: its error against exact attention on the same q, K and V, and
// those of the probes, drawn at the same sites from the same codes.
void Engine::State::measure_outputs(std::uint32_t layer, std::uint32_t slot,
                                    const DecodeParams& params) {
  const Stream s = stream.get();
  const DeviceMemory& to = records[slot];
  CompareParams compare;
  compare.found = found.as<float>();
  compare.rounded = buffers.attended.as<void>();
  compare.heads = options.batch * config.n_q_heads;
  compare.head_dim = config.head_dim;
  compare.exact = compare.found;  // of dense attention
  if (options.method != Method::kDense) {
    DecodeParams dense = exact_params(layer, Lane::kMethod);
    dense.out = exact.as<void>();
    dense.out_is_float = true;
    launch_decode(dense, s);
    compare.exact = exact.as<float>();
  }
  if (options.full_stats) {
    compare.error = to.as<float>(layout.error) + std::size_t{layer} * compare.heads;
  } else {
    compare.exact = nullptr;
  }
  launch_compare_outputs(compare, s);
  compare.rounded = nullptr;
  compare.exact = exact.as<float>();
  compare.error_stride = static_cast<std::uint32_t>(options.probe_budgets.size());
  for (std::size_t i = 0; i < options.probe_budgets.size(); ++i) {
    DecodeParams probe = params;
    probe.budget = options.probe_budgets[i];
    probe.kv_is_stable = false;
    probe.trace = {};
    probe.scores = {};
    probe.ternary.sink = {};
    launch_decode(probe, s);
    compare.error =
        to.as<float>(layout.probe) + std::size_t{layer} * compare.heads * compare.error_stride + i;
    launch_compare_outputs(compare, s);
  }
}

void Engine::State::attend(std::uint32_t layer, std::uint32_t slot, Lane lane) {
  const Stream s = stream.get();
  if (lane == Lane::kTwin) return launch_decode(exact_params(layer, lane), s);
  DecodeParams params = decode_params(layer, slot);
  if (options.measures_outputs()) {
    params.out = found.as<void>();
    params.out_is_float = true;
  }
  launch_decode(params, s);
  if (wants_codes(options)) {
    if (options.method == Method::kDense) {
      const DecodeParams scores = score_params(layer, slot);
      scores.scores.code ? launch_decode(scores, s) : launch_score(scores, s);
    }
    const std::uint32_t done = layer + 1,
                        pending = done % together == 0 ? together : done % together;
    if (pending == together || done == config.n_layers) record_stats(done - pending, pending, slot);
  }
  if (options.measures_outputs()) measure_outputs(layer, slot, params);
  if (options.queries) {
    const std::size_t bytes = std::size_t{options.batch} * q_width() * 2;
    copy_on_device(records[slot].as<std::byte>(layout.query) + layer * bytes, buffers.q.as<void>(),
                   bytes, s);
  }
}

}  // namespace stoat::gpu
