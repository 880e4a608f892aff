// The committed measurements hold together: every percentile is recomputed from the raw samples,
// every bias from the norms of its batches, no kernel is faster than the bytes it must read, and
// results of other kernels than the sources' are told loudly (with STOAT_REQUIRE_FRESH_RESULTS:
// refused).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/models/shell.h"

namespace stoat {
namespace {

// The datasheet's 4.8 TB/s of an H200: no read can be faster.
constexpr double kPeakBytesPerMicrosecond = 4.8e6;
constexpr double kTimerNoise = 0.02;

// STOAT_GPU_RESULTS: look at another folder, before it is copied here.
const std::filesystem::path kResults = std::getenv("STOAT_GPU_RESULTS")
                                           ? std::getenv("STOAT_GPU_RESULTS")
                                           : STOAT_TEST_SOURCE_DIR "/gpu/results";

std::map<std::string, nlohmann::json> committed_results() {
  std::map<std::string, nlohmann::json> results;
  for (const auto& entry : std::filesystem::directory_iterator(kResults)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    results[entry.path().filename().string()] = nlohmann::json::parse(file);
  }
  return results;
}

double number(const nlohmann::json& row, const char* name) { return row.at(name).get<double>(); }

bool by_peer(const nlohmann::json& row) { return row.value("by", "stoat") != "stoat"; }

TEST(CommittedGpuResults, SayWhatTheyWereMeasuredOn) {
  const auto results = committed_results();
  ASSERT_FALSE(results.empty());
  for (const auto& [name, result] : results) {
    for (const char* key : {"gpu", "driver", "cuda_runtime", "build_id", "command"})
      EXPECT_FALSE(result.at(key).get<std::string>().empty()) << name << ": " << key;
    EXPECT_GT(number(result.at("clocks_after"), "sm_mhz"), 0) << name;
    EXPECT_FALSE(result.at("rows").empty()) << name;
  }
}

TEST(CommittedGpuResults, PercentilesFollowFromTheRawSamples) {
  for (const auto& [name, result] : committed_results()) {
    for (const nlohmann::json& row : result.at("rows")) {
      if (!row.contains("median_us")) continue;
      auto samples = row.at("samples_us").get<std::vector<double>>();
      ASSERT_GE(samples.size(), 20U) << name;
      std::sort(samples.begin(), samples.end());
      const auto at = [&](double p) {
        return samples[static_cast<std::size_t>(p * static_cast<double>(samples.size() - 1))];
      };
      EXPECT_EQ(number(row, "p10_us"), at(0.1));
      EXPECT_EQ(number(row, "median_us"), at(0.5));
      EXPECT_EQ(number(row, "p90_us"), at(0.9));
      EXPECT_GE(number(row, "rotated_bytes"), 640e6);
    }
  }
}

TEST(CommittedGpuResults, NoKernelIsFasterThanItsBytesOrItsReadFloor) {
  for (const auto& [file, result] : committed_results()) {
    std::map<std::pair<int, int>, std::map<std::string, double>> median;
    for (const nlohmann::json& row : result.at("rows")) {
      if (!row.contains("median_us")) continue;
      if (!by_peer(row))
        median[{row.at("batch").get<int>(), row.at("context").get<int>()}]
              [row.at("kernel").get<std::string>()] = number(row, "median_us");
      const double bytes = row.value("must_read_bytes", 0.0) * row.value("touched_fraction", 1.0);
      EXPECT_GE(number(row, "median_us"), bytes / kPeakBytesPerMicrosecond)
          << file << ": " << row.at("kernel");
    }
    for (const auto& [shape, kernels] : median) {
      for (const auto& [name, microseconds] : kernels) {
        if (name.find("ternary") != std::string::npos) continue;  // reads some features of K only
        const bool values = name.rfind("dense", 0) == 0 || name.rfind("read K and V", 0) == 0;
        double floor = 1e30;
        for (const char* end : {"", " overlapped"}) {
          const auto found = kernels.find(std::string(values ? "read K and V" : "read K") + end);
          if (found != kernels.end()) floor = std::min(floor, found->second);
        }
        if (floor > 1e29) continue;
        EXPECT_GE(microseconds, (1 - kTimerNoise) * floor)
            << file << ": " << name << ", batch " << shape.first << ", context " << shape.second;
      }
    }
  }
}

TEST(CommittedGpuResults, PeersWereRightBeforeTheyWereTimed) {
  for (const auto& [name, result] : committed_results()) {
    for (const nlohmann::json& row : result.at("rows")) {
      if (!by_peer(row)) continue;
      EXPECT_LE(number(row, "relative_error"), 5e-3) << name << row.at("kernel");
    }
  }
}

TEST(CommittedGpuResults, BiasFollowsFromItsBatchesAndKeepsItsBounds) {
  for (const auto& [name, result] : committed_results()) {
    if (result.at("format") != "stoat-bias") continue;
    for (const nlohmann::json& row : result.at("rows")) {
      const std::string what = name + ": " + row.at("case").get<std::string>();
      for (const char* key : {"against_dense", "against_codes"}) {
        const nlohmann::json& estimate = row.at(key);
        const auto norms = estimate.at("batch_norm2").get<std::vector<double>>();
        double own = 0;
        for (const double norm2 : norms) own += norm2;
        const auto batches = static_cast<double>(norms.size());
        const double squared = (number(estimate, "sum_norm2") - own) / (batches * (batches - 1));
        EXPECT_NEAR(number(estimate, "squared"), squared, 1e-9 * own) << what;
      }
      EXPECT_GE(number(row, "draws"), 65536) << what;
      if (row.at("flat").get<bool>()) {
        EXPECT_LE(number(row, "bias_raw"), 3 * number(row, "noise_floor")) << what;
      } else {
        EXPECT_LE(number(row, "bias"), 1e-3) << what;
      }
      EXPECT_LE(std::abs(number(row, "z_to_codes")), 6) << what;
      EXPECT_GT(number(row, "repeated_seeds_z"), 6) << what;
      if (row.at("method") == "prop" || row.at("method") == "sys") {
        EXPECT_NEAR(number(row, "draw_rms") / number(row, "systematic_rms"), 1, 0.03) << what;
      }
    }
  }
}

TEST(CommittedGpuResults, CountersStayNearTheBytesThatMustBeRead) {
  for (const auto& [name, result] : committed_results()) {
    if (result.at("format") != "stoat-counters") continue;
    for (const nlohmann::json& row : result.at("rows"))
      EXPECT_GE(number(row, "dram_read_bytes"), 0.99 * number(row, "must_read_bytes"))
          << name << ": " << row.at("kernel") << ", batch " << row.at("batch");
  }
}

TEST(CommittedGpuResults, AreWhatTheReadmeSays) {
  const std::string python = STOAT_PYTHON;
  if (python.empty()) GTEST_SKIP() << "python3 was not found";
  const auto [status, text] =
      shell(python + " -B '" STOAT_TEST_SOURCE_DIR "/scripts/gpu_table.py' --check 2>&1");
  EXPECT_EQ(status, 0) << text;
  if (!text.empty()) std::fprintf(stderr, "%s", text.c_str());
}

TEST(CommittedGpuResults, AreOfTheseKernels) {
  const std::string python = STOAT_PYTHON;
  if (python.empty()) GTEST_SKIP() << "python3 was not found";
  const auto [status, text] =
      shell(python + " -B '" STOAT_TEST_SOURCE_DIR "/scripts/kernel_hash.py' --against '" +
            kResults.string() + "'/*.json 2>&1");
  if (status == 0) return;
  std::fprintf(stderr,
               "\n********** WARNING: STALE GPU RESULTS **********\n%s"
               "************************************************\n\n",
               text.c_str());
  RecordProperty("stale", text);
  ASSERT_NE(text.find("STALE"), std::string::npos) << "kernel_hash.py itself failed:\n" << text;
  if (STOAT_REQUIRE_FRESH_RESULTS) FAIL() << "the results are not of these kernels";
}

}  // namespace
}  // namespace stoat
