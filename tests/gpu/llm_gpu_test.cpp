// The transformer on the device: against the CPU's, batches against single sequences, and captures
// whose recorded counts are those of the recorded codes. Needs a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "gpu/capture.h"
#include "gpu/cuda_refusal.h"
#include "gpu/llm/engine.h"
#include "models/error.h"
#include "models/llm/transformer.h"
#include "models/sampling/selection.h"
#include "tests/gpu/llm_case.h"
#include "traces/reader.h"

namespace stoat {
namespace {

using gpu::DeviceWeights;
using gpu::Engine;
using gpu::EngineOptions;
using test::device_shape;
using test::some_tokens;
using test::TempFolder;
using test::TinyShape;

double worst_of_largest(const std::vector<float>& found, const std::vector<float>& want) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (!std::isfinite(found[i])) return found[i];
    worst = std::max(worst, std::abs(static_cast<double>(found[i]) - static_cast<double>(want[i])));
    largest = std::max(largest, std::abs(static_cast<double>(want[i])));
  }
  return worst / largest;
}

class LlmOnDevice : public testing::TestWithParam<TinyShape> {};

TEST_P(LlmOnDevice, GivesTheLogitsOfTheCpu) {
  const TempFolder folder;
  test::write_model(folder.path(), GetParam(), test::random_weights(GetParam(), 5), 2);
  ThreadPool pool(2);
  Transformer model = Transformer::load(folder.path(), pool);
  const ModelConfig& config = model.config();
  EngineOptions options;
  options.capacity = 400;
  Engine engine(config, DeviceWeights::load(folder.path(), config, pool), options);
  EXPECT_EQ(engine.weights().hash(), model.weights_hash());
  EXPECT_EQ(engine.weights().bytes_per_token(), model.weight_bytes_per_token());
  const auto prompt = some_tokens(300, config.vocab_size);
  KvCache cache = model.make_cache(400);
  const auto dense = dense_attention(config, model.attention_scale(), pool);
  std::vector<float> want = model.prefill(prompt, cache);
  engine.prefill(0, prompt);
  EXPECT_LT(worst_of_largest(engine.logits(0), want), 0.03);
  for (int step = 0; step < 8; ++step) {
    const auto token =
        static_cast<std::int32_t>(std::max_element(want.begin(), want.end()) - want.begin());
    want = model.decode(token, cache, dense);
    engine.submit({&token, 1});
    engine.collect();
    const auto found = engine.logits(0);
    EXPECT_LT(worst_of_largest(found, want), 0.03) << "step " << step;
    EXPECT_EQ(engine.chosen()[0], std::max_element(found.begin(), found.end()) - found.begin());
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, LlmOnDevice,
                         testing::Values(device_shape("llama"), device_shape("llama", 128),
                                         device_shape("qwen2"), device_shape("qwen3"),
                                         device_shape("qwen3", 128)),
                         [](const auto& test) {
                           return test.param.model_type + "_" + std::to_string(test.param.head_dim);
                         });

// golden/hf/ of scripts/hf_goldens.py. No farther from the truth than transformers' own bf16 with
// one of its attention backends is.
class HuggingFaceOnDevice : public testing::TestWithParam<std::string> {};

TEST_P(HuggingFaceOnDevice, IsNoFartherFromTheTruthThanTransformersInBf16) {
  // The tests run on another machine than they were built on: then from the repository's root.
  std::string root = STOAT_TEST_SOURCE_DIR;
  if (!std::filesystem::exists(root + "/tests/models/llm/golden/hf")) root = ".";
  const std::string folder = root + "/tests/models/llm/golden/hf/" + GetParam();
  ThreadPool pool(2);
  const ModelConfig config = read_model_config(folder + "/config.json");
  const auto expected = nlohmann::json::parse(test::read_text(folder + "/expected.json"));
  const auto steps = expected["logit_steps"].get<std::vector<std::uint32_t>>();
  double own = 0;
  std::map<std::string, double> theirs;
  for (const auto& text : expected["cases"]) {
    const auto prompt = text["prompt"].get<std::vector<std::int32_t>>();
    const auto tokens = text["tokens"].get<std::vector<std::int32_t>>();
    const auto want = text["logits"].get<std::vector<std::vector<double>>>();
    EngineOptions options;
    options.capacity = static_cast<std::uint32_t>(prompt.size() + tokens.size());
    Engine engine(config, DeviceWeights::load(folder, config, pool), options);
    engine.prefill(0, prompt);
    std::uint32_t agreed = 0;
    for (std::size_t step = 0, at = 0; step < tokens.size(); ++step) {
      const auto logits = engine.logits(0);
      if (at < steps.size() && steps[at] == step) {
        double error = 0, size = 0;
        for (std::size_t i = 0; i < logits.size(); ++i) {
          const double difference = static_cast<double>(logits[i]) - want[at][i];
          error += difference * difference;
          size += want[at][i] * want[at][i];
        }
        own += error / size;
        for (const auto& [name, distances] : text["bf16"].items())
          theirs[name] += distances[at].get<double>() * distances[at].get<double>();
        EXPECT_LT(error / size, 0.01) << prompt.size() << " tokens, step " << step;
        ++at;
      }
      agreed += engine.chosen()[0] == tokens[step] ? 1 : 0;
      engine.submit({&tokens[step], 1});
      engine.collect();
    }
    EXPECT_GE(agreed, tokens.size() - 3) << prompt.size() << " tokens";
  }
  double allowed = 0;
  for (const auto& [name, sum] : theirs) allowed = std::max(allowed, sum);
  EXPECT_LE(own, allowed);  // sums of squares over 4 prompts and 4 steps
}

INSTANTIATE_TEST_SUITE_P(Models, HuggingFaceOnDevice,
                         testing::Values("llama", "llama_yarn", "mistral", "qwen2", "qwen3"),
                         [](const auto& test) { return test.param; });

class TinyEngine : public testing::Test {
 protected:
  TinyEngine() {
    test::write_model(folder_.path(), shape_, test::random_weights(shape_, 9));
    config_ = read_model_config(folder_.path() + "/config.json");
  }
  DeviceWeights weights() { return DeviceWeights::load(folder_.path(), config_, pool_); }

  // Logits after a prefill of each prompt and two steps of fixed tokens.
  std::vector<std::vector<float>> run(const std::vector<std::vector<std::int32_t>>& prompts) {
    EngineOptions options;
    options.batch = static_cast<std::uint32_t>(prompts.size());
    options.capacity = 700;
    Engine engine(config_, weights(), options);
    for (std::uint32_t i = 0; i < prompts.size(); ++i) engine.prefill(i, prompts[i]);
    for (const std::int32_t token : {3, 4, 5}) {
      engine.submit(std::vector<std::int32_t>(prompts.size(), token));
      engine.collect();
    }
    std::vector<std::vector<float>> logits;
    for (std::uint32_t i = 0; i < prompts.size(); ++i) logits.push_back(engine.logits(i));
    return logits;
  }

  TinyShape shape_ = device_shape("llama");
  TempFolder folder_;
  ThreadPool pool_{2};
  ModelConfig config_;
};

TEST_F(TinyEngine, RaggedBatchesGiveWhatSingleSequencesGive) {
  for (const std::size_t batch : {std::size_t{3}, std::size_t{12}, std::size_t{19}}) {
    std::vector<std::vector<std::int32_t>> prompts;
    for (std::size_t i = 0; i < batch; ++i)
      prompts.push_back(
          some_tokens(1 + 61 * i % 640, config_.vocab_size, static_cast<std::uint32_t>(i)));
    const auto together = run(prompts);
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}, batch - 1})
      EXPECT_LT(worst_of_largest(together[i], run({prompts[i]})[0]), 0.02) << batch << " " << i;
  }
}

TEST_F(TinyEngine, ChunksOfAPromptChangeNothing) {
  EngineOptions options;
  options.capacity = 700;
  Engine once(config_, weights(), options), parts(config_, weights(), options);
  const auto prompt = some_tokens(600, config_.vocab_size);
  once.prefill(0, prompt);
  const std::span<const std::int32_t> all(prompt);
  parts.prefill(0, all.first(250));
  parts.prefill(0, all.subspan(250, 1));
  parts.prefill(0, all.subspan(251));
  EXPECT_LT(worst_of_largest(parts.logits(0), once.logits(0)), 0.02);
}

TEST_F(TinyEngine, TheGraphDecodesWhatTheFirstStepsDecode) {
  EngineOptions options;
  options.capacity = 400;
  options.method = Method::kProp;
  options.budgets = {32};
  options.record = options.stats = true;
  const auto prompt = some_tokens(200, config_.vocab_size);
  // The tokens of a run through the graph, then each step again as an early one.
  Engine engine(config_, weights(), options);
  engine.prefill(0, prompt);
  std::vector<std::int32_t> tokens = engine.chosen();
  for (int step = 0; step < 8; ++step) {
    engine.submit();
    const auto record = engine.collect();
    EXPECT_EQ(*record.part<std::int32_t>(record.layout->fed), tokens.back());
    EXPECT_EQ(*record.part<std::uint32_t>(record.layout->context), 201U + step);
    tokens.push_back(*record.part<std::int32_t>(record.layout->chosen));
  }
  for (const std::size_t cut : {std::size_t{3}, std::size_t{6}}) {
    Engine again(config_, weights(), options);
    std::vector<std::int32_t> longer = prompt;
    longer.insert(longer.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(cut));
    again.prefill(0, longer);  // exact, so only the length is compared with the sampled run
    again.submit({&tokens[cut], 1});
    const auto record = again.collect();
    EXPECT_EQ(*record.part<std::uint32_t>(record.layout->context), 201U + cut);
  }
}

TEST_F(TinyEngine, SaysHowManyBytesAreMissingBeforeItAllocates) {
  ModelConfig huge = config_;
  huge.n_layers = 4000;
  huge.hidden_size = 16384;
  huge.intermediate_size = 65536;
  try {
    DeviceWeights::random(huge, 1);
    FAIL() << "a model of terabytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kResource);
    EXPECT_NE(std::string(error.what()).find("bytes are missing"), std::string::npos)
        << error.what();
  }
  EngineOptions options;
  options.batch = 256;
  options.capacity = 1U << 20;
  try {
    const Engine engine(config_, weights(), options);
    FAIL() << "a cache of half a terabyte";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("bytes are missing"), std::string::npos)
        << error.what();
  }
}

class DeviceCapture : public testing::TestWithParam<Method> {};

CaptureOptions capture_options(const TempFolder& folder, Method method) {
  CaptureOptions options;
  options.model = folder.path();
  options.tokens_files = {folder / "ids.txt"};
  options.method = method;
  if (method != Method::kDense) options.budget = "48";
  options.score_layers = "all";
  options.max_new = 12;
  options.ignore_eos = true;
  options.seed = 77;
  options.backend = Backend::kCuda;
  options.threads = 2;
  options.output = folder / "out.stoat";
  return options;
}

void write_capture_model(const TempFolder& folder, std::size_t prompt) {
  const TinyShape shape = device_shape("llama");
  test::write_model(folder.path(), shape, test::random_weights(shape, 5));
  std::string text;
  for (const std::int32_t token : some_tokens(prompt, shape.vocab))
    text += std::to_string(token) + "\n";
  test::write_text(folder / "ids.txt", text);
}

TEST_P(DeviceCapture, RecordsTheCountsOfTheRecordedCodes) {
  const TempFolder folder;
  write_capture_model(folder, 900);
  const CaptureOptions options = capture_options(folder, GetParam());
  const CaptureResult result = capture(options, {-1, nullptr});
  EXPECT_EQ(result.backend, "cuda");
  EXPECT_EQ(result.sequences[0].generated.size(), 12U);
  const TraceReader reader(result.path);
  const TraceRecords records = reader.read_all();
  const TraceHeader& header = reader.header();
  ASSERT_EQ(records.size(), 12U * header.n_layers * header.n_q_heads);
  ASSERT_EQ(records.score_record.size(), records.size());
  std::uint64_t drawn = 0;
  for (std::size_t r = 0; r < records.size(); ++r) {
    EXPECT_EQ(records.context[r], 901U + records.step[r]);
    ScoreCodes codes;
    codes.code.assign(
        records.score_code.begin() + static_cast<std::ptrdiff_t>(records.score_indptr[r]),
        records.score_code.begin() + static_cast<std::ptrdiff_t>(records.score_indptr[r + 1]));
    codes.exponent.assign(
        records.score_exponent.begin() + static_cast<std::ptrdiff_t>(records.score_tile_indptr[r]),
        records.score_exponent.begin() +
            static_cast<std::ptrdiff_t>(records.score_tile_indptr[r + 1]));
    ASSERT_EQ(codes.code.size(), records.context[r]);
    EXPECT_GT(records.stats.participation[r], 0.99F);
    EXPECT_LE(records.stats.mass_top1[r], 1.0001F);
    EXPECT_GE(records.stats.lse[r], records.stats.max[r] - 1e-3F);
    if (GetParam() == Method::kDense) continue;
    const DrawSite site{77, 0, records.context[r] - 1, records.layer[r], records.q_head[r]};
    const Selection want = select_rows(GetParam(), codes, 48, site);
    Selection found;
    for (auto i = records.value_indptr[r]; i < records.value_indptr[r + 1]; ++i)
      found.rows.push_back({records.row[i], records.count[i]});
    EXPECT_EQ(found.rows, want.rows) << "record " << r;
    if (GetParam() == Method::kFlash) {
      for (auto i = records.tile_indptr[r]; i < records.tile_indptr[r + 1]; ++i)
        found.tiles.push_back({records.tile[i], records.tile_mass[i]});
      EXPECT_EQ(found.tiles, want.tiles) << "record " << r;
    }
    drawn += found.rows.size();
  }
  EXPECT_EQ(drawn > 0, GetParam() != Method::kDense);
}

TEST_P(DeviceCapture, TwoRunsGiveTheSameTrace) {
  const TempFolder folder;
  write_capture_model(folder, 300);
  CaptureOptions options = capture_options(folder, GetParam());
  options.choice.temperature = 0.8F;
  options.choice.top_p = 0.95F;
  const std::string first = capture(options, {-1, nullptr}).content_hash;
  options.output = folder / "again.stoat";
  options.threads = 1;
  EXPECT_EQ(capture(options, {-1, nullptr}).content_hash, first);
}

INSTANTIATE_TEST_SUITE_P(Methods, DeviceCapture,
                         testing::Values(Method::kDense, Method::kIid, Method::kStratified,
                                         Method::kSystematic, Method::kProp, Method::kFlash,
                                         Method::kTopK),
                         [](const auto& test) { return std::string(method_name(test.param)); });

TEST(DeviceCapturePrograms, RefuseWhatTheDeviceCannotDo) {
  const TempFolder folder;
  write_capture_model(folder, 10);
  const CaptureOptions plain = capture_options(folder, Method::kProp);
  CaptureOptions accumulators = plain, dense = plain, pages = plain;
  accumulators.accumulators = "all";
  dense.method = Method::kDense;
  dense.budget.clear();
  dense.score_kind = pages.score_kind = ScoreKind::kTernary;
  pages.page_size = 16;
  for (const CaptureOptions& options : {accumulators, dense, pages}) {
    try {
      capture(options, {-1, nullptr});
      FAIL() << "what the device cannot do";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("--backend cpu"), std::string::npos) << error.what();
    }
  }
  dense.backend = Backend::kAuto;
  EXPECT_EQ(capture(dense, {-1, nullptr}).backend, "cpu");
}

TEST(DeviceCapturePrograms, SayHowManyBytesAreMissingBeforeTheWeightsAreRead) {
  const TempFolder folder;
  TinyShape shape = device_shape("llama");
  shape.max_positions = 1U << 20;
  test::write_model(folder.path(), shape, test::random_weights(shape, 5));
  test::write_text(folder / "ids.txt", "1 2 3\n");
  CaptureOptions options = capture_options(folder, Method::kDense);
  options.score_layers.clear();
  options.batch = 256;
  options.max_new = 1000000;  // a cache of hundreds of gigabytes
  // Were the weights read first, their damage would be reported.
  std::filesystem::resize_file(folder / "model.safetensors", 100);
  try {
    capture(options, {-1, nullptr});
    FAIL() << "a cache of hundreds of gigabytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kResource) << error.what();
    EXPECT_NE(std::string(error.what()).find("bytes are missing"), std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(std::filesystem::exists(options.output + ".spool"));
}

// A real shape on a real device: the numbers of the message, and nothing was allocated for it.
TEST(DeviceCapturePrograms, AModelThatDoesNotFitIsRefusedBeforeAnythingIsAllocated) {
  const ModelConfig config = config_of_shape(shape_from("llama-3.1-70b"));
  EngineOptions options;
  options.batch = 16;
  options.capacity = 131072;
  const std::size_t needed = DeviceWeights::bytes(config) + Engine::bytes(config, options);
  const std::size_t free = gpu::device_memory().free;
  ASSERT_GT(needed, free);
  std::string message;
  try {
    Engine::ensure_fits(config, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kResource);
    message = error.what();
  }
  EXPECT_NE(message.find("needs " + std::to_string(needed) + " bytes"), std::string::npos)
      << message;
  EXPECT_NE(message.find(std::to_string(needed - free) + " bytes are missing"), std::string::npos)
      << message;
  EXPECT_EQ(gpu::device_memory().free, free);
  options.batch = 1;
  options.capacity = 64;
  EXPECT_NO_THROW(Engine::ensure_fits(config_of_shape(shape_from("llama-3.1-8b")), options));
}

}  // namespace
}  // namespace stoat
