// config.json: old and new spellings, defaults as Hugging Face's classes have them, and refusals by
// name.
#include "models/llm/config.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"
#include "models/llm/json_read.h"

namespace stoat {
namespace {

using nlohmann::json;
constexpr std::uint64_t kConfigLimit = 1 << 20;
constexpr std::uint32_t kMostLayers = 65535, kMostWidth = 1 << 24, kMostTokens = 1 << 30;

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), text_(read_file(path, kConfigLimit)) {
    root_ = parse_json(text_, path);
    if (!root_.is_object())
      throw usage_error({path}, "not a JSON object", "the config.json of a model");
  }

  ModelConfig read() {
    ModelConfig c;
    c.architecture = architecture();
    refuse_unsupported(c.architecture);
    c.n_layers = count("num_hidden_layers", kMostLayers);
    c.hidden_size = count("hidden_size", kMostWidth);
    c.n_q_heads = count("num_attention_heads", kMostLayers);
    c.intermediate_size = count("intermediate_size", kMostWidth);
    c.vocab_size = count("vocab_size", kMostWidth);
    c.max_position_embeddings = count("max_position_embeddings", kMostTokens);
    c.rms_norm_eps = json_number(root_, "rms_norm_eps", path_);
    if (!(c.rms_norm_eps > 0 && c.rms_norm_eps < 1))
      fail("rms_norm_eps", "a number above 0 and below 1");
    heads(c);
    c.tie_word_embeddings = json_bool(root_, "tie_word_embeddings", false, path_);
    c.qk_norm = c.architecture == Architecture::kQwen3;
    c.attention_bias =
        c.architecture == Architecture::kQwen2 || json_bool(root_, "attention_bias", false, path_);
    refuse_sliding(c);
    c.rope = rope();
    c.eos_token = eos(c.vocab_size);
    if (json_has(root_, "stoat_tokenizer")) {
      c.tokenizer = json_text(root_, "stoat_tokenizer", path_);
      if (c.tokenizer != "bytes")
        fail("stoat_tokenizer", "\"bytes\" (or leave it out and ship a tokenizer.json)");
      if (c.vocab_size < 256) fail("vocab_size", "at least 256 for a byte tokenizer");
    }
    c.hash = hash_text(text_);
    return c;
  }

 private:
  [[noreturn]] void fail(const std::string& key, const std::string& expected,
                         const std::string& remedy = {}) const {
    std::string value = root_.contains(key)
                            ? root_[key].dump(-1, ' ', false, json::error_handler_t::replace)
                            : "missing";
    if (value.size() > 60) value = value.substr(0, 60) + "...";
    throw usage_error({path_}, "key '" + key + "' is " + value, expected, remedy);
  }

  std::uint32_t count(const std::string& key, std::uint32_t most) const {
    const auto value = json_unsigned(root_, key, most, path_);
    if (value == 0) fail(key, "a whole number from 1 to " + std::to_string(most));
    return static_cast<std::uint32_t>(value);
  }

  Architecture architecture() const {
    struct Row {
      const char* type;
      const char* name;
      Architecture architecture;
    };
    static constexpr Row kRows[] = {{"llama", "LlamaForCausalLM", Architecture::kLlama},
                                    {"mistral", "MistralForCausalLM", Architecture::kMistral},
                                    {"qwen2", "Qwen2ForCausalLM", Architecture::kQwen2},
                                    {"qwen3", "Qwen3ForCausalLM", Architecture::kQwen3}};
    const std::string type = json_text(root_, "model_type", path_);
    for (const Row& row : kRows) {
      if (type != row.type) continue;
      if (json_has(root_, "architectures")) {
        const json& list = root_["architectures"];
        if (!list.is_array() || list.size() != 1 || list[0] != row.name) {
          fail("architectures", std::string("[\"") + row.name + "\"] for model_type " + type);
        }
      }
      return row.architecture;
    }
    fail("model_type", "llama, mistral, qwen2 or qwen3", "other architectures are not supported");
  }

  void refuse_unsupported(Architecture architecture) const {
    if (json_has(root_, "quantization_config")) {
      throw usage_error({path_}, "key 'quantization_config': quantized weights are not supported",
                        "bf16, fp16 or fp32 weights", "use the unquantized model");
    }
    for (const char* key :
         {"num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"}) {
      if (json_has(root_, key)) {
        throw usage_error({path_},
                          std::string("key '") + key + "': mixture of experts is not supported",
                          "a dense model");
      }
    }
    if (json_has(root_, "hidden_act") && root_["hidden_act"] != "silu")
      fail("hidden_act", "\"silu\"");
    if (json_bool(root_, "mlp_bias", false, path_))
      fail("mlp_bias", "false: biases in the MLP are not supported");
    if (json_has(root_, "partial_rotary_factor") && root_["partial_rotary_factor"] != 1.0) {
      fail("partial_rotary_factor", "1: partial rotary embedding is not supported");
    }
    if (architecture == Architecture::kQwen2 && json_has(root_, "attention_bias") &&
        root_["attention_bias"] != true) {
      fail("attention_bias", "true or absent: qwen2 always has it on q, k and v");
    }
    const char* dtype_key = root_.contains("dtype") ? "dtype" : "torch_dtype";
    if (json_has(root_, dtype_key)) {
      const json& dtype = root_[dtype_key];
      if (dtype != "bfloat16" && dtype != "float16" && dtype != "float32" && dtype != "auto") {
        fail(dtype_key, "bfloat16, float16 or float32");
      }
    }
  }

  void heads(ModelConfig& c) const {
    // Llama's class takes a missing num_key_value_heads as "as many as query heads"; the Qwen
    // classes default to 32, Mistral's to 8.
    const bool llama = c.architecture == Architecture::kLlama;
    if (json_has(root_, "num_key_value_heads")) {
      c.n_kv_heads = count("num_key_value_heads", kMostLayers);
    } else if (llama || root_.contains("num_key_value_heads")) {
      c.n_kv_heads = c.n_q_heads;
    } else {
      fail("num_key_value_heads", "a whole number from 1 to num_attention_heads");
    }
    if (c.n_q_heads % c.n_kv_heads != 0) {
      fail("num_key_value_heads",
           "a divisor of num_attention_heads (" + std::to_string(c.n_q_heads) + ")");
    }
    if (json_has(root_, "head_dim")) {
      c.head_dim = count("head_dim", 1024);
    } else if (c.architecture == Architecture::kQwen3 && !root_.contains("head_dim")) {
      c.head_dim = 128;  // Qwen3Config's default
    } else {
      if (c.hidden_size % c.n_q_heads != 0) {
        fail("hidden_size", "a multiple of num_attention_heads (" + std::to_string(c.n_q_heads) +
                                ") without head_dim");
      }
      c.head_dim = c.hidden_size / c.n_q_heads;
    }
    if (c.head_dim % 2 != 0 || c.head_dim > 1024) {
      throw usage_error({path_}, "head_dim is " + std::to_string(c.head_dim),
                        "an even number up to 1024 (rotary embedding turns pairs)");
    }
  }

  void refuse_sliding(const ModelConfig& c) const {
    if (json_has(root_, "layer_types")) {
      const json& list = root_["layer_types"];
      if (!list.is_array() || list.size() != c.n_layers) fail("layer_types", "one text a layer");
      for (const json& type : list) {
        if (type != "full_attention")
          fail("layer_types", "full_attention in every layer: others are not supported");
      }
      return;
    }
    const bool qwen =
        c.architecture == Architecture::kQwen2 || c.architecture == Architecture::kQwen3;
    if (c.architecture == Architecture::kMistral && !root_.contains("sliding_window"))
      fail("sliding_window", "null: without the key Mistral's window is 4096");
    const bool wanted = json_bool(root_, "use_sliding_window", !qwen, path_);
    if (!wanted || !json_has(root_, "sliding_window")) return;
    if (json_has(root_, "max_window_layers") &&
        json_unsigned(root_, "max_window_layers", kMostLayers, path_) >= c.n_layers) {
      return;  // no layer slides
    }
    fail("sliding_window", "null: sliding-window layers are not supported");
  }

  // v4: rope_theta beside rope_scaling {type | rope_type, ...}; v5: all of it in rope_parameters.
  RopeConfig rope() const {
    RopeConfig rope;
    const bool fresh = json_has(root_, "rope_parameters");
    const std::string block = fresh ? "rope_parameters" : "rope_scaling";
    if (fresh && json_has(root_, "rope_scaling") &&
        root_["rope_scaling"] != root_["rope_parameters"]) {
      fail("rope_scaling", "nothing beside rope_parameters");
    }
    const json empty = json::object();
    const json& fields = json_has(root_, block) ? root_[block] : empty;
    if (!fields.is_object()) fail(block, "an object");
    if (json_has(root_, "rope_theta")) rope.theta = json_number(root_, "rope_theta", path_);
    if (json_has(fields, "rope_theta")) {
      const double theta = json_number(fields, "rope_theta", path_, block + ".");
      if (json_has(root_, "rope_theta") && theta != rope.theta)
        fail("rope_theta", "the same value as in " + block);
      rope.theta = theta;
    }
    if (!(rope.theta > 0)) fail("rope_theta", "a number above 0");
    std::string type = "default";
    for (const char* key : {"type", "rope_type"}) {
      if (json_has(fields, key)) type = json_text(fields, key, path_, block + ".");
    }
    if (json_has(fields, "partial_rotary_factor") && fields["partial_rotary_factor"] != 1.0) {
      fail(block, "partial_rotary_factor 1: partial rotary embedding is not supported");
    }
    if (type == "default") return rope;
    if (type != "linear" && type != "llama3" && type != "yarn") {
      throw usage_error({path_}, "key '" + block + ".rope_type' is \"" + type + "\"",
                        "default, linear, llama3 or yarn",
                        "other rotary scalings are not supported");
    }
    const auto positive = [&](const char* key) {
      const double value = json_number(fields, key, path_, block + ".");
      if (!(value > 0)) fail(block, std::string(key) + " above 0");
      return value;
    };
    rope.factor = positive("factor");
    rope.kind = RopeConfig::Kind::kLinear;
    if (type == "linear") return rope;
    if (type == "yarn") return yarn(rope, fields, block);
    rope.kind = RopeConfig::Kind::kLlama3;
    rope.low_freq_factor = positive("low_freq_factor");
    rope.high_freq_factor = positive("high_freq_factor");
    rope.original_max_position = positive("original_max_position_embeddings");
    if (!(rope.low_freq_factor < rope.high_freq_factor))
      fail(block, "low_freq_factor below high_freq_factor");
    return rope;
  }

  // The attention factor that yarn multiplies cos and sin with: given, from mscale, or from factor.
  RopeConfig yarn(RopeConfig rope, const json& fields, const std::string& block) const {
    const auto number = [&](const char* key, double otherwise) {
      if (!json_has(fields, key)) return otherwise;
      const double value = json_number(fields, key, path_, block + ".");
      if (!(value >= 0)) fail(block, std::string(key) + " of at least 0");
      return value;
    };
    rope.kind = RopeConfig::Kind::kYarn;
    rope.original_max_position = number("original_max_position_embeddings",
                                        json_number(root_, "max_position_embeddings", path_));
    rope.beta_fast = number("beta_fast", 32);
    rope.beta_slow = number("beta_slow", 1);
    rope.truncate = json_bool(fields, "truncate", true, path_);
    if (!(rope.beta_slow > 0 && rope.beta_fast > rope.beta_slow && rope.original_max_position > 0))
      fail(block, "beta_fast above beta_slow, both and original_max_position_embeddings above 0");
    const auto scale = [&](double mscale) {
      return rope.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
    };
    const double mscale = number("mscale", 0), all_dim = number("mscale_all_dim", 0);
    rope.attention_factor = number(
        "attention_factor", mscale > 0 && all_dim > 0 ? scale(mscale) / scale(all_dim) : scale(1));
    return rope;
  }

  std::optional<std::int32_t> eos(std::uint32_t vocab) const {
    if (!json_has(root_, "eos_token_id")) return std::nullopt;
    const json& value = root_["eos_token_id"];
    const json& first = value.is_array() && !value.empty() ? value[0] : value;
    if (!first.is_number_unsigned() || first.get<std::uint64_t>() >= vocab) {
      fail("eos_token_id",
           "a token below vocab_size (" + std::to_string(vocab) + ") or a list of them");
    }
    return first.get<std::int32_t>();
  }

  std::string path_;
  std::string text_;
  json root_;
};

}  // namespace

ModelConfig read_model_config(const std::string& path) { return Reader(path).read(); }

}  // namespace stoat
