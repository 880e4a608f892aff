// Text to ids and back (bpe_tokenizer.h).
#include "models/llm/bpe_tokenizer.h"

#include <algorithm>
#include <cstdio>

#include "models/error.h"

namespace stoat {

std::vector<std::int32_t> BpeTokenizer::encode(std::string_view text) const {
  if (const std::size_t bad = first_bad_utf8(text); bad != std::string_view::npos) {
    throw usage_error({}, "the text is not UTF-8 at byte " + std::to_string(bad), "UTF-8",
                      "convert it, e.g. with iconv");
  }
  std::vector<std::int32_t> ids;
  std::size_t plain = 0;
  for (std::size_t i = 0; i < text.size();) {
    const AddedToken* token = added_at(text, i);
    if (token == nullptr) {
      ++i;
      continue;
    }
    encode_plain(text.substr(plain, i - plain), ids);
    ids.push_back(token->id);
    plain = i += token->content.size();
  }
  encode_plain(text.substr(plain), ids);
  return ids;
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    const auto added =
        std::find_if(added_.begin(), added_.end(), [&](const AddedToken& t) { return t.id == id; });
    const std::string* bytes = added != added_.end() ? &added->content : bpe_.bytes_of(id);
    if (bytes == nullptr) {
      throw usage_error({path_}, "token " + std::to_string(id) + " is not in the vocabulary",
                        "an id of this tokenizer", "use the tokenizer of this model");
    }
    text += *bytes;
  }
  return text;
}

const AddedToken* BpeTokenizer::added_at(std::string_view text, std::size_t at) const {
  if (!starts_added_[static_cast<unsigned char>(text[at])]) return nullptr;
  for (const AddedToken& token : added_) {
    if (text.substr(at, token.content.size()) == token.content) return &token;
  }
  return nullptr;
}

void BpeTokenizer::encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const {
  if (text.empty()) return;
  if (nfc_) {
    if (const std::size_t at = first_unstable_nfc(text); at != std::string_view::npos) {
      std::size_t length = 0;
      char code[16];
      std::snprintf(code, sizeof code, "U+%04X",
                    static_cast<unsigned>(code_point_at(text, at, &length)));
      throw usage_error({path_},
                        std::string("the text holds ") + code + ", which Unicode NFC may change",
                        "characters that NFC leaves alone (this tokenizer asks for NFC, which is "
                        "not implemented)",
                        "give token ids instead of text");
    }
  }
  std::string prefixed;
  std::vector<std::string_view> pieces{text};
  for (const PreTokenizerStep& step : steps_) {
    if (step.prefix_space && text.front() != ' ') {
      prefixed = " " + std::string(text);
      pieces.assign(1, prefixed);
    }
    if (step.regex == nullptr) continue;
    std::vector<std::string_view> next;
    for (const std::string_view piece : pieces) {
      const auto parts = step.regex->split(piece);
      next.insert(next.end(), parts.begin(), parts.end());
    }
    pieces = std::move(next);
  }
  for (const std::string_view piece : pieces) {
    if (!bpe_.encode(piece, ids)) {
      throw usage_error({path_},
                        "a byte of '" + std::string(piece) + "' has no token in the vocabulary",
                        "all 256 bytes in a byte-level vocabulary");
    }
  }
}

}  // namespace stoat
