// Bytes, byte-level BPE, the split patterns, and what is refused.
#include "models/llm/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>

#include "models/error.h"
#include "models/llm/pre_tokenizer.h"
#include "tests/models/llm/model_writer.h"

namespace stoat::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;
using Pieces = std::vector<std::string>;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Pieces split(std::string_view pattern, std::string_view text) {
  const SplitRegex regex(pattern, "test");
  const auto views = regex.split(text);
  return {views.begin(), views.end()};
}

TEST(SplitRegex, CutsLikeLlama3) {
  EXPECT_EQ(split(kLlama3, " 12345"), (Pieces{" ", "123", "45"}));
  EXPECT_EQ(split(kLlama3, "=1;"), (Pieces{"=", "1", ";"}));
  EXPECT_EQ(split(kLlama3, "don't"), (Pieces{"don", "'t"}));
  EXPECT_EQ(split(kLlama3, "DON'T we'Ll"), (Pieces{"DON", "'T", " we", "'Ll"}));
  EXPECT_EQ(split(kLlama3, "a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(split(kLlama3, "a  \n\n b"), (Pieces{"a", "  \n\n", " b"}));
  EXPECT_EQ(split(kLlama3, "x;\r\ny"), (Pieces{"x", ";\r\n", "y"}));
  EXPECT_EQ(split(kLlama3, "   "), (Pieces{"   "}));
  EXPECT_EQ(split(kLlama3, "\tif (x)"), (Pieces{"\tif", " (", "x", ")"}));
  EXPECT_EQ(split(kLlama3, "déjà_vu"), (Pieces{"déjà", "_vu"}));
  EXPECT_EQ(split(kLlama3, "日本 42"), (Pieces{"日本", " ", "42"}));
  EXPECT_EQ(split(kLlama3, ""), Pieces{});
}

TEST(SplitRegex, CutsLikeQwen2AndGpt2) {
  EXPECT_EQ(split(kQwen2, " 123"), (Pieces{" ", "1", "2", "3"}));
  EXPECT_EQ(split(gpt2_split_pattern(), " 12345 don't"), (Pieces{" 12345", " don", "'t"}));
  EXPECT_EQ(split(gpt2_split_pattern(), "a   b"), (Pieces{"a", "  ", " b"}));
}

TEST(SplitRegex, TakesUnicodeWhiteSpaceForWhiteSpace) {
  for (const char* space :
       {"\u0085", "\u00a0", "\u1680", "\u2003", "\u2028", "\u202f", "\u205f", "\u3000"}) {
    EXPECT_EQ(split(R"(\s+)", std::string("a") + space + "b"), (Pieces{"a", space, "b"}));
    EXPECT_EQ(split(R"([^\s]+)", std::string("a") + space + "b"), (Pieces{"a", space, "b"}));
    EXPECT_EQ(split(R"(\S+)", std::string("a") + space + "b"), (Pieces{"a", space, "b"}));
  }
  for (const char* other :
       {"\u180e", "\u200b", "\ufeff"}) {  // look like spaces, are not White_Space
    EXPECT_EQ(split(R"(\s+)", std::string("a") + other + "b"),
              (Pieces{std::string("a") + other + "b"}));
  }
}

TEST(SplitRegex, PutsEveryTextTogetherAgain) {
  std::mt19937 generator(5);
  const std::vector<std::string> parts{"a", "Z", "9",  " ", "  ",     "\n", "\r\n", "'s",
                                       "'", "é", "漢", "😀", "\u00a0", ".",  "\t"};
  const SplitRegex llama(kLlama3, "test");
  for (int i = 0; i < 2000; ++i) {
    std::string text, joint;
    for (auto n = generator() % 30; n > 0; --n) text += parts[generator() % parts.size()];
    for (const auto piece : llama.split(text)) {
      ASSERT_FALSE(piece.empty());
      joint += piece;
    }
    ASSERT_EQ(joint, text);
  }
}

TEST(SplitRegex, TakesAMegabyteOfOneLetterOrOfBlanks) {
  const SplitRegex llama(kLlama3, "test");
  EXPECT_EQ(llama.split(std::string(1 << 20, 'a')).size(), 1U);
  EXPECT_EQ(llama.split(std::string(1 << 20, ' ')).size(), 1U);
}

TEST(SplitRegex, RefusesWhatOnlyOnigurumaUnderstands) {
  EXPECT_THROW(SplitRegex(R"([a-z&&[^b]])", "test"), Error);
  EXPECT_THROW(SplitRegex(R"(\h+)", "test"), Error);
  EXPECT_THROW(SplitRegex("(", "test"), Error);
  EXPECT_NO_THROW(SplitRegex(R"([\]\[]+|[]a]+)", "test"));
}

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_EQ(first_bad_utf8("añ漢😀"), std::string_view::npos);
  EXPECT_EQ(first_bad_utf8("ab\xff"), 2U);
  EXPECT_EQ(first_bad_utf8("ab\xc3"), 2U);            // cut short
  EXPECT_EQ(first_bad_utf8("\xc0\xaf"), 0U);          // overlong
  EXPECT_EQ(first_bad_utf8("\xe0\x80\xaf"), 0U);      // overlong
  EXPECT_EQ(first_bad_utf8("x\xed\xa0\x80"), 1U);     // surrogate
  EXPECT_EQ(first_bad_utf8("\xf4\x90\x80\x80"), 0U);  // above U+10FFFF
  EXPECT_EQ(first_bad_utf8("\xf4\x8f\xbf\xbf"), std::string_view::npos);
  EXPECT_EQ(first_bad_utf8("\x80"), 0U);
}

TEST(ByteTokenizer, KeepsAll256Bytes) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const auto tokenizer = byte_tokenizer();
  const Ids ids = tokenizer->encode(all);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(ids[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(tokenizer->decode(ids), all);
  EXPECT_EQ(tokenizer->name(), "bytes");
  EXPECT_THROW(tokenizer->decode(Ids{256}), Error);
  EXPECT_THROW(tokenizer->decode(Ids{-1}), Error);
}

// GPT-2's spelling of a byte.
std::string spelled(int byte) {
  int code = byte, next = 256;
  for (int i = 0; i <= byte; ++i) {
    const bool printable = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
    if (!printable) code = next++;
    if (printable && i == byte) code = byte;
  }
  std::string text;
  if (code < 128) return std::string(1, static_cast<char>(code));
  text += static_cast<char>(0xc0 | code >> 6);
  text += static_cast<char>(0x80 | (code & 63));
  return text;
}

// 256 bytes (id = byte), then " t", "he", " the", "lo", "ll", "hell"; merge order below decides.
json tiny() {
  json vocab;
  for (int i = 0; i < 256; ++i) vocab[spelled(i)] = i;
  const std::string g = spelled(' ');
  vocab[g + "t"] = 256;
  vocab["he"] = 257;
  vocab[g + "the"] = 258;
  vocab["lo"] = 259;
  vocab["ll"] = 260;
  vocab["hell"] = 261;
  vocab["xyz"] = 262;  // no merge leads here
  return {{"version", "1.0"},
          {"added_tokens",
           {{{"id", 263}, {"content", "<s>"}, {"special", true}},
            {{"id", 264}, {"content", "<s>>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"},
               {"pattern", {{"Regex", kLlama3}}},
               {"behavior", "Isolated"},
               {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", {g + " t", "h e", g + "t he", "l o", "l l", "he ll"}}}}};
}

std::unique_ptr<Tokenizer> make(const json& file) {
  TempFolder folder;
  write_text(folder / "tokenizer.json", file.dump());
  return read_tokenizer_json(folder / "tokenizer.json");
}

TEST(BpeTokenizer, MergesByRankThenFromTheLeft) {
  const auto tokenizer = make(tiny());
  EXPECT_EQ(tokenizer->encode("the the"), (Ids{'t', 257, 258}));
  EXPECT_EQ(tokenizer->encode("hello"), (Ids{257, 'l', 259}));  // "l o" ranks before "l l"
  EXPECT_EQ(tokenizer->encode("hell"), (Ids{261}));
  EXPECT_EQ(tokenizer->encode("lll"), (Ids{260, 'l'}));
  EXPECT_EQ(tokenizer->encode("xyz"), (Ids{'x', 'y', 'z'}));
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->decode(Ids{261, 'o', 258}), "hello the");
}

TEST(BpeTokenizer, ReadsMergesAsPairsToo) {
  json file = tiny();
  json pairs = json::array();
  for (const auto& merge : file["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    pairs.push_back({text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)});
  }
  file["model"]["merges"] = pairs;
  EXPECT_EQ(make(file)->encode("hello the"), make(tiny())->encode("hello the"));
}

TEST(BpeTokenizer, TakesWholeTokensWhenMergesAreIgnored) {
  json file = tiny();
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(make(file)->encode("xyz"), (Ids{262}));
}

TEST(BpeTokenizer, PrefersTheLongestAddedToken) {
  const auto tokenizer = make(tiny());
  EXPECT_EQ(tokenizer->encode("<s>a<s>><s"), (Ids{263, 'a', 264, '<', 's'}));
  EXPECT_EQ(tokenizer->decode(Ids{263, 264}), "<s><s>>");
  EXPECT_TRUE(tokenizer->prompt_prefix().empty());
}

TEST(BpeTokenizer, GivesEveryUtf8TextBack) {
  const auto tokenizer = make(tiny());
  std::mt19937 generator(6);
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (auto n = generator() % 40; n > 0; --n) {
      const auto code = generator() % 3 == 0 ? generator() % 0xd800 : generator() % 0x100;
      if (code < 0x80) {
        text += static_cast<char>(code);
      } else if (code < 0x800) {
        text += static_cast<char>(0xc0 | code >> 6);
        text += static_cast<char>(0x80 | (code & 63));
      } else {
        text += static_cast<char>(0xe0 | code >> 12);
        text += static_cast<char>(0x80 | (code >> 6 & 63));
        text += static_cast<char>(0x80 | (code & 63));
      }
    }
    ASSERT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
  for (std::int32_t byte = 0; byte < 256; ++byte)
    EXPECT_EQ(tokenizer->decode(Ids{byte}), std::string(1, static_cast<char>(byte)));
  EXPECT_EQ(tokenizer->encode(std::string(200000, 'l')).size(), 100000U);  // n log n, not n^2
}

TEST(BpeTokenizer, RefusesTextThatIsNotUtf8WithItsPlace) {
  try {
    make(tiny())->encode("ab\xff");
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("at byte 2"), std::string::npos) << e.what();
  }
  EXPECT_THROW(make(tiny())->decode(Ids{265}), Error);
}

TEST(BpeTokenizer, UnderNfcTakesStableTextAndRefusesTheRest) {
  json file = tiny();
  file["normalizer"] = {{"type", "NFC"}};
  const auto tokenizer = make(file);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("é 漢字 😀 Привет")), "é 漢字 😀 Привет");
  for (const char* text : {"e\u0301", "\u212b", "\u2126", "\u0340", "\u1100\u1161", "\u2000"}) {
    EXPECT_THROW(tokenizer->encode(text), Error) << text;
  }
}

struct Refusal {
  std::string name;
  std::string pointer;  // into the file
  json value;
  std::string says;
};

class TokenizerRefusal : public testing::TestWithParam<Refusal> {};

TEST_P(TokenizerRefusal, NamesTheFileAndTheReason) {
  json file = tiny();
  file[json::json_pointer(GetParam().pointer)] = GetParam().value;
  try {
    make(file);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("tokenizer.json"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(GetParam().says), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Files, TokenizerRefusal,
    testing::Values(
        Refusal{"Unigram", "/model/type", "Unigram", "model.type 'Unigram' is not supported"},
        Refusal{"WordPiece", "/model/type", "WordPiece", "'WordPiece' is not supported"},
        Refusal{"SentencePieceFallback", "/model/byte_fallback", true, "byte_fallback is true"},
        Refusal{"SubwordPrefix", "/model/continuing_subword_prefix", "##",
                "continuing_subword_prefix is not supported"},
        Refusal{"Dropout", "/model/dropout", 0.1, "dropout is not supported"},
        Refusal{"NoVocabulary", "/model/vocab", nullptr, "'model.vocab' is missing"},
        Refusal{"NegativeId", "/model/vocab/he", -1, "the id of 'he' is -1"},
        Refusal{"HugeId", "/model/vocab/he", 1 << 24, "the id of 'he' is 16777216"},
        Refusal{"IdTwice", "/model/vocab/he", 3, "is there twice"},
        Refusal{"MergeOfUnknown", "/model/merges/0", "q q", "model.merges: \"q q\""},
        Refusal{"MergeOfThree", "/model/merges/0", "h e l", "model.merges: \"h e l\""},
        Refusal{"MergeIsANumber", "/model/merges/0", 7, "model.merges: 7"},
        Refusal{"Lowercase",
                "/normalizer",
                {{"type", "Lowercase"}},
                "normalizer 'Lowercase' is not supported"},
        Refusal{"Metaspace",
                "/pre_tokenizer",
                {{"type", "Metaspace"}},
                "pre-tokenizer 'Metaspace' is not supported"},
        Refusal{"NoByteLevel", "/pre_tokenizer", nullptr, "no ByteLevel"},
        Refusal{"SplitRemoved", "/pre_tokenizer/pretokenizers/0/behavior", "Removed",
                "another behavior than Isolated"},
        Refusal{"SplitOnText",
                "/pre_tokenizer/pretokenizers/0/pattern",
                {{"String", " "}},
                "without a Regex pattern"},
        Refusal{"AddedStrips", "/added_tokens/0/lstrip", true, "lstrip is not supported"},
        Refusal{"AddedContradicts", "/added_tokens/0/id", 7, "contradicts model.vocab"},
        Refusal{"AddedTwice", "/added_tokens/1/content", "<s>", "is there twice"},
        Refusal{"OtherDecoder",
                "/decoder",
                {{"type", "WordPiece"}},
                "decoder 'WordPiece' is not supported"},
        Refusal{"OtherPostProcessor",
                "/post_processor",
                {{"type", "BertProcessing"}},
                "'BertProcessing' is not supported"}),
    [](const auto& test) { return test.param.name; });

TEST(TokenizerOf, ChoosesByConfigThenByFileAndNamesBothWhenNeitherIsThere) {
  TempFolder folder;
  TinyShape shape;
  shape.vocab = 300;
  write_text(folder / "config.json", config_json(shape));
  try {
    tokenizer_of(folder.path());
    FAIL() << "found one";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("tokenizer.json"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("stoat_tokenizer"), std::string::npos);
  }
  write_text(folder / "tokenizer.json", tiny().dump());
  EXPECT_EQ(tokenizer_of(folder.path())->encode("hell"), (Ids{261}));
  shape.rope += R"(, "stoat_tokenizer": "bytes")";
  write_text(folder / "config.json", config_json(shape));
  EXPECT_EQ(tokenizer_of(folder.path())->name(), "bytes");
}

}  // namespace
}  // namespace stoat::test
