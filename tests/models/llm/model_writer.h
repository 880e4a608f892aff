// Writes tiny random models as Hugging Face folders: config.json and safetensors. For tests only.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace stoat::test {

struct TestTensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;  // exactly representable in the type it is written as
};

// One safetensors file's bytes: 8 bytes of header length, header, data.
std::string safetensors_bytes(const std::map<std::string, TestTensor>& tensors,
                              const std::string& dtype);
// Header length, header and data put together as they are.
std::string raw_safetensors(const std::string& header, const std::string& data);

struct TinyShape {
  std::string model_type = "llama";
  std::uint32_t layers = 3, hidden = 48, heads = 4, kv_heads = 2, head_dim = 12, intermediate = 72,
                vocab = 101;
  bool tied = false;
  bool attention_bias = false;
  std::string rope = R"("rope_theta": 10000.0)";  // members of config.json
  std::string dtype = "BF16";
  std::uint32_t max_positions = 4096;
};

std::string config_json(const TinyShape& shape);
// Random weights, large enough for attention to be far from uniform. The same seed gives the same
// weights.
std::map<std::string, TestTensor> random_weights(const TinyShape& shape, std::uint32_t seed);
// Writes config.json and the weights, in `shards` files.
void write_model(const std::string& folder, const TinyShape& shape,
                 const std::map<std::string, TestTensor>& weights, unsigned shards = 1);

void write_text(const std::string& path, const std::string& content);
std::string read_text(const std::string& path);

// An empty folder of its own, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace stoat::test
