// Hugging Face's tokenizer.json, as far as it describes byte-level BPE (GPT-2, Llama-3, Qwen2,
// Qwen3).
//
// Read: model BPE, added tokens, Split and ByteLevel pre-tokenizers, NFC, TemplateProcessing. All
// else is refused by name.
#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/llm/bpe_tokenizer.h"
#include "models/llm/json_read.h"
#include "models/llm/tokenizer.h"

namespace stoat {
namespace {

using nlohmann::json;
constexpr std::uint64_t kTokenizerLimit = 256U << 20;
constexpr std::uint64_t kMostTokenIds = 1 << 24;

// GPT-2's spelling of bytes as printable characters, undone: code point -> byte, -1 elsewhere.
std::array<int, 512> byte_of_code_point() {
  std::array<int, 512> table{};
  table.fill(-1);
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    table[static_cast<std::size_t>(printable ? byte : next++)] = byte;
  }
  return table;
}

}  // namespace

class TokenizerReader {
 public:
  explicit TokenizerReader(const std::string& path)
      : path_(path), root_(read_json_file(path, kTokenizerLimit)) {
    if (!root_.is_object())
      refuse("the file is not a JSON object", "a Hugging Face tokenizer.json");
  }

  std::unique_ptr<Tokenizer> read() {
    out_ = std::make_unique<BpeTokenizer>(path_);
    if (!json_has(root_, "model") || !root_["model"].is_object())
      refuse("'model' is missing", "a BPE model");
    read_model(root_["model"]);
    if (json_has(root_, "added_tokens")) read_added(root_["added_tokens"]);
    if (json_has(root_, "normalizer")) read_normalizer(root_["normalizer"]);
    bool byte_level = false;
    if (json_has(root_, "pre_tokenizer")) read_pre_tokenizer(root_["pre_tokenizer"], byte_level);
    if (!byte_level)
      refuse("the pre-tokenizer has no ByteLevel",
             "byte-level BPE (SentencePiece-like ones are not supported)");
    if (json_has(root_, "decoder") && type_of(root_["decoder"], "decoder") != "ByteLevel") {
      refuse("decoder '" + type_of(root_["decoder"], "decoder") + "' is not supported",
             "ByteLevel");
    }
    if (json_has(root_, "post_processor")) read_post_processor(root_["post_processor"]);
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& found, const std::string& expected) const {
    throw usage_error({path_}, found, expected, "give token ids instead of text");
  }

  std::string type_of(const json& object, const std::string& key) const {
    if (!object.is_object()) refuse("'" + key + "' is not an object", "an object with a type");
    return json_text(object, "type", path_, key + ".");
  }

  const json& list_of(const json& object, const std::string& key) const {
    if (!json_has(object, key) || !object.at(key).is_array())
      refuse("'" + key + "' is missing or not a list", "a list");
    return object.at(key);
  }

  // "Ġthe" -> " the".
  std::string raw_bytes(const std::string& spelled) const {
    static const std::array<int, 512> kByte = byte_of_code_point();
    std::string bytes;
    for (std::size_t i = 0, length = 0; i < spelled.size(); i += length) {
      const char32_t code = code_point_at(spelled, i, &length);
      if (code >= kByte.size() || kByte[code] < 0) return {};
      bytes += static_cast<char>(kByte[code]);
    }
    return bytes;
  }

  void read_model(const json& model) {
    const std::string type =
        json_has(model, "type") ? json_text(model, "type", path_, "model.") : "BPE";
    if (type != "BPE") refuse("model.type '" + type + "' is not supported", "BPE");
    if (json_bool(model, "byte_fallback", false, path_, "model.")) {
      refuse("model.byte_fallback is true (a SentencePiece-like vocabulary)", "byte-level BPE");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (json_has(model, key) && model[key] != "")
        refuse(std::string("model.") + key + " is not supported", "none");
    }
    if (json_has(model, "dropout") && model["dropout"] != 0.0)
      refuse("model.dropout is not supported", "none");
    out_->bpe_.set_ignore_merges(json_bool(model, "ignore_merges", false, path_, "model."));
    if (!json_has(model, "vocab") || !model["vocab"].is_object())
      refuse("'model.vocab' is missing", "tokens and their ids");
    for (const auto& [spelled, value] : model["vocab"].items()) {
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= kMostTokenIds) {
        refuse("model.vocab: the id of '" + spelled + "' is " + value.dump().substr(0, 40),
               "a whole number below 2^24");
      }
      std::string bytes = raw_bytes(spelled);
      if (bytes.empty()) bytes = spelled;  // special tokens stand in clear
      if (!out_->bpe_.add_token(bytes, value.get<std::int32_t>())) {
        refuse("model.vocab: '" + spelled + "' or its id " + value.dump() + " is there twice",
               "each once");
      }
    }
    for (const json& merge : list_of(model, "merges")) add_merge(merge);
  }

  void add_merge(const json& merge) {
    std::string left, right;
    if (merge.is_string()) {
      const auto text = merge.get<std::string>();
      const std::size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    }
    const std::string a = raw_bytes(left), b = raw_bytes(right);
    if (a.empty() || b.empty() || !out_->bpe_.add_merge(a, b)) {
      refuse("model.merges: " +
                 merge.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 60),
             "two tokens whose joint text is a token");
    }
  }

  void read_added(const json& list) {
    if (!list.is_array()) refuse("'added_tokens' is not a list", "a list");
    for (const json& entry : list) {
      if (!entry.is_object()) refuse("an entry of 'added_tokens' is not an object", "objects");
      const std::string content = json_text(entry, "content", path_, "added_tokens.");
      const auto id = static_cast<std::int32_t>(
          json_unsigned(entry, "id", kMostTokenIds - 1, path_, "added_tokens."));
      for (const char* key : {"lstrip", "rstrip", "single_word"}) {
        if (json_bool(entry, key, false, path_))
          refuse("added token '" + content + "': " + key + " is not supported", "false");
      }
      if (content.empty()) refuse("an added token is empty", "a text");
      const std::string* taken = out_->bpe_.bytes_of(id);
      const std::int32_t other = out_->bpe_.find(content);
      if ((taken != nullptr && *taken != content) || (other >= 0 && other != id)) {
        refuse("added token '" + content + "' contradicts model.vocab", "the same text and id");
      }
      for (const AddedToken& before : out_->added_) {
        if (before.content == content || before.id == id)
          refuse("added token '" + content + "' or its id is there twice", "each once");
      }
      out_->added_.push_back({content, id});
      out_->starts_added_[static_cast<unsigned char>(content[0])] = true;
    }
    std::stable_sort(out_->added_.begin(), out_->added_.end(),
                     [](const AddedToken& a, const AddedToken& b) {
                       return a.content.size() > b.content.size();
                     });
  }

  void read_normalizer(const json& normalizer) {
    const std::string type = type_of(normalizer, "normalizer");
    if (type == "Sequence") {
      for (const json& part : list_of(normalizer, "normalizers")) read_normalizer(part);
    } else if (type == "NFC") {
      out_->nfc_ = true;
    } else {
      refuse("normalizer '" + type + "' is not supported", "none or NFC");
    }
  }

  void read_pre_tokenizer(const json& entry, bool& byte_level) {
    const std::string type = type_of(entry, "pre_tokenizer");
    if (byte_level) refuse("pre-tokenizer '" + type + "' after ByteLevel", "ByteLevel last");
    if (type == "Sequence") {
      for (const json& part : list_of(entry, "pretokenizers")) read_pre_tokenizer(part, byte_level);
    } else if (type == "Split") {
      if (json_text(entry, "behavior", path_, "pre_tokenizer.") != "Isolated" ||
          json_bool(entry, "invert", false, path_)) {
        refuse("pre-tokenizer Split with another behavior than Isolated", "Isolated, not inverted");
      }
      if (!json_has(entry, "pattern") || !entry["pattern"].is_object() ||
          !json_has(entry["pattern"], "Regex")) {
        refuse("pre-tokenizer Split without a Regex pattern", "{\"Regex\": ...}");
      }
      PreTokenizerStep step;
      step.regex = std::make_unique<SplitRegex>(
          json_text(entry["pattern"], "Regex", path_, "pattern."), path_);
      out_->steps_.push_back(std::move(step));
    } else if (type == "ByteLevel") {
      byte_level = true;
      PreTokenizerStep step;
      step.prefix_space = json_bool(entry, "add_prefix_space", true, path_);
      if (json_bool(entry, "use_regex", true, path_))
        step.regex = std::make_unique<SplitRegex>(gpt2_split_pattern(), path_);
      if (step.prefix_space && !out_->steps_.empty())
        refuse("ByteLevel with add_prefix_space after Split", "add_prefix_space false");
      out_->steps_.push_back(std::move(step));
    } else {
      refuse("pre-tokenizer '" + type + "' is not supported", "Split and ByteLevel");
    }
  }

  void read_post_processor(const json& entry) {
    const std::string type = type_of(entry, "post_processor");
    if (type == "ByteLevel") return;
    if (type == "Sequence") {
      for (const json& part : list_of(entry, "processors")) read_post_processor(part);
      return;
    }
    if (type != "TemplateProcessing")
      refuse("post-processor '" + type + "' is not supported", "ByteLevel or TemplateProcessing");
    bool text_seen = false;
    for (const json& part : list_of(entry, "single")) {
      if (part.is_object() && part.contains("Sequence")) {
        text_seen = true;
      } else if (part.is_object() && json_has(part, "SpecialToken") &&
                 part["SpecialToken"].is_object() && !text_seen) {
        const std::string content = json_text(part["SpecialToken"], "id", path_, "SpecialToken.");
        const auto found = std::find_if(out_->added_.begin(), out_->added_.end(),
                                        [&](const AddedToken& t) { return t.content == content; });
        if (found == out_->added_.end())
          refuse("post-processor: '" + content + "' is no added token", "a special token");
        out_->prefix_.push_back(found->id);
      } else {
        refuse("post-processor: tokens after the text are not supported",
               "special tokens, then the text");
      }
    }
  }

  std::string path_;
  json root_;
  std::unique_ptr<BpeTokenizer> out_;
};

std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path) {
  return TokenizerReader(path).read();
}

}  // namespace stoat
