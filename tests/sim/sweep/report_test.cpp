// The page: well formed where it matters, the same bytes for the same input, honest about what is
// missing.
#include "sim/sweep/report.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/sim/sweep/result_folder.h"
#include "traces/synth.h"
#include "traces/writer.h"

namespace stoat::sim {
namespace {

using namespace stoat::sim::test;

constexpr const char* kStub = "var Plotly = '</script>';";

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + part.size()))
    ++n;
  return n;
}

// Contents of all <script type="application/json"> elements.
std::vector<std::string> figure_data(const std::string& html) {
  std::vector<std::string> out;
  const std::string open = "<script type=\"application/json\"";
  for (std::size_t at = html.find(open); at != std::string::npos; at = html.find(open, at + 1)) {
    const std::size_t start = html.find('>', at) + 1;
    out.push_back(html.substr(start, html.find("</script>", start) - start));
  }
  return out;
}

ReportData three_datapaths(const std::string& folder, const std::string& model = "needle") {
  write_result_folder(folder + "/dense", {fake_mac()}, "", model);
  write_result_folder(folder + "/prop", {fake_gather_add(), fake_ternary()}, "", model);
  return read_report_data({folder}, {});
}

TEST(ReportHtml, ScriptTagsAreBalancedAndEveryFigureParses) {
  const ReportData data = three_datapaths(new_folder("balanced"));
  const std::string html = report_html(data, kStub);
  const auto figures = figure_data(html);
  EXPECT_EQ(figures.size(), 4u);  // energy, engine, traffic, whole token
  EXPECT_EQ(count(html, "<script"), figures.size() + 2);
  EXPECT_EQ(count(html, "<script"), count(html, "</script>"));
  EXPECT_EQ(count(html, "<section"), count(html, "</section>"));
  EXPECT_EQ(count(html, "<table>"), count(html, "</table>"));
  for (const std::string& text : figures) {
    const auto json = nlohmann::json::parse(text);
    EXPECT_FALSE(json["data"].empty());
    EXPECT_FALSE(json["layout"]["xaxis"]["title"]["text"].get<std::string>().empty());
  }
}

TEST(ReportHtml, HostileNamesStayText) {
  const std::string hostile =
      "</script><script>alert(1)</script><img src=x onerror=alert(2)> ' \"\" µ漢";
  ReportData data = three_datapaths(new_folder("hostile"), hostile);
  TraceView view;
  view.name = hostile;
  view.map.reads = {{0.5, 0.1}};
  view.map.context = 16;
  view.map.steps = 1;
  view.map.rows_per_bin = 8;
  view.probes = {{0, 4, 0.1, 0.2, 0.3, 5}, {0, 8, 0.1, 0.2, 0.3, 5}};
  view.twin = TwinStats{0.1, 0.9, 3};
  view.answers.push_back({hostile, hostile, hostile, hostile, true, false});
  data.traces.push_back(view);
  data.datapaths[0].label = data.datapaths[0].datapath = hostile;
  data.runs[0].name = hostile;
  data.runs[0].manifest.notes.push_back(hostile);
  data.runs[0].manifest.entries.emplace_back(hostile, hostile);
  const std::string html = report_html(data, kStub);
  EXPECT_EQ(count(html, "<script"), count(html, "</script>"));
  EXPECT_EQ(count(html, "<script"), figure_data(html).size() + 2);
  EXPECT_EQ(count(html, "<img"), 0u);
  EXPECT_EQ(count(html, "alert(1)</script>"), 0u);
  EXPECT_GT(count(html, "&lt;/script&gt;"), 5u);
  for (const std::string& text : figure_data(html)) EXPECT_TRUE(nlohmann::json::accept(text));
}

TEST(ReportHtml, TheSameInputGivesTheSameBytesWhereverItLies) {
  const std::string first = report_html(three_datapaths(new_folder("here")), kStub);
  const std::string second = report_html(three_datapaths(new_folder("there")), kStub);
  EXPECT_EQ(first, second);
  EXPECT_EQ(count(first, std::filesystem::temp_directory_path().string() + "/"), 0u);
  EXPECT_EQ(count(first, "/home/someone"),
            0u);  // the manifest's absolute path keeps its last part only
  EXPECT_EQ(count(first, "…/prop.h5"), 2u);
}

TEST(ReportHtml, AsksForNothingFromOutside) {
  const std::string html = report_html(three_datapaths(new_folder("outside")), kStub);
  EXPECT_FALSE(std::regex_search(html, std::regex("(src|href)=\"(https?:)?//")));
  EXPECT_EQ(count(html, "@import"), 0u);
  EXPECT_EQ(count(html, "url("), 0u);
}

TEST(ReportHtml, SaysWhatIsMissingWithoutATrace) {
  const ReportData data = three_datapaths(new_folder("no-trace"));
  ASSERT_EQ(data.notes.size(), 1u);
  EXPECT_NE(data.notes[0].find("--trace FILE"), std::string::npos);
  EXPECT_EQ(count(report_html(data, kStub), "No trace of these results was found"), 1u);
}

TEST(ReportHtml, EnergyCsvOfThePageHoldsEveryPart) {
  const ReportData data = three_datapaths(new_folder("csv"));
  const std::string html = report_html(data, kStub);
  std::size_t rows = 0;
  for (const ReportDatapath& d : data.datapaths) rows += d.energy.size();
  const std::size_t at = html.find("download=\"energy.csv\"");
  ASSERT_NE(at, std::string::npos);
  const std::string uri = html.substr(at, html.find("\">", at) - at);
  EXPECT_EQ(count(uri, "%0A"), rows + 1);
}

TEST(AnswerTable, ComparesWithMac) {
  const ReportData data = three_datapaths(new_folder("answer"));
  ASSERT_EQ(data.datapaths.size(), 3u);
  EXPECT_EQ(energy_ratio(data, data.datapaths[0]), 1.0);
  const double expected = data.datapaths[1].energy_per_step / data.datapaths[0].energy_per_step;
  EXPECT_EQ(energy_ratio(data, data.datapaths[1]), expected);
  const auto json = nlohmann::json::parse(answer_table_json(data, "r.html"));
  EXPECT_EQ(json["datapaths"][1]["energy_of_mac"], expected);
  EXPECT_EQ(json["report"], "r.html");
  EXPECT_EQ(count(answer_table_text(data), "\n"), 4u);
}

TEST(AnswerTable, WithoutMacThereIsNoRatio) {
  const std::string folder = new_folder("no-mac");
  write_result_folder(folder, {fake_gather_add()});
  const ReportData data = read_report_data({folder}, {});
  EXPECT_EQ(energy_ratio(data, data.datapaths[0]), 0.0);
  EXPECT_TRUE(nlohmann::json::parse(answer_table_json(data, ""))["datapaths"][0]["energy_of_mac"]
                  .is_null());
  EXPECT_NE(answer_sentence(data).find("gather_add spends"), std::string::npos);
  EXPECT_NO_THROW(report_html(data, kStub));
}

TEST(Labels, ADatapathOfTwoRunsIsNamedWithItsFolder) {
  const std::string folder = new_folder("twice");
  write_result_folder(folder + "/a", {fake_mac()});
  write_result_folder(folder + "/b", {fake_mac()});
  const ReportData data = read_report_data({folder}, {});
  EXPECT_EQ(data.datapaths[0].label, "mac (a)");
  EXPECT_EQ(data.datapaths[1].label, "mac (b)");
}

struct RealTrace {
  std::string path, hash;
};

RealTrace synth_trace(const std::string& folder, bool probes) {
  SynthOptions options;
  options.n_layers = 2;
  options.contexts.assign(1, 600);
  options.steps = 5;
  options.budgets.assign(1, 32);
  TraceRecords records = synthesize_records(options);
  if (probes) {
    records.probe_budget = {4, 64};
    for (std::size_t i = 0; i < records.size(); ++i) {
      records.probe_error.push_back(0.5f);
      records.probe_error.push_back(0.125f);
    }
  }
  const std::string path = folder + "/t.h5";
  return {path, write_trace(path, synth_header(options), records)};
}

TEST(TraceView, CountsEveryDrawOnceAndReadsTheProbes) {
  const RealTrace trace = synth_trace(new_folder("view"), true);
  const TraceView view = read_trace_view(trace.path);
  EXPECT_EQ(view.content_hash, trace.hash);
  ASSERT_EQ(view.map.reads.size(), 5u);
  const double heads = 2 * 8;  // layers x query heads
  for (std::uint32_t step = 0; step < 5; ++step) {
    double draws = 0;
    for (std::size_t b = 0; b < view.map.reads[step].size(); ++b) {
      if (!(view.map.reads[step][b] >= 0)) continue;
      const double rows = std::min<double>(
          view.map.rows_per_bin, 600.0 + step - static_cast<double>(b) * view.map.rows_per_bin);
      draws += view.map.reads[step][b] * rows * heads;
    }
    EXPECT_NEAR(draws, 32 * heads, 1e-6) << step;
  }
  ASSERT_EQ(view.probes.size(), 4u);
  EXPECT_EQ(view.probes[1].budget, 64u);
  EXPECT_EQ(view.probes[1].median, 0.125);
  EXPECT_EQ(view.probes[1].records, 5u * 8u);
}

TEST(AccessMap, HasALineForEveryHeadOfEveryLayerWhereStepsAreFew) {
  SynthOptions options;
  options.n_layers = 2;
  options.n_q_heads = 4;
  options.n_kv_heads = 2;
  options.contexts = {600};
  options.budgets = {32};
  options.participation = 20;
  const std::vector<TraceRecords> steps{synthesize_records(options)};
  const AccessMap map = access_map(steps, true);
  EXPECT_TRUE(map.by_head);
  ASSERT_EQ(map.reads.size(), 8U);
  for (const auto& line : map.reads) {
    double draws = 0;
    for (std::size_t b = 0; b < line.size(); ++b)
      draws += line[b] * std::min<double>(map.rows_per_bin,
                                          600.0 - static_cast<double>(b) * map.rows_per_bin);
    EXPECT_NEAR(draws, 32, 1e-6);
  }
  EXPECT_EQ(access_map(steps, false).reads.size(), 1U);
  options.method = Method::kDense;
  EXPECT_TRUE(access_map({synthesize_records(options)}, true).empty());
}

TEST(ReportHtml, WithATraceButWithoutProbesItStillWorksAndSaysSo) {
  const std::string folder = new_folder("with-trace");
  const RealTrace trace = synth_trace(folder, false);
  write_result_folder(folder + "/r", {fake_mac(), fake_gather_add()}, trace.hash);
  const ReportData data = read_report_data({folder + "/r"}, {});
  ASSERT_EQ(data.traces.size(), 1u);  // found beside the results by its hash
  EXPECT_EQ(data.datapaths[1].trace, std::size_t{0});
  const std::string html = report_html(data, kStub);
  EXPECT_EQ(figure_data(html).size(), 5u);
  EXPECT_EQ(count(html, "no trace has probe columns"), 1u);
  EXPECT_EQ(count(html, "Answers are left out"), 1u);
}

TEST(QuestionsRight, AreADatapathsOwnOnlyWhereTheTraceWasDecodedThatWay) {
  ReportData data = three_datapaths(new_folder("own-answers"));
  TraceView prop;
  prop.method = "prop";
  prop.score_kind = "exact";
  prop.answers.push_back({"needle", "q", "7", "7", true, true});
  TraceView ternary = prop, dense = prop;
  ternary.score_kind = "ternary";
  dense.method = "dense";
  data.traces = {dense, prop, ternary};
  for (std::size_t d = 0; d < 3; ++d) {  // mac, gather_add, ternary
    for (std::size_t t = 0; t < 3; ++t) {
      data.datapaths[d].trace = t;
      EXPECT_EQ(questions_right(data, data.datapaths[d]), d == t ? "1 of 1" : "") << d << " " << t;
    }
  }
}

TEST(ReportHtml, AnswersComeFromTheSideFileOfTheTrace) {
  const std::string folder = new_folder("answers");
  const RealTrace trace = synth_trace(folder, true);
  write_result_folder(folder + "/r", {fake_gather_add()}, trace.hash);
  const nlohmann::json side = {{"result",
                                {{"content_hash", trace.hash},
                                 {"answers",
                                  {{{"kind", "needle"},
                                    {"question", "k is "},
                                    {"expect", "7"},
                                    {"answer", "7\n"},
                                    {"correct", true}},
                                   {{"kind", "needle"},
                                    {"question", "j is "},
                                    {"expect", "8"},
                                    {"answer", "9"},
                                    {"correct", false}},
                                   {{"kind", "chat"}, {"question", "hello"}, {"answer", "x"}}}}}}};
  std::ofstream(trace.path + ".run.json") << side;
  const ReportData data = read_report_data({folder}, {trace.path});
  EXPECT_EQ(questions_right(data, data.datapaths[0]), "1 of 2");
  const std::string html = report_html(data, kStub);
  EXPECT_EQ(count(html, "✓ 7"), 1u);
  EXPECT_EQ(count(html, "✗ 9"), 1u);
}

}  // namespace
}  // namespace stoat::sim
