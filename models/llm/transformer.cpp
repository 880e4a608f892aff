// The layers of Llama, Qwen2 and Qwen3 in fp32 on the kernels of kernels.h; one code path for
// prefill and decode.
//
// Work is cut by shapes alone (blocks of tokens, panels of columns), so the bits of a result depend
// on no thread count, and a token's logits do not depend on the chunk it was prefilled in.
#include "models/llm/transformer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "models/error.h"
#include "models/llm/kernels.h"
#include "models/llm/prefill_attention.h"
#include "models/llm/rope.h"
#include "models/llm/weights.h"

namespace stoat {
namespace {

constexpr std::uint32_t kTokenChunk = 768;        // tokens of one pass of a prefill
constexpr std::size_t kRowBlock = 96;             // tokens of one unit of a matrix product
constexpr std::size_t kUnitWeights = 128 * 1024;  // weights of one unit

}  // namespace

struct Transformer::State {
  // Attention of one layer for the tokens of this pass. q: [tokens, qkv columns]; out: [tokens,
  // q_heads * head_dim].
  using Attention =
      std::function<void(std::uint32_t layer, const float* qkv, std::span<float> out)>;

  State(std::string f, ModelConfig c, Weights w, ThreadPool& p)
      : folder(std::move(f)),
        config(std::move(c)),
        weights(std::move(w)),
        pool(p),
        frequencies(rope_frequencies(config.rope, config.head_dim)) {}

  void check_tokens(std::span<const std::int32_t> tokens, const KvCache& cache) const;
  void check_finite(std::span<const float> values, const std::string& what) const;
  // y = x w^T + bias, or y += without bias. x: [rows, k] with row stride ldx; y: [rows, columns].
  void multiply(const Matrix& m, const float* x, std::size_t ldx, std::size_t rows, float* y,
                bool accumulate) const;
  void norm(const std::vector<float>& weight, std::size_t rows);
  void rotate_and_cache(std::uint32_t layer, std::size_t rows, std::uint32_t start, KvCache& cache);
  std::vector<float> forward(std::span<const std::int32_t> tokens, KvCache& cache,
                             const Attention& attention, bool want_logits);

  std::string folder;
  ModelConfig config;
  Weights weights;
  ThreadPool& pool;
  std::vector<float> frequencies;                        // [head_dim / 2]
  std::vector<float> x, normed, qkv, attended, gate_up;  // of one pass: [tokens, ...]
  std::vector<float> cosines, sines;                     // [tokens, head_dim / 2]
};

void Transformer::State::check_tokens(std::span<const std::int32_t> tokens,
                                      const KvCache& cache) const {
  if (tokens.empty())
    throw usage_error({}, "no tokens", "at least one", "give a prompt that is not empty");
  const std::uint64_t total = cache.length() + static_cast<std::uint64_t>(tokens.size());
  if (total > config.max_position_embeddings) {
    throw usage_error(
        {folder}, std::to_string(total) + " tokens",
        "at most " + std::to_string(config.max_position_embeddings) + " (max_position_embeddings)",
        "shorten the prompt or ask for fewer new tokens");
  }
  STOAT_ENSURE(total <= cache.capacity(), "the KV cache is too small for these tokens");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<std::uint32_t>(tokens[i]) >= config.vocab_size) {
      throw usage_error(
          {folder}, "token " + std::to_string(tokens[i]) + " at index " + std::to_string(i),
          "0 to " + std::to_string(config.vocab_size - 1), "use the tokenizer of this model");
    }
  }
}

void Transformer::State::check_finite(std::span<const float> values,
                                      const std::string& what) const {
  for (const float value : values) {
    if (std::isfinite(value)) continue;
    throw damaged_error(
        {folder}, std::string(std::isnan(value) ? "NaN" : "infinity") + " in " + what,
        "finite numbers", "the weights are damaged or too large for fp32 arithmetic");
  }
}

void Transformer::State::multiply(const Matrix& m, const float* x_rows, std::size_t ldx,
                                  std::size_t rows, float* y, bool accumulate) const {
  const Kernels& kernels = best_kernels();
  const std::size_t panels = (m.columns + kPanel - 1) / kPanel;
  const std::size_t per_unit = std::max<std::size_t>(1, kUnitWeights / (m.k * kPanel));
  const std::size_t column_units = (panels + per_unit - 1) / per_unit;
  const std::size_t row_units = (rows + kRowBlock - 1) / kRowBlock;
  pool.for_chunks(row_units * column_units, [&](std::size_t unit) {
    const std::size_t r0 = unit % row_units * kRowBlock, panel = unit / row_units * per_unit;
    const std::size_t count = std::min(kRowBlock, rows - r0), c0 = panel * kPanel;
    const std::size_t columns = std::min(per_unit * kPanel, m.columns - c0);
    float* to = y + r0 * m.columns + c0;
    if (!m.bias.empty()) {  // the sum starts with the bias
      for (std::size_t r = 0; r < count; ++r) {
        for (std::size_t c = 0; c < columns; ++c) {
          to[r * m.columns + c] = m.bias[c0 + c] + (accumulate ? to[r * m.columns + c] : 0.0F);
        }
      }
    }
    kernels.gemm(x_rows + r0 * ldx, ldx, count, m.panels.data() + panel * m.k * kPanel, m.k,
                 columns, to, m.columns, accumulate || !m.bias.empty());
  });
}

void Transformer::State::norm(const std::vector<float>& weight, std::size_t rows) {
  const std::size_t hidden = config.hidden_size;
  for (std::size_t r = 0; r < rows; ++r) {
    best_kernels().rms_norm(&x[r * hidden], weight.data(), hidden,
                            static_cast<float>(config.rms_norm_eps), &normed[r * hidden]);
  }
}

// Norm (qwen3) and rotary embedding of q and k in place; K and V of every token into the cache,
// rounded to bf16.
void Transformer::State::rotate_and_cache(std::uint32_t layer, std::size_t rows,
                                          std::uint32_t start, KvCache& cache) {
  const LayerWeights& w = weights.layers[layer];
  const Kernels& kernels = best_kernels();
  const std::size_t d = config.head_dim, half = d / 2;
  const auto eps = static_cast<float>(config.rms_norm_eps);
  pool.for_chunks((rows + kRowBlock - 1) / kRowBlock, [&](std::size_t block) {
    for (std::size_t r = block * kRowBlock; r < std::min(rows, (block + 1) * kRowBlock); ++r) {
      float* row = &qkv[r * w.qkv.columns];
      const float *cos = &cosines[r * half], *sin = &sines[r * half];
      for (std::size_t h = 0; h < config.n_q_heads + config.n_kv_heads; ++h) {
        float* head = row + h * d;
        const auto& weight = h < config.n_q_heads ? w.q_norm : w.k_norm;
        if (!weight.empty()) kernels.rms_norm(head, weight.data(), d, eps, head);
        kernels.rotate(head, cos, sin, half);
      }
      const auto position = start + static_cast<std::uint32_t>(r);
      for (std::uint32_t h = 0; h < config.n_kv_heads; ++h) {
        const float* k = row + (config.n_q_heads + h) * d;
        const float* v = k + config.n_kv_heads * d;
        std::transform(k, k + d, cache.key_row(layer, h, position), to_bf16);
        std::transform(v, v + d, cache.value_row(layer, h, position), to_bf16);
      }
    }
  });
}

std::vector<float> Transformer::State::forward(std::span<const std::int32_t> tokens, KvCache& cache,
                                               const Attention& attention, bool want_logits) {
  const std::size_t rows = tokens.size(), hidden = config.hidden_size,
                    middle = config.intermediate_size;
  const std::size_t half = config.head_dim / 2,
                    heads_width = std::size_t{config.n_q_heads} * config.head_dim;
  const std::uint32_t start = cache.length();
  x.resize(rows * hidden);
  normed.resize(rows * hidden);
  qkv.resize(rows * (heads_width + 2 * std::size_t{config.n_kv_heads} * config.head_dim));
  attended.resize(rows * heads_width);
  gate_up.resize(rows * 2 * middle);
  cosines.resize(rows * half);
  sines.resize(rows * half);
  for (std::size_t r = 0; r < rows; ++r) {
    weights.embed(tokens[r], std::span(x).subspan(r * hidden, hidden));
    rope_angles(frequencies, start + static_cast<std::uint32_t>(r),
                static_cast<float>(config.rope.attention_factor),
                std::span(cosines).subspan(r * half, half),
                std::span(sines).subspan(r * half, half));
  }
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    const LayerWeights& w = weights.layers[layer];
    norm(w.attention_norm, rows);
    multiply(w.qkv, normed.data(), hidden, rows, qkv.data(), false);
    rotate_and_cache(layer, rows, start, cache);
    attention(layer, qkv.data(), attended);
    multiply(w.o, attended.data(), heads_width, rows, x.data(), true);
    norm(w.mlp_norm, rows);
    multiply(w.gate_up, normed.data(), hidden, rows, gate_up.data(), false);
    pool.for_chunks((rows + kRowBlock - 1) / kRowBlock, [&](std::size_t block) {
      for (std::size_t r = block * kRowBlock; r < std::min(rows, (block + 1) * kRowBlock); ++r) {
        float* gate = &gate_up[r * 2 * middle];
        best_kernels().silu_times(gate, gate + middle, middle, gate);
      }
    });
    multiply(w.down, gate_up.data(), 2 * middle, rows, x.data(), true);
    check_finite(x, "the output of layer " + std::to_string(layer) + ", tokens " +
                        std::to_string(start) + " to " + std::to_string(start + rows - 1));
  }
  cache.set_length(start + static_cast<std::uint32_t>(rows));
  if (!want_logits) return {};
  std::copy_n(x.end() - static_cast<std::ptrdiff_t>(hidden), hidden, x.begin());
  norm(weights.final_norm, 1);
  std::vector<float> logits(config.vocab_size);
  multiply(weights.head, normed.data(), hidden, 1, logits.data(), false);
  check_finite(logits, "the logits of token " + std::to_string(start + rows - 1));
  return logits;
}

Transformer::Transformer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Transformer::~Transformer() = default;
Transformer::Transformer(Transformer&&) noexcept = default;

Transformer Transformer::load(const std::string& folder, ThreadPool& pool) {
  const ModelConfig config = read_model_config(folder + "/config.json");
  try {
    return Transformer(
        std::make_unique<State>(folder, config, read_weights(folder, config, pool), pool));
  } catch (const std::bad_alloc&) {
    throw resource_error({folder}, "no memory for the weights as fp32", "4 bytes a parameter",
                         "use a smaller model");
  }
}

const ModelConfig& Transformer::config() const { return state_->config; }
std::uint64_t Transformer::weight_bytes_per_token() const {
  return state_->weights.bytes_per_token;
}
std::string Transformer::weights_hash() const { return state_->weights.hash; }
double Transformer::attention_scale() const {
  return 1.0 / std::sqrt(static_cast<double>(state_->config.head_dim));
}

KvCache Transformer::make_cache(std::uint32_t capacity) const {
  const ModelConfig& c = state_->config;
  if (capacity == 0 || capacity > c.max_position_embeddings) {
    throw usage_error(
        {state_->folder}, "a context of " + std::to_string(capacity) + " tokens",
        "1 to " + std::to_string(c.max_position_embeddings) + " (max_position_embeddings)",
        "shorten the prompt or ask for fewer new tokens");
  }
  return KvCache(c.n_layers, c.n_kv_heads, c.head_dim, capacity);
}

std::vector<float> Transformer::prefill(std::span<const std::int32_t> tokens, KvCache& cache,
                                        const std::function<void(std::uint32_t)>& progress) {
  State& s = *state_;
  s.check_tokens(tokens, cache);
  const std::size_t q_stride =
      (std::size_t{s.config.n_q_heads} + 2 * std::size_t{s.config.n_kv_heads}) * s.config.head_dim;
  std::vector<float> logits;
  for (std::size_t done = 0; done < tokens.size();) {
    const auto chunk =
        tokens.subspan(done, std::min<std::size_t>(kTokenChunk, tokens.size() - done));
    const std::uint32_t start = cache.length();
    const auto attention = [&](std::uint32_t layer, const float* qkv, std::span<float> out) {
      prefill_attention(s.config, layer, qkv, q_stride, cache, start,
                        static_cast<std::uint32_t>(chunk.size()),
                        static_cast<float>(attention_scale()), out, s.pool);
    };
    done += chunk.size();
    logits = s.forward(chunk, cache, attention, done == tokens.size());
    if (progress) progress(static_cast<std::uint32_t>(done));
  }
  return logits;
}

std::vector<float> Transformer::decode(std::int32_t token, KvCache& cache,
                                       const DecodeAttention& attention) {
  State& s = *state_;
  s.check_tokens({&token, 1}, cache);
  const std::size_t width = std::size_t{s.config.n_q_heads} * s.config.head_dim;
  return s.forward(
      {&token, 1}, cache,
      [&](std::uint32_t layer, const float* qkv, std::span<float> out) {
        attention(layer, {qkv, width}, cache, cache.length() + 1, out);
      },
      true);
}

}  // namespace stoat
