// Cuts a text into the pieces that byte-pair merging stays inside, by the regular expressions of a
// tokenizer.json.
//
// Hugging Face runs these through Oniguruma; here it is PCRE2 with \s and \S spelled out as
// Unicode's White_Space, the one class in which the two differ.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace stoat {

// GPT-2's pattern, which a ByteLevel pre-tokenizer with use_regex stands for.
std::string_view gpt2_split_pattern();

class SplitRegex {
 public:
  // `place` names file and key in errors. Throws Error (usage) for a pattern that PCRE2 refuses or
  // that uses Oniguruma's nested classes.
  SplitRegex(std::string_view pattern, std::string place);
  ~SplitRegex();
  SplitRegex(SplitRegex&&) noexcept;

  // Matches and the gaps between them, in order; together they are `text` (valid UTF-8, see
  // first_bad_utf8).
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
  std::string place_;
};

// Byte offset of the first byte that is not valid UTF-8; npos when all is.
std::size_t first_bad_utf8(std::string_view text);
// Byte offset of the first character that could change under Unicode NFC (outside ranges known to
// be stable); npos if none.
std::size_t first_unstable_nfc(std::string_view text);
// The code point at byte `at` of valid UTF-8, and its length.
char32_t code_point_at(std::string_view text, std::size_t at, std::size_t* length);

}  // namespace stoat
