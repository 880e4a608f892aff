// `stoat memory` from outside: its table, its JSON, its exit codes.
#include <gtest/gtest.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/models/shell.h"

namespace stoat {
namespace {

Outcome run(const std::string& arguments) {
  const std::string command =
      "'" + std::string(STOAT_TEST_BIN_DIR) + "/stoat' memory " + arguments + " 2>&1";
  return shell(command);
}

TEST(MemoryProgram, PrintsEveryPatternAndAddsItsEnergyUp) {
  const Outcome table = run("hbm3_6400 --prices hbm3_attacc --boundary io");
  EXPECT_EQ(table.code, 0) << table.text;
  for (const char* name : {"a_stream", "b_gather256", "c_gather64", "d_stride256", "e_mixed"}) {
    EXPECT_NE(table.text.find(name), std::string::npos) << table.text;
  }
  EXPECT_NE(table.text.find("die + I/O"), std::string::npos);
  const Outcome json = run("hbm3_6400 --prices hbm3_attacc --pattern c_gather64 --json");
  ASSERT_EQ(json.code, 0) << json.text;
  const auto parsed = nlohmann::json::parse(json.text);
  const auto& line = parsed.at("patterns").at(0);
  EXPECT_EQ(line.at("bytes"), 524288);
  EXPECT_EQ(line.at("row_hits").get<int>() + line.at("row_misses").get<int>(), 16384);
  long long parts = 0;
  for (const auto& part : line.at("energy_parts_aJ")) parts += std::stoll(part.get<std::string>());
  EXPECT_EQ(std::to_string(parts), line.at("energy_aJ").get<std::string>());
}

TEST(MemoryProgram, MistakesAreOneLineAndExitTwo) {
  const std::pair<const char*, const char*> cases[] = {
      {"hbm3_6400 --queue 0", "queue of 0"},
      {"hbm3_64000", "did you mean 'hbm3_6400'?"},
      {"nosuch", "known: ddr5_4800, ddr5_6400, gddr6_14000"},
      {"hbm3_6400 --page opne", "did you mean 'open'"},
      {"hbm3_6400 --page timeout", "timeout of 0"},
      {"hbm3_6400 --pattern f_none", "f_none"},
      {"hbm3_6400 --address-order 'column bank_group^bank_group bank stack row'",
       "two addresses in one place"},
      {"ddr5_4800 --prices ddr5_4800b", "no price for activate"}};
  for (const auto& [arguments, part] : cases) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments << ": " << outcome.text;
    EXPECT_NE(outcome.text.find(part), std::string::npos) << outcome.text;
  }
}

}  // namespace
}  // namespace stoat
