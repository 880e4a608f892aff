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

}  // namespace

bool wants_codes(const EngineOptions& o) {
  return o.stats || o.any_scores() || (o.record && o.method == Method::kFlash);
}

std::uint32_t rounded_capacity(const EngineOptions& options) {
  const std::uint32_t piece = std::max(kRowsAligned, options.page_size);
  return (options.capacity + piece - 1) / piece * piece;
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
  p.page_size = o.page_size;
  p.method = o.method;
  p.budget = o.largest_budget();
  if (o.ternary) {
    p.ternary.draws = o.ternary->draws;
    p.ternary.coupling = o.ternary->coupling;
    p.ternary.normaliser = o.ternary->normaliser;
    p.ternary.capacity = rounded_capacity(o);
  }
  return p;
}

WorkspaceSizes workspaces(const ModelConfig& c, const EngineOptions& o) {
  DecodeParams p = attention_shape(c, o);
  const std::uint32_t sms = device_multiprocessors();
  WorkspaceSizes sizes;
  const bool dense = o.method == Method::kDense;
  if (dense) sizes.method = workspace_bytes(p, sms);
  for (const auto* budgets : {&o.budgets, &o.probe_budgets}) {
    for (const std::uint32_t budget : *budgets) {
      if (dense) continue;
      p.budget = budget;
      sizes.method = std::max(sizes.method, workspace_bytes(p, sms));
    }
  }
  p.ternary = {};
  p.method = dense ? Method::kProp : Method::kDense;
  p.budget = 1;
  if (dense && wants_codes(o)) sizes.scores = workspace_bytes(p, sms);
  if (!dense && o.measures_outputs()) sizes.exact = workspace_bytes(p, sms);
  return sizes;
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

std::uint32_t EngineOptions::stats_columns() const { return full_stats ? kFullStats : kFastStats; }

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
  layout.stats = append(o.stats ? heads * o.stats_columns() * 4 : 0);
  const auto scored =
      static_cast<std::size_t>(std::count(o.score_layers.begin(), o.score_layers.end(), true));
  const std::size_t tiles = scored * o.batch * c.n_q_heads * layout.tiles;
  layout.exponent = append(tiles * 4);
  layout.code = append(tiles * kTileRows * 2);
  const bool flash = o.record && o.method == Method::kFlash;
  layout.tile_mass = append(flash ? heads * layout.tiles * 8 : 0);
  const std::size_t features = c.head_dim / 8;
  layout.key_mask = append(o.ternary ? heads * o.ternary->draws * features : 0);
  layout.key_sign = append(o.ternary ? heads * features : 0);
  layout.error = append(o.full_stats ? heads * 4 : 0);
  layout.twin = append(o.full_stats ? o.batch * 8 : 0);
  layout.probe = append(heads * o.probe_budgets.size() * 4);
  layout.query = append(o.queries ? heads * c.head_dim * 2 : 0);
  return layout;
}

// Layers whose codes are kept side by side, so that their statistics are one launch; as many as
// stay in the L2 cache.
std::uint32_t layers_together(const ModelConfig& c, const EngineOptions& o) {
  constexpr std::size_t kBytes = std::size_t{16} << 20, kLayers = 8;
  if (!wants_codes(o)) return 1;
  const std::size_t codes = std::size_t{2} * o.batch * c.n_q_heads *
                            ((o.capacity + kTileRows - 1) / kTileRows) * kTileRows;
  return std::min(c.n_layers,
                  static_cast<std::uint32_t>(std::clamp<std::size_t>(kBytes / codes, 1, kLayers)));
}

// Steps that are queued ahead, so that the device has work while the host writes several at once.
std::uint32_t device_slots(const ModelConfig& c, const EngineOptions& o) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  if (!o.record && !wants_codes(o)) return 1;
  return static_cast<std::uint32_t>(
      std::clamp<std::size_t>(kBytes / record_layout(c, o).bytes, 2, kMostSlots));
}

// A few, so that the copies and the threads that read do not wait for each other.
std::uint32_t host_slots(const RecordLayout& layout) {
  constexpr std::size_t kBytes = std::size_t{192} << 20;
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(kBytes / layout.bytes, 2, 8));
}

std::size_t Engine::bytes(const ModelConfig& config, const EngineOptions& options) {
  const auto passes = pass_bytes(config, options);
  const WorkspaceSizes work = workspaces(config, options);
  const std::size_t cache = cache_bytes(config, options);
  std::size_t caches = 2 * cache;
  if (options.ternary) caches += cache;
  if (options.full_stats) caches += 2 * cache;
  if (options.page_size > 0)  // one layer of one sequence, and page numbers
    caches += 2 * cache / (config.n_layers * options.batch) +
              std::size_t{8} * options.batch * (rounded_capacity(options) / options.page_size + 2);
  std::size_t outputs = 0;
  if (options.measures_outputs())
    outputs = std::size_t{options.batch} *
              (8 * config.n_q_heads * config.head_dim + 4 * config.vocab_size);
  return std::accumulate(passes.begin(), passes.end(), std::size_t{0}) + caches + outputs +
         rotary_bytes(config, options) + work.exact +
         layers_together(config, options) * (work.method + work.scores + 512) +
         device_slots(config, options) * record_layout(config, options).bytes +
         (std::size_t{96} << 20);  // cuBLASLt's workspace and small things
}

void Engine::ensure_fits(const ModelConfig& config, const EngineOptions& options) {
  ensure_device_memory(DeviceWeights::bytes(config) + bytes(config, options),
                       "the weights and a context of " + std::to_string(options.capacity) +
                           " rows for " + std::to_string(options.batch) + " sequence(s)");
}

}  // namespace stoat::gpu
