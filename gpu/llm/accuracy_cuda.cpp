// The device as an AccuracyDecoder: one engine, its methods changed on the cached prompts.
#include <algorithm>
#include <utility>

#include "gpu/accuracy.h"
#include "gpu/llm/engine.h"

namespace stoat {
namespace {

std::optional<TernaryOptions> ternary_of(const AccuracySetting& setting) {
  if (setting.ternary_draws == 0) return {};
  return TernaryOptions{setting.ternary_draws, setting.coupling, setting.normaliser};
}

// What the engine is made with: the largest workspace, and K by features where a setting needs it.
gpu::EngineOptions engine_options(const AccuracyDecoderNeeds& needs, const AccuracySetting& most) {
  gpu::EngineOptions options;
  options.batch = needs.batch;
  options.capacity = needs.capacity;
  options.method = most.method;
  options.budgets = most.budgets;
  options.ternary = ternary_of(most);
  return options;
}

// The setting that asks most of an engine: ternary first, then the budget.
const AccuracySetting& largest(const std::vector<AccuracySetting>& settings) {
  return *std::max_element(settings.begin(), settings.end(), [](const auto& a, const auto& b) {
    return std::pair(a.ternary_draws, a.largest_budget()) <
           std::pair(b.ternary_draws, b.largest_budget());
  });
}

// Said before the weights are read: they and the cache must fit together.
gpu::DeviceWeights fitting_weights(const AccuracyDecoderNeeds& needs, const AccuracySetting& most,
                                   ThreadPool& pool) {
  gpu::Engine::ensure_fits(needs.config, engine_options(needs, most));
  return gpu::DeviceWeights::load(needs.model_folder, needs.config, pool);
}

class CudaAccuracyDecoder final : public AccuracyDecoder {
 public:
  CudaAccuracyDecoder(const AccuracyDecoderNeeds& needs, ThreadPool& pool)
      : most_(largest(needs.settings)),
        engine_(needs.config, fitting_weights(needs, most_, pool), engine_options(needs, most_)),
        lengths_(needs.batch) {}

  void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt) override {
    if (stepped_) {  // prompts are cached as the engine was made: by features, too
      apply(most_);
      stepped_ = false;
    }
    lengths_[sequence] = 0;
    std::vector<std::uint32_t> lengths = lengths_;
    engine_.rewind(lengths);
    engine_.prefill(sequence, prompt);
    lengths_[sequence] = static_cast<std::uint32_t>(prompt.size());
  }
  void use(const AccuracySetting& setting) override {
    apply(setting);
    rewind();
  }
  void rewind() override { engine_.rewind(lengths_); }
  void step(std::span<const std::int32_t> tokens) override {
    stepped_ = true;
    engine_.submit(tokens);
  }
  std::vector<std::int32_t> chosen() override {
    engine_.collect();  // throws for what the device reports
    return engine_.chosen();
  }
  void logits(std::vector<float>& values) override {
    engine_.collect();
    engine_.all_logits(values);
  }

 private:
  void apply(const AccuracySetting& setting) {
    engine_.use_method(setting.method, setting.budgets, ternary_of(setting), setting.seed);
  }

  AccuracySetting most_;
  gpu::Engine engine_;
  std::vector<std::uint32_t> lengths_;  // of the prompts
  bool stepped_ = false;
};

}  // namespace

std::unique_ptr<AccuracyDecoder> make_cuda_accuracy_decoder(const AccuracyDecoderNeeds& needs,
                                                            ThreadPool& pool) {
  return std::make_unique<CudaAccuracyDecoder>(needs, pool);
}

}  // namespace stoat
