// The committed measurements hold together: every median and percentile is recomputed from the raw
// samples, and no kernel is faster than the bytes it must read.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

namespace stoat {
namespace {

nlohmann::json read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

std::vector<std::filesystem::path> committed_results() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(STOAT_TEST_SOURCE_DIR "/gpu/results")) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  return files;
}

TEST(CommittedGpuResults, MediansFollowFromTheRawSamples) {
  const auto files = committed_results();
  ASSERT_FALSE(files.empty());
  for (const auto& path : files) {
    const nlohmann::json result = read(path);
    EXPECT_FALSE(result.at("gpu").get<std::string>().empty());
    EXPECT_FALSE(result.at("driver").get<std::string>().empty());
    for (const nlohmann::json& row : result.at("rows")) {
      auto samples = row.at("samples_us").get<std::vector<double>>();
      ASSERT_GE(samples.size(), 20U);
      std::sort(samples.begin(), samples.end());
      const auto at = [&](double p) {
        return samples[static_cast<std::size_t>(p * static_cast<double>(samples.size() - 1))];
      };
      EXPECT_EQ(row.at("p10_us").get<double>(), at(0.1));
      EXPECT_EQ(row.at("median_us").get<double>(), at(0.5));
      EXPECT_EQ(row.at("p90_us").get<double>(), at(0.9));
    }
  }
}

TEST(CommittedGpuResults, NoKernelIsFasterThanItsReadFloor) {
  for (const auto& path : committed_results()) {
    std::map<std::pair<int, int>, std::map<std::string, double>> median;
    for (const nlohmann::json& row : read(path).at("rows")) {
      median[{row.at("batch").get<int>(), row.at("context").get<int>()}]
            [row.at("kernel").get<std::string>()] = row.at("median_us").get<double>();
    }
    for (const auto& [shape, kernels] : median) {
      for (const auto& [name, microseconds] : kernels) {
        EXPECT_GE(microseconds, kernels.at(name == "dense" ? "read K and V" : "read K"))
            << name << ", batch " << shape.first << ", context " << shape.second;
      }
    }
  }
}

}  // namespace
}  // namespace stoat
