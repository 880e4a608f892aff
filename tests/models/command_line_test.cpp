// What people get to see when a word of the command line or the name of an output is wrong.
#include "models/command_line.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "models/error.h"
#include "models/files.h"
#include "models/units.h"

namespace stoat {
namespace {

namespace fs = std::filesystem;

const KnownWords kKnown{{"--method", "--seed"}, {"info", "check"}};

TEST(CommandLine, NamesTheNearestOption) {
  EXPECT_EQ(command_line_problem("stoat trace", {"info", "--methd=prop"}, kKnown, "x"),
            "stoat trace: unknown option '--methd'; did you mean '--method'?");
}

TEST(CommandLine, NamesTheNearestVerb) {
  EXPECT_EQ(command_line_problem("stoat trace", {"chek"}, kKnown, "x"),
            "stoat trace: unknown verb 'chek'; did you mean 'check'?");
}

TEST(CommandLine, PassesOnWhatTheParserSaidInOneLine) {
  EXPECT_EQ(command_line_problem("stoat trace", {"info", "--seed"}, kKnown, "a\nb.\n"),
            "stoat trace: a b; see 'stoat trace --help'");
}

TEST(CommandLine, DoesNotLookBehindTheEndOfOptions) {
  EXPECT_EQ(command_line_problem("stoat trace", {"info", "--", "--odd-name"}, kKnown, "said"),
            "stoat trace: said; see 'stoat trace --help'");
}

TEST(Counts, AreDigitsAndNothingElse) {
  EXPECT_EQ(parse_count("18446744073709551615", "S"), ~std::uint64_t{0});
  EXPECT_EQ(parse_count("010", "S"), 10U);
  for (const char* bad : {"", "-1", "+1", "0x10", " 1", "1 ", "1.5", "18446744073709551616"})
    EXPECT_THROW(parse_count(bad, "S"), Error) << bad;
  EXPECT_THROW(parse_count("65", "S", 64), Error);
}

class OutputName : public testing::Test {
 protected:
  OutputName() : folder_(fs::temp_directory_path() / ("stoat-out-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~OutputName() override { fs::remove_all(folder_); }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  static void expect_refused(const std::string& path, bool replace, const std::string& part) {
    try {
      ensure_output_file(path, replace);
      ADD_FAILURE() << path << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  fs::path folder_;
};

TEST_F(OutputName, MayBeNewOrReplacedOnRequest) {
  EXPECT_NO_THROW(ensure_output_file(at("new"), false));
  EXPECT_NO_THROW(ensure_output_file(at(std::string(231, 'x')), false));
  std::ofstream(at("old")) << "precious";
  expect_refused(at("old"), false, "--force");
  EXPECT_NO_THROW(ensure_output_file(at("old"), true));
  EXPECT_EQ(fs::file_size(at("old")), 8U);
}

TEST_F(OutputName, IsNeverADeviceAPipeOrALink) {
  expect_refused("/dev/null", true, "a device");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  expect_refused(at("pipe"), true, "pipe");
  fs::create_symlink(at("nothing"), at("link"));
  expect_refused(at("link"), true, "symbolic link");
}

TEST_F(OutputName, IsNotEmptyNotAFolderNotTooLongAndNotAStream) {
  expect_refused("", true, "-o: an empty name");
  expect_refused("-", true, "./-");
  expect_refused(folder_.string(), true, "a folder");
  expect_refused(at("none/"), true, "a folder");
  expect_refused(at("none/x"), true, "no such folder");
  expect_refused(at(std::string(232, 'x')), true, "at most 231");
  expect_refused(at(std::string(5000, 'x')), true, "at most 231");
}

}  // namespace
}  // namespace stoat
