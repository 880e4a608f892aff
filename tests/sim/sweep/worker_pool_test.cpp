// Workers that answer, throw, crash, run too long or eat memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "models/error.h"
#include "models/files.h"
#include "sim/sweep/result_store.h"
#include "sim/sweep/shards.h"
#include "sim/sweep/worker_pool.h"

#include <chrono>
#include <cstdio>
#include <filesystem>

namespace stoat::sim {
namespace {

namespace fs = std::filesystem;

std::map<std::uint64_t, TaskOutcome> outcomes(
    std::uint64_t count, WorkerLimits limits,
    const std::function<std::string(std::uint64_t)>& work) {
  std::map<std::uint64_t, TaskOutcome> found;
  const std::atomic<bool> stop{false};
  const std::uint64_t reported = run_workers(
      count, limits, work,
      [&](std::uint64_t task, TaskOutcome&& outcome) {
        EXPECT_EQ(found.count(task), 0U) << "reported twice";
        found[task] = std::move(outcome);
      },
      [] {}, stop);
  EXPECT_EQ(reported, count);
  return found;
}

TEST(WorkerPool, GivesEveryAnswerOnceWhateverTheNumberOfJobs) {
  for (const unsigned jobs : {1U, 2U, 8U}) {
    const auto found = outcomes(50, {jobs, 0, 0, 2}, [](std::uint64_t task) {
      return std::string(100000, static_cast<char>('a' + task % 26)) + std::to_string(task);
    });
    for (std::uint64_t i = 0; i < 50; ++i) {
      EXPECT_TRUE(found.at(i).good);
      EXPECT_EQ(found.at(i).attempts, 1U);
      EXPECT_EQ(found.at(i).text.substr(100000), std::to_string(i));
    }
  }
}

TEST(WorkerPool, NamesTheSignalTheExitCodeOrTheReason) {
  const auto found = outcomes(5, {2, 0, 0, 2}, [](std::uint64_t task) -> std::string {
    if (task == 0) std::abort();
    if (task == 1) ::_exit(7);
    if (task == 2) throw Error(ExitCode::kResource, "no disk");
    if (task == 3) throw usage_error({}, "a wrong design");
    return "good";
  });
  EXPECT_NE(found.at(0).text.find("signal 6 (Aborted)"), std::string::npos) << found.at(0).text;
  EXPECT_EQ(found.at(0).attempts, 2U);
  EXPECT_NE(found.at(1).text.find("exit code 7"), std::string::npos) << found.at(1).text;
  EXPECT_EQ(found.at(2).text, "no disk");
  EXPECT_EQ(found.at(3).text, "a wrong design");
  EXPECT_EQ(found.at(3).attempts, 1U) << "a wrong design stays wrong";
  EXPECT_TRUE(found.at(4).good);
}

TEST(WorkerPool, TriesAPointOnceMore) {
  std::string pattern = (fs::temp_directory_path() / "stoat-pool-XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const std::string mark = pattern + "/mark";
  const auto found = outcomes(1, {1, 0, 0, 2}, [&](std::uint64_t) -> std::string {
    if (!fs::exists(mark)) {
      write_file_whole(mark, "x");
      std::abort();
    }
    return "second";
  });
  EXPECT_TRUE(found.at(0).good);
  EXPECT_EQ(found.at(0).attempts, 2U);
  fs::remove_all(pattern);
}

TEST(WorkerPool, EndsWhatTakesTooLong) {
  const auto begin = std::chrono::steady_clock::now();
  const auto found = outcomes(2, {2, 0, 0.3, 1}, [](std::uint64_t task) -> std::string {
    if (task == 0) ::sleep(60);
    return "good";
  });
  EXPECT_NE(found.at(0).text.find("longer than the limit"), std::string::npos) << found.at(0).text;
  EXPECT_TRUE(found.at(1).good);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(WorkerPool, EndsWhatNeedsTooMuchMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers reserve address space";
#endif
  const auto found = outcomes(2, {2, 64U << 20, 0, 1}, [](std::uint64_t task) -> std::string {
    std::vector<char> much(task == 0 ? std::size_t{1} << 30 : 1 << 20, 'x');
    return std::string(1, much[much.size() / 2]);
  });
  EXPECT_NE(found.at(0).text.find("more than the limit of 64 MiB"), std::string::npos)
      << found.at(0).text;
  EXPECT_TRUE(found.at(1).good);
}

// What a task costs is printed, not asserted: machines are busy.
TEST(WorkerPool, RunsManySmallTasks) {
  const auto begin = std::chrono::steady_clock::now();
  const auto found =
      outcomes(500, {2, 0, 0, 1}, [](std::uint64_t task) { return std::to_string(task); });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(found.size(), 500U);
  std::printf("%.2f ms a task\n", seconds * 2);
}

TEST(WorkerPool, StopsWhenAsked) {
  std::atomic<bool> stop{false};
  std::uint64_t done = 0;
  run_workers(
      1000, {2, 0, 0, 1}, [](std::uint64_t) { return std::string("x"); },
      [&](std::uint64_t, TaskOutcome&&) {
        if (++done == 5) stop = true;
      },
      [] {}, stop);
  EXPECT_LT(done, 10U);
}

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "stoat-store-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  fs::path folder_;
};

using Store = Files;
using Shards = Files;

TEST_F(Store, KeepsResultsAndFailures) {
  {
    ResultStore store(path("s.sqlite"));
    store.put("a", "body");
    store.put_failure({"b", "why", 2});
  }
  ResultStore store(path("s.sqlite"));
  EXPECT_EQ(store.find("a"), "body");
  EXPECT_EQ(store.find("b"), std::nullopt);
  ASSERT_EQ(store.failures().size(), 1U);
  EXPECT_EQ(store.failures()[0].reason, "why");
  store.put("b", "now");
  EXPECT_TRUE(store.failures().empty()) << "a result ends a failure";
}

TEST_F(Store, DropsAResultWhoseHashIsWrong) {
  {
    ResultStore store(path("s.sqlite"));
    store.put("a", "body-of-the-point");
    store.put("b", "another");
  }
  std::string bytes = read_file(path("s.sqlite"));
  const std::size_t at = bytes.find("body-of-the-point");
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 'X';
  write_file_whole(path("s.sqlite"), bytes);
  ResultStore store(path("s.sqlite"));
  EXPECT_EQ(store.find("a"), std::nullopt);
  EXPECT_EQ(store.keys().count("a"), 0U);
  EXPECT_EQ(store.find("b"), "another");
}

TEST_F(Store, MovesAFileThatIsNoDatabaseAway) {
  write_file_whole(path("s.sqlite"), std::string(8192, 'z'));
  ResultStore store(path("s.sqlite"));
  EXPECT_TRUE(store.keys().empty());
  EXPECT_TRUE(fs::exists(path("s.sqlite.damaged")));
}

TEST_F(Store, RefusesAnotherVersion) {
  { ResultStore store(path("s.sqlite")); }
  std::string bytes = read_file(path("s.sqlite"));
  bytes[63] = 9;  // user_version, big-endian at 60
  write_file_whole(path("s.sqlite"), bytes);
  try {
    ResultStore store(path("s.sqlite"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDamaged);
    EXPECT_NE(std::string(error.what()).find("version 9"), std::string::npos) << error.what();
  }
}

TEST_F(Shards, MergeWhateverTheOrderAndCountDuplicates) {
  for (const std::uint32_t shard : {0U, 1U}) {
    ShardWriter writer(path("shards"), {shard, 2});
    writer.result("same", "body");
    writer.result("own" + std::to_string(shard), "x");
    writer.failure({"bad", shard == 0 ? "zebra" : "ant", 2});
    if (shard == 1) writer.failure({"own0", "but it worked elsewhere", 2});
  }
  const ShardContents all = read_shards(path("shards"));
  EXPECT_EQ(all.files, 2U);
  EXPECT_EQ(all.results.size(), 3U);
  EXPECT_EQ(all.duplicates, 1U);
  ASSERT_EQ(all.failures.size(), 1U);
  EXPECT_EQ(all.failures.at("bad").reason, "ant");
  EXPECT_TRUE(all.damage.empty());
}

TEST_F(Shards, NameADamagedLineAndKeepTheRest) {
  std::string file;
  {
    ShardWriter writer(path("shards"), {0, 1});
    writer.result("a", "first");
    writer.result("b", "second");
    writer.result("c", "third");
    file = writer.path();
  }
  std::string bytes = read_file(file);
  bytes[bytes.find("second")] ^= 1;
  write_file_whole(file, bytes);
  ShardContents all = read_shards(path("shards"));
  EXPECT_EQ(all.results.size(), 2U);
  EXPECT_EQ(all.results.count("b"), 0U);
  ASSERT_EQ(all.damage.size(), 1U);
  EXPECT_NE(all.damage[0].find("line 3"), std::string::npos) << all.damage[0];
  // A line cut short is what a killed worker leaves: no damage.
  write_file_whole(file, bytes.substr(0, bytes.size() - 4));
  all = read_shards(path("shards"));
  EXPECT_EQ(all.results.size(), 1U);
  EXPECT_EQ(all.damage.size(), 1U);
}

TEST_F(Shards, DetectEveryFlippedBit) {
  std::string file;
  {
    ShardWriter writer(path("shards"), {0, 1});
    writer.result("a", "first");
    file = writer.path();
  }
  const std::string good = read_file(file);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    write_file_whole(file, bytes);
    const ShardContents all = read_shards(path("shards"));
    for (const auto& [key, body] : all.results) EXPECT_EQ(key + body, "afirst") << bit;
  }
}

TEST_F(Shards, RefuseTwoAnswersToOnePoint) {
  for (const char* body : {"one", "two"}) {
    ShardWriter writer(path("shards"), {0, 1});
    writer.result("a", body);
  }
  EXPECT_THROW(read_shards(path("shards")), Error);
}

TEST(ShardNumber, ReadsIOfN) {
  EXPECT_EQ(ShardNumber::parse("3/16").index, 3U);
  for (const char* wrong : {"", "3", "16/16", "-1/2", "1/0", "1/2x", "a/b"})
    EXPECT_THROW(ShardNumber::parse(wrong), Error) << wrong;
}

}  // namespace
}  // namespace stoat::sim
