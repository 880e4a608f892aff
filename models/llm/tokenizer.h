// Text to token ids and back: raw bytes, or the byte-level BPE of a Hugging Face tokenizer.json
// (PCRE2 pre-tokenizer).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stoat {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  // Bytes of the ids; ids outside the vocabulary throw Error.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  virtual std::string name() const = 0;
  // Ids that belong before a text (the post-processor's, e.g. Llama-3's <|begin_of_text|>).
  // encode() does not add them.
  virtual std::vector<std::int32_t> prompt_prefix() const { return {}; }
};

std::unique_ptr<Tokenizer> byte_tokenizer();
// Byte-level BPE only; SentencePiece-like, Unigram, WordPiece and normalizers other than NFC are
// refused by name. Under NFC a text must be in NFC already: characters that may compose are refused
// with their place (encode never changes a text).
std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path);

// The tokenizer of a model folder: bytes if config.json says so, else tokenizer.json; Error naming
// both when neither is there.
std::unique_ptr<Tokenizer> tokenizer_of(const std::string& model_folder);

}  // namespace stoat
