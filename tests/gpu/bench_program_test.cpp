// The program stoat-bench as people meet it without a GPU: wrong words in one line with the right
// exit code.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/gpu/fixtures.h"

namespace stoat {
namespace {

test::ProgramResult bench(const std::vector<std::string>& words) {
  const test::TempFolder folder;
  std::vector<std::string> command{STOAT_TEST_BIN_DIR "/stoat-bench"};
  command.insert(command.end(), words.begin(), words.end());
  return test::run_program(folder, command);
}

TEST(BenchProgram, TellsAWrongOptionInOneLineWithTheNearestKnownOne) {
  const struct {
    std::vector<std::string> words;
    std::string says;
  } cases[] = {
      {{"--replayz", "3"}, "stoat-bench: unknown option '--replayz'; did you mean '--replays'?"},
      {{"bias", "--drawz", "3"},
       "stoat-bench bias: unknown option '--drawz'; did you mean '--draws'?"},
      {{"step", "--bath", "3"},
       "stoat-bench step: unknown option '--bath'; did you mean '--batch'?"},
      {{"--replays", "0"}, "--replays: Value 0 not in range 1 to 10000"},
      {{"--only", "nonsense"}, "--only"},
  };
  for (const auto& at : cases) {
    const test::ProgramResult result = bench(at.words);
    EXPECT_EQ(result.exit_code, 2) << at.says;
    EXPECT_NE(result.err.find(at.says), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
    EXPECT_TRUE(result.out.empty()) << result.out;
  }
}

TEST(BenchProgram, HelpGoesToStandardOutput) {
  const test::ProgramResult result = bench({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.out.find("--energy"), std::string::npos);
}

}  // namespace
}  // namespace stoat
