// The CPU as an AccuracyDecoder: the specification of models/attention, one sequence after the
// other. For small sizes and for judging the device.
#include <algorithm>
#include <utility>

#include "gpu/accuracy.h"
#include "models/attention/decode.h"
#include "models/error.h"
#include "models/llm/transformer.h"

namespace stoat {
namespace {

std::vector<double> widened(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// One query head in double.
std::vector<double> attend_head(const AccuracySetting& setting, std::uint32_t budget,
                                const DrawSite& site, std::span<const float> q, const KvRows& keys,
                                const KvRows& values, double scale) {
  const std::vector<double> logits = score(widened(q), keys, scale);
  if (setting.method == Method::kDense) return gather_dense(softmax(logits), values);
  const ScoreCodes codes = encode_scores(std::vector<float>(logits.begin(), logits.end()));
  const Selection selection = select_rows(setting.method, codes, budget, site);
  return gather_selected(selection.rows, selection_weights(setting.method, codes, selection),
                         values);
}

// The effective queries of all heads of a layer. [q_heads, head_dim]
std::vector<float> ternary_queries(const ModelConfig& config, const AccuracySetting& setting,
                                   DrawSite site, std::span<const float> q) {
  std::vector<float> queries;
  const std::size_t values = std::size_t{config.group()} * config.head_dim;
  for (std::uint32_t g = 0; g < config.n_kv_heads; ++g) {
    site.query_head = static_cast<std::uint16_t>(g * config.group());
    const TernaryGroup group =
        draw_ternary(q.subspan(g * values, values), config.group(), config.head_dim,
                     {setting.ternary_draws, setting.coupling, setting.normaliser}, site);
    queries.insert(queries.end(), group.effective.begin(), group.effective.end());
  }
  return queries;
}

class CpuAccuracyDecoder final : public AccuracyDecoder {
 public:
  CpuAccuracyDecoder(const AccuracyDecoderNeeds& needs, ThreadPool& pool)
      : pool_(pool), model_(Transformer::load(needs.model_folder, pool)), lengths_(needs.batch) {
    for (std::uint32_t i = 0; i < needs.batch; ++i)
      caches_.push_back(model_.make_cache(needs.capacity));
    logits_.resize(std::size_t{needs.batch} * model_.config().vocab_size);
  }

  void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt) override {
    caches_[sequence].set_length(0);
    keep(sequence, model_.prefill(prompt, caches_[sequence]));
    lengths_[sequence] = caches_[sequence].length();
  }
  void use(const AccuracySetting& setting) override {
    setting_ = setting;
    rewind();
  }
  void rewind() override {
    for (std::size_t i = 0; i < caches_.size(); ++i) caches_[i].set_length(lengths_[i]);
  }
  void step(std::span<const std::int32_t> tokens) override {
    const std::vector<std::int32_t> fed =
        tokens.empty() ? chosen() : std::vector<std::int32_t>(tokens.begin(), tokens.end());
    for (std::uint32_t i = 0; i < caches_.size(); ++i)
      keep(i, model_.decode(fed[i], caches_[i], attention(i)));
  }
  std::vector<std::int32_t> chosen() override {
    const std::size_t vocab = model_.config().vocab_size;
    std::vector<std::int32_t> tokens;
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      const auto row = std::span<const float>(logits_).subspan(i * vocab, vocab);
      tokens.push_back(
          static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    }
    return tokens;
  }
  void logits(std::vector<float>& values) override { values = logits_; }

 private:
  void keep(std::uint32_t sequence, const std::vector<float>& logits) {
    std::copy(logits.begin(), logits.end(),
              logits_.begin() + static_cast<std::ptrdiff_t>(sequence * logits.size()));
  }
  DecodeAttention attention(std::uint32_t sequence);

  ThreadPool& pool_;
  Transformer model_;
  AccuracySetting setting_;
  std::vector<KvCache> caches_;
  std::vector<std::uint32_t> lengths_;
  std::vector<float> logits_;  // [batch, vocab]
};

DecodeAttention CpuAccuracyDecoder::attention(std::uint32_t sequence) {
  return [this, sequence](std::uint32_t layer, std::span<const float> q, const KvCache& cache,
                          std::uint32_t context_len, std::span<float> out) {
    const ModelConfig& config = model_.config();
    const DrawSite site{setting_.seed, sequence, context_len - 1, static_cast<std::uint16_t>(layer),
                        0};
    std::vector<float> ternary;
    if (setting_.ternary_draws > 0) ternary = ternary_queries(config, setting_, site, q);
    const std::span<const float> used = ternary.empty() ? q : std::span<const float>(ternary);
    pool_.for_chunks(config.n_q_heads, [&](std::size_t h) {
      DrawSite head_site = site;
      head_site.query_head = static_cast<std::uint16_t>(h);
      const auto kv_head = static_cast<std::uint32_t>(h / config.group());
      const std::size_t first = h * config.head_dim;
      const std::vector<double> output =
          attend_head(setting_, setting_.budget_of_layer(layer), head_site,
                      used.subspan(first, config.head_dim), cache.keys(layer, kv_head, context_len),
                      cache.values(layer, kv_head, context_len), model_.attention_scale());
      for (std::size_t d = 0; d < output.size(); ++d)
        out[first + d] = static_cast<float>(output[d]);
    });
  };
}

}  // namespace

std::unique_ptr<AccuracyDecoder> make_cpu_accuracy_decoder(const AccuracyDecoderNeeds& needs,
                                                           ThreadPool& pool) {
  return std::make_unique<CpuAccuracyDecoder>(needs, pool);
}

}  // namespace stoat
