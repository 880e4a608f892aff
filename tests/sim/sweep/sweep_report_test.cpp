// The figures of a sweep's report: their numbers, and what they say where data is absent.
#include "sim/sweep/sweep_report.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"
#include "sim/sweep/static_figures.h"
#include "sim/sweep/sweep_figure_parts.h"
#include "tests/sim/sweep/result_folder.h"

namespace stoat::sim {
namespace {

using test::new_folder;

struct FakePoint {
  const char *datapath, *method, *budget;
  double time_ps, draws, logical, distinct, moved;
  const char* lanes = "64";          // engine.lanes.dense
  const char* accumulator = "fp32";  // of gather-add
};

// One step of 32 query heads over 8,192 rows of 128 elements, 8 KV heads, 32 engines.
const FakePoint kDense{"mac", "dense", "", 56e6, 0, 262144, 65536, 33554432};
const FakePoint kSampled{"gather_add", "prop", "128", 29e6, 4096, 3000, 2900, 17519616};
const FakePoint kTopK{"topk", "topk", "128", 30e6, 0, 4096, 3500, 17673216};

std::string write_sweep(const std::string& name, const std::vector<FakePoint>& points,
                        const char* base = "hbm3") {
  const std::string folder = new_folder(name);
  std::string csv =
      "index,point,source,engine.lanes.dense,engine.accumulator.gather_add,context,datapath,arch,"
      "method,budget,kv_element,head_dim,steps,"
      "context_max,ps_per_step,energy_per_step_aJ,select_energy_aJ,value_draws,value_rows_logical,"
      "value_rows_distinct,key_rows_logical,logical_bytes,requested_bytes,moved_bytes,read_bursts,"
      "row_hit_percent,peak_bytes_per_second,select_busy_cycles,engines,"
      "touched_features_per_head,component_arithmetic_aJ,error_proxy_low,error_proxy_high,kv_error,"
      "total_error,bandwidth_percent\n";
  int index = 0;
  for (const FakePoint& p : points) {
    csv += fmt::format(
        "{},p{},synth,{},{},8192,{},hbm3,{},{},bf16,128,1,8192,{},{},2e12,{},{},{},262144,"
        "134217728,{},{},{},96.5,665600000000,65536,32,,1000,0.1,0.2,0,{},89\n",
        index, index, p.lanes, p.accumulator, p.datapath, p.method, p.budget, p.time_ps,
        p.moved * 3e7, p.draws, p.logical, p.distinct, p.moved, p.moved, p.moved / 32,
        *p.budget == '\0' ? "0" : "0.15");
    ++index;
  }
  std::ofstream(folder + "/results.csv", std::ios::binary) << csv;
  const nlohmann::json manifest = {
      {"format", "stoat-sweep-results"},
      {"version", 1},
      {"tool_version", "0.1.0"},
      {"build", "b"},
      {"sweep", "fake"},
      {"seed", 1},
      {"points", {{"all", points.size()}, {"skipped", 0}, {"invalid", 0}, {"missing", 0}}},
      {"traces", nlohmann::json::object()},
      {"dram", nlohmann::json::object()},
      {"base", base},
      {"axes", nlohmann::json::array()},
      {"set", nlohmann::json::object()},
      {"files", {{"results.csv", hash_text(csv)}}}};
  std::ofstream(folder + "/manifest.json", std::ios::binary) << manifest;
  return folder;
}

Figure figure_of(const SweepReport& report, const std::string& id) {
  for (Figure& figure : sweep_figures(report)) {
    if (figure.id == id) return std::move(figure);
  }
  return {};
}

TEST(SweepReport, OperationsFollowFromTheCountsOfTheResults) {
  const SweepReport report = read_sweep_report(write_sweep("ops", {kDense, kSampled, kTopK}));
  // Dense: a product and an addition for each element of K and of V, for every head.
  EXPECT_EQ(report.rows[0].operations, 2.0 * 128 * (262144 + 262144));
  // Sampled: the same for K, an addition for every element of a draw.
  EXPECT_EQ(report.rows[1].operations, 2.0 * 128 * 262144 + 128.0 * 4096);
  EXPECT_EQ(report.rows[2].operations, 2.0 * 128 * (262144 + 4096));
  EXPECT_DOUBLE_EQ(report.rows[0].intensity, report.rows[0].operations / 33554432);
  EXPECT_DOUBLE_EQ(report.rows[0].rate, report.rows[0].operations / 56e-6);
  EXPECT_EQ(report.rows[0].peak_rate, 32.0 * 64 * 2 * 1e9);
}

TEST(SweepReport, RooflineHasBothRoofsAndAnArrowFromDenseToSampled) {
  const SweepReport report = read_sweep_report(write_sweep("roof", {kDense, kSampled, kTopK}));
  const Figure figure = figure_of(report, "roofline");
  ASSERT_EQ(figure.annotations.size(), 1U);
  const Annotation& arrow = figure.annotations[0];
  ASSERT_TRUE(arrow.arrow_from.has_value());
  EXPECT_EQ(arrow.arrow_from->first, report.rows[0].intensity);
  EXPECT_EQ(arrow.x, report.rows[1].intensity);
  std::size_t roofs = 0;
  for (const Series& series : figure.series) {
    if (series.kind != SeriesKind::kLine) continue;
    ++roofs;
    // Nothing lies above a roof; the slanted one ends where the lanes are all busy.
    EXPECT_LE(series.y.back(), 32.0 * 64 * 2 * 1e-3 * 1.000001) << series.name;
  }
  EXPECT_EQ(roofs, 2U);
  const auto json = nlohmann::json::parse(figure_json(figure));
  const auto& note = json["layout"]["annotations"][0];
  EXPECT_EQ(note["showarrow"], true);
  EXPECT_DOUBLE_EQ(note["ax"].get<double>(), std::log10(report.rows[0].intensity));
  EXPECT_NE(figure.csv.find("operations_per_byte"), std::string::npos);
}

TEST(SweepReport, AreaGrowsWithLanesAndIsLeftOutForAnAccumulatorWithoutOne) {
  FakePoint wide = kSampled, narrow = kSampled, unknown = kSampled;
  wide.lanes = "128";
  narrow.accumulator = "shared24";
  unknown.accumulator = "bf16";
  const SweepReport report =
      read_sweep_report(write_sweep("area", {kDense, kSampled, wide, narrow, unknown}));
  const auto area = [&](std::size_t i) { return report.rows[i].area; };
  EXPECT_NEAR(area(1) - area(0), 32 * 16 * 97.8e-6, 1e-12);   // gather-add lanes beside the dense
  EXPECT_NEAR(area(2) - area(1), 32 * 64 * 134.7e-6, 1e-12);  // twice as many dense lanes
  EXPECT_NEAR(area(1) - area(3), 32 * 16 * (97.8 - 22.9) * 1e-6, 1e-12);
  EXPECT_TRUE(std::isnan(area(4)));
  const Figure figure = figure_of(report, "pareto-area");
  EXPECT_FALSE(figure.empty());
  EXPECT_NE(figure.caption.find("1 points have"), std::string::npos) << figure.caption;
}

TEST(SweepReport, FiguresWithoutDataAreASentenceAndNoPlot) {
  const SweepReport report = read_sweep_report(write_sweep("absent", {kDense, kDense}));
  for (const char* id : {"pareto-area", "selection"}) {
    const Figure figure = figure_of(report, id);
    EXPECT_TRUE(figure.empty()) << id;
    EXPECT_FALSE(figure.title.empty()) << id;
  }
  const std::string html = sweep_report_html(report, "");
  EXPECT_NE(html.find("<section id=\"absent\">"), std::string::npos);
  EXPECT_NE(html.find("all points have the same lanes and buffers"), std::string::npos);
  EXPECT_EQ(html.find("plot-selection"), std::string::npos);
  // Where the accelerator is not installed there is no area, and the rest of the page is there.
  std::string elsewhere = write_sweep("elsewhere", {kDense, kSampled}, "/nowhere/hbm3.yaml");
  const SweepReport moved = read_sweep_report(elsewhere);
  EXPECT_TRUE(figure_of(moved, "pareto-area").empty());
  EXPECT_FALSE(figure_of(moved, "roofline").empty());
}

TEST(SweepReport, SelectionAndRowsShowWhatTheCountsHold) {
  const SweepReport report = read_sweep_report(write_sweep("rows", {kDense, kSampled, kTopK}));
  const Figure selection = figure_of(report, "selection");
  EXPECT_EQ(selection.series.size(), 6U);  // sampler, top-k, dense; energy and cycles
  ASSERT_EQ(selection.series[0].y.size(), 1U);
  EXPECT_DOUBLE_EQ(selection.series[0].y[0], 2);                // 2e12 aJ = 2 uJ
  EXPECT_EQ(selection.series[3].y, std::vector<double>{2048});  // 65,536 over 32 engines
  const Figure rows = figure_of(report, "rows");
  const auto named = [&](const std::string& start) {
    return *std::find_if(rows.series.begin(), rows.series.end(),
                         [&](const Series& s) { return s.name.starts_with(start); });
  };
  EXPECT_EQ(named("draws").x, std::vector<double>{4096});
  EXPECT_EQ(named("logical").x, (std::vector<double>{262144, 3000, 4096}));
  EXPECT_EQ(named("distinct").x, (std::vector<double>{65536, 2900, 3500}));
}

// Three kinds of points on `designs` numbers of lanes.
SweepReport many_designs(const std::string& name, int designs) {
  std::vector<FakePoint> points;
  static std::vector<std::string> lanes;
  lanes.clear();
  for (int n = 1; n <= designs; ++n) lanes.push_back(std::to_string(n));
  for (const std::string& each : lanes) {
    for (FakePoint point : {kDense, kSampled, kTopK}) {
      point.lanes = each.c_str();
      points.push_back(point);
    }
  }
  return read_sweep_report(write_sweep(name, points));
}

TEST(SweepReport, ManyPointsAreWrittenOnceAndDrawnWhenTheyComeIntoSight) {
  const SweepReport report = many_designs("many", 1500);
  const std::string html = sweep_report_html(report, "/* plotly */");
  // plotly.js is text until a figure needs it, and the page's own script is the only program.
  EXPECT_NE(html.find("<script type=\"text/plain\" id=\"plotly\">/* plotly */"), std::string::npos);
  std::size_t programs = 0;
  for (std::size_t at = html.find("<script>"); at != std::string::npos;
       at = html.find("<script>", at + 1))
    ++programs;
  EXPECT_EQ(programs, 1U);
  // A column that several CSV files have stands there once.
  const std::size_t begin = html.find("id=\"shared\">") + 12;
  const auto shared =
      nlohmann::json::parse(html.substr(begin, html.find("</script>", begin) - begin));
  std::size_t used = 0;
  for (const auto& [id, about] : shared.at("csv").items()) used += about.at("columns").size();
  EXPECT_GT(used, shared.at("columns").size());
  // Put together as the script does it, a file is the figure's own CSV.
  const Figure front = figure_of(report, "pareto-latency");
  const auto& about = shared.at("csv").at("pareto-latency");
  std::vector<std::vector<std::string>> columns;
  for (const auto& n : about.at("columns")) {
    columns.emplace_back();
    std::istringstream stream(shared.at("columns").at(n.get<std::size_t>()).get<std::string>());
    for (std::string line; std::getline(stream, line);) columns.back().push_back(line);
  }
  std::string csv = about.at("head").get<std::string>() + "\n";
  for (std::size_t i = 0; i < columns.front().size(); ++i) {
    for (std::size_t c = 0; c < columns.size(); ++c) csv += (c == 0 ? "" : ",") + columns[c][i];
    csv += "\n";
  }
  EXPECT_EQ(csv, front.csv);
  EXPECT_EQ(shared.at("rows").at("names").size(), shared.at("rows").at("columns").size());
}

TEST(SweepReport, OfManyPointsAThousandAtMostAreParallelAndOneDesignHasBars) {
  const SweepReport report = many_designs("thousand", 1500);
  const Figure parallel = figure_of(report, "parallel");
  ASSERT_EQ(parallel.series.size(), 1U);
  EXPECT_LE(parallel.series[0].y.size(), 1000U);
  EXPECT_GT(parallel.series[0].y.size(), 500U);
  EXPECT_NE(parallel.caption.find("Shown are"), std::string::npos);
  const Figure bars = figure_of(report, "breakdown");
  EXPECT_EQ(bars.y_axes[0].tick_texts.size(), 3U);
  EXPECT_EQ(bars.annotations.size(), 3U);  // each with its sum
  EXPECT_NE(bars.caption.find("3 of 4500 points"), std::string::npos) << bars.caption;
  // What all labels have in common is not repeated.
  EXPECT_EQ(bars.y_axes[0].tick_texts[0].find("lanes"), std::string::npos)
      << bars.y_axes[0].tick_texts[0];
}

TEST(SweepReport, TellsItsFirst32LinesApartWithoutColour) {
  std::set<std::string> looks;
  for (std::size_t n = 0; n < 32; ++n) looks.insert(marker_of(n) + " " + dash_of(n));
  EXPECT_EQ(looks.size(), 32U);
}

TEST(SweepReport, SetsMeasuredKernelsBesideThePointsOfTheirShape) {
  SweepReport report = read_sweep_report(write_sweep("measured", {kDense, kSampled, kTopK}));
  EXPECT_TRUE(figure_of(report, "measured").empty());
  const auto row = [](const char* kernel, double us, int context) {
    return nlohmann::json{{"kernel", kernel},   {"element", "bf16"}, {"batch", 1},
                          {"context", context}, {"q_heads", 32},     {"kv_heads", 8},
                          {"head_dim", 128},    {"p10_us", us},      {"median_us", us},
                          {"p90_us", us}};
  };
  const nlohmann::json file{
      {"format", "stoat-decode-comparison"},
      {"gpu", "a GPU"},
      {"rows",
       {row("dense", 70, 8192), row("prop S=128", 58, 8192), row("prop S=128 traced", 1, 8192),
        row("read K", 1, 8192), row("dense", 1, 4096)}}};
  const std::string path = new_folder("kernels") + "/k.json";
  std::ofstream(path) << file;
  report.measured = read_measurements(path);
  EXPECT_EQ(report.measured.rows.size(), 3U);
  for (auto& cells : report.cells) {  // the shape
    cells.insert(cells.end(), {"32", "8", "1"});
  }
  report.columns.insert(report.columns.end(), {"query_heads", "kv_heads", "layers"});
  const Figure figure = figure_of(report, "measured");
  ASSERT_FALSE(figure.empty());
  const auto lines = std::count(figure.csv.begin(), figure.csv.end(), '\n');
  EXPECT_EQ(lines, 3) << figure.csv;  // dense and prop at 8192
  EXPECT_NE(figure.csv.find("prop S=128"), std::string::npos);
  for (const Series& series : figure.series) {
    if (series.name == "dense") {
      EXPECT_EQ(series.y, std::vector<double>{56});
    }
    if (series.name == "prop S=128" && series.x_axis == 1) {
      EXPECT_DOUBLE_EQ(series.x[0], 58.0 / 70);
      EXPECT_DOUBLE_EQ(series.y[0], 29.0 / 56);
    }
  }
  EXPECT_NE(figure.caption.find("No parameter is fitted"), std::string::npos);
  std::ofstream(path) << "{\"format\": \"something else\"}";
  EXPECT_THROW(read_measurements(path), Error);
}

TEST(SweepReport, AssumptionsAreSetBesideTheBaseOfTheirOwnSweep) {
  FakePoint slower = kSampled, faster = kSampled;
  slower.time_ps = kSampled.time_ps * 1.1;
  faster.time_ps = kSampled.time_ps * 0.98;
  SweepReport report =
      read_sweep_report(write_sweep("assumptions", {kDense, kSampled, slower, faster}));
  EXPECT_TRUE(figure_of(report, "assumptions").empty());
  report.columns.emplace_back("assumption");
  const char* const names[] = {"base", "base", "stash -20 %", "stash +20 %"};
  for (std::size_t i = 0; i < 4; ++i) report.cells[i].emplace_back(names[i]);
  const Figure figure = figure_of(report, "assumptions");
  ASSERT_EQ(figure.series.size(), 4U);  // energy and time, lower and higher
  EXPECT_NEAR(figure.series[2].x[0], 10, 1e-9);
  EXPECT_NEAR(figure.series[3].x[0], -2, 1e-9);
  EXPECT_NEAR(figure.series[0].x[0], 0, 1e-9);
  EXPECT_EQ(figure.series[2].categories, std::vector<std::string>{"stash"});
  EXPECT_NE(figure.csv.find("stash,time,"), std::string::npos);
}

TEST(SweepReport, SaysWhichRivalsASweepLacks) {
  const SweepReport report = read_sweep_report(write_sweep("rivals", {kDense, kSampled}));
  const Figure note = figure_of(report, "rivals");
  EXPECT_TRUE(note.empty());
  EXPECT_NE(note.caption.find("fp8"), std::string::npos) << note.caption;
  EXPECT_NE(note.caption.find("top-k"), std::string::npos) << note.caption;
}

TEST(StaticFigures, AreWrittenTwiceWithTheSameBytesOrNameThePackage) {
  const SweepReport report = read_sweep_report(write_sweep("static", {kDense, kSampled, kTopK}));
  const std::vector<Figure> figures{figure_of(report, "roofline"), figure_of(report, "rows")};
  const std::string out = new_folder("static-out"), again = new_folder("static-again");
  try {
    EXPECT_EQ(write_static_figures(figures, out), 2U);
    EXPECT_EQ(write_static_figures(figures, again), 2U);
  } catch (const Error& error) {
    ASSERT_NE(std::string(error.what()).find("python3-matplotlib"), std::string::npos);
    GTEST_SKIP() << error.what();
  }
  for (const char* name : {"/roofline.svg", "/rows.svg", "/roofline.csv", "/figures.json"})
    EXPECT_EQ(read_file(out + name), read_file(again + name)) << name;
  EXPECT_GT(std::filesystem::file_size(out + "/rows.png"), 5000U);
}

TEST(StaticFigures, NameThePackageWhenThereIsNoPython) {
  const SweepReport report = read_sweep_report(write_sweep("nopython", {kDense, kSampled}));
  const std::string out = new_folder("nopython-out");
  // A Python that knows no matplotlib ends with the script's code 4.
  std::ofstream(out + "/python") << "#!/bin/sh\nexit 4\n";
  std::filesystem::permissions(out + "/python", std::filesystem::perms::owner_all);
  for (const std::string& python : {out + "/python", out + "/missing"}) {
    try {
      write_static_figures({figure_of(report, "roofline")}, out, python);
      FAIL() << python;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("apt-get install python3-matplotlib"),
                std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace stoat::sim
