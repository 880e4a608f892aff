// Whole captures on a tiny random model: every method and score kind, what must not change the
// result, and the laws that sampling errors follow.
#include "gpu/capture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gpu/result_text.h"
#include "models/attention/decode.h"
#include "models/error.h"
#include "models/llm/transformer.h"
#include "tests/gpu/fixtures.h"
#include "traces/reader.h"

namespace stoat {
namespace {

using test::run_quietly;
using test::TempFolder;
using test::tiny_options;

const std::vector<Method> kAllMethods{Method::kDense,      Method::kIid,  Method::kStratified,
                                      Method::kSystematic, Method::kProp, Method::kFlash,
                                      Method::kTopK};

// What every trace of a tiny capture must look like.
void check_trace(const CaptureResult& result, const CaptureOptions& options) {
  const TraceReader reader(result.path);
  EXPECT_EQ(reader.content_hash(), result.content_hash);
  const TraceHeader& header = reader.header();
  EXPECT_EQ(header.method, options.method);
  EXPECT_EQ(header.seed, options.seed);
  EXPECT_EQ(header.row_bytes, 32U);  // head_dim 16 of bf16
  EXPECT_GT(header.weight_bytes_per_token, 0U);
  const TraceRecords records = reader.read_all();
  const std::size_t per_step = header.n_layers * header.n_q_heads;
  ASSERT_EQ(records.size(), result.steps.size() * per_step);
  ASSERT_EQ(records.token_id.size(), result.steps.size());
  EXPECT_EQ(records.stats.lse.size(), records.size());
  for (std::size_t r = 0; r < records.size(); ++r) {
    EXPECT_EQ(records.context[r], result.prompt_tokens + records.step[r] + 1);
    EXPECT_LE(records.stats.participation[r], static_cast<float>(records.context[r]) * 1.0001F);
    EXPECT_GE(records.stats.participation[r], 0.999F);
    const auto first = records.value_indptr[r], last = records.value_indptr[r + 1];
    if (options.method == Method::kDense) {
      EXPECT_EQ(records.kind[r], RecordKind::kDense);
      EXPECT_EQ(first, last);
      continue;
    }
    EXPECT_EQ(records.kind[r], RecordKind::kSampled);
    std::uint64_t sum = 0;
    for (auto i = first; i < last; ++i) {
      sum += records.count[i];
      ASSERT_LT(records.row[i], records.context[r]);
      ASSERT_TRUE(i == first || records.row[i] > records.row[i - 1]);
    }
    const std::uint32_t drawn = options.method == Method::kTopK
                                    ? std::min(records.budget[r], records.context[r])
                                    : records.budget[r];
    EXPECT_EQ(sum, drawn);
  }
  EXPECT_EQ(records.tile_indptr.size(), options.method == Method::kFlash ? records.size() + 1 : 1);
}

TEST(Capture, EveryMethodRunsWithBothScoreKinds) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder);
  for (const Method method : kAllMethods) {
    for (const ScoreKind kind : {ScoreKind::kExact, ScoreKind::kTernary}) {
      SCOPED_TRACE(std::string(method_name(method)) +
                   (kind == ScoreKind::kExact ? " exact" : " ternary"));
      options.method = method;
      options.score_kind = kind;
      options.ternary = {3, TernaryCoupling::kCoupled, TernaryNormaliser::kPow2};
      options.max_new = 3;
      options.force = true;
      const CaptureResult result = run_quietly(options);
      EXPECT_EQ(result.steps.size(), 3U);
      check_trace(result, options);
      const TraceRecords records = TraceReader(result.path).read_all();
      if (kind == ScoreKind::kTernary) {
        ASSERT_EQ(records.draw_indptr.size(), records.size() + 1);
        EXPECT_EQ(records.draw_indptr.back(), records.size() * 3);
        EXPECT_EQ(records.key_mask.size(), records.size() * 3 * 2);
        EXPECT_EQ(records.key_sign.size(), records.size() * 2);
        EXPECT_GT(result.touched.by_heads, 0U);
        EXPECT_GE(result.touched.by_groups * 2, result.touched.by_heads);
        EXPECT_LE(result.touched.by_groups, result.touched.by_heads);
      } else {
        EXPECT_EQ(records.draw_indptr.size(), 1U);
        EXPECT_EQ(result.touched.heads, 0U);
      }
    }
  }
}

TEST(Capture, HashesAreEqualForOneAndTwoThreadsAndAcrossRuns) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 600);
  options.full_stats = true;
  options.score_layers = "all";
  options.probe_budgets = "4,64";
  options.force = true;
  for (const ScoreKind kind : {ScoreKind::kExact, ScoreKind::kTernary}) {
    options.score_kind = kind;
    options.threads = 1;
    const CaptureResult one = run_quietly(options);
    const CaptureResult again = run_quietly(options);
    options.threads = 2;
    const CaptureResult two = run_quietly(options);
    EXPECT_EQ(one.content_hash, again.content_hash);
    EXPECT_EQ(one.content_hash, two.content_hash);
    EXPECT_EQ(result_json(one), result_json(two));
    options.seed = 2;
    EXPECT_NE(run_quietly(options).content_hash, one.content_hash);
    options.seed = 1;
  }
}

TEST(Capture, PropAndSystematicTouchTheSameRows) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 900);
  options.method = Method::kProp;
  const TraceRecords prop = TraceReader(run_quietly(options).path).read_all();
  options.method = Method::kSystematic;
  options.output = folder.path("sys.stoat");
  const TraceRecords systematic = TraceReader(run_quietly(options).path).read_all();
  EXPECT_EQ(prop.row, systematic.row);
  EXPECT_EQ(prop.count, systematic.count);
  EXPECT_EQ(prop.token_id, systematic.token_id);
}

TEST(Capture, DenseRecordingComputesExactlyWhatDenseAttentionDoes) {
  const TempFolder folder;
  ThreadPool pool(1);
  Transformer model = Transformer::load(test::write_tiny_model(folder), pool);
  const std::string text = test::sample_text(400);
  const std::vector<std::int32_t> prompt(text.begin(), text.end());
  KvCache cache = model.make_cache(420);
  model.prefill(prompt, cache);
  KvCache twin = cache;
  RecordingOptions options;
  options.method = Method::kDense;
  options.full_stats = true;
  RecordingAttention recording(model.config(), model.attention_scale(), options, pool);
  const DecodeAttention dense = dense_attention(model.config(), model.attention_scale(), pool);
  for (std::int32_t step = 0; step < 8; ++step) {
    recording.begin_step(static_cast<std::uint32_t>(step));
    recording.begin_sequence(0, 'a' + step);
    EXPECT_EQ(model.decode('a' + step, cache, recording.callback()),
              model.decode('a' + step, twin, dense));
  }
}

TEST(Capture, TheDenseTwinOfADenseCaptureAgreesCompletely) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder);
  options.method = Method::kDense;
  options.full_stats = true;
  const CaptureResult result = run_quietly(options);
  EXPECT_EQ(result.summary.output_error, 0.0);
  EXPECT_EQ(result.summary.twin_total_variation, 0.0);
  EXPECT_EQ(result.summary.twin_top1_agreement, 1.0);
  EXPECT_EQ(result.summary.value_rows_read, 1.0);
}

TEST(Capture, ReportsWhatEachAccumulatorCostsWithoutTouchingTheTrace) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 600);
  options.force = true;
  const std::string plain = run_quietly(options).content_hash;
  options.accumulators = "all";
  const CaptureResult result = run_quietly(options);
  EXPECT_EQ(result.content_hash, plain);
  ASSERT_EQ(result.accumulator_errors.size(), 3U);
  const auto mean = [&](AccumulatorFormat format) {
    for (const AccumulatorError& each : result.accumulator_errors) {
      EXPECT_LE(each.mean, each.worst);
      if (each.format == format) return each.mean;
    }
    return -1.0;
  };
  // bf16 keeps 8 bits of every sum, 24 bits under a shared exponent at least 16 of the largest.
  EXPECT_GT(mean(AccumulatorFormat::kBf16), 1e-3);
  EXPECT_LT(mean(AccumulatorFormat::kShared24), mean(AccumulatorFormat::kBf16) / 100);
  EXPECT_LT(mean(AccumulatorFormat::kFp32), mean(AccumulatorFormat::kShared24));
  EXPECT_NE(result_json(result).find("\"format\": \"shared24\""), std::string::npos);
  options.threads = 2;
  EXPECT_EQ(result_json(run_quietly(options)), result_json(result));
  options.accumulators = "fp32,int32";
  EXPECT_THROW(run_quietly(options), stoat::Error);
}

// Mean output errors at probe budgets of one method over a capture of 24 steps at 900 rows.
std::vector<double> probe_errors(Method method, const std::string& budgets) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 900);
  options.method = method;
  options.probe_budgets = budgets;
  options.max_new = 24;
  options.full_stats = true;
  return run_quietly(options).summary.probe_error;
}

TEST(Law, IidErrorFallsWithTheSquareRootOfTheBudget) {
  const std::vector<double> error = probe_errors(Method::kIid, "4,64,1024,16384");
  ASSERT_EQ(error.size(), 4U);
  for (std::size_t i = 1; i < error.size(); ++i) {
    EXPECT_NEAR(error[i - 1] / error[i], 4.0, 0.5) << "budget times 16 at " << i;
  }
}

TEST(Law, PropErrorFallsAtLeastAsFastAsIidAndEndsSmall) {
  const std::vector<double> prop = probe_errors(Method::kProp, "4,64,1024,16384");
  const std::vector<double> iid = probe_errors(Method::kIid, "4,64,1024,16384");
  for (std::size_t i = 0; i < prop.size(); ++i) {
    EXPECT_LT(prop[i], iid[i]) << i;
    EXPECT_TRUE(i == 0 || prop[i] < prop[i - 1] / 3.5) << i << ": " << prop[i];
  }
  EXPECT_LT(prop.back(), 0.01);
}

TEST(Law, AHugeBudgetGivesTheDenseTwinsTokens) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder);
  options.full_stats = true;
  options.budget = "60000";
  const CaptureResult huge = run_quietly(options);
  options.output = folder.path("one-hot.stoat");
  options.budget = "1";
  const CaptureResult one_hot = run_quietly(options);
  EXPECT_LT(huge.summary.output_error, 0.005);
  EXPECT_LT(huge.summary.twin_total_variation, 0.01);
  EXPECT_GT(one_hot.summary.output_error, 20 * huge.summary.output_error);
  EXPECT_GT(one_hot.summary.twin_total_variation, 5 * huge.summary.twin_total_variation);
  EXPECT_EQ(one_hot.summary.rows_per_head, 1.0);
}

TEST(Scores, RedrawingTheRecordedMethodGivesTheRecordedCounts) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 700);
  options.score_layers = "1";
  for (const Method method : {Method::kIid, Method::kProp, Method::kFlash, Method::kTopK}) {
    options.method = method;
    options.force = true;
    const TraceRecords records = TraceReader(run_quietly(options).path).read_all();
    ASSERT_EQ(records.score_record.size(), records.size() / 2);
    for (std::size_t m = 0; m < records.score_record.size(); ++m) {
      const std::size_t r = records.score_record[m];
      ASSERT_EQ(records.layer[r], 1);
      const auto at = [](auto& column, std::uint64_t i) {
        return column.begin() + static_cast<std::ptrdiff_t>(i);
      };
      ScoreCodes codes;
      codes.code.assign(at(records.score_code, records.score_indptr[m]),
                        at(records.score_code, records.score_indptr[m + 1]));
      codes.exponent.assign(at(records.score_exponent, records.score_tile_indptr[m]),
                            at(records.score_exponent, records.score_tile_indptr[m + 1]));
      const DrawSite site{options.seed, 0, records.context[r] - 1, records.layer[r],
                          records.q_head[r]};
      const Selection drawn = select_rows(method, codes, records.budget[r], site);
      ASSERT_EQ(drawn.rows.size(), records.value_indptr[r + 1] - records.value_indptr[r]);
      for (std::size_t i = 0; i < drawn.rows.size(); ++i) {
        EXPECT_EQ(drawn.rows[i].row, records.row[records.value_indptr[r] + i]);
        EXPECT_EQ(drawn.rows[i].count, records.count[records.value_indptr[r] + i]);
      }
    }
  }
}

TEST(Capture, ContextOneWorks) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 1);
  for (const Method method : kAllMethods) {
    options.method = method;
    options.force = true;
    const CaptureResult result = run_quietly(options);
    EXPECT_EQ(result.prompt_tokens, 1U);
    check_trace(result, options);
  }
}

TEST(Capture, BudgetAboveTheContextIsLegal) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 20);
  options.budget = "4096";
  const CaptureResult result = run_quietly(options);
  EXPECT_LE(result.summary.rows_per_head, 32.0);
  check_trace(result, options);
}

TEST(Capture, BudgetsMayDifferByLayer) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder);
  options.budget = folder.write("budgets.txt", "1\n64\n");
  const CaptureResult result = run_quietly(options);
  ASSERT_EQ(result.summary.layers.size(), 2U);
  EXPECT_EQ(result.summary.layers[0].rows_per_head, 1.0);
  EXPECT_GT(result.summary.layers[1].rows_per_head, 8.0);
  EXPECT_EQ(TraceReader(result.path).header().budgets, (std::vector<std::uint32_t>{1, 64}));
}

TEST(Capture, QuestionsAreFedByDecodingAndJudged) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder);
  options.max_new.reset();
  options.questions_file = folder.write(
      "q.jsonl",
      "{\"text\": \"abc\", \"generate\": 2, \"expect\": \"never this\", \"kind\": \"needle\"}\n"
      "{\"text\": \"xy\", \"generate\": 3}\n");
  const CaptureResult first = run_quietly(options);
  ASSERT_EQ(first.answers.size(), 2U);
  EXPECT_EQ(first.steps.size(), 3U + 2U + 2U + 3U);
  EXPECT_TRUE(first.sequences[0].generated.empty());
  EXPECT_EQ(first.answers[0].text.size(), 2U);
  EXPECT_TRUE(first.answers[0].judged);
  EXPECT_FALSE(first.answers[0].correct);
  EXPECT_FALSE(first.answers[1].judged);
  EXPECT_EQ(first.steps[0].token, 'a');
  // What the model did answer, expected this time, counts as correct.
  nlohmann::json question{{"text", "abc"}, {"generate", 2}, {"kind", "needle"}};
  question["expect"] = first.answers[0].text;
  if (first.answers[0].text.find_first_of(" \t\r\n") == std::string::npos &&
      static_cast<unsigned char>(first.answers[0].text[0]) < 128 &&
      static_cast<unsigned char>(first.answers[0].text[1]) < 128) {
    options.questions_file = folder.write("q2.jsonl", question.dump() + "\n");
    options.force = true;
    EXPECT_TRUE(run_quietly(options).answers[0].correct);
  }
}

TEST(Capture, TokenIdsGiveTheSameTraceAsTheirText) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder, 50);
  const CaptureResult text = run_quietly(options);
  std::string ids;
  for (const char c : test::sample_text(50)) ids += std::to_string(static_cast<int>(c)) + "\n";
  options.prompt_files.clear();
  options.tokens_files = {folder.write("tokens.txt", ids)};
  options.output = folder.path("tokens.stoat");
  const CaptureResult tokens = run_quietly(options);
  EXPECT_EQ(text.content_hash, tokens.content_hash);
  EXPECT_EQ(text.header.prompt_hash, tokens.header.prompt_hash);
}

TEST(Capture, AnInterruptDuringPrefillLeavesNothing) {
  const TempFolder folder;
  const CaptureOptions options = tiny_options(folder);
  const std::atomic<bool> stop{true};
  const CaptureResult result = capture(options, {-1, &stop});
  EXPECT_TRUE(result.interrupted);
  EXPECT_EQ(result.content_hash, "");
  for (const char* suffix : {"", ".spool", ".run.json"}) {
    EXPECT_FALSE(std::filesystem::exists(options.output + suffix)) << suffix;
  }
}

TEST(Summary, CountsTheUnionOverAGroupOnce) {
  TraceHeader header;
  header.n_layers = 1;
  header.n_q_heads = 2;
  header.n_kv_heads = 1;
  TraceRecords records;
  append_record(records, 0, 0, 0, 0, 0, 10, RecordKind::kSampled, 4,
                Selection{{{1, 2}, {3, 2}}, {}});
  append_record(records, 0, 0, 0, 1, 0, 10, RecordKind::kSampled, 4,
                Selection{{{3, 1}, {4, 2}, {9, 1}}, {}});
  records.stats.participation = {2.0F, 4.0F};
  SummaryBuilder builder(header);
  const StepSummary step = builder.add_step(records);
  EXPECT_EQ(step.rows_per_head, 2.5);
  EXPECT_EQ(step.rows_per_group, 4.0);
  const CaptureSummary summary = builder.result();
  EXPECT_EQ(summary.value_rows_read, 0.4);
  EXPECT_EQ(summary.layers[0].participation, 3.0);
  EXPECT_FALSE(summary.has_twin);
}

TEST(RunFile, HoldsEveryStepAndTheTimes) {
  const TempFolder folder;
  const CaptureOptions options = tiny_options(folder);
  const CaptureResult result = run_quietly(options);
  std::ifstream in(result.path + ".run.json");
  const nlohmann::json json = nlohmann::json::parse(in);
  EXPECT_EQ(json["steps"].size(), 12U);
  EXPECT_EQ(json["result"]["content_hash"], result.content_hash);
  EXPECT_GT(json["run"]["decode_s"].get<double>(), 0.0);
  EXPECT_FALSE(nlohmann::json::parse(result_json(result)).contains("run"));
}

}  // namespace
}  // namespace stoat
