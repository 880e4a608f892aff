// The kernels of a prefill chunk and of a decode step, in order.
#include <algorithm>
#include <cmath>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/engine_state.h"
#include "models/error.h"

namespace stoat::gpu {
namespace {
// Weights of so many bytes do not stay in the L2 from step to step.
constexpr std::uint64_t kStayingBytes = std::uint64_t{32} << 20;
}  // namespace

std::byte* Engine::State::cache(const DeviceMemory& memory, std::uint32_t layer,
                                std::uint32_t sequence) const {
  const std::size_t one = std::size_t{config.n_kv_heads} * capacity * config.head_dim * 2;
  return memory.as<std::byte>((std::size_t{layer} * options.batch + sequence) * one);
}

RotateParams Engine::State::rotation(std::uint32_t layer, std::uint32_t rows, Lane lane) const {
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
  p.k_cache = cache(lane_cache(lane).keys, layer, 0);
  p.v_cache = cache(lane_cache(lane).values, layer, 0);
  p.capacity = capacity;
  if (options.page_size > 0) p.pages = page_table.as<std::int32_t>();
  p.page_shift = page_shift;
  if (options.ternary && lane == Lane::kMethod) p.k_features = cache(features, layer, 0);
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

void Engine::State::prefill_attention(std::uint32_t layer, std::uint32_t sequence,
                                      std::uint32_t start, std::uint32_t rows) {
  const KvMemory& from = lane_cache(Lane::kMethod);
  PrefillParams p;
  p.q = buffers.q.as<void>();
  p.k = cache(from.keys, layer, sequence);
  p.v = cache(from.values, layer, sequence);
  p.out = buffers.attended.as<void>();
  p.rows = rows;
  p.start = start;
  p.q_heads = config.n_q_heads;
  p.kv_heads = config.n_kv_heads;
  p.head_dim = config.head_dim;
  p.capacity = capacity;
  p.sm_scale = sm_scale;
  if (options.page_size > 0) {
    const auto* pages =
        page_table.as<std::int32_t>() + std::size_t{sequence} * (capacity >> page_shift);
    const void* const paged[] = {cache(from.keys, layer, 0), cache(from.values, layer, 0)};
    for (std::size_t i = 0; i < 2; ++i)
      launch_gather_pages(paged[i], unpaged[i].as<void>(), pages, page_shift, start + rows,
                          config.n_kv_heads, config.head_dim, capacity, stream.get());
    p.k = unpaged[0].as<void>();
    p.v = unpaged[1].as<void>();
  }
  launch_prefill_attention(p, stream.get());
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
    RotateParams turn = rotation(layer, rows, Lane::kMethod);
    turn.sequence = sequence;
    turn.start = start;
    wide_layer(model.layers[layer], rows, turn,
               [&] { prefill_attention(layer, sequence, start, rows); });
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
  p.read_once = weights.bytes_per_token() > kStayingBytes;
  if (normed) {
    p.square_sums = buffers.squares.as<float>();
    p.square_tiles = (config.hidden_size + kTileColumns - 1) / kTileColumns;
    p.norm_width = static_cast<float>(config.hidden_size);
    p.norm_eps = static_cast<float>(config.rms_norm_eps);
  }
  return p;
}

// Norms of q and k need whole heads, which a unit of a product does not have.
bool Engine::State::rotates_in_product() const {
  const LayerPointers& w = weights.pointers().layers[0];
  return !w.q_norm && !w.k_norm;
}

// The products of a layer for up to 16 rows. On entry `next` is the input times the norm's weight,
// `squares` its sums of squares; on exit the same for the next layer.
LayerProducts Engine::State::layer_products(std::uint32_t layer, Lane lane) const {
  const PassBuffers& b = buffers;
  const ModelPointers& model = weights.pointers();
  const LayerPointers& w = model.layers[layer];
  const std::uint32_t rows = options.batch, hidden = config.hidden_size,
                      middle = config.intermediate_size;
  LayerProducts p;
  p.qkv = product(b.next, w.qkv, rows, qkv_width(), hidden, true);
  p.qkv.y = b.qkv.as<float>();
  if (rotates_in_product()) {
    p.qkv.end = SkinnyEnd::kRotate;
    p.qkv.turn = decode_rotation(layer, lane);
  }
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

void Engine::State::queue_head(Lane lane) {
  auto* const logits = (lane == Lane::kMethod ? buffers.logits : twin_logits).as<float>();
  if (narrow()) {
    SkinnyParams head = product(buffers.next, weights.pointers().head, options.batch,
                                config.vocab_size, config.hidden_size, true);
    head.y = logits;
    launch_skinny(head, multiprocessors, stream.get());
    return;
  }
  launch_rms_norm(buffers.x.as<float>(), weights.pointers().final_norm, buffers.next.as<void>(),
                  options.batch, config.hidden_size, static_cast<float>(config.rms_norm_eps),
                  stream.get());
  blas().multiply(buffers.next.as<void>(), weights.pointers().head, logits, options.batch,
                  config.vocab_size, config.hidden_size, false, stream.get());
}

RotateParams Engine::State::decode_rotation(std::uint32_t layer, Lane lane) const {
  RotateParams turn = rotation(layer, options.batch, lane);
  turn.context_len = context.as<std::uint32_t>();
  return turn;
}

void Engine::State::decode_layer(std::uint32_t layer, std::uint32_t slot, Lane lane) {
  const Stream s = stream.get();
  const LayerProducts products = layer_products(layer, lane);
  launch_skinny(products.qkv, multiprocessors, s);
  if (!rotates_in_product()) launch_rotate(decode_rotation(layer, lane), s);
  attend(layer, slot, lane);
  launch_skinny(products.o, multiprocessors, s);
  launch_skinny(products.gate_up, multiprocessors, s);
  launch_skinny(products.down, multiprocessors, s);
}

// All kernels of one kind of a step, for timing.
void Engine::State::queue_part(StepPart part) {
  const Stream s = stream.get();
  if (part == StepPart::kHead) return queue_head(Lane::kMethod);
  if (part == StepPart::kToken) return launch_choose_token(token_params(), s);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    const LayerProducts products = layer_products(layer, Lane::kMethod);
    if (part == StepPart::kQkv) launch_skinny(products.qkv, multiprocessors, s);
    if (part == StepPart::kRotate) launch_rotate(decode_rotation(layer, Lane::kMethod), s);
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

void Engine::State::queue_forward(std::uint32_t slot, Lane lane) {
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
      decode_layer(layer, slot, lane);
      continue;
    }
    wide_layer(model.layers[layer], rows, decode_rotation(layer, lane),
               [&] { attend(layer, slot, lane); });
  }
  queue_head(lane);
}

void Engine::State::queue_page_lists() {
  PageListParams p;
  p.pages = page_table.as<std::int32_t>();
  p.context_len = context.as<std::uint32_t>();
  p.batch = options.batch;
  p.capacity = capacity;
  p.page_shift = page_shift;
  p.indptr = page_indptr.as<std::int32_t>();
  p.indices = page_indices.as<std::int32_t>();
  p.last_page_len = last_page_len.as<std::int32_t>();
  launch_page_lists(p, stream.get());
}

void Engine::State::queue_step(std::uint32_t slot) {
  const DeviceMemory& record = records[slot];
  if (options.page_size > 0) queue_page_lists();
  queue_forward(slot, Lane::kMethod);
  if (options.full_stats) {
    queue_forward(slot, Lane::kTwin);
    launch_compare_logits(buffers.logits.as<float>(), twin_logits.as<float>(),
                          record.as<float>(layout.twin), options.batch, config.vocab_size,
                          stream.get());
  }
  TokenParams choice = token_params();
  choice.fed_out = record.as<std::int32_t>(layout.fed);
  choice.context_out = record.as<std::uint32_t>(layout.context);
  choice.chosen_out = record.as<std::int32_t>(layout.chosen);
  launch_choose_token(choice, stream.get());
}

}  // namespace stoat::gpu
