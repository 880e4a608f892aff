// The byte-level BPE tokenizer that a tokenizer.json describes: added tokens, pre-tokenizer steps,
// merges. Reading the file is in tokenizer_json.cpp, the merges themselves are in bpe.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/llm/bpe.h"
#include "models/llm/pre_tokenizer.h"
#include "models/llm/tokenizer.h"

namespace stoat {

struct AddedToken {
  std::string content;
  std::int32_t id;
};

struct PreTokenizerStep {
  bool prefix_space = false;
  std::unique_ptr<SplitRegex> regex;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(std::string path) : path_(std::move(path)) {}

  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::string name() const override {
    return "byte-level BPE, " + std::to_string(bpe_.size()) + " tokens";
  }
  std::vector<std::int32_t> prompt_prefix() const override { return prefix_; }

 private:
  friend class TokenizerReader;

  const AddedToken* added_at(std::string_view text, std::size_t at) const;
  void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const;

  std::string path_;
  Bpe bpe_;
  std::vector<AddedToken> added_;  // longest first
  std::array<bool, 256> starts_added_{};
  std::vector<PreTokenizerStep> steps_;
  std::vector<std::int32_t> prefix_;
  bool nfc_ = false;
};

}  // namespace stoat
