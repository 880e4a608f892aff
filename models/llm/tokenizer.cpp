// The byte tokenizer, and which tokenizer a model folder has.
#include "models/llm/tokenizer.h"

#include <filesystem>

#include "models/error.h"
#include "models/llm/config.h"

namespace stoat {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const std::int32_t id : ids) {
      if (id < 0 || id > 255) {
        throw usage_error({}, "token " + std::to_string(id), "a byte, 0 to 255",
                          "use the tokenizer of this model");
      }
      text += static_cast<char>(id);
    }
    return text;
  }

  std::string name() const override { return "bytes"; }
};

}  // namespace

std::unique_ptr<Tokenizer> byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

std::unique_ptr<Tokenizer> tokenizer_of(const std::string& model_folder) {
  const std::string config = model_folder + "/config.json", file = model_folder + "/tokenizer.json";
  if (read_model_config(config).tokenizer == "bytes") return byte_tokenizer();
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) {
    throw usage_error(
        {model_folder},
        "no tokenizer: there is no tokenizer.json, and config.json has no stoat_tokenizer",
        "tokenizer.json, or \"stoat_tokenizer\": \"bytes\" in config.json",
        "fetch tokenizer.json, or give token ids instead of text");
  }
  return read_tokenizer_json(file);
}

}  // namespace stoat
