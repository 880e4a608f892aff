// The committed measurements of whole models (gpu/llm/results): medians are those of the samples,
// and the README's table is what scripts/step_table.py makes of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/models/shell.h"

namespace stoat {
namespace {

const std::filesystem::path kRoot = STOAT_TEST_SOURCE_DIR;

TEST(CommittedStepResults, HoldTheMediansOfTheirSamples) {
  std::size_t rows = 0;
  for (const char* name : {"steps_h200.json", "recording_h200.json"}) {
    const auto path = kRoot / "gpu/llm/results" / name;
    if (!std::filesystem::exists(path)) continue;
    const auto result = nlohmann::json::parse(std::ifstream(path));
    EXPECT_EQ(result.at("format"), "stoat-step-bench");
    for (const auto& row : result.at("rows")) {
      if (!row.contains("samples_us")) continue;
      auto samples = row.at("samples_us").get<std::vector<double>>();
      std::sort(samples.begin(), samples.end());
      ASSERT_GE(samples.size(), 3U);
      EXPECT_EQ(row.at("median_us").get<double>(), samples[(samples.size() - 1) / 2]) << row;
      EXPECT_GT(samples.front(), 0);
      ++rows;
    }
  }
  EXPECT_GT(rows, 0U);
}

TEST(CommittedStepResults, AreWhatTheReadmeSays) {
  const std::string python = STOAT_PYTHON;
  if (python.empty()) GTEST_SKIP() << "python3 was not found";
  const std::string command =
      python + " -B '" + (kRoot / "scripts/step_table.py").string() + "' --check 2>&1";
  const Outcome outcome = shell(command);
  EXPECT_EQ(outcome.code, 0) << outcome.text;
}

}  // namespace
}  // namespace stoat
