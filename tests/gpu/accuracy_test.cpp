// Accuracy against the budget on a tiny random model on the CPU, where the outcome is known: dense
// against itself, every row read, lengths rolled back; and the variance of attention outputs
// against theory. Each with a twin that must be told apart.
#include "gpu/accuracy.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "gpu/accuracy_variance.h"
#include "models/error.h"
#include "tests/gpu/fixtures.h"

namespace stoat {
namespace {

using nlohmann::json;
using test::TempFolder;

constexpr std::uint32_t kPrompts = 3, kLength = 120, kDecoded = 10;

json dense_setting(const std::string& name = "dense") {
  return {{"name", name}, {"method", "dense"}, {"seed", 1}};
}
json sampled_setting(const std::string& method, std::uint32_t budget) {
  return {{"name", method + " S=" + std::to_string(budget)},
          {"method", method},
          {"budgets", {budget}},
          {"seed", 7}};
}

// A plan over texts of kLength bytes: one ask of two turns, and their ends as held-out text.
json tiny_plan(const TempFolder& folder, const std::vector<json>& settings) {
  folder.write("texts.bin", test::sample_text(4096));
  json prompts = json::array(), text = json::array(), expect = json::array();
  for (std::uint32_t p = 0; p < kPrompts; ++p) {
    prompts.push_back({p * 517, kLength});
    text.push_back(" ask" + std::to_string(p));
    expect.push_back("?");
  }
  const json turn{{"kind", "turn"}, {"text", text}, {"expect", expect}, {"generate", 3}};
  return {{"model", test::write_tiny_model(folder)},
          {"texts", "texts.bin"},
          {"settings", settings},
          {"groups",
           {{{"name", "tasks"},
             {"length", 128},
             {"prompts", prompts},
             {"asks", {{turn, turn}, {turn}}}},
            {{"name", "text"}, {"length", 128}, {"prompts", prompts}, {"decoded", kDecoded}}}}};
}

AccuracyPlan read_plan(const TempFolder& folder, const json& plan) {
  return read_accuracy_plan(folder.write("plan.json", plan.dump()));
}

std::unique_ptr<AccuracyDecoder> decoder_of(const AccuracyPlan& plan, const AccuracyGroup& group,
                                            ThreadPool& pool) {
  return make_cpu_accuracy_decoder(
      {plan.model_folder, plan.config, kPrompts, group.largest_context(), plan.settings}, pool);
}

AccuracyGroupResult measure(const AccuracyPlan& plan, const AccuracyGroup& group) {
  ThreadPool pool(2);
  return measure_group(plan, group, *decoder_of(plan, group, pool), pool, nullptr);
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST(Accuracy, DenseAgreesWithItselfToTheLastBit) {
  const TempFolder folder;
  const AccuracyPlan plan =
      read_plan(folder, tiny_plan(folder, {dense_setting(), dense_setting("again")}));
  const AccuracyGroupResult text = measure(plan, plan.groups[1]);
  ASSERT_EQ(text.cells.size(), 2U);
  EXPECT_EQ(text.cells[0].bits, text.cells[1].bits);
  for (const AccuracyCell& cell : text.cells) {
    EXPECT_EQ(cell.total_variation, std::vector<double>(kPrompts, 0.0));
    EXPECT_EQ(cell.top1_agreement, std::vector<double>(kPrompts, 1.0));
  }
  const AccuracyGroupResult tasks = measure(plan, plan.groups[0]);
  ASSERT_EQ(tasks.cells[0].asks.size(), 2U);
  ASSERT_EQ(tasks.cells[0].asks[0].size(), 2U);
  ASSERT_EQ(tasks.cells[0].asks[1].size(), 1U);
}

// An answer is right when it is what dense decoding says: so the plan is made from its answers.
TEST(Accuracy, JudgesAnswersAgainstWhatWasExpectedAndAllFirstTurnsStartAtThePrompt) {
  const TempFolder folder;
  const json words = tiny_plan(folder, {dense_setting()});
  const AccuracyPlan asked = read_plan(folder, words);
  ThreadPool pool(2);
  const auto decoder = decoder_of(asked, asked.groups[0], pool);
  std::vector<std::string> answers(kPrompts);
  for (std::uint32_t p = 0; p < kPrompts; ++p) decoder->prefill(p, asked.groups[0].prompts[p]);
  decoder->use(asked.settings[0]);
  const AccuracyTurn& turn = asked.groups[0].asks[0][0];
  for (std::size_t i = 0; i < turn.text[0].size(); ++i) {
    std::vector<std::int32_t> fed;
    for (const auto& text : turn.text) fed.push_back(text[i]);
    decoder->step(fed);
  }
  for (std::uint32_t g = 0; g < turn.generate; ++g) {
    const auto chosen = decoder->chosen();
    for (std::uint32_t p = 0; p < kPrompts; ++p) answers[p] += static_cast<char>(chosen[p]);
    decoder->step({});
  }
  for (std::string& answer : answers) {  // leading white space does not count
    const std::size_t first = answer.find_first_not_of(" \t\r\n");
    ASSERT_NE(first, std::string::npos);
    answer.erase(0, first);
  }
  answers[0].back() ^= 1;
  AccuracyPlan plan = read_plan(folder, words);
  for (AccuracyAsk& ask : plan.groups[0].asks) ask[0].expect = answers;
  const AccuracyGroupResult result = measure(plan, plan.groups[0]);
  for (const auto& ask : result.cells[0].asks) {
    EXPECT_FALSE(ask[0].right[0]);
    for (std::uint32_t p = 1; p < kPrompts; ++p) EXPECT_TRUE(ask[0].right[p]) << p;
  }
}

// Every row read: the text is dense but for the scores' 16-bit codes. The same bound tells S = 1.
constexpr double kCodeDistance = 2e-3;

TEST(Accuracy, ABudgetThatReadsEveryRowIsDenseAndOneSampleIsNot) {
  const TempFolder folder;
  const AccuracyPlan plan = read_plan(
      folder, tiny_plan(folder, {dense_setting(), sampled_setting("topk", 4096),
                                 sampled_setting("sys", 65535), sampled_setting("sys", 1)}));
  const AccuracyGroupResult text = measure(plan, plan.groups[1]);
  EXPECT_LT(mean(text.cells[1].total_variation), kCodeDistance);
  EXPECT_LT(mean(text.cells[2].total_variation), kCodeDistance);
  EXPECT_GT(mean(text.cells[3].total_variation), 2 * kCodeDistance);
  EXPECT_NEAR(mean(text.cells[2].bits), mean(text.cells[0].bits), 0.05);
}

// A decoder that forgets to roll back decodes the second setting on other rows.
class Forgetful final : public AccuracyDecoder {
 public:
  explicit Forgetful(AccuracyDecoder& own) : own_(own) {}
  void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt) override {
    own_.prefill(sequence, prompt);
  }
  void use(const AccuracySetting& setting) override {
    if (!used_) own_.use(setting);
    used_ = true;
  }
  void rewind() override {}
  void step(std::span<const std::int32_t> tokens) override { own_.step(tokens); }
  std::vector<std::int32_t> chosen() override { return own_.chosen(); }
  void logits(std::vector<float>& values) override { own_.logits(values); }

 private:
  AccuracyDecoder& own_;
  bool used_ = false;
};

TEST(Accuracy, LengthsThatAreNotRolledBackAreToldApart) {
  const TempFolder folder;
  const AccuracyPlan plan =
      read_plan(folder, tiny_plan(folder, {dense_setting(), dense_setting("again")}));
  const AccuracyGroup& group = plan.groups[1];
  ThreadPool pool(2);
  const auto own = make_cpu_accuracy_decoder(
      {plan.model_folder, plan.config, kPrompts, 3 * group.largest_context(), plan.settings}, pool);
  Forgetful forgetful(*own);
  const AccuracyGroupResult text = measure_group(plan, group, forgetful, pool, nullptr);
  EXPECT_GT(mean(text.cells[1].total_variation), 1e-4);
}

// A device that is lost while the third setting runs.
class Failing final : public AccuracyDecoder {
 public:
  Failing(AccuracyDecoder& own, int uses) : own_(own), uses_(uses) {}
  void prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt) override {
    own_.prefill(sequence, prompt);
  }
  void use(const AccuracySetting& setting) override {
    own_.use(setting);
    --uses_;
  }
  void rewind() override { own_.rewind(); }
  void step(std::span<const std::int32_t> tokens) override {
    if (uses_ < 0) throw resource_error({"CUDA"}, "the device is lost");
    own_.step(tokens);
  }
  std::vector<std::int32_t> chosen() override { return own_.chosen(); }
  void logits(std::vector<float>& values) override { own_.logits(values); }

 private:
  AccuracyDecoder& own_;
  int uses_;
};

TEST(Accuracy, ADecoderThatFailsLeavesTheSettingsThatAreDone) {
  const TempFolder folder;
  const AccuracyPlan plan =
      read_plan(folder, tiny_plan(folder, {dense_setting(), sampled_setting("prop", 16),
                                           sampled_setting("sys", 16), sampled_setting("sys", 8)}));
  const AccuracyGroup& group = plan.groups[1];
  ThreadPool pool(2);
  const auto own = decoder_of(plan, group, pool);
  Failing failing(*own, 2);
  const AccuracyGroupResult found = measure_group(plan, group, failing, pool, nullptr);
  const AccuracyGroupResult whole = measure(plan, group);
  ASSERT_EQ(found.cells.size(), 2U);
  EXPECT_FALSE(whole.failure);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(found.cells[i].bits, whole.cells[i].bits);
  ASSERT_TRUE(found.failure);
  try {
    std::rethrow_exception(found.failure);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("the device is lost"), std::string::npos);
  }
  Failing at_once(*own, 0);
  EXPECT_THROW(measure_group(plan, group, at_once, pool, nullptr), Error);
}

TEST(Accuracy, FlashWithFewerSamplesThanTilesIsRefusedByName) {
  const TempFolder folder;
  json plan = tiny_plan(folder, {dense_setting(), sampled_setting("flash", 1)});
  for (json& group : plan["groups"]) {
    for (json& prompt : group["prompts"]) prompt[1] = 300;
  }
  const AccuracyPlan read = read_plan(folder, plan);
  const AccuracyGroupResult text = measure(read, read.groups[1]);
  EXPECT_NE(text.cells[1].refused.find("2 tiles"), std::string::npos) << text.cells[1].refused;
  EXPECT_TRUE(text.cells[1].bits.empty());
}

void expect_refusal(const TempFolder& folder, const json& plan, const std::string& words) {
  try {
    read_plan(folder, plan);
    FAIL() << "no error; expected: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(AccuracyPlanFile, RefusesWhatIsNoPlanAndSaysWhat) {
  const TempFolder folder;
  const json good = tiny_plan(folder, {dense_setting(), sampled_setting("sys", 4)});
  EXPECT_NO_THROW(read_plan(folder, good));
  json plan = good;
  plan["settings"].erase(0);
  expect_refusal(folder, plan, "dense first");
  plan = good;
  plan["groups"][0]["prompts"][1] = {4000, 200};
  expect_refusal(folder, plan, "within 4096 bytes");
  plan = good;
  plan["groups"][0]["asks"][0][0]["text"][1] = "longer than the others";
  expect_refusal(folder, plan, "different lengths");
  plan = good;
  plan["groups"][0]["asks"][0][0]["expect"].erase(0);
  expect_refusal(folder, plan, "one a prompt, 3");
  plan = good;
  plan["settings"][1]["budgets"] = {1, 2, 3};
  expect_refusal(folder, plan, "one a layer");
  plan = good;
  plan["settings"][1]["budgets"] = {0};
  expect_refusal(folder, plan, "budgets from 1");
  plan = good;
  plan["groups"][1]["decoded"] = 500;
  expect_refusal(folder, plan, "more than are decoded");
  plan["groups"][1]["decoded"] = 0;
  expect_refusal(folder, plan, "'decoded': 0");
  plan = good;
  plan["groups"] = json::array();
  expect_refusal(folder, plan, "something to measure");
  plan = good;
  plan["settings"][1]["method"] = "syss";
  expect_refusal(folder, plan, "plan.json: unknown method 'syss'");
  plan["settings"][1] = good["settings"][0];
  expect_refusal(folder, plan, "two settings 'dense'");
}

TEST(AccuracyPlanFile, RefusesAVarianceOfNothingOrOfMethodsWithoutOne) {
  const TempFolder folder;
  json good = tiny_plan(folder, {dense_setting()});
  good["variance"] = {{"prompts", {{0, 200}, {900, 200}}},
                      {"steps", 2},
                      {"replicates", 2},
                      {"methods", {"iid"}},
                      {"budgets", {4}},
                      {"seed", 3}};
  EXPECT_NO_THROW(read_plan(folder, good));
  json plan = good;
  for (const char* method : {"dense", "flash"}) {
    plan["variance"]["methods"][0] = method;
    expect_refusal(folder, plan, std::string("the variance of ") + method);
  }
  for (const char* key : {"prompts", "methods", "budgets"}) {
    plan = good;
    plan["variance"][key] = json::array();
    expect_refusal(folder, plan, "a variance of nothing");
  }
  plan = good;
  folder.write("texts.bin", test::sample_text(4097));  // the model has 4096 positions
  plan["variance"]["prompts"][1] = {0, 4097};
  expect_refusal(folder, plan, "variance: 4097 tokens");
}

// Values of which the strata's variances are known without a computer: two rows of equal weight,
// one feature, values -1 and 1. S = 1: variance 1; S = 2: a stratum is one row, none is left.
TEST(AccuracyVariance, HasTheFormulasOfTwoEqualRows) {
  const ScoreCodes codes = encode_scores(std::vector<float>{0.0F, 0.0F});
  const Ruler ruler(codes);
  const std::vector<Bf16> rows{to_bf16(-1.0F), to_bf16(1.0F)};
  const KvRows values{rows.data(), 1, 2, 1};
  EXPECT_DOUBLE_EQ(iid_variance(ruler, values, 1), 1.0);
  EXPECT_DOUBLE_EQ(iid_variance(ruler, values, 4), 0.25);
  EXPECT_DOUBLE_EQ(stratified_variance(ruler, values, 1), 1.0);
  EXPECT_DOUBLE_EQ(stratified_variance(ruler, values, 2), 0.0);
  // Three strata: the middle one has half of each row.
  EXPECT_NEAR(stratified_variance(ruler, values, 3), 1.0 / 9, 1e-9);
}

// Level 1e-6, two-sided: z of 4.9 with the heads' own spread as standard error.
TEST(AccuracyVariance, AgreesWithTheoryAndTellsHalfTheBudgetApart) {
  const TempFolder folder;
  json words = tiny_plan(folder, {dense_setting()});
  words["variance"] = {
      {"prompts", {{0, 200}, {900, 200}}},  {"steps", 12},        {"replicates", 24},
      {"methods", {"iid", "strat", "sys"}}, {"budgets", {4, 16}}, {"seed", 3}};
  const AccuracyPlan plan = read_plan(folder, words);
  ThreadPool pool(2);
  const std::vector<VarianceCell> cells = measure_variance(plan, pool);
  ASSERT_EQ(cells.size(), 2U * 3 * 2);
  const std::atomic<bool> stop{true};
  EXPECT_TRUE(measure_variance(plan, pool, &stop).empty()) << "interrupted";
  for (const VarianceCell& cell : cells) {
    EXPECT_EQ(cell.heads, 2U * 12 * 4);
    if (cell.method == Method::kSystematic) continue;
    const double z = 4.9 * cell.error_of_sum;
    EXPECT_NEAR(cell.squared_error, cell.theory, z) << cell.layer << " S=" << cell.budget;
    EXPECT_GT(std::abs(cell.squared_error - 2 * cell.theory), z) << "the twin: half the budget";
  }
}

}  // namespace
}  // namespace stoat
