// What is read is what was written; every lie of a header is refused by name; damage never crashes.
#include "models/llm/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>

#include "models/error.h"
#include "tests/models/llm/model_writer.h"

namespace stoat::test {
namespace {

// A file with tensor "a" F32 [2] at 0..8 and "b" BF16 [2, 3] at 8..20.
const std::string kA = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
const std::string kB = R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]})";
std::string good_header() { return "{" + kA + "," + kB + "}"; }
std::string data(std::size_t bytes = 20) { return std::string(bytes, '\1'); }

struct Lie {
  std::string name;
  std::string file;  // bytes
  std::string says;  // part of the message
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// The good file with one piece of its header replaced.
std::string with(const std::string& from, const std::string& to) {
  return raw_safetensors(replaced(good_header(), from, to), data());
}

std::string with_length(std::uint64_t length) {
  std::string file = raw_safetensors(good_header(), data());
  for (int i = 0; i < 8; ++i)
    file[static_cast<std::size_t>(i)] = static_cast<char>(length >> (8 * i));
  return file;
}

std::vector<Lie> lies() {
  std::string deep = R"({"x":)";
  for (int i = 0; i < 100000; ++i) deep += "[";
  return {
      {"EmptyFile", "", "0 bytes"},
      {"SevenBytes", "1234567", "7 bytes"},
      {"HeaderLongerThanFile", with_length(good_header().size() + 21), "a header of"},
      {"HeaderOver100MB", with_length(100'000'001), "a header of 100000001 bytes"},
      {"HeaderLengthAllOnes", with_length(~std::uint64_t{0}), "a header of 18446744073709551615"},
      {"HeaderLengthZero", with_length(0), "does not start with '{'"},
      {"HeaderLengthOneShort", with_length(good_header().size() - 1), "not JSON"},
      {"HeaderIsAList", raw_safetensors("[1]", ""), "does not start with '{'"},
      {"HeaderStartsWithSpace", raw_safetensors(" {}", ""), "does not start with '{'"},
      {"HeaderCutShort", raw_safetensors(good_header().substr(0, 40), data()), "not JSON"},
      {"TextAfterTheHeader", raw_safetensors(good_header() + "x", data()), "not JSON"},
      {"NotUtf8", with("\"a\"", "\"\xff\""), "not JSON"},
      {"OverlongUtf8", with("\"a\"", "\"\xc0\xaf\""), "not JSON"},
      {"DuplicateTensor", raw_safetensors("{" + kA + "," + kA + "}", data(8)), "'a' appears twice"},
      {"DuplicateKey", with(R"("dtype":"F32")", R"("dtype":"F32","dtype":"F32")"),
       "'dtype' appears twice"},
      {"DeepNesting", raw_safetensors(deep, ""), "nested deeper"},
      {"EntryIsANumber", with(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", "7"),
       "'a': its entry"},
      {"UnknownKeyInEntry", with(R"("shape":[2])", R"("shape":[2],"strides":[1])"),
       "unknown key 'strides'"},
      {"MissingDtype", with(R"("dtype":"F32",)", ""), "'a': 'dtype' is missing"},
      {"DtypeIsANumber", with(R"("F32")", "32"), "'a': 'dtype' is missing"},
      {"DtypeF8", with("F32", "F8_E4M3"), "'a': dtype F8_E4M3 is not supported"},
      {"DtypeF4", with("F32", "F4"), "'a': dtype F4 is not supported"},
      {"DtypeF6", with("F32", "F6_E2M3"), "'a': dtype F6_E2M3 is not supported"},
      {"DtypeUnknown", with("F32", "Q7"), "'a': dtype Q7 is not supported"},
      {"MissingShape", with(R"("shape":[2],)", ""), "'a': 'shape' is missing"},
      {"ShapeNegative", with("\"shape\":[2]", "\"shape\":[-2]"), "'a': 'shape' holds -2"},
      {"ShapeFraction", with("\"shape\":[2]", "\"shape\":[2.0]"), "'a': 'shape' holds 2.0"},
      {"ShapeText", with("\"shape\":[2]", "\"shape\":[\"2\"]"), "'a': 'shape' holds \"2\""},
      {"ShapeAbove64Bits", with("\"shape\":[2]", "\"shape\":[18446744073709551618]"),
       "'a': 'shape' holds"},
      {"ShapeInfinite", with("\"shape\":[2]", "\"shape\":[1e999]"), "not JSON"},
      {"ShapeProductOverflows", with("\"shape\":[2]", "\"shape\":[4294967296,4294967296]"),
       "overflows"},
      {"ShapeProductWrapsToTheRightSize",
       with("\"shape\":[2]", "\"shape\":[9223372036854775808,2,2]"), "overflows"},
      {"ShapeTooSmall", with("\"shape\":[2]", "\"shape\":[1]"),
       "is 4 bytes but data_offsets span 8"},
      {"ShapeTooLarge", with("\"shape\":[2]", "\"shape\":[3]"),
       "is 12 bytes but data_offsets span 8"},
      {"ShapeOfNineDimensions", with("\"shape\":[2]", "\"shape\":[2,1,1,1,1,1,1,1,1]"),
       "more than 8"},
      {"ShapeEmptyTensorWithBytes", with("\"shape\":[2]", "\"shape\":[0]"), "is 0 bytes but"},
      {"MissingOffsets", with(R"(,"data_offsets":[0,8])", ""), "'a': 'data_offsets' is missing"},
      {"OffsetsOfOne", with("[0,8]", "[0]"), "not a pair"},
      {"OffsetsOfThree", with("[0,8]", "[0,8,8]"), "not a pair"},
      {"OffsetsBackwards", with("[0,8]", "[8,0]"), "ends before it begins"},
      {"OffsetsNegative", with("[0,8]", "[-8,0]"), "'data_offsets' holds -8"},
      {"OffsetsPastTheEnd", with("[8,20]", "[8,21]"), "'b': data ends at byte 21"},
      {"OffsetsFarPastTheEnd", with("[8,20]", "[18446744073709551603,18446744073709551615]"),
       "'b': data ends at byte"},
      {"Overlap", with("[8,20]", "[7,19]"), "'b': its data overlaps"},
      {"SameBytesTwice",
       raw_safetensors("{" + kA + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                       data(8)),
       "overlaps"},
      {"HoleBetween",
       raw_safetensors("{" + kA + "," + replaced(kB, "[8,20]", "[9,21]") + "}", data(21)),
       "'b': a hole of 1 bytes"},
      {"HoleAtTheStart", raw_safetensors("{" + replaced(kA, "[0,8]", "[4,12]") + "}", data(12)),
       "'a': a hole of 4"},
      {"BytesAfterTheLast", raw_safetensors(good_header(), data(21)),
       "1 bytes after the last tensor"},
      {"DataCutShort", raw_safetensors(good_header(), data(19)), "'b': data ends at byte 20"},
      {"DataWithoutTensors", raw_safetensors("{}", data(1)), "1 bytes after the last"},
      {"MetadataIsAList", with("{\"a\"", "{\"__metadata__\":[],\"a\""), "__metadata__"},
      {"MetadataHoldsANumber", with("{\"a\"", "{\"__metadata__\":{\"n\":1},\"a\""), "__metadata__"},
  };
}

class HeaderLie : public testing::TestWithParam<Lie> {};

TEST_P(HeaderLie, IsRefusedNamingTheFileAndThePlace) {
  TempFolder folder;
  const std::string path = folder / "model.safetensors";
  write_text(path, GetParam().file);
  try {
    const SafetensorsFile file(path);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kDamaged);
    EXPECT_NE(std::string(e.what()).find(path), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(GetParam().says), std::string::npos) << e.what();
    EXPECT_LT(std::string(e.what()).size(), 1000U);
  }
}

INSTANTIATE_TEST_SUITE_P(Safetensors, HeaderLie, testing::ValuesIn(lies()),
                         [](const auto& test) { return test.param.name; });

TEST(Safetensors, TheUnchangedFileOfTheLiesIsFine) {
  TempFolder folder;
  write_text(folder / "m.safetensors",
             raw_safetensors(good_header() + "   ", data()));  // padding is allowed
  const SafetensorsFile file(folder / "m.safetensors");
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.tensors().at("b").shape, (std::vector<std::uint64_t>{2, 3}));
}

TEST(Safetensors, EmptyFilesEmptyTensorsAndScalarsAreFine) {
  TempFolder folder;
  write_text(folder / "none", raw_safetensors("{}", ""));
  EXPECT_TRUE(SafetensorsFile(folder / "none").tensors().empty());
  write_text(folder / "some",
             raw_safetensors(R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},)"
                             R"("s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                             std::string("\0\0\x80\x3f", 4)));
  const SafetensorsFile file(folder / "some");
  float one = 0;
  read_floats(file, "s", file.tensors().at("s"), 0, {&one, 1});
  EXPECT_EQ(one, 1.0F);
  EXPECT_EQ(file.tensors().at("e").elements(), 0U);
}

TEST(Safetensors, ReadsBf16AndF16AndF32Exactly) {
  const std::vector<float> values{0.0F, -0.0F, 1.0F, -2.5F, 0.15625F, 65280.0F, 0x1p-14F, 3.0F};
  for (const char* dtype : {"BF16", "F16", "F32"}) {
    TempFolder folder;
    write_text(folder / "m", safetensors_bytes({{"t", {{2, 4}, values}}}, dtype));
    const SafetensorsFile file(folder / "m");
    std::vector<float> got(8);
    read_floats(file, "t", file.tensors().at("t"), 0, got);
    EXPECT_EQ(got, values) << dtype;
    EXPECT_TRUE(std::signbit(got[1])) << dtype;
    float last = 0;
    read_floats(file, "t", file.tensors().at("t"), 7, {&last, 1});
    EXPECT_EQ(last, 3.0F) << dtype;
  }
}

TEST(Safetensors, ReadsEveryFiniteHalfAndRefusesTheOthers) {
  TempFolder folder;
  std::string bytes;
  for (std::uint32_t raw = 0; raw < 65536; ++raw) {
    bytes += static_cast<char>(raw & 255U);
    bytes += static_cast<char>(raw >> 8);
  }
  write_text(
      folder / "m",
      raw_safetensors(R"({"h":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]}})", bytes));
  const SafetensorsFile file(folder / "m");
  for (std::uint32_t raw = 0; raw < 65536; ++raw) {
    const int exponent = static_cast<int>(raw >> 10 & 31U);
    const double mantissa = raw & 1023U;
    const double size =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    float got = 0;
    if (exponent == 31) {
      ASSERT_THROW(read_floats(file, "h", file.tensors().at("h"), raw, {&got, 1}), Error);
      continue;
    }
    read_floats(file, "h", file.tensors().at("h"), raw, {&got, 1});
    ASSERT_EQ(static_cast<double>(got), raw >= 32768 ? -size : size) << raw;
  }
}

TEST(Safetensors, RefusesToReadIntegersAsWeights) {
  TempFolder folder;
  write_text(folder / "m",
             raw_safetensors(R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", data(8)));
  const SafetensorsFile file(folder / "m");
  float value = 0;
  try {
    read_floats(file, "i", file.tensors().at("i"), 0, {&value, 1});
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'i': dtype I64 is not supported"), std::string::npos)
        << e.what();
  }
}

// All tensors as floats, or the error.
std::map<std::string, std::pair<std::vector<std::uint64_t>, std::vector<float>>> contents(
    const std::string& path) {
  std::map<std::string, std::pair<std::vector<std::uint64_t>, std::vector<float>>> result;
  const SafetensorsFile file(path);
  for (const auto& [name, info] : file.tensors()) {
    std::vector<float> values(info.elements());
    read_floats(file, name, info, 0, values);
    result[name] = {info.shape, values};
  }
  return result;
}

TEST(Safetensors, TwoThousandFlippedBytesNeverCrash) {
  std::map<std::string, TestTensor> tensors;
  for (int i = 0; i < 4; ++i) tensors["layer." + std::to_string(i)] = {{2, 3}, {1, 2, 3, 4, 5, 6}};
  const std::string good = safetensors_bytes(tensors, "BF16");
  const std::size_t data_at = good.size() - 4 * 6 * 2;
  TempFolder folder;
  const std::string path = folder / "m";
  write_text(path, good);
  const auto original = contents(path);
  std::mt19937 generator(11);
  int refused = 0, renamed = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string bad = good;
    const std::size_t at = generator() % good.size();
    bad[at] = static_cast<char>(bad[at] ^ (1 + generator() % 255));
    write_text(path, bad);
    try {
      const auto got = contents(path);
      // Accepted: either data changed (the format has no checksum), or a name or metadata text;
      // never shapes or sizes.
      ASSERT_LE(got.size(), original.size());
      if (at < data_at) {
        ++renamed;
        std::size_t same = 0;
        for (const auto& [name, tensor] : got) {
          const auto found = original.find(name);
          if (found != original.end()) {
            ASSERT_EQ(tensor.second.size(), found->second.second.size()) << "byte " << at;
            ++same;
          }
        }
        ASSERT_GE(same + 1, original.size()) << "byte " << at;
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(renamed, 0);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string good =
      safetensors_bytes({{"a", {{3}, {1, 2, 3}}}, {"b", {{2, 2}, {1, 2, 3, 4}}}}, "F32");
  TempFolder folder;
  for (std::size_t length = 0; length < good.size(); ++length) {
    write_text(folder / "m", good.substr(0, length));
    ASSERT_THROW(SafetensorsFile(folder / "m"), Error) << length;
  }
}

TEST(Safetensors, AMissingFileIsTheUsersMistake) {
  TempFolder folder;
  try {
    SafetensorsFile file(folder / "nothing");
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
  }
  EXPECT_THROW(SafetensorsFile(folder.path()), Error);  // a folder is no file
}

class Index : public testing::Test {
 protected:
  void SetUp() override {
    write_text(folder_ / "one.safetensors", safetensors_bytes({{"a", {{1}, {1}}}}, "F32"));
    write_text(folder_ / "two.safetensors", safetensors_bytes({{"b", {{1}, {2}}}}, "F32"));
  }
  std::string refused(const std::string& index) {
    write_text(folder_ / "model.safetensors.index.json", index);
    try {
      const ModelTensors tensors(folder_.path());
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  }
  TempFolder folder_;
};

TEST_F(Index, JoinsShards) {
  EXPECT_EQ(
      refused(
          R"({"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})"),
      "accepted");
  const ModelTensors tensors(folder_.path());
  EXPECT_EQ(tensors.all().size(), 2U);
  EXPECT_EQ(tensors.get("b", {1}).file->path(), folder_ / "two.safetensors");
  EXPECT_THROW(tensors.get("c", {1}), Error);
  EXPECT_THROW(tensors.get("b", {2}), Error);
}

TEST_F(Index, RefusesMapsThatLie) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(refused("{}"), "'weight_map' is missing");
  has(refused("[]"), "'weight_map' is missing");
  has(refused("{"), "not JSON");
  has(refused(R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})"),
      "'a' appears twice");
  has(refused(R"({"weight_map":{"a":1}})"), "'weight_map.a' is 1");
  has(refused(R"({"weight_map":{"a":"../one.safetensors"}})"), "a plain file name");
  has(refused(R"({"weight_map":{"a":"/etc/passwd"}})"), "a plain file name");
  has(refused(R"({"weight_map":{"a":"three.safetensors"}})"), "cannot be opened");
  has(refused(R"({"weight_map":{"a":"two.safetensors"}})"), "'a' is not in two.safetensors");
  has(refused(R"({"weight_map":{"b":"two.safetensors","a":"two.safetensors"}})"),
      "'a' is not in two");
  write_text(folder_ / "two.safetensors",
             safetensors_bytes({{"b", {{1}, {2}}}, {"c", {{1}, {2}}}}, "F32"));
  has(refused(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})"),
      "'c' is not listed");
}

}  // namespace
}  // namespace stoat::test
