// The core of models/: errors, units, tables, files, hashes, the thread pool.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "models/bf16.h"
#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"
#include "models/table.h"
#include "models/thread_pool.h"
#include "models/units.h"

namespace stoat {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("stoat-core-" + std::to_string(::getpid()))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return (path_ / name).string();
  }
  std::string at(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Errors, SayPlaceFoundExpectedAndRemedy) {
  const Error error = usage_error({"hbm3.yaml", 14, 9}, "unknown key 'chanels'", "a known key",
                                  nearest_name_hint("chanels", {"clock", "channels"}));
  EXPECT_STREQ(
      error.what(),
      "hbm3.yaml:14:9: unknown key 'chanels'; expected a known key; did you mean 'channels'?");
  EXPECT_EQ(error.code(), ExitCode::kUsage);
}

TEST(Errors, CountASwapOfNeighboursAsOneEdit) {
  EXPECT_EQ(nearest_name_hint("smi", {"report", "sim", "demo"}), "did you mean 'sim'?");
  EXPECT_EQ(nearest_name("ism", {"sim", "trace"}), "sim");
  EXPECT_EQ(nearest_name("ims", {"sim"}), "");  // two edits in three letters are too many
  EXPECT_EQ(nearest_name("methdo", {"method", "methane"}), "method");
}

TEST(Errors, ListTheKnownNamesWhenNoneIsNear) {
  EXPECT_EQ(nearest_name_hint("zzz", {"dense", "prop"}), "known: dense, prop");
}

TEST(Units, ReadExactDecimals) {
  EXPECT_EQ(parse_energy("3.48 pJ", "x").count(), 3480000);
  EXPECT_EQ(parse_energy("909pJ", "x").count(), 909000000);
  EXPECT_EQ(parse_energy("1e-3 fJ", "x").count(), 1);
  EXPECT_EQ(parse_frequency("1.3 GHz", "x").count(), 1300000000U);
  EXPECT_EQ(parse_bytes("64 KiB", "x").count(), 65536U);
  EXPECT_EQ(parse_time("0.5 ns", "x").count(), 500U);
}

TEST(Units, RefuseWhatCannotBeExactOrHasNoUnit) {
  EXPECT_NE(message_of([] { parse_energy("0.0000001 pJ", "price"); }).find("finer"),
            std::string::npos);
  EXPECT_NE(message_of([] { parse_energy("3.48", "price"); }).find("no unit"), std::string::npos);
  EXPECT_NE(message_of([] { parse_energy("3.48 MHz", "price"); }).find("unit 'MHz'"),
            std::string::npos);
  EXPECT_NE(message_of([] { parse_energy("-1 pJ", "price"); }).find("not a number"),
            std::string::npos);
  EXPECT_NE(message_of([] { parse_bytes("nan B", "x"); }).find("not a number"), std::string::npos);
  EXPECT_NE(message_of([] { parse_energy("1e400 J", "x"); }).find("out of range"),
            std::string::npos);
  EXPECT_NE(message_of([] { parse_time("99999999 s", "x"); }).find("out of range"),
            std::string::npos);
}

TEST(Units, CyclesBecomeTimeWithoutARoundedPeriod) {
  // 1.3 GHz has no whole period; 13 cycles are 10 ns exactly.
  EXPECT_EQ(time_of_cycles(13, Hertz(1300000000)).count(), 10000U);
  EXPECT_EQ(time_of_cycles(1, Hertz(1300000000)).count(), 769U);
  EXPECT_EQ(time_of_cycles_up(1, Hertz(1300000000)).count(), 770U);
  EXPECT_EQ(time_of_cycles(1300000000ULL * 3600, Hertz(1300000000)).count(),
            3600ULL * 1000000000000ULL);
  EXPECT_EQ(cycles_until(Picoseconds(770), Hertz(1300000000)), 2U);
  EXPECT_EQ(cycles_until(Picoseconds(769), Hertz(1300000000)), 1U);
}

TEST(Units, PrintIntegersAndDecimalsExactly) {
  EXPECT_EQ(to_string(-(static_cast<Int128>(1) << 100)), "-1267650600228229401496703205376");
  EXPECT_EQ(decimal(12345, 3), "12.345");
  EXPECT_EQ(decimal(-5, 3), "-0.005");
  EXPECT_EQ(decimal(5, 0), "5");
}

TEST(Bf16, RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(to_bf16(1.0F).bits, 0x3f80);
  EXPECT_EQ(to_bf16(1.00390625F).bits, 0x3f80);  // halfway: to even
  EXPECT_EQ(to_bf16(1.01171875F).bits, 0x3f82);  // halfway: to even, upwards
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::nanf("")))));
  EXPECT_EQ(to_float(Bf16{0x4049}), 3.140625F);
}

TEST(Tables, GiveCellsByNameWithQuotesAndComments) {
  const Folder folder;
  const std::string path = folder.write(
      "t.csv",
      "# head\nname,value,unit,source\nadd,0.38,pJ,\"Jouppi, \"\"Ten\"\"\"\nmul,1.5,pJ,x\n");
  const Table table = Table::read(path, {"name", "value"});
  ASSERT_EQ(table.size(), 2U);
  EXPECT_EQ(table.text(0, "source"), "Jouppi, \"Ten\"");
  EXPECT_EQ(table.number(1, "value"), 1.5);
  EXPECT_EQ(table.place(1).text(), path + ":4");
  const NamedValues values = NamedValues::read(path);
  EXPECT_EQ(values.number("add", "pJ"), 0.38);
}

TEST(Tables, NameFileAndLineOfEveryMistake) {
  const Folder folder;
  const auto read = [&](const std::string& text) {
    const std::string path = folder.write("bad.csv", text);
    return message_of([&] { NamedValues::read(path).number("a", "pJ"); });
  };
  EXPECT_NE(read("name,value,unit,source\na,1,pJ\n").find("bad.csv:2: this row has 3 cells"),
            std::string::npos);
  EXPECT_NE(read("name,value,unit\na,1,pJ\n").find("column 'source' is missing"),
            std::string::npos);
  EXPECT_NE(read("name,value,unit,source\na,\"1,pJ,x\n").find("bad.csv:2: a quote is not closed"),
            std::string::npos);
  EXPECT_NE(read("name,value,unit,source\na,1x,pJ,s\n").find("bad.csv:2: '1x'"), std::string::npos);
  EXPECT_NE(read("name,value,unit,source\na,nan,pJ,s\n").find("finite number"), std::string::npos);
  EXPECT_NE(read("name,value,unit,source\na,1,nJ,s\n").find("has the unit 'nJ'"),
            std::string::npos);
  EXPECT_NE(
      read("name,value,unit,source\na,1,pJ,s\na,2,pJ,s\n").find("bad.csv:3: 'a' stands twice"),
      std::string::npos);
  EXPECT_NE(read("name,value,unit,source\nb,1,pJ,s\n").find("row 'a' is missing"),
            std::string::npos);
  EXPECT_NE(read("").find("empty"), std::string::npos);
  EXPECT_NE(message_of([] { Table::read("/nonexistent/x.csv", {}); }).find("cannot be opened"),
            std::string::npos);
}

TEST(Files, AppearWholeOrNotAtAll) {
  const Folder folder;
  write_file_whole(folder.at("a.txt"), "hello");
  EXPECT_EQ(read_file(folder.at("a.txt")), "hello");
  EXPECT_THROW(write_file_whole(folder.at("no/such/folder.txt"), "x"), Error);
  EXPECT_FALSE(fs::exists(folder.at("no")));
  EXPECT_EQ(message_of([] { write_file_whole("/dev/full/x", "x"); }).find("no error"),
            std::string::npos);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.at(""))) ++files;
  EXPECT_EQ(files, 1U) << "a temporary file was left behind";
  EXPECT_THROW(read_file(folder.at("a.txt"), 3), Error);
  EXPECT_THROW(read_file(folder.at("")), Error);
}

TEST(Hashes, MatchPublishedValues) {
  EXPECT_EQ(crc32c("123456789", 9), 0xE3069283U);  // CRC-32C check value
  const std::string zeros(32, '\0');
  EXPECT_EQ(crc32c(zeros.data(), 32), 0x8A9136AAU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff').data(), 32), 0x62A8AB43U);
  EXPECT_EQ(xxh64("", 0), 0xEF46DB3751D8E999ULL);                // XXH64, empty input, seed 0
  EXPECT_EQ(hash_text(""), "99aa06d3014798d86001c324468d497f");  // XXH3-128, empty input
  const Folder folder;
  EXPECT_EQ(hash_file(folder.write("h", "some text")), hash_text("some text"));
}

// Eight bytes at a time and what is left, against one bit at a time.
TEST(Hashes, ACheckSumOfAnyLengthIsThatOfItsBits) {
  std::string text;
  for (int i = 0; i < 45; ++i) {
    std::uint32_t rest = 0xFFFFFFFF;
    for (const char byte : text) {
      rest ^= static_cast<unsigned char>(byte);
      for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ (rest & 1 ? 0x82F63B78U : 0U);
    }
    EXPECT_EQ(crc32c(text.data(), text.size()), ~rest) << i;
    EXPECT_EQ(crc32c_by_table(reinterpret_cast<const unsigned char*>(text.data()), text.size()),
              ~rest)
        << i;
    text += static_cast<char>(i * 37 + 200);
  }
}

TEST(ThreadPool, CallsEveryChunkOnceWhateverTheThreads) {
  for (const unsigned threads : {1U, 2U, 5U}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::size_t chunks : {std::size_t{0}, std::size_t{1}, std::size_t{1000}}) {
      std::vector<int> calls(chunks, 0);
      pool.for_chunks(chunks, [&](std::size_t chunk) { ++calls[chunk]; });
      for (const int count : calls) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadPool, RethrowsTheLowestChunksErrorAndGoesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    EXPECT_EQ(message_of([&] {
                pool.for_chunks(64, [](std::size_t chunk) {
                  if (chunk % 7 == 3) throw Error(ExitCode::kUsage, std::to_string(chunk));
                });
              }),
              "3");
  }
  EXPECT_THROW(pool.for_chunks(1, [&](std::size_t) { pool.for_chunks(1, [](std::size_t) {}); }),
               Bug);
}

}  // namespace
}  // namespace stoat
