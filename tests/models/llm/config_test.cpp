// config.json in the spellings of transformers 4 and 5, and every refusal by name.
#include "models/llm/config.h"

#include <gtest/gtest.h>

#include <cmath>

#include <nlohmann/json.hpp>

#include "models/error.h"
#include "tests/models/llm/model_writer.h"

namespace stoat::test {
namespace {

using nlohmann::json;

ModelConfig read(const json& config) {
  TempFolder folder;
  write_text(folder / "config.json", config.dump());
  return read_model_config(folder / "config.json");
}

json llama() {
  return json::parse(
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","num_hidden_layers":2,"hidden_size":64,
    "num_attention_heads":8,"num_key_value_heads":2,"intermediate_size":128,"vocab_size":300,"max_position_embeddings":2048,
    "rms_norm_eps":1e-6,"hidden_act":"silu","tie_word_embeddings":true,"rope_theta":500000.0,"torch_dtype":"bfloat16",
    "bos_token_id":1,"eos_token_id":2,"transformers_version":"4.40.0","use_cache":true})");
}

TEST(Config, ReadsTheFieldsOfTransformers4) {
  const ModelConfig c = read(llama());
  EXPECT_EQ(c.architecture, Architecture::kLlama);
  EXPECT_EQ(c.n_layers, 2U);
  EXPECT_EQ(c.hidden_size, 64U);
  EXPECT_EQ(c.n_q_heads, 8U);
  EXPECT_EQ(c.n_kv_heads, 2U);
  EXPECT_EQ(c.group(), 4U);
  EXPECT_EQ(c.head_dim, 8U);
  EXPECT_EQ(c.intermediate_size, 128U);
  EXPECT_EQ(c.vocab_size, 300U);
  EXPECT_EQ(c.max_position_embeddings, 2048U);
  EXPECT_EQ(c.rms_norm_eps, 1e-6);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_FALSE(c.attention_bias);
  EXPECT_FALSE(c.qk_norm);
  EXPECT_EQ(c.rope.kind, RopeConfig::Kind::kDefault);
  EXPECT_EQ(c.rope.theta, 500000.0);
  EXPECT_EQ(c.eos_token, 2);
  EXPECT_EQ(c.tokenizer, "");
  EXPECT_EQ(c.hash.size(), 32U);
}

TEST(Config, ReadsTheFieldsOfTransformers5) {
  json config = llama();
  config.erase("rope_theta");
  config.erase("torch_dtype");
  config["dtype"] = "bfloat16";
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  EXPECT_EQ(read(config).rope.theta, 1e6);
  config["rope_parameters"] = {
      {"rope_type", "llama3"},   {"rope_theta", 5e5},
      {"factor", 8.0},           {"low_freq_factor", 1.0},
      {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}};
  const RopeConfig rope = read(config).rope;
  EXPECT_EQ(rope.kind, RopeConfig::Kind::kLlama3);
  EXPECT_EQ(rope.factor, 8.0);
  EXPECT_EQ(rope.low_freq_factor, 1.0);
  EXPECT_EQ(rope.high_freq_factor, 4.0);
  EXPECT_EQ(rope.original_max_position, 8192.0);
}

TEST(Config, ReadsOldRopeScalingUnderBothNames) {
  for (const char* name : {"type", "rope_type"}) {
    json config = llama();
    config["rope_scaling"] = {{name, "linear"}, {"factor", 2.0}};
    EXPECT_EQ(read(config).rope.kind, RopeConfig::Kind::kLinear);
    EXPECT_EQ(read(config).rope.factor, 2.0);
    EXPECT_EQ(read(config).rope.theta, 500000.0);
  }
  json config = llama();
  config["rope_scaling"] = nullptr;
  EXPECT_EQ(read(config).rope.kind, RopeConfig::Kind::kDefault);
  config.erase("rope_theta");
  EXPECT_EQ(read(config).rope.theta, 10000.0);  // Llama-2's files leave it out
}

TEST(Config, ReadsYarnAndWorksOutItsAttentionFactor) {
  json config = llama();
  config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
  const RopeConfig rope = read(config).rope;
  EXPECT_EQ(rope.kind, RopeConfig::Kind::kYarn);
  EXPECT_EQ(rope.original_max_position, 32768.0);
  EXPECT_EQ(rope.beta_fast, 32.0);
  EXPECT_EQ(rope.beta_slow, 1.0);
  EXPECT_TRUE(rope.truncate);
  EXPECT_DOUBLE_EQ(rope.attention_factor, 1 + 0.1 * std::log(4.0));
  config["rope_scaling"]["attention_factor"] = 1.5;
  EXPECT_EQ(read(config).rope.attention_factor, 1.5);
}

TEST(Config, ReadsDenseMistral) {
  json config = llama();
  config["model_type"] = "mistral";
  config["architectures"] = {"MistralForCausalLM"};
  config["sliding_window"] = nullptr;
  const ModelConfig c = read(config);
  EXPECT_EQ(c.architecture, Architecture::kMistral);
  EXPECT_FALSE(c.attention_bias);
}

TEST(Config, FillsInWhatIsNullOrLeftOut) {
  json config = llama();
  config["num_key_value_heads"] = nullptr;
  config["head_dim"] = nullptr;
  EXPECT_EQ(read(config).n_kv_heads, 8U);
  EXPECT_EQ(read(config).head_dim, 8U);
  config.erase("num_key_value_heads");
  config.erase("head_dim");
  EXPECT_EQ(read(config).n_kv_heads, 8U);
  config.erase("tie_word_embeddings");
  EXPECT_FALSE(read(config).tie_word_embeddings);
  config["head_dim"] = 32;  // need not be hidden_size / heads
  EXPECT_EQ(read(config).head_dim, 32U);
}

json qwen(const std::string& type, const std::string& name) {
  json config = llama();
  config["model_type"] = type;
  config["architectures"] = {name};
  config["use_sliding_window"] = false;
  config["sliding_window"] = 4096;
  config["max_window_layers"] = 1;
  return config;
}

TEST(Config, KnowsWhatQwen2AndQwen3DoDifferently) {
  const ModelConfig two = read(qwen("qwen2", "Qwen2ForCausalLM"));
  EXPECT_EQ(two.architecture, Architecture::kQwen2);
  EXPECT_TRUE(two.attention_bias);
  EXPECT_FALSE(two.qk_norm);
  EXPECT_EQ(two.head_dim, 8U);
  const ModelConfig three = read(qwen("qwen3", "Qwen3ForCausalLM"));
  EXPECT_TRUE(three.qk_norm);
  EXPECT_FALSE(three.attention_bias);
  EXPECT_EQ(three.head_dim, 128U);  // the class's default
  json layers = qwen("qwen3", "Qwen3ForCausalLM");
  layers["layer_types"] = {"full_attention", "full_attention"};
  EXPECT_EQ(read(layers).n_layers, 2U);
  json late = qwen("qwen2", "Qwen2ForCausalLM");
  late["use_sliding_window"] = true;
  late["max_window_layers"] = 2;  // all layers are full
  EXPECT_EQ(read(late).n_layers, 2U);
}

TEST(Config, TakesTheFirstOfSeveralEndTokens) {
  json config = llama();
  config["eos_token_id"] = {7, 9};
  EXPECT_EQ(read(config).eos_token, 7);
  config["eos_token_id"] = nullptr;
  EXPECT_FALSE(read(config).eos_token.has_value());
}

TEST(Config, KnowsTheByteTokenizer) {
  json config = llama();
  config["stoat_tokenizer"] = "bytes";
  EXPECT_EQ(read(config).tokenizer, "bytes");
}

struct Refusal {
  std::string name;
  json change;  // merged into the llama config; the text "<gone>" removes a key
  std::string says;
};

std::vector<Refusal> refusals() {
  const auto linear = [](json factor) {
    return json{{"rope_scaling", {{"type", "linear"}, {"factor", factor}}}};
  };
  std::vector<Refusal> list{
      {"UnknownArchitecture", {{"model_type", "gemma"}}, "'model_type' is \"gemma\""},
      {"MistralWithoutWindow",
       {{"model_type", "mistral"}, {"architectures", {"MistralForCausalLM"}}},
       "'sliding_window' is missing"},
      {"MistralWithWindow",
       {{"model_type", "mistral"},
        {"architectures", {"MistralForCausalLM"}},
        {"sliding_window", 4096}},
       "'sliding_window' is 4096"},
      {"MissingModelType", {{"model_type", "<gone>"}}, "'model_type' is missing"},
      {"OtherHead", {{"architectures", {"LlamaForSequenceClassification"}}}, "'architectures' is"},
      {"MixtureOfExperts", {{"num_local_experts", 8}}, "'num_local_experts': mixture of experts"},
      {"Quantized",
       {{"quantization_config", {{"bits", 4}}}},
       "quantized weights are not supported"},
      {"OtherActivation", {{"hidden_act", "gelu"}}, "'hidden_act' is \"gelu\""},
      {"MlpBias", {{"mlp_bias", true}}, "'mlp_bias' is true"},
      {"SlidingWindow", {{"sliding_window", 4096}}, "sliding-window layers are not supported"},
      {"SlidingLayerType",
       {{"layer_types", {"full_attention", "sliding_attention"}}},
       "'layer_types' is"},
      {"LayerTypesOfOtherLength", {{"layer_types", {"full_attention"}}}, "one text a layer"},
      {"YarnBetas",
       {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}, {"beta_fast", 0.5}}}},
       "beta_fast above beta_slow"},
      {"DynamicRope",
       {{"rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}}}},
       "rope_type' is \"dynamic\""},
      {"RopeScalingIsAText", {{"rope_scaling", "linear"}}, "'rope_scaling' is \"linear\""},
      {"RopeFactorMissing",
       {{"rope_scaling", {{"type", "linear"}}}},
       "'rope_scaling.factor' is missing"},
      {"RopeFactorZero", linear(0.0), "factor above 0"},
      {"RopeFactorText", linear("2"), "'rope_scaling.factor' is \"2\""},
      {"RopeThetaZero", {{"rope_theta", 0}}, "'rope_theta' is 0"},
      {"RopeThetaTwice",
       {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}}},
       "the same value as in"},
      {"PartialRotary",
       {{"partial_rotary_factor", 0.5}},
       "partial rotary embedding is not supported"},
      {"Float8", {{"torch_dtype", "float8_e4m3fn"}}, "'torch_dtype' is"},
      {"ZeroLayers", {{"num_hidden_layers", 0}}, "'num_hidden_layers' is 0"},
      {"NegativeWidth", {{"hidden_size", -64}}, "'hidden_size' is -64"},
      {"FractionalVocabulary", {{"vocab_size", 300.5}}, "'vocab_size' is 300.5"},
      {"TextualHeads", {{"num_attention_heads", "8"}}, "'num_attention_heads' is \"8\""},
      {"HugeLayers", {{"num_hidden_layers", 4294967297}}, "'num_hidden_layers' is 4294967297"},
      {"MissingMlp", {{"intermediate_size", "<gone>"}}, "'intermediate_size' is missing"},
      {"MissingEps", {{"rms_norm_eps", "<gone>"}}, "'rms_norm_eps' is missing"},
      {"ZeroEps", {{"rms_norm_eps", 0.0}}, "'rms_norm_eps' is 0.0"},
      {"HeadsNotAMultiple", {{"num_key_value_heads", 3}}, "a divisor of num_attention_heads (8)"},
      {"MoreKvHeads", {{"num_key_value_heads", 16}}, "a divisor of num_attention_heads (8)"},
      {"OddHeadDim", {{"head_dim", 7}}, "head_dim is 7"},
      {"WidthNotAMultiple", {{"hidden_size", 60}}, "a multiple of num_attention_heads"},
      {"EndTokenOutside", {{"eos_token_id", 300}}, "'eos_token_id' is 300"},
      {"UnknownTokenizer", {{"stoat_tokenizer", "words"}}, "'stoat_tokenizer' is \"words\""},
      {"TooFewForBytes",
       {{"stoat_tokenizer", "bytes"}, {"vocab_size", 255}},
       "'vocab_size' is 255"},
      {"TieIsAText", {{"tie_word_embeddings", "yes"}}, "'tie_word_embeddings' is \"yes\""},
  };
  return list;
}

class ConfigRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(ConfigRefusal, NamesFileAndKey) {
  json config = llama();
  for (const auto& [key, value] : GetParam().change.items()) {
    if (value == "<gone>") {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  try {
    read(config);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("config.json"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(GetParam().says), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Config, ConfigRefusal, testing::ValuesIn(refusals()),
                         [](const auto& test) { return test.param.name; });

TEST(Config, RefusesTextThatIsNoJsonWithLineAndColumn) {
  TempFolder folder;
  const std::string path = folder / "config.json";
  const auto refused = [&](const std::string& text) {
    write_text(path, text);
    try {
      read_model_config(path);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refused("{\n  \"a\": 1,\n  \"b\" 2\n}").find(path + ":3:7: not JSON here"), 0U);
  EXPECT_NE(refused("{\"a\": 1, \"a\": 2}").find("'a' appears twice"), std::string::npos);
  json misspelt = llama();
  misspelt["hiden_size"] = misspelt["hidden_size"];
  misspelt.erase("hidden_size");
  EXPECT_NE(refused(misspelt.dump()).find("the file has 'hiden_size'"), std::string::npos);
  EXPECT_NE(refused("[]").find("not a JSON object"), std::string::npos);
  EXPECT_NE(refused("").find("not JSON"), std::string::npos);
  EXPECT_NE(refused("{\"a\": 1e999}").find("not JSON"), std::string::npos);
  EXPECT_NE(refused(std::string(2 << 20, ' ')), "accepted");
  EXPECT_THROW(read_model_config(folder / "missing.json"), Error);
}

}  // namespace
}  // namespace stoat::test
