#include "tests/models/llm/model_writer.h"

#include <stdlib.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <stdexcept>

#include "models/bf16.h"

namespace stoat::test {
namespace {

using nlohmann::json;

// fp32 to fp16 for values that fp16 holds exactly (normal range).
std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits << 1) == 0) return static_cast<std::uint16_t>(bits >> 16);
  const int exponent = static_cast<int>((bits >> 23) & 255U) - 112;
  if (exponent <= 0 || exponent >= 31 || (bits & 0x1fffU) != 0)
    throw std::logic_error("not an fp16 number");
  return static_cast<std::uint16_t>(
      ((bits >> 16) & 0x8000U) | static_cast<unsigned>(exponent) << 10 | ((bits >> 13) & 0x3ffU));
}

std::string encode(const std::vector<float>& values, const std::string& dtype) {
  std::string data;
  for (const float value : values) {
    if (dtype == "F32") {
      data.append(reinterpret_cast<const char*>(&value), 4);
    } else {
      const std::uint16_t raw = dtype == "BF16" ? to_bf16(value).bits : to_half(value);
      data.append(reinterpret_cast<const char*>(&raw), 2);
    }
  }
  return data;
}

}  // namespace

std::string raw_safetensors(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + data;
}

std::string safetensors_bytes(const std::map<std::string, TestTensor>& tensors,
                              const std::string& dtype) {
  json header;
  header["__metadata__"]["format"] = "pt";
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t begin = data.size();
    data += encode(tensor.values, dtype);
    header[name] = {
        {"dtype", dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  return raw_safetensors(header.dump(), data);
}

std::string config_json(const TinyShape& s) {
  std::string name = s.model_type == "llama"   ? "Llama"
                     : s.model_type == "qwen2" ? "Qwen2"
                                               : "Qwen3";
  std::ostringstream out;
  out << "{\n  \"architectures\": [\"" << name << "ForCausalLM\"],\n  \"model_type\": \""
      << s.model_type << "\",\n  \"num_hidden_layers\": " << s.layers
      << ",\n  \"hidden_size\": " << s.hidden << ",\n  \"num_attention_heads\": " << s.heads
      << ",\n  \"num_key_value_heads\": " << s.kv_heads << ",\n  \"head_dim\": " << s.head_dim
      << ",\n  \"intermediate_size\": " << s.intermediate << ",\n  \"vocab_size\": " << s.vocab
      << ",\n  \"max_position_embeddings\": " << s.max_positions
      << ",\n  \"rms_norm_eps\": 1e-05,\n  \"hidden_act\": \"silu\",\n  \"tie_word_embeddings\": "
      << (s.tied ? "true" : "false");
  if (s.model_type != "qwen2")
    out << ",\n  \"attention_bias\": " << (s.attention_bias ? "true" : "false");
  out << ",\n  " << s.rope << ",\n  \"torch_dtype\": \"bfloat16\"\n}\n";
  return out.str();
}

std::map<std::string, TestTensor> random_weights(const TinyShape& s, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::map<std::string, TestTensor> weights;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape, double mean,
                       double deviation) {
    std::normal_distribution<double> normal(mean, deviation);
    std::uint64_t n = 1;
    for (const auto extent : shape) n *= extent;
    TestTensor tensor{std::move(shape), {}};
    for (std::uint64_t i = 0; i < n; ++i) {
      float value = to_float(to_bf16(static_cast<float>(normal(generator))));
      if (std::abs(value) < 1e-4F) value = 0.0F;  // exact in fp16 too
      tensor.values.push_back(value);
    }
    weights.emplace(name, std::move(tensor));
  };
  const std::uint64_t q = std::uint64_t{s.heads} * s.head_dim,
                      kv = std::uint64_t{s.kv_heads} * s.head_dim;
  const double wide = 1.0 / std::sqrt(s.hidden);
  add("model.embed_tokens.weight", {s.vocab, s.hidden}, 0, 1);
  add("model.norm.weight", {s.hidden}, 1, 0.2);
  if (!s.tied) add("lm_head.weight", {s.vocab, s.hidden}, 0, wide);
  for (std::uint32_t i = 0; i < s.layers; ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    add(at + "input_layernorm.weight", {s.hidden}, 1, 0.2);
    add(at + "post_attention_layernorm.weight", {s.hidden}, 1, 0.2);
    add(at + "self_attn.q_proj.weight", {q, s.hidden}, 0, 1.6 * wide);
    add(at + "self_attn.k_proj.weight", {kv, s.hidden}, 0, 1.6 * wide);
    add(at + "self_attn.v_proj.weight", {kv, s.hidden}, 0, wide);
    add(at + "self_attn.o_proj.weight", {s.hidden, q}, 0, 1.0 / std::sqrt(static_cast<double>(q)));
    add(at + "mlp.gate_proj.weight", {s.intermediate, s.hidden}, 0, wide);
    add(at + "mlp.up_proj.weight", {s.intermediate, s.hidden}, 0, wide);
    add(at + "mlp.down_proj.weight", {s.hidden, s.intermediate}, 0,
        1.0 / std::sqrt(s.intermediate));
    if (s.attention_bias || s.model_type == "qwen2") {
      add(at + "self_attn.q_proj.bias", {q}, 0, 0.5);
      add(at + "self_attn.k_proj.bias", {kv}, 0, 0.5);
      add(at + "self_attn.v_proj.bias", {kv}, 0, 0.5);
      if (s.model_type != "qwen2") add(at + "self_attn.o_proj.bias", {s.hidden}, 0, 0.5);
    }
    if (s.model_type == "qwen3") {
      add(at + "self_attn.q_norm.weight", {s.head_dim}, 1.5, 0.3);
      add(at + "self_attn.k_norm.weight", {s.head_dim}, 1.5, 0.3);
    }
  }
  return weights;
}

void write_model(const std::string& folder, const TinyShape& shape,
                 const std::map<std::string, TestTensor>& weights, unsigned shards) {
  write_text(folder + "/config.json", config_json(shape));
  if (shards == 1) {
    write_text(folder + "/model.safetensors", safetensors_bytes(weights, shape.dtype));
    return;
  }
  std::vector<std::map<std::string, TestTensor>> parts(shards);
  json index;
  unsigned next = 0;
  for (const auto& [name, tensor] : weights) {
    index["weight_map"][name] = "model-" + std::to_string(next) + ".safetensors";
    parts[next].emplace(name, tensor);
    next = (next + 1) % shards;
  }
  for (unsigned i = 0; i < shards; ++i) {
    write_text(folder + "/model-" + std::to_string(i) + ".safetensors",
               safetensors_bytes(parts[i], shape.dtype));
  }
  write_text(folder + "/model.safetensors.index.json", index.dump());
}

void write_text(const std::string& path, const std::string& content) {
  std::error_code ignored;
  std::filesystem::remove(
      path, ignored);  // a new file: ext4 flushes one that is truncated and written again
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TempFolder::TempFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "stoat-llm-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace stoat::test
