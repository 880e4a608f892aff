// Against Hugging Face transformers and tokenizers: what golden/ holds was written by
// make_goldens.py, never by stoat.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "models/llm/tokenizer.h"
#include "models/llm/transformer.h"
#include "tests/models/llm/model_writer.h"

namespace stoat::test {
namespace {

using nlohmann::json;

std::string golden(const std::string& name) {
  return std::string(STOAT_TEST_SOURCE_DIR) + "/tests/models/llm/golden/" + name;
}

class HuggingFaceModel : public testing::TestWithParam<std::string> {};

TEST_P(HuggingFaceModel, GivesTheSameLogitsAndGreedyTokens) {
  ThreadPool pool(2);
  Transformer model = Transformer::load(golden(GetParam()), pool);
  const json expected = json::parse(read_text(golden(GetParam() + "/expected.json")));
  const auto prompt = expected["prompt"].get<std::vector<std::int32_t>>();
  const auto want = expected["logits"].get<std::vector<std::vector<double>>>();
  ASSERT_EQ(prompt.size(), 150U);
  ASSERT_EQ(want.size(), 24U);
  KvCache cache = model.make_cache(200);
  const auto dense = dense_attention(model.config(), model.attention_scale(), pool);
  auto logits = model.prefill(prompt, cache);
  for (std::size_t step = 0; step < want.size(); ++step) {
    ASSERT_EQ(logits.size(), want[step].size());
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      largest = std::max(largest, std::abs(want[step][i]));
      worst = std::max(worst, std::abs(logits[i] - want[step][i]));
    }
    EXPECT_LT(worst, 1e-4 * largest) << "step " << step;
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    EXPECT_EQ(best, std::max_element(want[step].begin(), want[step].end()) - want[step].begin())
        << "step " << step;
    logits = model.decode(static_cast<std::int32_t>(best), cache, dense);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, HuggingFaceModel, testing::Values("llama", "qwen2", "qwen3"),
                         [](const auto& test) { return test.param; });

// golden/hf/ of scripts/hf_goldens.py: prompts of 1 to 2000 tokens, every architecture.
class HuggingFaceText : public testing::TestWithParam<std::string> {};

TEST_P(HuggingFaceText, GivesTheSameLogitsAndGreedyTokens) {
  ThreadPool pool(2);
  const std::string folder = golden("hf/" + GetParam());
  Transformer model = Transformer::load(folder, pool);
  const json expected = json::parse(read_text(folder + "/expected.json"));
  const auto steps = expected["logit_steps"].get<std::vector<std::uint32_t>>();
  ASSERT_EQ(expected["cases"].size(), 4U);
  const auto dense = dense_attention(model.config(), model.attention_scale(), pool);
  for (const json& text : expected["cases"]) {
    const auto prompt = text["prompt"].get<std::vector<std::int32_t>>();
    const auto tokens = text["tokens"].get<std::vector<std::int32_t>>();
    const auto want = text["logits"].get<std::vector<std::vector<double>>>();
    KvCache cache = model.make_cache(static_cast<std::uint32_t>(prompt.size() + tokens.size()));
    auto logits = model.prefill(prompt, cache);
    for (std::size_t step = 0, at = 0; step < tokens.size(); ++step) {
      if (at < steps.size() && steps[at] == step) {
        double largest = 0, worst = 0;
        for (std::size_t i = 0; i < logits.size(); ++i) {
          largest = std::max(largest, std::abs(want[at][i]));
          worst = std::max(worst, std::abs(static_cast<double>(logits[i]) - want[at][i]));
        }
        EXPECT_LT(worst, 1e-4 * largest) << prompt.size() << " tokens, step " << step;
        ++at;
      }
      EXPECT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), tokens[step])
          << prompt.size() << " tokens, step " << step;
      logits = model.decode(tokens[step], cache, dense);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, HuggingFaceText,
                         testing::Values("llama", "llama_yarn", "mistral", "qwen2", "qwen3"),
                         [](const auto& test) { return test.param; });

class HuggingFaceTokenizer : public testing::TestWithParam<std::string> {};

TEST_P(HuggingFaceTokenizer, GivesTheSameTokensAndTheTextBack) {
  const auto tokenizer = read_tokenizer_json(golden("tokenizer_" + GetParam() + ".json"));
  const json expected =
      json::parse(read_text(golden("tokenizer_" + GetParam() + ".expected.json")));
  ASSERT_GT(expected.size(), 30U);
  for (const json& row : expected) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<std::int32_t>>();
    EXPECT_EQ(tokenizer->encode(text), ids) << text;
    auto with_special = tokenizer->prompt_prefix();
    with_special.insert(with_special.end(), ids.begin(), ids.end());
    EXPECT_EQ(with_special, row["with_special"].get<std::vector<std::int32_t>>()) << text;
    const std::string back = tokenizer->decode(ids);
    // GPT-2's add_prefix_space puts a space before every plain part that has none.
    if (GetParam() != "gpt2" ||
        (!text.empty() && text[0] == ' ' && text.find("<|") == std::string::npos)) {
      EXPECT_EQ(back, text);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, HuggingFaceTokenizer,
                         testing::Values("llama3", "qwen2", "gpt2"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace stoat::test
