// From decoded steps to the spool: order, failures, and the bound on what is on its way.
#include "gpu/recorder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <thread>

#include "models/error.h"
#include "tests/gpu/fixtures.h"
#include "traces/reader.h"

namespace stoat {
namespace {

constexpr std::uint32_t kHeads = 4, kBudget = 64;

TraceHeader small_header() {
  TraceHeader header;
  header.model_name = "none";
  header.method = Method::kProp;
  header.budgets = {kBudget};
  header.row_bytes = 128;
  header.n_layers = 1;
  header.n_q_heads = kHeads;
  header.n_kv_heads = 2;
  header.head_dim = 64;
  return header;
}

// `sequences` of `rows` distinct rows a head.
void fill(TraceRecords& records, std::uint32_t step, std::uint32_t sequences, std::uint32_t rows) {
  for (std::uint32_t sequence = 0; sequence < sequences; ++sequence) {
    records.token_id.push_back(static_cast<std::int32_t>(step));
    for (std::uint16_t head = 0; head < kHeads; ++head) {
      Selection selection;
      for (std::uint32_t i = 0; i < rows; ++i)
        selection.rows.push_back({7 * i + step % 7, static_cast<std::uint16_t>(kBudget / rows)});
      append_record(records, sequence, step, 0, head, head / 2, 7 * kBudget, RecordKind::kSampled,
                    kBudget, selection);
    }
  }
}

TEST(Recorder, WritesStepsInOrderWhateverTimeTheyTake) {
  const test::TempFolder folder;
  const std::string path = folder.path("out.stoat");
  Recorder recorder(path, small_header(), 1, 5);
  std::vector<std::uint32_t> written;
  const auto note = [&](const StepSummary& step) { written.push_back(step.step); };
  for (std::uint32_t step = 0; step < 60; ++step) {
    recorder.add({{0},
                  [step](TraceRecords& records) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(step * 13 % 5));
                    fill(records, step, 1, 16);
                  }},
                 note);
  }
  recorder.drain(note);
  recorder.finish();
  ASSERT_EQ(written.size(), 60U);
  const TraceRecords records = TraceReader(path).read_all();
  ASSERT_EQ(records.token_id.size(), 60U);
  for (std::uint32_t step = 0; step < 60; ++step) {
    EXPECT_EQ(written[step], step);
    EXPECT_EQ(records.token_id[step], static_cast<std::int32_t>(step));
    EXPECT_EQ(records.row[records.value_indptr[step * kHeads] + 1], 7 + step % 7);
  }
}

TEST(Recorder, KeepsWhatWasBeforeAFailureAndNothingBehindIt) {
  const test::TempFolder folder;
  auto recorder = std::make_unique<Recorder>(folder.path("out.stoat"), small_header(), 1, 4);
  bool failed = false;
  try {
    for (std::uint32_t step = 0; step < 30; ++step) {
      recorder->add({{0}, [step](TraceRecords& records) {
                       if (step == 11)
                         throw resource_error({"device"}, "the device is lost", "a device");
                       fill(records, step, 1, 16);
                     }});
    }
    recorder->drain();
  } catch (const Error& error) {
    failed = true;
    EXPECT_NE(std::string(error.what()).find("the device is lost"), std::string::npos);
  }
  EXPECT_TRUE(failed);
  recorder->keep_finished_steps();
  EXPECT_EQ(recorder->steps().size(), 11U);
  const std::string spool = recorder->spool_path();
  recorder.reset();
  std::uint64_t lost = 0;
  recover_spool(spool, folder.path("kept.stoat"), &lost);
  EXPECT_EQ(TraceReader(folder.path("kept.stoat")).read_all().token_id.size(), 11U);
}

TEST(Recorder, BoundsTheStepsOnTheirWay) {
  const test::TempFolder folder;
  std::atomic<int> on_the_way{0}, most{0}, packed{0}, most_packed{0};
  Recorder recorder(folder.path("out.stoat"), small_header(), std::size_t{300} << 20, 16);
  for (std::uint32_t step = 0; step < 40; ++step) {
    most = std::max(most.load(), ++on_the_way);
    recorder.add({{0},
                  [&, step](TraceRecords& records) {
                    const int now = ++packed;
                    for (int before = most_packed; before < now;)
                      if (most_packed.compare_exchange_weak(before, now)) break;
                    std::this_thread::sleep_for(std::chrono::milliseconds(2));
                    fill(records, step, 1, 16);
                    --packed;
                  }},
                 [&](const StepSummary&) { --on_the_way; });
  }
  recorder.drain();
  EXPECT_LE(most_packed.load(), 2);  // a step of 300 MB is large while it is packed
  EXPECT_LE(most.load(), 6);         // two that wait behind them, one that comes, one just written
  EXPECT_GE(most.load(), 2);
}

// Unions are counted beside the packing where threads are left, and are the same.
TEST(Recorder, UnionsDoNotDependOnWhoCountsThem) {
  const test::TempFolder folder;
  const auto rows_of_groups = [&](const char* name, std::size_t bytes, unsigned threads) {
    Recorder recorder(folder.path(name), small_header(), bytes, threads);
    for (std::uint32_t step = 0; step < 20; ++step)
      recorder.add({{0}, [step](TraceRecords& records) { fill(records, step, 8, 64); }});
    recorder.drain();
    std::vector<double> rows;
    for (const StepSummary& step : recorder.steps()) rows.push_back(step.rows_per_group);
    return rows;
  };
  const std::vector<double> alone = rows_of_groups("alone.stoat", 0, 1);
  ASSERT_EQ(alone.size(), 20U);
  EXPECT_GT(alone.front(), 0);
  EXPECT_EQ(rows_of_groups("packed.stoat", std::size_t{1} << 20, 2), alone);
  EXPECT_EQ(rows_of_groups("helped.stoat", std::size_t{200} << 20, 16), alone);
}

double resident_megabytes() {
  std::ifstream file("/proc/self/statm");
  double pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * 4096 / 1e6;
}

TEST(Recorder, KeepsTheMemoryFlatOverManySteps) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer keeps what is freed";
#endif
  const test::TempFolder folder;
  Recorder recorder(folder.path("out.stoat"), small_header(), std::size_t{1} << 20, 4);
  double early = 0;
  for (std::uint32_t step = 0; step < 6000; ++step) {
    recorder.add({{0}, [step](TraceRecords& records) { fill(records, step, 32, 64); }});
    if (step == 1500) early = resident_megabytes();
  }
  // 4500 steps of 49 KB are 220 MB; what is kept of a step is its summary.
  EXPECT_LT(resident_megabytes() - early, 16);
}

}  // namespace
}  // namespace stoat
