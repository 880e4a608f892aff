// From a figure's data to plotly's JSON.
#include "sim/sweep/figure.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

#include "sim/sweep/figures.h"

namespace stoat::sim {
namespace {

TEST(FigureJson, TurnsGapsIntoNullAndLogRangesIntoExponents) {
  Figure figure;
  Series line;
  line.x = {1, 2};
  line.y = {std::numeric_limits<double>::quiet_NaN(), 5};
  figure.series.push_back(line);
  figure.y_axes[0].log = true;
  figure.y_axes[0].range = {0.1, 100};
  const auto json = nlohmann::json::parse(figure_json(figure));
  EXPECT_TRUE(json["data"][0]["y"][0].is_null());
  EXPECT_EQ(json["data"][0]["y"][1], 5.0);
  EXPECT_EQ(json["layout"]["yaxis"]["range"], (nlohmann::json{-1.0, 2.0}));
}

TEST(FigureJson, EscapesTagsInNamesBecausePlotlyReadsThem) {
  Figure figure;
  Series bar;
  bar.kind = SeriesKind::kHorizontalBar;
  bar.name = "<a href='x'>";
  bar.categories = {"<b>"};
  bar.x = {1};
  figure.series.push_back(bar);
  const auto json = nlohmann::json::parse(figure_json(figure));
  EXPECT_EQ(json["data"][0]["name"], "&lt;a href='x'&gt;");
  EXPECT_EQ(json["data"][0]["y"][0], "&lt;b&gt;");
}

TEST(FigureJson, ColoursAreNamesThatThePageResolves) {
  Figure figure;
  Series line;
  line.color = "gather_add/0.5";
  line.x = line.y = {1};
  figure.series.push_back(line);
  EXPECT_EQ(nlohmann::json::parse(figure_json(figure))["data"][0]["line"]["color"],
            "@gather_add/0.5");
}

TEST(FigureJson, BandsCloseTheirOutline) {
  Figure figure;
  Series band;
  band.kind = SeriesKind::kBand;
  band.x = {1, 2};
  band.y = {10, 20};
  band.y_low = {3, 4};
  figure.series.push_back(band);
  const auto json = nlohmann::json::parse(figure_json(figure));
  EXPECT_EQ(json["data"][0]["x"], (nlohmann::json{1.0, 2.0, 2.0, 1.0}));
  EXPECT_EQ(json["data"][0]["y"], (nlohmann::json{10.0, 20.0, 4.0, 3.0}));
}

TEST(AccessFigure, IsEmptyForATraceWithoutSampledRows) {
  EXPECT_TRUE(access_figure(TraceView{}, "x").empty());
}

TEST(ErrorFigure, IsEmptyWithoutProbesAndHasOneLineALayerWithThem) {
  TraceView view;
  EXPECT_TRUE(error_figure(view, "x").empty());
  for (const std::uint32_t layer : {0u, 1u}) {
    for (const std::uint32_t budget : {4u, 16u})
      view.probes.push_back({layer, budget, 0.1, 0.2, 0.4, 9});
  }
  const Figure figure = error_figure(view, "x");
  int lines = 0, bands = 0;
  for (const Series& s : figure.series) {
    lines += s.kind == SeriesKind::kLine && s.name.starts_with("layer") ? 1 : 0;
    bands += s.kind == SeriesKind::kBand ? 1 : 0;
  }
  EXPECT_EQ(lines, 2);
  EXPECT_EQ(bands, 2);
  EXPECT_NE(figure.csv.find("1,16,0.1,0.2,0.4,9\n"), std::string::npos);
}

TEST(ErrorFigure, DrawsAtMostSixOfManyLayersButKeepsAllInTheCsv) {
  TraceView view;
  for (std::uint32_t layer = 0; layer < 32; ++layer)
    view.probes.push_back({layer, 4, 0.1, 0.2, 0.4, 9});
  const Figure figure = error_figure(view, "x");
  EXPECT_LE(figure.series.size(), 7u);
  EXPECT_NE(figure.csv.find("\n31,4,"), std::string::npos);
}

}  // namespace
}  // namespace stoat::sim
