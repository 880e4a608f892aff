// The CPU as a Decoder: Transformer, the recording attention, and the dense twin where it is asked
// for.
#include <memory>
#include <utility>
#include <vector>

#include "gpu/decoder.h"
#include "models/attention/decode.h"
#include "models/error.h"
#include "models/llm/token_choice.h"
#include "models/llm/transformer.h"

namespace stoat {
namespace {

class CpuDecoder final : public Decoder {
 public:
  CpuDecoder(const CapturePlan& plan, ThreadPool& pool)
      : plan_(plan),
        model_(Transformer::load(plan.model_folder, pool)),
        attention_(model_.config(), model_.attention_scale(), plan.recording, pool),
        attend_(attention_.callback()),
        attend_densely_(dense_attention(model_.config(), model_.attention_scale(), pool)),
        next_(plan.prompts.size()),
        fed_(plan.prompts.size()) {
    for (std::size_t i = 0; i < next_.size(); ++i)
      caches_.push_back(model_.make_cache(plan.largest_context));
    twins_.resize(next_.size());
  }

  std::string weights_hash() const override { return model_.weights_hash(); }
  std::uint64_t weight_bytes_per_token() const override { return model_.weight_bytes_per_token(); }

  void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt,
               const std::function<void(std::uint32_t)>& progress) override {
    choose(sequence, model_.prefill(prompt, caches_[sequence], progress));
    if (plan_.recording.full_stats) twins_[sequence] = std::make_unique<KvCache>(caches_[sequence]);
  }

  std::int32_t next_token(std::uint32_t sequence) const override { return next_[sequence]; }

  void submit(std::span<const std::int32_t> tokens) override {
    STOAT_ENSURE(!waiting_, "one step at a time");
    fed_ = tokens.empty() ? next_ : std::vector<std::int32_t>(tokens.begin(), tokens.end());
    attention_.begin_step(steps_++);
    for (std::uint32_t sequence = 0; sequence < fed_.size(); ++sequence) decode(sequence);
    waiting_ = true;
  }

  DecodedStep collect() override {
    STOAT_ENSURE(waiting_, "a step was submitted");
    waiting_ = false;
    return {fed_, [this](TraceRecords& records) { records = attention_.take_records(); }};
  }

  TouchedFeatures touched() const override { return attention_.touched(); }
  std::vector<AccumulatorError> accumulator_errors() const override {
    return attention_.accumulator_errors();
  }

 private:
  void decode(std::uint32_t sequence) {
    attention_.begin_sequence(sequence, fed_[sequence]);
    const std::vector<float> logits = model_.decode(fed_[sequence], caches_[sequence], attend_);
    choose(sequence, logits);
    if (!twins_[sequence]) return;
    const std::vector<float> twin =
        model_.decode(fed_[sequence], *twins_[sequence], attend_densely_);
    attention_.set_twin(total_variation(logits, twin), same_top1(logits, twin));
  }

  // Refuses NaN and infinity before the step is recorded.
  void choose(std::uint32_t sequence, const std::vector<float>& logits) {
    const DrawSite site{plan_.recording.seed, sequence, caches_[sequence].length() - 1, 0, 0};
    next_[sequence] = choose_token(logits, plan_.choice, site);
  }

  const CapturePlan& plan_;
  Transformer model_;
  std::vector<KvCache> caches_;                  // [sequences]
  std::vector<std::unique_ptr<KvCache>> twins_;  // [sequences]; null: not wanted
  RecordingAttention attention_;
  DecodeAttention attend_, attend_densely_;
  std::vector<std::int32_t> next_, fed_;  // [sequences]
  std::uint32_t steps_ = 0;
  bool waiting_ = false;
};

}  // namespace

std::unique_ptr<Decoder> make_cpu_decoder(const CapturePlan& plan, ThreadPool& pool) {
  return std::make_unique<CpuDecoder>(plan, pool);
}

}  // namespace stoat
