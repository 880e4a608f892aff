// The CPU as a Decoder: Transformer, the recording attention, and the dense twin where it is asked
// for.
#include <utility>

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
        cache_(model_.make_cache(plan.largest_context)),
        attention_(model_.config(), model_.attention_scale(), plan.recording, pool),
        attend_(attention_.callback()),
        attend_densely_(dense_attention(model_.config(), model_.attention_scale(), pool)) {}

  std::string weights_hash() const override { return model_.weights_hash(); }
  std::uint64_t weight_bytes_per_token() const override { return model_.weight_bytes_per_token(); }

  void prefill(std::span<const std::int32_t> prompt,
               const std::function<void(std::uint32_t)>& progress) override {
    choose(model_.prefill(prompt, cache_, progress));
    if (plan_.recording.full_stats) twin_cache_ = std::make_unique<KvCache>(cache_);
  }

  std::int32_t next_token() const override { return next_; }

  void submit(std::optional<std::int32_t> token) override {
    STOAT_ENSURE(!waiting_, "one step at a time");
    fed_ = token.value_or(next_);
    attention_.begin_step(steps_++, fed_);
    const std::vector<float> logits = model_.decode(fed_, cache_, attend_);
    choose(logits);
    if (twin_cache_) {
      const std::vector<float> twin = model_.decode(fed_, *twin_cache_, attend_densely_);
      attention_.set_twin(total_variation(logits, twin), same_top1(logits, twin));
    }
    waiting_ = true;
  }

  DecodedStep collect() override {
    STOAT_ENSURE(waiting_, "a step was submitted");
    waiting_ = false;
    return {fed_, 0, [this] { return attention_.take_records(); }};
  }

  TouchedFeatures touched() const override { return attention_.touched(); }
  std::vector<AccumulatorError> accumulator_errors() const override {
    return attention_.accumulator_errors();
  }

 private:
  // Refuses NaN and infinity before the step is recorded.
  void choose(const std::vector<float>& logits) {
    const DrawSite site{plan_.recording.seed, 0, cache_.length() - 1, 0, 0};
    next_ = choose_token(logits, plan_.choice, site);
  }

  const CapturePlan& plan_;
  Transformer model_;
  KvCache cache_;
  std::unique_ptr<KvCache> twin_cache_;
  RecordingAttention attention_;
  DecodeAttention attend_, attend_densely_;
  std::int32_t next_ = 0, fed_ = 0;
  std::uint32_t steps_ = 0;
  bool waiting_ = false;
};

}  // namespace

std::unique_ptr<Decoder> make_cpu_decoder(const CapturePlan& plan, ThreadPool& pool) {
  return std::make_unique<CpuDecoder>(plan, pool);
}

}  // namespace stoat
