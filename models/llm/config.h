// config.json of a Hugging Face model folder: the shapes a decode needs. Architectures: llama,
// mistral, qwen2, qwen3.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace stoat {

enum class Architecture : std::uint8_t { kLlama, kMistral, kQwen2, kQwen3 };

// rope_scaling / rope_parameters; only what is supported, everything else is refused by name.
struct RopeConfig {
  enum class Kind : std::uint8_t { kDefault, kLinear, kLlama3, kYarn } kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double original_max_position = 0.0;
  double beta_fast = 32.0, beta_slow = 1.0;  // yarn
  bool truncate = true;                      // yarn: bounds of the ramp to whole pairs
  double attention_factor = 1.0;             // yarn: multiplies cos and sin
};

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  std::uint32_t n_layers = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t n_q_heads = 0;
  std::uint32_t n_kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t intermediate_size = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-5;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // on q, k, v (qwen2: always)
  bool qk_norm = false;         // qwen3
  RopeConfig rope;
  std::optional<std::int32_t> eos_token;
  std::string tokenizer;  // "bytes" when the config says stoat_tokenizer: bytes
  std::string hash;       // XXH3-128 of the file

  std::uint32_t group() const { return n_q_heads / n_kv_heads; }
};

// Reads both the old (rope_theta, rope_scaling, torch_dtype) and the new (rope_parameters, dtype)
// fields. Throws Error with the file and the key for anything missing, contradictory or not
// supported.
ModelConfig read_model_config(const std::string& path);

}  // namespace stoat
