// The kernels of a prefill chunk and of a decode step, in order.
#include <algorithm>
#include <cmath>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/engine_state.h"
#include "models/error.h"

namespace stoat::gpu {

std::byte* Engine::State::cache(const DeviceMemory& memory, std::uint32_t layer,
                                std::uint32_t sequence) const {
  const std::size_t one = std::size_t{config.n_kv_heads} * capacity * config.head_dim * 2;
  return memory.as<std::byte>((std::size_t{layer} * options.batch + sequence) * one);
}

RotateParams Engine::State::rotation(std::uint32_t layer, std::uint32_t rows) const {
  const LayerPointers& w = weights.pointers().layers[layer];
  RotateParams p;
  p.qkv = buffers.qkv.as<float>();
  p.bias = w.qkv_bias;
  p.q_norm = w.q_norm;
  p.k_norm = w.k_norm;
  p.norm_eps = static_cast<float>(config.rms_norm_eps);
  p.cos_sin = rotary.as<float>();
  p.rows = rows;
  p.q_heads = config.n_q_heads;
  p.kv_heads = config.n_kv_heads;
  p.head_dim = config.head_dim;
  p.q = buffers.q.as<void>();
  p.k_cache = cache(keys, layer, 0);
  p.v_cache = cache(values, layer, 0);
  p.capacity = capacity;
  return p;
}

// A layer by cuBLASLt, for many rows.
void Engine::State::wide_layer(const LayerPointers& w, std::uint32_t rows, const RotateParams& turn,
                               const std::function<void()>& attention) {
  const Stream s = stream.get();
  const PassBuffers& b = buffers;
  const std::uint32_t hidden = config.hidden_size, middle = config.intermediate_size;
  const auto eps = static_cast<float>(config.rms_norm_eps);
  launch_rms_norm(b.x.as<float>(), w.attention_norm, b.next.as<void>(), rows, hidden, eps, s);
  blas().multiply(b.next.as<void>(), w.qkv, b.qkv.as<float>(), rows, qkv_width(), hidden, false, s);
  launch_rotate(turn, s);
  attention();
  blas().multiply(b.attended.as<void>(), w.o, b.x.as<float>(), rows, hidden, q_width(), true, s);
  if (w.o_bias) launch_add_bias(b.x.as<float>(), w.o_bias, rows, hidden, s);
  launch_rms_norm(b.x.as<float>(), w.mlp_norm, b.next.as<void>(), rows, hidden, eps, s);
  blas().multiply(b.next.as<void>(), w.gate_up, b.gate_up.as<float>(), rows, 2 * middle, hidden,
                  false, s);
  launch_swiglu(b.gate_up.as<float>(), b.act.as<void>(), rows, middle, s);
  blas().multiply(b.act.as<void>(), w.down, b.x.as<float>(), rows, hidden, middle, true, s);
}

void Engine::State::prefill_chunk(std::uint32_t sequence, std::uint32_t start, std::uint32_t rows,
                                  bool last) {
  const Stream s = stream.get();
  const PassBuffers& b = buffers;
  const ModelPointers& model = weights.pointers();
  const std::uint32_t hidden = config.hidden_size;
  launch_embed(b.prompt.as<std::int32_t>(), model.embedding, nullptr, b.x.as<float>(), nullptr,
               nullptr, rows, hidden, s);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    RotateParams turn = rotation(layer, rows);
    turn.sequence = sequence;
    turn.start = start;
    PrefillParams p;
    p.q = b.q.as<void>();
    p.k = cache(keys, layer, sequence);
    p.v = cache(values, layer, sequence);
    p.out = b.attended.as<void>();
    p.rows = rows;
    p.start = start;
    p.q_heads = config.n_q_heads;
    p.kv_heads = config.n_kv_heads;
    p.head_dim = config.head_dim;
    p.capacity = capacity;
    p.sm_scale = sm_scale;
    wide_layer(model.layers[layer], rows, turn, [&] { launch_prefill_attention(p, s); });
  }
  if (!last) return;
  launch_rms_norm(b.x.as<float>() + std::size_t{rows - 1} * hidden, model.final_norm,
                  b.next.as<void>(), 1, hidden, static_cast<float>(config.rms_norm_eps), s);
  SkinnyParams head = product(b.next, model.head, 1, config.vocab_size, hidden, false);
  head.y = b.logits.as<float>() + std::size_t{sequence} * config.vocab_size;
  launch_skinny(head, multiprocessors, s);
}

SkinnyParams Engine::State::product(const DeviceMemory& input, const void* weight,
                                    std::uint32_t rows, std::uint32_t columns, std::uint32_t k,
                                    bool normed) const {
  SkinnyParams p;
  p.input = input.as<void>();
  p.weight = weight;
  p.rows = rows;
  p.columns = columns;
  p.k = k;
  if (normed) {
    p.square_sums = buffers.squares.as<float>();
    p.square_tiles = (config.hidden_size + kTileColumns - 1) / kTileColumns;
    p.norm_width = static_cast<float>(config.hidden_size);
    p.norm_eps = static_cast<float>(config.rms_norm_eps);
  }
  return p;
}

DecodeParams Engine::State::decode_params(std::uint32_t layer, std::uint32_t slot) const {
  DecodeParams p;
  p.batch = options.batch;
  p.q_heads = config.n_q_heads;
  p.kv_heads = config.n_kv_heads;
  p.head_dim = config.head_dim;
  p.max_context = capacity;
  p.q = buffers.q.as<void>();
  p.k = cache(keys, layer, 0);
  p.v = cache(values, layer, 0);
  p.kv_layout = KvLayout::kHnd;
  p.kv_capacity = capacity;
  p.context_len = context.as<std::uint32_t>();
  p.sm_scale = sm_scale;
  p.method = options.method;
  p.budget = options.budget_of_layer(layer);
  p.seed = options.seed;
  p.layer = layer;
  p.kv_is_stable = true;  // the kernel before is the rotation: it writes the newest row only
  p.out = buffers.attended.as<void>();
  p.status = status.as<std::uint32_t>();
  if (options.record && options.method != Method::kDense) {
    const std::size_t at = std::size_t{layer} * options.batch * config.n_q_heads * layout.slots;
    p.trace = TraceSink{records[slot].as<std::uint32_t>(layout.row) + at,
                        records[slot].as<std::uint16_t>(layout.count) + at, layout.slots,
                        status.as<std::uint32_t>() + 1};
  }
  if (wants_codes() && options.method != Method::kDense)
    p.scores = ScoreSink{codes.as<std::uint16_t>(), exponents.as<std::int32_t>(), nullptr};
  p.workspace = workspace.as<void>();
  p.workspace_size = workspace.size();
  return p;
}

// The scores of a dense step: a sampled launch of its own, whose output nobody reads.
DecodeParams Engine::State::score_params(std::uint32_t layer, std::uint32_t slot) const {
  DecodeParams p = decode_params(layer, slot);
  p.method = Method::kProp;
  p.budget = 1;
  p.trace = {};
  p.kv_is_stable = false;
  p.out = spare.as<void>();
  p.scores = ScoreSink{codes.as<std::uint16_t>(), exponents.as<std::int32_t>(), nullptr};
  p.workspace = score_workspace.as<void>();
  p.workspace_size = score_workspace.size();
  return p;
}

void Engine::State::record_scores(std::uint32_t layer, std::uint32_t slot,
                                  const DecodeParams& params) {
  const std::size_t heads = std::size_t{options.batch} * config.n_q_heads;
  const DeviceMemory& to = records[slot];
  StatsParams p;
  p.code = codes.as<std::uint16_t>();
  p.exponent = exponents.as<std::int32_t>();
  p.tiles = layout.tiles;
  p.sequences = options.batch;
  p.q_heads = config.n_q_heads;
  p.context_len = params.context_len;
  p.lut = lut.as<std::uint32_t>();
  if (options.stats) p.stats = to.as<float>(layout.stats) + layer * heads * kFastStats;
  if (flash_trace())
    p.tile_mass = to.as<std::uint64_t>(layout.tile_mass) + layer * heads * layout.tiles;
  if (p.stats || p.tile_mass) launch_stats(p, stream.get());
  if (layer >= options.score_layers.size() || !options.score_layers[layer]) return;
  const auto before = static_cast<std::size_t>(
      std::count(options.score_layers.begin(), options.score_layers.begin() + layer, true));
  const std::size_t tiles = heads * layout.tiles;
  copy_on_device(to.as<std::int32_t>(layout.exponent) + before * tiles, exponents.as<void>(),
                 tiles * sizeof(std::int32_t), stream.get());
  copy_on_device(to.as<std::uint16_t>(layout.code) + before * tiles * kTileRows, codes.as<void>(),
                 tiles * kTileRows * sizeof(std::uint16_t), stream.get());
}

void Engine::State::attend(std::uint32_t layer, std::uint32_t slot) {
  const DecodeParams params = decode_params(layer, slot);
  launch_decode(params, stream.get());
  if (!wants_codes()) return;
  if (options.method == Method::kDense) launch_decode(score_params(layer, slot), stream.get());
  record_scores(layer, slot, params);
}

// The products of a layer for up to 16 rows. On entry `next` is the input times the norm's weight,
// `squares` its sums of squares; on exit the same for the next layer.
LayerProducts Engine::State::layer_products(std::uint32_t layer) const {
  const PassBuffers& b = buffers;
  const ModelPointers& model = weights.pointers();
  const LayerPointers& w = model.layers[layer];
  const std::uint32_t rows = options.batch, hidden = config.hidden_size,
                      middle = config.intermediate_size;
  LayerProducts p;
  p.qkv = product(b.next, w.qkv, rows, qkv_width(), hidden, true);
  p.qkv.y = b.qkv.as<float>();
  p.o = product(b.attended, w.o, rows, hidden, q_width(), false);
  p.o.end = SkinnyEnd::kResidual;
  p.o.y = b.x.as<float>();
  p.o.bias = w.o_bias;
  p.o.next_norm = w.mlp_norm;
  p.o.next = b.next.as<void>();
  p.o.next_square_sums = b.squares.as<float>();
  p.gate_up = product(b.next, w.gate_up, rows, 2 * middle, hidden, true);
  p.gate_up.end = SkinnyEnd::kSwiGlu;
  p.gate_up.next = b.act.as<void>();
  p.down = p.o;
  p.down.input = b.act.as<void>();
  p.down.weight = w.down;
  p.down.k = middle;
  p.down.bias = nullptr;
  p.down.next_norm =
      layer + 1 < config.n_layers ? model.layers[layer + 1].attention_norm : model.final_norm;
  return p;
}

void Engine::State::queue_head() {
  if (narrow()) {
    SkinnyParams head = product(buffers.next, weights.pointers().head, options.batch,
                                config.vocab_size, config.hidden_size, true);
    head.y = buffers.logits.as<float>();
    launch_skinny(head, multiprocessors, stream.get());
    return;
  }
  launch_rms_norm(buffers.x.as<float>(), weights.pointers().final_norm, buffers.next.as<void>(),
                  options.batch, config.hidden_size, static_cast<float>(config.rms_norm_eps),
                  stream.get());
  blas().multiply(buffers.next.as<void>(), weights.pointers().head, buffers.logits.as<float>(),
                  options.batch, config.vocab_size, config.hidden_size, false, stream.get());
}

RotateParams Engine::State::decode_rotation(std::uint32_t layer) const {
  RotateParams turn = rotation(layer, options.batch);
  turn.context_len = context.as<std::uint32_t>();
  return turn;
}

void Engine::State::decode_layer(std::uint32_t layer, std::uint32_t slot) {
  const Stream s = stream.get();
  const LayerProducts products = layer_products(layer);
  launch_skinny(products.qkv, multiprocessors, s);
  launch_rotate(decode_rotation(layer), s);
  attend(layer, slot);
  launch_skinny(products.o, multiprocessors, s);
  launch_skinny(products.gate_up, multiprocessors, s);
  launch_skinny(products.down, multiprocessors, s);
}

// All kernels of one kind of a step, for timing.
void Engine::State::queue_part(StepPart part) {
  const Stream s = stream.get();
  if (part == StepPart::kHead) return queue_head();
  if (part == StepPart::kToken) return launch_choose_token(token_params(), s);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    const LayerProducts products = layer_products(layer);
    if (part == StepPart::kQkv) launch_skinny(products.qkv, multiprocessors, s);
    if (part == StepPart::kRotate) launch_rotate(decode_rotation(layer), s);
    if (part == StepPart::kAttention) {
      DecodeParams params = decode_params(layer, 0);
      params.kv_is_stable = false;  // attention follows attention here
      launch_decode(params, s);
    }
    if (part == StepPart::kO) launch_skinny(products.o, multiprocessors, s);
    if (part == StepPart::kGateUp) launch_skinny(products.gate_up, multiprocessors, s);
    if (part == StepPart::kDown) launch_skinny(products.down, multiprocessors, s);
  }
}

TokenParams Engine::State::token_params() {
  TokenParams p;
  p.logits = buffers.logits.as<float>();
  p.rows = options.batch;
  p.vocab = config.vocab_size;
  p.temperature = options.choice.temperature;
  p.top_p = options.choice.top_p;
  p.seed = options.seed;
  p.token = tokens.as<std::int32_t>();
  p.context_len = context.as<std::uint32_t>();
  p.lut = lut.as<std::uint32_t>();
  p.status = status.as<std::uint32_t>();
  return p;
}

void Engine::State::queue_step(std::uint32_t slot) {
  const Stream s = stream.get();
  const PassBuffers& b = buffers;
  const ModelPointers& model = weights.pointers();
  const std::uint32_t rows = options.batch, hidden = config.hidden_size;
  const bool few = narrow();
  launch_embed(tokens.as<std::int32_t>(), model.embedding, model.layers[0].attention_norm,
               b.x.as<float>(), few ? b.next.as<void>() : nullptr,
               few ? b.squares.as<float>() : nullptr, rows, hidden, s);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    if (few) {
      decode_layer(layer, slot);
      continue;
    }
    wide_layer(model.layers[layer], rows, decode_rotation(layer), [&] { attend(layer, slot); });
  }
  queue_head();
  launch_choose_token(token_params(), s);
}

}  // namespace stoat::gpu
