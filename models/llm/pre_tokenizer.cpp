#include "models/llm/pre_tokenizer.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "models/error.h"

namespace stoat {
namespace {

// Unicode's White_Space, as the inside of a character class.
constexpr std::string_view kWhiteSpace =
    R"(\x{09}-\x{0d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// \s and \S spelled out; Oniguruma's nested classes and intersections refused.
std::string to_pcre2(std::string_view pattern, const std::string& place) {
  std::string out;
  bool in_class = false;
  std::size_t class_start = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const std::string_view two = pattern.substr(i, 2);
    const bool odd = in_class && (c == '[' || two == "&&" || two == "\\S");
    if (odd || two == "\\h" || two == "\\H" || two == "\\R" || two == "\\X") {
      throw usage_error({place},
                        "pattern '" + std::string(pattern) + "' uses '" + std::string(two) +
                            (in_class ? "' in a class" : "'"),
                        "the constructs of the Llama-3, Qwen2 and GPT-2 patterns",
                        "this tokenizer is not supported");
    }
    if (c == '\\') {
      if (two == "\\s") {
        out += in_class ? std::string(kWhiteSpace) : "[" + std::string(kWhiteSpace) + "]";
      } else if (two == "\\S") {
        out += "[^" + std::string(kWhiteSpace) + "]";
      } else {
        out += two;
      }
      ++i;
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      class_start = i + (pattern.substr(i + 1, 1) == "^" ? 2 : 1);
    } else if (c == ']' && in_class && i > class_start) {
      in_class = false;
    }
    out += c;
  }
  return out;
}

std::string pcre2_text(int code) {
  std::array<PCRE2_UCHAR8, 256> text{};
  pcre2_get_error_message_8(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

std::string_view gpt2_split_pattern() {
  return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
}

struct SplitRegex::Compiled {
  pcre2_code_8* code = nullptr;
  pcre2_match_context_8* context = nullptr;
  pcre2_jit_stack_8* stack = nullptr;

  Compiled() = default;
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() {
    pcre2_jit_stack_free_8(stack);
    pcre2_match_context_free_8(context);
    pcre2_code_free_8(code);
  }
};

SplitRegex::SplitRegex(std::string_view pattern, std::string place)
    : compiled_(std::make_unique<Compiled>()), place_(std::move(place)) {
  const std::string text = to_pcre2(pattern, place_);
  int code = 0;
  std::size_t offset = 0;
  compiled_->code = pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(),
                                    PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr);
  if (compiled_->code == nullptr) {
    throw usage_error({place_}, "pattern '" + std::string(pattern) + "': " + pcre2_text(code),
                      "a regular expression");
  }
  if (pcre2_jit_compile_8(compiled_->code, PCRE2_JIT_COMPLETE) != 0)
    return;  // no JIT here: the interpreter is the same
  compiled_->context = pcre2_match_context_create_8(nullptr);
  compiled_->stack =
      pcre2_jit_stack_create_8(std::size_t{64} << 10, std::size_t{16} << 20, nullptr);
  pcre2_jit_stack_assign_8(compiled_->context, nullptr, compiled_->stack);
}

SplitRegex::~SplitRegex() = default;
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;

std::vector<std::string_view> SplitRegex::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  const std::unique_ptr<pcre2_match_data_8, decltype(&pcre2_match_data_free_8)> match(
      pcre2_match_data_create_from_pattern_8(compiled_->code, nullptr), &pcre2_match_data_free_8);
  std::size_t done = 0, from = 0;
  while (from < text.size()) {
    const int found =
        pcre2_match_8(compiled_->code, reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(),
                      from, PCRE2_NO_UTF_CHECK, match.get(), compiled_->context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      throw resource_error(
          {place_},
          "the pre-tokenizer gave up at byte " + std::to_string(from) + ": " + pcre2_text(found),
          {}, "cut the text into shorter paragraphs");
    }
    const std::size_t* range = pcre2_get_ovector_pointer_8(match.get());
    if (range[1] == range[0]) {  // an empty match cuts nothing: go on behind the next character
      std::size_t length = 1;
      code_point_at(text, range[0] < text.size() ? range[0] : from, &length);
      from = std::max(from, range[0]) + length;
      continue;
    }
    if (range[0] > done) pieces.push_back(text.substr(done, range[0] - done));
    pieces.push_back(text.substr(range[0], range[1] - range[0]));
    done = from = range[1];
  }
  if (done < text.size()) pieces.push_back(text.substr(done));
  return pieces;
}

char32_t code_point_at(std::string_view text, std::size_t at, std::size_t* length) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned first = byte(0);
  *length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  char32_t code = *length == 1 ? first : first & (0xffU >> (*length + 1));
  for (std::size_t i = 1; i < *length; ++i) code = code << 6 | (byte(i) & 63U);
  return code;
}

std::size_t first_bad_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xc2 ? 0
                               : first < 0xe0 ? 2
                               : first < 0xf0 ? 3
                               : first < 0xf5 ? 4
                                              : 0;
    if (length == 0 || length > text.size() - i) return i;
    for (std::size_t j = 1; j < length; ++j) {
      if ((static_cast<unsigned char>(text[i + j]) & 0xc0U) != 0x80U) return i;
    }
    std::size_t same = 0;
    const char32_t code = code_point_at(text, i, &same);
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return i;
    i += length;
  }
  return std::string_view::npos;
}

std::size_t first_unstable_nfc(std::string_view text) {
  // Blocks without combining marks, without singleton decompositions and without characters that
  // compose with the one before them (Unicode's NFC_Quick_Check=Yes and combining class 0
  // throughout).
  struct Range {
    char32_t first, last;
  };
  static constexpr Range kStable[] = {
      {0x0000, 0x02ff},    // Latin, IPA, modifier letters
      {0x0400, 0x0482},    // Cyrillic
      {0x048a, 0x052f},    // Cyrillic
      {0x1e00, 0x1eff},    // Latin extended additional
      {0x2002, 0x20cf},    // punctuation, superscripts, currency
      {0x2190, 0x2328},    // arrows, mathematics
      {0x232b, 0x2adb},    // technical, boxes, symbols, dingbats
      {0x3000, 0x3029},    // CJK punctuation
      {0x3030, 0x3098},    // Hiragana
      {0x309b, 0x30ff},    // Katakana
      {0x3400, 0x4dbf},    // CJK ideographs A
      {0x4e00, 0x9fff},    // CJK ideographs
      {0xac00, 0xd7a3},    // Hangul syllables
      {0xe000, 0xf8ff},    // private use
      {0xfe00, 0xfe0f},    // variation selectors
      {0xff00, 0xffef},    // full-width forms
      {0x1f000, 0x1faff},  // pictographs
  };
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = 1;
    const char32_t code = code_point_at(text, i, &length);
    const bool stable = std::any_of(std::begin(kStable), std::end(kStable), [&](const Range& r) {
      return code >= r.first && code <= r.last;
    });
    if (!stable) return i;
    i += length;
  }
  return std::string_view::npos;
}

}  // namespace stoat
