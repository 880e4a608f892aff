// What the device records beside counts: ternary queries, errors against exact attention, probes
// and the dense twin, each computed again on the host from what was recorded; and that pages of the
// KV cache change no bit. Needs a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "gpu/capture.h"
#include "gpu/llm/engine.h"
#include "gpu/llm/kernels.h"
#include "models/attention/decode.h"
#include "models/error.h"
#include "models/sampling/selection.h"
#include "models/sampling/ternary.h"
#include "tests/gpu/llm_case.h"
#include "traces/reader.h"

namespace stoat {
namespace {

using gpu::CachePart;
using gpu::DeviceWeights;
using gpu::Engine;
using gpu::EngineOptions;
using gpu::StepRecord;
using test::some_tokens;
using test::TempFolder;

constexpr std::uint32_t kPrompts[] = {700, 255, 1};

// A run of a few steps over a ragged batch; what it recorded, step by step.
class Recording : public testing::Test {
 protected:
  Recording() {
    test::write_model(folder_.path(), shape_, test::random_weights(shape_, 9));
    config_ = read_model_config(folder_.path() + "/config.json");
  }

  EngineOptions options(Method method) const {
    EngineOptions o;
    o.batch = 3;
    o.capacity = 720;
    o.method = method;
    if (method != Method::kDense) o.budgets = {48};
    o.seed = 77;
    o.record = o.stats = o.queries = true;
    o.score_layers.assign(config_.n_layers, true);
    return o;
  }

  void run(const EngineOptions& o, std::uint32_t steps = 5) {
    engine_ =
        std::make_unique<Engine>(config_, DeviceWeights::load(folder_.path(), config_, pool_), o);
    for (std::uint32_t i = 0; i < o.batch; ++i)
      engine_->prefill(i, some_tokens(kPrompts[i], config_.vocab_size, i));
    steps_.clear();
    for (std::uint32_t step = 0; step < steps; ++step) {
      engine_->submit();
      const StepRecord record = engine_->collect();
      layout_ = *record.layout;
      steps_.emplace_back(record.bytes.get(), record.bytes.get() + layout_.bytes);
    }
  }

  template <class T>
  const T* part(std::size_t step, std::size_t offset) const {
    return reinterpret_cast<const T*>(steps_[step].data() + offset);
  }
  std::size_t place(std::uint32_t layer, std::uint32_t sequence, std::uint32_t head) const {
    return (std::size_t{layer} * 3 + sequence) * config_.n_q_heads + head;
  }
  std::uint32_t context(std::size_t step, std::uint32_t sequence) const {
    return part<std::uint32_t>(step, layout_.context)[sequence];
  }
  DrawSite site(std::size_t step, std::uint32_t layer, std::uint32_t sequence,
                std::uint32_t head) const {
    return {77, sequence, context(step, sequence) - 1, static_cast<std::uint16_t>(layer),
            static_cast<std::uint16_t>(head)};
  }
  std::vector<float> queries(std::size_t step, std::uint32_t layer, std::uint32_t sequence,
                             std::uint32_t head, std::uint32_t heads) const {
    const auto* from =
        part<std::uint16_t>(step, layout_.query) + place(layer, sequence, head) * config_.head_dim;
    std::vector<float> q(std::size_t{heads} * config_.head_dim);
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = to_float(Bf16{from[i]});
    return q;
  }
  ScoreCodes codes(std::size_t step, std::uint32_t layer, std::uint32_t sequence,
                   std::uint32_t head) const {
    const std::size_t at = place(layer, sequence, head) * layout_.tiles;
    const std::uint32_t rows = context(step, sequence), tiles = (rows + kTileRows - 1) / kTileRows;
    const auto* code = part<std::uint16_t>(step, layout_.code) + at * kTileRows;
    const auto* exponent = part<std::int32_t>(step, layout_.exponent) + at;
    return {{code, code + rows}, {exponent, exponent + tiles}};
  }
  std::vector<RowCount> rows(std::size_t step, std::uint32_t layer, std::uint32_t sequence,
                             std::uint32_t head) const {
    const std::size_t at = place(layer, sequence, head) * layout_.slots;
    std::vector<RowCount> found;
    for (std::uint32_t s = 0; s < 48; ++s) {
      const std::uint32_t row = part<std::uint32_t>(step, layout_.row)[at + s];
      const std::uint16_t count = part<std::uint16_t>(step, layout_.count)[at + s];
      if (count == 0) continue;
      if (!found.empty() && found.back().row == row) {
        found.back().count = static_cast<std::uint16_t>(found.back().count + count);
      } else {
        found.push_back({row, count});
      }
    }
    return found;
  }
  // bf16 bits of [kv_heads, rows, head_dim] as the rows of one KV head.
  KvRows rows_of(const std::vector<std::uint16_t>& bits, std::uint32_t sequence,
                 std::uint32_t kv_head, std::uint32_t context_len) const {
    const std::size_t cached = kPrompts[sequence] + steps_.size();
    static_assert(sizeof(Bf16) == sizeof(std::uint16_t));
    return {reinterpret_cast<const Bf16*>(bits.data()) + kv_head * cached * config_.head_dim,
            config_.head_dim, context_len, config_.head_dim};
  }
  double scale() const { return 1 / std::sqrt(static_cast<double>(config_.head_dim)); }

  test::TinyShape shape_ = test::device_shape("llama");
  TempFolder folder_;
  ThreadPool pool_{2};
  ModelConfig config_;
  std::unique_ptr<Engine> engine_;
  gpu::RecordLayout layout_;
  std::vector<std::vector<std::byte>> steps_;
};

std::vector<double> widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

class TernaryRecording : public Recording {
 protected:
  // Every draw, code and count of one KV group of one step.
  void check_group(std::size_t step, std::uint32_t layer, std::uint32_t sequence,
                   std::uint32_t kv_head, const EngineOptions& o,
                   const std::vector<std::uint16_t>& keys) {
    const std::uint32_t group = config_.group(), first = kv_head * group;
    const TernaryGroup want =
        draw_ternary(queries(step, layer, sequence, first, group), group, config_.head_dim,
                     *o.ternary, site(step, layer, sequence, first));
    const std::size_t sign_bytes = config_.head_dim / 8, mask_bytes = o.ternary->draws * sign_bytes;
    const std::size_t at = place(layer, sequence, first);
    EXPECT_EQ(std::memcmp(part<std::uint8_t>(step, layout_.key_mask) + at * mask_bytes,
                          want.mask.data(), group * mask_bytes),
              0);
    EXPECT_EQ(std::memcmp(part<std::uint8_t>(step, layout_.key_sign) + at * sign_bytes,
                          want.sign.data(), group * sign_bytes),
              0);
    const KvRows k = rows_of(keys, sequence, kv_head, context(step, sequence));
    for (std::uint32_t h = 0; h < group; ++h) {
      const std::vector<float> effective(want.effective.begin() + h * config_.head_dim,
                                         want.effective.begin() + (h + 1) * config_.head_dim);
      const std::vector<double> logits = score(widened(effective), k, scale());
      const ScoreCodes found = codes(step, layer, sequence, first + h);
      for (std::size_t row = 0; row < logits.size(); ++row) {
        const double x = logits[row] * static_cast<double>(kLog2E);
        const double stored = found.exponent[row / kTileRows] - found.code[row] / 2048.0;
        if (found.code[row] < 65535) worst_ = std::max(worst_, std::abs(stored - x));
      }
      EXPECT_EQ(rows(step, layer, sequence, first + h),
                select_rows(o.method, found, 48, site(step, layer, sequence, first + h)).rows);
    }
  }

  void check(const EngineOptions& o) {
    run(o);
    worst_ = 0;
    for (std::uint32_t layer = 0; layer < config_.n_layers; ++layer) {
      for (std::uint32_t sequence = 0; sequence < o.batch; ++sequence) {
        const auto keys = engine_->cached(CachePart::kKeys, layer, sequence);
        EXPECT_EQ(keys, engine_->cached(CachePart::kKeyFeatures, layer, sequence));
        for (std::size_t step = 0; step < steps_.size(); ++step)
          for (std::uint32_t kv_head = 0; kv_head < config_.n_kv_heads; ++kv_head)
            check_group(step, layer, sequence, kv_head, o, keys);
      }
    }
    EXPECT_LT(worst_, 1e-3);  // octaves: half a unit of a code and fp32 sums
  }

  double worst_ = 0;
};

TEST_F(TernaryRecording, HoldsTheDrawsCodesAndCountsOfTheSpecification) {
  for (const TernaryCoupling coupling :
       {TernaryCoupling::kIndependent, TernaryCoupling::kCoupled, TernaryCoupling::kGroupMean}) {
    for (const std::uint32_t page_size : {0U, 64U}) {
      SCOPED_TRACE(std::string(coupling_name(coupling)) + " pages of " + std::to_string(page_size));
      EngineOptions o = options(page_size == 0 ? Method::kProp : Method::kFlash);
      o.ternary = TernaryOptions{3, coupling, TernaryNormaliser::kPow2};
      o.page_size = page_size;
      check(o);
    }
  }
}

TEST_F(Recording, PagesOfTheCacheChangeNoBit) {
  for (const Method method : {Method::kDense, Method::kProp, Method::kTopK}) {
    EngineOptions o = options(method);
    o.full_stats = true;
    if (method == Method::kProp) o.probe_budgets = {4, 100};
    run(o);
    const auto want = steps_;
    const auto keys = engine_->cached(CachePart::kKeys, 1, 0);
    const auto values = engine_->cached(CachePart::kValues, 2, 1);
    for (const std::uint32_t page_size : {1U, 16U, 64U}) {
      SCOPED_TRACE(std::string(method_name(method)) + " pages of " + std::to_string(page_size));
      o.page_size = page_size;
      run(o);
      EXPECT_EQ(engine_->cached(CachePart::kKeys, 1, 0), keys);
      EXPECT_EQ(engine_->cached(CachePart::kValues, 2, 1), values);
      for (std::size_t step = 0; step < want.size(); ++step) {
        const auto apart =
            std::mismatch(steps_[step].begin(), steps_[step].end(), want[step].begin()).first;
        EXPECT_TRUE(apart == steps_[step].end())
            << "step " << step << ", byte " << apart - steps_[step].begin() << " (rows at "
            << layout_.row << ", stats at " << layout_.stats << ", codes at " << layout_.code
            << ", errors at " << layout_.error << ")";
      }
    }
  }
}

TEST_F(Recording, FullStatisticsAreThoseOfTheRecordedQueriesAndCounts) {
  for (const Method method : {Method::kProp, Method::kFlash, Method::kTopK}) {
    SCOPED_TRACE(method_name(method));
    EngineOptions o = options(method);
    o.full_stats = true;
    o.probe_budgets = {5, 200};
    run(o, 3);
    double worst_error = 0, worst_probe = 0, worst_mass = 0, worst_entropy = 0;
    for (std::uint32_t sequence = 0; sequence < 2; ++sequence) {
      const auto keys = engine_->cached(CachePart::kKeys, 1, sequence);
      const auto values = engine_->cached(CachePart::kValues, 1, sequence);
      for (std::size_t step = 0; step < steps_.size(); ++step) {
        for (std::uint32_t head = 0; head < config_.n_q_heads; ++head) {
          const std::uint32_t context_len = context(step, sequence),
                              kv_head = head / config_.group();
          const std::size_t at = place(1, sequence, head);
          const KvRows v = rows_of(values, sequence, kv_head, context_len);
          const std::vector<double> logits =
              score(widened(queries(step, 1, sequence, head, 1)),
                    rows_of(keys, sequence, kv_head, context_len), scale());
          const std::vector<double> p = softmax(logits), exact = gather_dense(p, v);
          const ScoreCodes code = codes(step, 1, sequence, head);
          const auto error_at = [&](std::uint32_t budget) {
            const Selection drawn =
                select_rows(method, code, budget, site(step, 1, sequence, head));
            return relative_error(
                gather_selected(drawn.rows, selection_weights(method, code, drawn), v), exact);
          };
          const auto off = [](float found, double want) {
            return std::abs(static_cast<double>(found) - want);
          };
          worst_error =
              std::max(worst_error, off(part<float>(step, layout_.error)[at], error_at(48)));
          for (std::size_t i = 0; i < 2; ++i)
            worst_probe = std::max(worst_probe, off(part<float>(step, layout_.probe)[2 * at + i],
                                                    error_at(o.probe_budgets[i])));
          const SoftmaxStats stats = softmax_stats(logits, p);
          const float* found = part<float>(step, layout_.stats) + at * gpu::kFullStats;
          worst_mass =
              std::max({worst_mass, off(found[6], stats.mass_top8), off(found[7], stats.mass_top32),
                        off(found[3], stats.mass_top1), off(found[4], stats.mass_token0)});
          worst_entropy = std::max({worst_entropy, off(found[0], stats.lse),
                                    off(found[1], stats.max), off(found[2], stats.entropy),
                                    off(found[5], stats.participation) / stats.participation});
        }
      }
    }
    EXPECT_LT(worst_error, 1e-3);
    EXPECT_LT(worst_probe, 1e-3);
    EXPECT_LT(worst_mass, 1e-3);
    EXPECT_LT(worst_entropy, 1e-2);
  }
}

TEST_F(Recording, TheTwinIsADenseRunThatIsFedTheSameTokens) {
  EngineOptions o = options(Method::kProp);
  o.full_stats = true;
  run(o);
  EngineOptions plain = options(Method::kDense);
  Engine dense(config_, DeviceWeights::load(folder_.path(), config_, pool_), plain);
  for (std::uint32_t i = 0; i < o.batch; ++i)
    dense.prefill(i, some_tokens(kPrompts[i], config_.vocab_size, i));
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    dense.submit({part<std::int32_t>(step, layout_.fed), o.batch});
    dense.collect();
  }
  const float* twin = part<float>(steps_.size() - 1, layout_.twin);
  double apart = 0;
  for (std::uint32_t i = 0; i < o.batch; ++i) {
    const auto ours = engine_->logits(i), theirs = dense.logits(i);
    EXPECT_NEAR(static_cast<double>(twin[2 * i]), total_variation(ours, theirs), 1e-5);
    EXPECT_EQ(twin[2 * i + 1] > 0.5F, same_top1(ours, theirs));
    apart = std::max(apart, total_variation(ours, theirs));
  }
  EXPECT_GT(apart, 1e-3);  // sampling is seen
}

TEST(DeviceBatchCapture, RecordsRaggedSequencesWithTheDrawsOfEach) {
  const TempFolder folder;
  const test::TinyShape shape = test::device_shape("llama");
  test::write_model(folder.path(), shape, test::random_weights(shape, 5));
  CaptureOptions options;
  options.model = folder.path();
  for (std::uint32_t i = 0; i < 2; ++i) {
    std::string text;
    for (const std::int32_t token : some_tokens(300 + 77 * i, shape.vocab, i))
      text += std::to_string(token) + "\n";
    options.tokens_files.push_back(folder / ("ids" + std::to_string(i)));
    test::write_text(options.tokens_files.back(), text);
  }
  options.batch = 5;
  options.budget = "32";
  options.score_kind = ScoreKind::kTernary;
  options.ternary = {2, TernaryCoupling::kCoupled, TernaryNormaliser::kMax};
  options.full_stats = true;
  options.probe_budgets = "8,64";
  options.score_layers = "0,2";
  options.max_new = 9;
  options.ignore_eos = true;
  options.seed = 5;
  options.backend = Backend::kCuda;
  options.threads = 2;
  options.output = folder / "out.stoat";
  const CaptureResult result = capture(options, {-1, nullptr});
  ASSERT_EQ(result.sequences.size(), 5U);
  EXPECT_EQ(result.sequences[0].prompt_tokens, 300U);
  EXPECT_EQ(result.sequences[3].prompt_tokens, 377U);
  EXPECT_GT(result.touched.by_heads, 0U);
  const TraceReader reader(result.path);
  const TraceRecords r = reader.read_all();
  ASSERT_EQ(r.size(), 9U * 5 * shape.layers * shape.heads);
  EXPECT_EQ(r.token_id.size(), 9U * 5);
  EXPECT_EQ(r.stats.output_error.size(), r.size());
  EXPECT_EQ(r.probe_error.size(), 2 * r.size());
  ASSERT_EQ(r.score_record.size(), 9U * 5 * 2 * shape.heads);
  for (std::size_t m = 0; m < r.score_record.size(); ++m) {
    const std::size_t i = r.score_record[m];
    EXPECT_EQ(r.context[i], (r.seq[i] % 2 == 0 ? 301U : 378U) + r.step[i]);
    const auto slice = [m](const auto& values, const auto& indptr) {
      using Values = std::decay_t<decltype(values)>;
      return Values(values.begin() + static_cast<std::ptrdiff_t>(indptr[m]),
                    values.begin() + static_cast<std::ptrdiff_t>(indptr[m + 1]));
    };
    const ScoreCodes codes{slice(r.score_code, r.score_indptr),
                           slice(r.score_exponent, r.score_tile_indptr)};
    const DrawSite site{5, r.seq[i], r.context[i] - 1, r.layer[i], r.q_head[i]};
    std::vector<RowCount> found;
    for (auto k = r.value_indptr[i]; k < r.value_indptr[i + 1]; ++k)
      found.push_back({r.row[k], r.count[k]});
    EXPECT_EQ(found, select_rows(Method::kProp, codes, 32, site).rows) << "record " << i;
  }
}

}  // namespace
}  // namespace stoat
