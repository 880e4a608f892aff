// How much memory an engine needs, by purpose, and where a step's recording lies.
#include <algorithm>
#include <numeric>
#include <utility>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/engine_state.h"
#include "models/error.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kChunk = 4096;      // tokens of one pass of a prefill
constexpr std::uint32_t kRowsAligned = 64;  // capacity in whole pieces of so many rows

bool wants_codes(const EngineOptions& o) {
  return o.stats || o.any_scores() || (o.record && o.method == Method::kFlash);
}

}  // namespace

std::uint32_t rounded_capacity(const EngineOptions& options) {
  return (options.capacity + kRowsAligned - 1) / kRowsAligned * kRowsAligned;
}

// Rows of one pass.
std::uint32_t pass_rows(const EngineOptions& options) {
  return std::max(options.batch, std::min(kChunk, rounded_capacity(options)));
}

std::size_t cache_bytes(const ModelConfig& c, const EngineOptions& o) {
  return std::size_t{2} * c.n_layers * o.batch * c.n_kv_heads * rounded_capacity(o) * c.head_dim;
}

std::size_t rotary_bytes(const ModelConfig& c, const EngineOptions& o) {
  return std::size_t{rounded_capacity(o)} * c.head_dim * sizeof(float);
}

// The shape of an attention launch, for what needs no pointers.
DecodeParams attention_shape(const ModelConfig& c, const EngineOptions& o) {
  DecodeParams p;
  p.batch = o.batch;
  p.q_heads = c.n_q_heads;
  p.kv_heads = c.n_kv_heads;
  p.head_dim = c.head_dim;
  p.max_context = p.kv_capacity = rounded_capacity(o);
  p.kv_layout = KvLayout::kHnd;
  p.method = o.method;
  p.budget = o.largest_budget();
  return p;
}

// Workspaces: of the method, and of the score pass beside dense attention.
std::pair<std::size_t, std::size_t> workspaces(const ModelConfig& c, const EngineOptions& o) {
  DecodeParams p = attention_shape(c, o);
  const std::uint32_t sms = device_multiprocessors();
  const std::size_t own = workspace_bytes(p, sms);
  if (o.method != Method::kDense || !wants_codes(o)) return {own, 0};
  p.method = Method::kProp;
  p.budget = 1;
  return {own, workspace_bytes(p, sms)};
}

std::size_t code_bytes(const ModelConfig& c, const EngineOptions& o) {
  if (!wants_codes(o)) return 0;
  const std::size_t tiles = (rounded_capacity(o) + kTileRows - 1) / kTileRows;
  return std::size_t{o.batch} * c.n_q_heads * tiles * kTileRows * sizeof(std::uint16_t);
}

std::uint32_t EngineOptions::budget_of_layer(std::uint32_t layer) const {
  if (method == Method::kDense) return 0;
  STOAT_ENSURE(!budgets.empty() && (budgets.size() == 1 || layer < budgets.size()),
               "one budget, or one a layer");
  return budgets.size() == 1 ? budgets.front() : budgets[layer];
}
std::uint32_t EngineOptions::largest_budget() const {
  return method == Method::kDense || budgets.empty()
             ? 0
             : *std::max_element(budgets.begin(), budgets.end());
}
bool EngineOptions::any_scores() const {
  return std::find(score_layers.begin(), score_layers.end(), true) != score_layers.end();
}

std::vector<std::size_t> pass_bytes(const ModelConfig& c, const EngineOptions& o) {
  const std::size_t rows = pass_rows(o), hidden = c.hidden_size, middle = c.intermediate_size,
                    q = std::size_t{c.n_q_heads} * c.head_dim,
                    kv = std::size_t{c.n_kv_heads} * c.head_dim;
  return {rows * hidden * 4,
          rows * hidden * 2,
          kSkinnyRows * ((hidden + kTileColumns - 1) / kTileColumns) * 4,
          rows * (q + 2 * kv) * 4,
          rows * q * 2,
          rows * q * 2,
          rows * 2 * middle * 4,
          rows * middle * 2,
          std::size_t{o.batch} * c.vocab_size * 4,
          rows * 4};
}

RecordLayout record_layout(const ModelConfig& c, const EngineOptions& o) {
  RecordLayout layout;
  const std::size_t heads = std::size_t{c.n_layers} * o.batch * c.n_q_heads;
  layout.tiles = (rounded_capacity(o) + kTileRows - 1) / kTileRows;
  layout.slots = o.record ? o.largest_budget() : 0;
  const auto append = [&](std::size_t bytes) {
    return std::exchange(layout.bytes, layout.bytes + (bytes + 255) / 256 * 256);
  };
  layout.fed = append(o.batch * 4);
  layout.context = append(o.batch * 4);
  layout.chosen = append(o.batch * 4);
  layout.status = append(8);
  layout.lost = layout.status + 4;
  layout.row = append(heads * layout.slots * 4);
  layout.count = append(heads * layout.slots * 2);
  layout.stats = append(o.stats ? heads * kFastStats * 4 : 0);
  const auto scored =
      static_cast<std::size_t>(std::count(o.score_layers.begin(), o.score_layers.end(), true));
  const std::size_t tiles = scored * o.batch * c.n_q_heads * layout.tiles;
  layout.exponent = append(tiles * 4);
  layout.code = append(tiles * kTileRows * 2);
  const bool flash = o.record && o.method == Method::kFlash;
  layout.tile_mass = append(flash ? heads * layout.tiles * 8 : 0);
  return layout;
}

std::size_t Engine::bytes(const ModelConfig& config, const EngineOptions& options) {
  const auto passes = pass_bytes(config, options);
  const auto [own, scores] = workspaces(config, options);
  return std::accumulate(passes.begin(), passes.end(), std::size_t{0}) +
         2 * cache_bytes(config, options) + rotary_bytes(config, options) + own + scores +
         2 * code_bytes(config, options) + 2 * record_layout(config, options).bytes +
         (std::size_t{96} << 20);  // cuBLASLt's workspace and small things
}

}  // namespace stoat::gpu
