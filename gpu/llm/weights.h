// The weights of a transformer on the device: bf16 matrices, fp32 norms and biases, in one block.
//
// Read from safetensors (fp32 and fp16 are rounded to bf16), or random numbers made on the device
// for a model of any shape, so that speed can be measured where no weights can be fetched.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpu/llm/device.h"
#include "models/llm/config.h"
#include "models/thread_pool.h"

namespace stoat::gpu {

struct LayerPointers {
  void* qkv = nullptr;      // bf16 [(q_heads + 2 kv_heads) * head_dim, hidden]
  void* o = nullptr;        // bf16 [hidden, q_heads * head_dim]
  void* gate_up = nullptr;  // bf16 [2 * intermediate, hidden]: 8 rows of gate, 8 of up, in turn
  void* down = nullptr;     // bf16 [hidden, intermediate]
  float* attention_norm = nullptr;  // [hidden]
  float* mlp_norm = nullptr;        // [hidden]
  float* q_norm = nullptr;          // [head_dim]; null: none
  float* k_norm = nullptr;
  float* qkv_bias = nullptr;  // null: none
  float* o_bias = nullptr;    // null: none
};

struct ModelPointers {
  void* embedding = nullptr;  // bf16 [vocab, hidden]
  void* head = nullptr;       // bf16 [vocab, hidden]; the embedding where it is tied
  float* final_norm = nullptr;
  std::vector<LayerPointers> layers;
};

class DeviceWeights {
 public:
  // Device memory that they take.
  static std::size_t bytes(const ModelConfig& config);
  // Throws Error naming file and tensor, as models/llm/weights.h does. The hash is the CPU's.
  static DeviceWeights load(const std::string& folder, const ModelConfig& config, ThreadPool& pool);
  static DeviceWeights random(const ModelConfig& config, std::uint64_t seed);

  const ModelPointers& pointers() const { return pointers_; }
  const std::string& hash() const { return hash_; }
  std::uint64_t bytes_per_token() const { return bytes_per_token_; }
  bool rounded() const { return rounded_; }  // some were not bf16 in the file

 private:
  explicit DeviceWeights(const ModelConfig& config);

  DeviceMemory memory_;
  ModelPointers pointers_;
  std::string hash_;
  std::uint64_t bytes_per_token_ = 0;
  bool rounded_ = false;
};

// Why the device cannot run a model of this shape; empty when it can.
std::string device_refusal(const ModelConfig& config);

}  // namespace stoat::gpu
