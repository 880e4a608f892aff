// The GPU as a Decoder: the engine's recordings become trace records, layer by layer on all
// threads, while the device runs the next step.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "gpu/decoder.h"
#include "gpu/llm/engine.h"
#include "gpu/llm/kernels.h"
#include "models/error.h"

namespace stoat {
namespace {

using gpu::Engine;
using gpu::EngineOptions;
using gpu::StepRecord;

EngineOptions engine_options(const CapturePlan& plan) {
  EngineOptions o;
  o.capacity = plan.largest_context;
  o.method = plan.recording.method;
  o.budgets = plan.recording.budgets;
  o.seed = plan.recording.seed;
  o.choice = plan.choice;
  o.record = true;
  o.stats = true;
  o.score_layers = plan.recording.score_layers;
  return o;
}

// The selection of one head from its slots: runs with a count, in the order of their rows.
Selection selection_of(const std::uint32_t* row, const std::uint16_t* count, std::uint32_t slots) {
  Selection selection;
  selection.rows.reserve(slots);
  for (std::uint32_t s = 0; s < slots; ++s) {
    if (count[s] == 0) continue;
    // A run that two blocks share comes in two parts.
    if (!selection.rows.empty() && selection.rows.back().row == row[s]) {
      selection.rows.back().count =
          static_cast<std::uint16_t>(selection.rows.back().count + count[s]);
    } else {
      selection.rows.push_back({row[s], count[s]});
    }
  }
  return selection;
}

// Reads the copy of one step's recording.
struct StepReader {
  const std::byte* bytes;
  const gpu::RecordLayout& at;
  const CapturePlan& plan;
  std::uint32_t step;

  template <class T>
  const T* part(std::size_t offset) const {
    return reinterpret_cast<const T*>(bytes + offset);
  }
  Selection selection(std::uint32_t layer, std::size_t place) const;
  void append_scores(std::uint32_t layer, std::uint32_t context, TraceRecords& records) const;
  TraceRecords read() const;
};

Selection StepReader::selection(std::uint32_t layer, std::size_t place) const {
  Selection selection;
  if (plan.recording.method == Method::kDense) return selection;
  selection = selection_of(part<std::uint32_t>(at.row) + place * at.slots,
                           part<std::uint16_t>(at.count) + place * at.slots,
                           std::min(plan.recording.budget_of_layer(layer), at.slots));
  if (plan.recording.method != Method::kFlash) return selection;
  const auto* mass = part<std::uint64_t>(at.tile_mass) + place * at.tiles;
  for (std::uint32_t t = 0; t < at.tiles; ++t) {
    if (mass[t] > 0) selection.tiles.push_back({t, mass[t]});
  }
  return selection;
}

void StepReader::append_scores(std::uint32_t layer, std::uint32_t context,
                               TraceRecords& records) const {
  const auto& wanted = plan.recording.score_layers;
  if (layer >= wanted.size() || !wanted[layer]) return;
  const auto before =
      static_cast<std::size_t>(std::count(wanted.begin(), wanted.begin() + layer, true));
  const std::uint32_t tiles = (context + kTileRows - 1) / kTileRows, heads = plan.config.n_q_heads;
  for (std::uint32_t head = 0; head < heads; ++head) {
    const std::size_t place = (before * heads + head) * at.tiles;
    const auto* code = part<std::uint16_t>(at.code) + place * kTileRows;
    const auto* exponent = part<std::int32_t>(at.exponent) + place;
    records.score_record.push_back(std::uint64_t{layer} * heads + head);
    records.score_code.insert(records.score_code.end(), code, code + context);
    records.score_indptr.push_back(records.score_code.size());
    records.score_exponent.insert(records.score_exponent.end(), exponent, exponent + tiles);
    records.score_tile_indptr.push_back(records.score_exponent.size());
  }
}

TraceRecords StepReader::read() const {
  const ModelConfig& c = plan.config;
  const auto context = *part<std::uint32_t>(at.context);
  const bool dense = plan.recording.method == Method::kDense;
  TraceRecords records;
  records.token_id.push_back(*part<std::int32_t>(at.fed));
  StatColumns& columns = records.stats;
  std::vector<float>* const to[] = {&columns.lse,         &columns.max,
                                    &columns.entropy,     &columns.mass_top1,
                                    &columns.mass_token0, &columns.participation};
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    for (std::uint32_t head = 0; head < c.n_q_heads; ++head) {
      const std::size_t place = std::size_t{layer} * c.n_q_heads + head;
      append_record(records, 0, step, static_cast<std::uint16_t>(layer),
                    static_cast<std::uint16_t>(head), static_cast<std::uint16_t>(head / c.group()),
                    context, dense ? RecordKind::kDense : RecordKind::kSampled,
                    plan.recording.budget_of_layer(layer), selection(layer, place));
      const float* stats = part<float>(at.stats) + place * gpu::kFastStats;
      for (std::uint32_t i = 0; i < gpu::kFastStats; ++i) to[i]->push_back(stats[i]);
    }
    append_scores(layer, context, records);
  }
  return records;
}

class CudaDecoder final : public Decoder {
 public:
  CudaDecoder(const CapturePlan& plan, ThreadPool& pool)
      : plan_(plan),
        engine_(plan.config,
                plan.random_weights
                    ? gpu::DeviceWeights::random(plan.config, plan.recording.seed)
                    : gpu::DeviceWeights::load(plan.model_folder, plan.config, pool),
                engine_options(plan)) {}

  std::string weights_hash() const override { return engine_.weights().hash(); }
  std::uint64_t weight_bytes_per_token() const override {
    return engine_.weights().bytes_per_token();
  }
  void prefill(std::span<const std::int32_t> prompt,
               const std::function<void(std::uint32_t)>& progress) override {
    engine_.prefill(0, prompt, progress);
    next_ = engine_.chosen()[0];
  }
  std::int32_t next_token() const override { return next_; }
  void submit(std::optional<std::int32_t> token) override {
    if (token) {
      engine_.submit({&*token, 1});
    } else {
      engine_.submit();
    }
  }
  std::uint32_t depth() const override { return 2; }
  DecodedStep collect() override;

 private:
  const CapturePlan& plan_;
  Engine engine_;
  std::int32_t next_ = 0;
  std::uint32_t steps_ = 0;
};

DecodedStep CudaDecoder::collect() {
  const StepRecord step = engine_.collect();
  next_ = *step.part<std::int32_t>(step.layout->chosen);
  // The engine's memory is filled again by the step after the next one.
  std::shared_ptr<std::byte[]> bytes(new std::byte[step.layout->bytes]);
  std::memcpy(bytes.get(), step.memory->as<std::byte>(), step.layout->bytes);
  return {*step.part<std::int32_t>(step.layout->fed), step.layout->bytes,
          [bytes = std::move(bytes), layout = *step.layout, number = steps_++, &plan = plan_] {
            return StepReader{bytes.get(), layout, plan, number}.read();
          }};
}

}  // namespace

std::unique_ptr<Decoder> make_cuda_decoder(const CapturePlan& plan, ThreadPool& pool) {
  return std::make_unique<CudaDecoder>(plan, pool);
}

}  // namespace stoat
