// The GPU as a Decoder: the engine's recordings become trace records, layer by layer on all
// threads, while the device runs the next step.
#include <algorithm>
#include <atomic>
#include <bit>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gpu/llm/cuda_decoder.h"
#include "gpu/llm/engine.h"
#include "gpu/llm/kernels.h"
#include "models/error.h"

namespace stoat {
namespace {

using gpu::Engine;
using gpu::EngineOptions;
using gpu::StepRecord;

EngineOptions engine_options(const CapturePlan& plan) {
  const RecordingOptions& recording = plan.recording;
  EngineOptions o;
  o.batch = static_cast<std::uint32_t>(plan.prompts.size());
  o.capacity = plan.largest_context;
  o.method = recording.method;
  o.budgets = recording.budgets;
  o.seed = recording.seed;
  o.choice = plan.choice;
  if (recording.score_kind == ScoreKind::kTernary) o.ternary = recording.ternary;
  o.page_size = plan.page_size;
  o.record = true;
  o.stats = true;
  o.full_stats = recording.full_stats;
  o.probe_budgets = recording.probe_budgets;
  o.score_layers = recording.score_layers;
  return o;
}

// Said before the weights are read: they and the cache must fit together.
EngineOptions fitting_options(const CapturePlan& plan) {
  EngineOptions options = engine_options(plan);
  Engine::ensure_fits(plan.config, options);
  return options;
}

// What ternary queries touched, added up by the threads that read recordings.
struct TouchCounters {
  std::atomic<std::uint64_t> by_heads{0}, heads{0}, by_groups{0}, groups{0};
};

// The rows of one head from its slots, behind those of the record before: runs with a count, in the
// order of their rows.
void append_rows(const std::uint32_t* row, const std::uint16_t* count, std::uint32_t slots,
                 TraceRecords& records) {
  const std::size_t first = records.row.size();
  std::size_t end = first;
  records.row.resize(first + slots);
  records.count.resize(first + slots);
  std::uint32_t* const rows = records.row.data();
  std::uint16_t* const counts = records.count.data();
  for (std::uint32_t s = 0; s < slots; ++s) {  // without a branch that depends on the draws
    rows[end] = row[s];
    counts[end] = count[s];
    end += count[s] > 0 ? 1 : 0;
  }
  records.row.resize(end);
  records.count.resize(end);
  records.value_indptr.back() = end;
}

// Reads the copy of one step's recording.
struct StepReader {
  const std::byte* bytes;
  const gpu::RecordLayout& at;
  const CapturePlan& plan;
  std::uint32_t step;
  TouchCounters& touched;

  template <class T>
  const T* part(std::size_t offset) const {
    return reinterpret_cast<const T*>(bytes + offset);
  }
  // Of a layer, sequence and query head among all.
  std::size_t place_of(std::uint32_t layer, std::uint32_t sequence, std::uint32_t head) const {
    return (std::size_t{layer} * plan.prompts.size() + sequence) * plan.config.n_q_heads + head;
  }
  void append_values(std::uint32_t layer, std::size_t place, TraceRecords& records) const;
  void append_stats(std::uint32_t sequence, std::size_t place, TraceRecords& records) const;
  void append_draws(std::size_t place, TraceRecords& records) const;
  void append_scores(std::uint32_t layer, std::uint32_t sequence, std::uint32_t context,
                     std::size_t first_record, TraceRecords& records) const;
  void count_touched(std::uint32_t layer, std::uint32_t sequence) const;
  void read(TraceRecords& records) const;
};

// Rows and tile masses of the record that was appended last.
void StepReader::append_values(std::uint32_t layer, std::size_t place,
                               TraceRecords& records) const {
  if (plan.recording.method == Method::kDense) return;
  append_rows(part<std::uint32_t>(at.row) + place * at.slots,
              part<std::uint16_t>(at.count) + place * at.slots,
              std::min(plan.recording.budget_of_layer(layer), at.slots), records);
  if (plan.recording.method != Method::kFlash) return;
  const auto* mass = part<std::uint64_t>(at.tile_mass) + place * at.tiles;
  if (records.tile_indptr.size() < records.size() + 1) records.tile_indptr.push_back(0);
  for (std::uint32_t t = 0; t < at.tiles; ++t) {
    if (mass[t] == 0) continue;
    records.tile.push_back(t);
    records.tile_mass.push_back(mass[t]);
  }
  records.tile_indptr.back() = records.tile.size();
}

void StepReader::append_stats(std::uint32_t sequence, std::size_t place,
                              TraceRecords& records) const {
  StatColumns& columns = records.stats;
  const bool full = plan.recording.full_stats;
  const std::uint32_t count = full ? gpu::kFullStats : gpu::kFastStats;
  std::vector<float>* const to[gpu::kFullStats] = {
      &columns.lse,         &columns.max,           &columns.entropy,   &columns.mass_top1,
      &columns.mass_token0, &columns.participation, &columns.mass_top8, &columns.mass_top32};
  const float* stats = part<float>(at.stats) + place * count;
  for (std::uint32_t i = 0; i < count; ++i) to[i]->push_back(stats[i]);
  const std::size_t probes = plan.recording.probe_budgets.size();
  const float* errors = part<float>(at.probe) + place * probes;
  records.probe_error.insert(records.probe_error.end(), errors, errors + probes);
  if (!full) return;
  columns.output_error.push_back(part<float>(at.error)[place]);
  columns.twin_total_variation.push_back(part<float>(at.twin)[2 * sequence]);
  columns.twin_top1_agreement.push_back(part<float>(at.twin)[2 * sequence + 1]);
}

void StepReader::append_draws(std::size_t place, TraceRecords& records) const {
  const std::size_t sign_bytes = plan.config.head_dim / 8;
  const std::size_t mask_bytes = plan.recording.ternary.draws * sign_bytes;
  const auto* mask = part<std::uint8_t>(at.key_mask) + place * mask_bytes;
  const auto* sign = part<std::uint8_t>(at.key_sign) + place * sign_bytes;
  records.key_mask.insert(records.key_mask.end(), mask, mask + mask_bytes);
  records.key_sign.insert(records.key_sign.end(), sign, sign + sign_bytes);
  records.draw_indptr.push_back(records.draw_indptr.back() + plan.recording.ternary.draws);
}

// Features that any draw touches: of each head, and of each KV group.
void StepReader::count_touched(std::uint32_t layer, std::uint32_t sequence) const {
  const ModelConfig& c = plan.config;
  const std::uint32_t bytes_a_draw = c.head_dim / 8, draws = plan.recording.ternary.draws;
  std::uint64_t by_heads = 0, by_groups = 0;
  for (std::uint32_t first = 0; first < c.n_q_heads; first += c.group()) {
    for (std::uint32_t byte = 0; byte < bytes_a_draw; ++byte) {
      unsigned all = 0;
      for (std::uint32_t head = first; head < first + c.group(); ++head) {
        const auto* mask = part<std::uint8_t>(at.key_mask) +
                           place_of(layer, sequence, head) * draws * bytes_a_draw;
        unsigned own = 0;
        for (std::uint32_t draw = 0; draw < draws; ++draw) own |= mask[draw * bytes_a_draw + byte];
        by_heads += static_cast<unsigned>(std::popcount(own));
        all |= own;
      }
      by_groups += static_cast<unsigned>(std::popcount(all));
    }
  }
  touched.by_heads += by_heads;
  touched.heads += c.n_q_heads;
  touched.by_groups += by_groups;
  touched.groups += c.n_kv_heads;
}

void StepReader::append_scores(std::uint32_t layer, std::uint32_t sequence, std::uint32_t context,
                               std::size_t first_record, TraceRecords& records) const {
  const auto& wanted = plan.recording.score_layers;
  if (layer >= wanted.size() || !wanted[layer]) return;
  const auto before =
      static_cast<std::uint32_t>(std::count(wanted.begin(), wanted.begin() + layer, true));
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows;
  for (std::uint32_t head = 0; head < plan.config.n_q_heads; ++head) {
    const std::size_t place = place_of(before, sequence, head) * at.tiles;
    const auto* code = part<std::uint16_t>(at.code) + place * kTileRows;
    const auto* exponent = part<std::int32_t>(at.exponent) + place;
    records.score_record.push_back(first_record + head);
    records.score_code.insert(records.score_code.end(), code, code + context);
    records.score_indptr.push_back(records.score_code.size());
    records.score_exponent.insert(records.score_exponent.end(), exponent, exponent + tiles);
    records.score_tile_indptr.push_back(records.score_exponent.size());
  }
}

void StepReader::read(TraceRecords& records) const {
  const ModelConfig& c = plan.config;
  const bool dense = plan.recording.method == Method::kDense;
  const bool ternary = plan.recording.score_kind == ScoreKind::kTernary;
  const std::size_t most = std::size_t{c.n_layers} * c.n_q_heads * plan.prompts.size() * at.slots;
  records.row.reserve(most);
  records.count.reserve(most);
  records.probe_budget = plan.recording.probe_budgets;
  for (std::uint32_t sequence = 0; sequence < plan.prompts.size(); ++sequence) {
    const std::uint32_t context = part<std::uint32_t>(at.context)[sequence];
    records.token_id.push_back(part<std::int32_t>(at.fed)[sequence]);
    for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
      const std::size_t first_record = records.size();
      for (std::uint32_t head = 0; head < c.n_q_heads; ++head) {
        const std::size_t place = place_of(layer, sequence, head);
        append_record(records, sequence, step, static_cast<std::uint16_t>(layer),
                      static_cast<std::uint16_t>(head),
                      static_cast<std::uint16_t>(head / c.group()), context,
                      dense ? RecordKind::kDense : RecordKind::kSampled,
                      plan.recording.budget_of_layer(layer), {});
        append_values(layer, place, records);
        append_stats(sequence, place, records);
        if (ternary) append_draws(place, records);
      }
      if (ternary) count_touched(layer, sequence);
      append_scores(layer, sequence, context, first_record, records);
    }
  }
}

class CudaDecoder final : public Decoder {
 public:
  CudaDecoder(const CapturePlan& plan, ThreadPool& pool)
      : plan_(plan),
        options_(fitting_options(plan)),
        engine_(plan.config,
                plan.random_weights
                    ? gpu::DeviceWeights::random(plan.config, plan.recording.seed)
                    : gpu::DeviceWeights::load(plan.model_folder, plan.config, pool),
                options_) {}

  std::string weights_hash() const override { return engine_.weights().hash(); }
  std::uint64_t weight_bytes_per_token() const override {
    return engine_.weights().bytes_per_token();
  }
  void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt,
               const std::function<void(std::uint32_t)>& progress) override {
    engine_.prefill(sequence, prompt, progress);
    next_ = engine_.chosen();
  }
  std::int32_t next_token(std::uint32_t sequence) const override { return next_[sequence]; }
  void submit(std::span<const std::int32_t> tokens) override { engine_.submit(tokens); }
  std::uint32_t depth() const override { return engine_.depth(); }
  std::size_t bytes_a_step() const override {
    // Records are as large as the recording or smaller, compressed ones a fraction of it.
    return gpu::record_layout(plan_.config, engine_.options()).bytes * 7 / 6;
  }
  void pretend_context(std::uint32_t rows) { engine_.pretend_context(rows, 7); }
  DecodedStep collect() override;
  TouchedFeatures touched() const override {
    return {touched_->by_heads, touched_->heads, touched_->by_groups, touched_->groups};
  }

 private:
  const CapturePlan& plan_;
  EngineOptions options_;
  Engine engine_;
  std::vector<std::int32_t> next_;  // [sequences]
  std::uint32_t steps_ = 0;
  std::shared_ptr<TouchCounters> touched_ = std::make_shared<TouchCounters>();
};

DecodedStep CudaDecoder::collect() {
  const StepRecord step = engine_.collect();
  const std::size_t batch = plan_.prompts.size();
  const auto tokens_of = [&](std::size_t offset) {
    const auto* tokens = step.part<std::int32_t>(offset);
    return std::vector<std::int32_t>(tokens, tokens + batch);
  };
  next_ = tokens_of(step.layout->chosen);
  return {tokens_of(step.layout->fed),
          [bytes = step.bytes, layout = *step.layout, number = steps_++, &plan = plan_,
           touched = touched_](TraceRecords& records) mutable {
            StepReader{bytes.get(), layout, plan, number, *touched}.read(records);
            bytes.reset();  // the engine's place is free for another step
          }};
}

}  // namespace

std::unique_ptr<Decoder> make_cuda_decoder(const CapturePlan& plan, ThreadPool& pool) {
  return std::make_unique<CudaDecoder>(plan, pool);
}

std::unique_ptr<Decoder> make_pretending_decoder(const CapturePlan& plan, ThreadPool& pool,
                                                 std::uint32_t rows) {
  auto decoder = std::make_unique<CudaDecoder>(plan, pool);
  decoder->pretend_context(rows);
  return decoder;
}

}  // namespace stoat
