// What the report refuses, and what it says then.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/error.h"
#include "sim/sweep/report_data.h"
#include "sim/sweep/report_style.h"
#include "tests/sim/sweep/result_folder.h"

namespace stoat::sim {
namespace {

using namespace stoat::sim::test;

std::string slurp(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void replace_in(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = slurp(path);
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  std::ofstream(path) << text;
}

// Runs f, which must throw an Error; returns its text.
template <class F>
std::string error_of(F f, ExitCode code) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

class ReportInput : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = new_folder(::testing::UnitTest::GetInstance()->current_test_info()->name());
    write_result_folder(folder_, {fake_mac(), fake_gather_add()});
  }
  std::string read(ExitCode code) {
    return error_of([&] { read_report_data({folder_}, {}); }, code);
  }
  std::string folder_;
};

TEST_F(ReportInput, AGoodFolderIsRead) {
  EXPECT_EQ(read_report_data({folder_}, {}).datapaths.size(), 2u);
}

TEST_F(ReportInput, AMissingColumnIsNamedWithFileAndLine) {
  replace_in(folder_ + "/energy.csv", "price_aJ", "price");
  const std::string text = read(ExitCode::kDamaged);
  EXPECT_NE(text.find("energy.csv:1"), std::string::npos) << text;
  EXPECT_NE(text.find("price_aJ"), std::string::npos) << text;
}

TEST_F(ReportInput, ATextWhereANumberIsDueIsNamedWithItsLine) {
  replace_in(folder_ + "/traffic.csv", "mac,value,26214400", "mac,value,many");
  const std::string text = read(ExitCode::kDamaged);
  EXPECT_NE(text.find("traffic.csv:3"), std::string::npos) << text;
  EXPECT_NE(text.find("many"), std::string::npos) << text;
}

TEST_F(ReportInput, AMissingFileIsNamed) {
  std::filesystem::remove(folder_ + "/traffic.csv");
  EXPECT_NE(read(ExitCode::kUsage).find("traffic.csv"), std::string::npos);
}

TEST_F(ReportInput, PartsThatDoNotSumToTheTotalAreRefused) {
  FakeDatapath wrong = fake_mac();
  wrong.energy_off_by = 1;  // one attojoule
  write_result_folder(folder_, {wrong});
  EXPECT_NE(read(ExitCode::kDamaged).find("sum to"), std::string::npos);
}

TEST_F(ReportInput, ADatapathThatTheSummaryDoesNotKnowIsRefused) {
  replace_in(folder_ + "/energy.csv", "gather_add,score", "gather_sub,score");
  EXPECT_NE(read(ExitCode::kDamaged).find("gather_sub"), std::string::npos);
}

TEST_F(ReportInput, ZeroStepsAreRefused) {
  FakeDatapath empty = fake_mac();
  empty.steps = 0;
  write_result_folder(folder_, {empty});
  EXPECT_NE(read(ExitCode::kDamaged).find("0 steps"), std::string::npos);
}

TEST_F(ReportInput, AnEmptySummaryIsRefused) {
  write_result_folder(folder_, {});
  EXPECT_NE(read(ExitCode::kDamaged).find("no rows"), std::string::npos);
}

TEST_F(ReportInput, ABrokenManifestIsNamedWithItsLine) {
  std::ofstream(folder_ + "/manifest.json") << "{\n\"a\": 1,\n oops}";
  EXPECT_NE(read(ExitCode::kDamaged).find("manifest.json:3"), std::string::npos);
}

TEST_F(ReportInput, AManifestNestedTooDeepIsRefusedAndDoesNotCrash) {
  std::string text = "{\"a\":";
  for (int i = 0; i < 100000; ++i) text += '[';
  for (int i = 0; i < 100000; ++i) text += ']';
  std::ofstream(folder_ + "/manifest.json") << text + "}";
  EXPECT_NE(read(ExitCode::kDamaged).find("manifest.json"), std::string::npos);
}

TEST_F(ReportInput, AFolderWithoutResultsSaysHowToMakeThem) {
  const std::string empty = new_folder("empty");
  const std::string text = error_of([&] { read_report_data({empty}, {}); }, ExitCode::kUsage);
  EXPECT_NE(text.find("stoat sim"), std::string::npos) << text;
  error_of([&] { read_report_data({empty + "/nothing"}, {}); }, ExitCode::kUsage);
}

TEST_F(ReportInput, TheFolderOfADemoIsReadToo) {
  const std::string demo = new_folder("demo");
  std::filesystem::create_directories(demo + "/results");
  write_result_folder(demo + "/results/dense", {fake_mac()});
  write_result_folder(demo + "/results/prop", {fake_gather_add()});
  EXPECT_EQ(read_report_data({demo}, {}).datapaths.size(), 2u);
}

TEST_F(ReportInput, ANamedTraceMustBeATrace) {
  error_of([&] { read_report_data({folder_}, {folder_ + "/summary.csv"}); }, ExitCode::kUsage);
}

TEST_F(ReportInput, AFoundFileThatIsNoTraceIsOnlyRemarked) {
  std::ofstream(folder_ + "/noise.h5") << "not a trace";
  const ReportData data = read_report_data({folder_}, {});
  EXPECT_TRUE(data.traces.empty());
  ASSERT_FALSE(data.notes.empty());
  EXPECT_NE(data.notes[0].find("noise.h5"), std::string::npos);
}

TEST(SideFile, OneThatBelongsToAnotherTraceIsRefused) {
  TraceView view;
  view.content_hash = "aaaa";
  const std::string other = R"({"result": {"content_hash": "bbbb", "answers": []}})";
  EXPECT_NE(error_of([&] { read_side_file(other, "t.h5.run.json", view); }, ExitCode::kDamaged)
                .find("bbbb"),
            std::string::npos);
  error_of([&] { read_side_file("{", "t.h5.run.json", view); }, ExitCode::kDamaged);
  error_of([&] { read_side_file("[]", "t.h5.run.json", view); }, ExitCode::kDamaged);
}

TEST(Plotly, AMissingFileIsAnErrorOfUsage) {
  error_of([] { plotly_source("/nowhere/plotly.js"); }, ExitCode::kUsage);
}

}  // namespace
}  // namespace stoat::sim
