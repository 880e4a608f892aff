// A figure as plain data: series, axes, caption, CSV. figure.cpp turns it into the JSON that
// plotly.js draws.
//
// Colours are names ("gather_add", "ink/0.5"), not values: the page resolves them from its style
// sheet, so the same figure serves light, dark and print. Knows nothing about what is drawn; the
// figure_*.cpp know.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace stoat::sim {

struct Axis {
  std::string title;  // with its unit: "energy [µJ a token]"
  bool log = false;
  bool category = false;  // ticks are the series' texts, in their order
  bool reversed = false;  // first value on top or right
  bool grid = true;
  std::optional<std::pair<double, double>> range;  // log axes: values, not exponents
  std::pair<double, double> domain{0, 1};          // share of the figure's width or height
  std::vector<double> tick_values;                 // empty: chosen by plotly
  std::vector<std::string> tick_texts;
};

enum class SeriesKind : std::uint8_t {
  kBar,
  kHorizontalBar,
  kLine,
  kBand,
  kHeatMap,
  kPoints,
  kParallel
};

// One series. Text is plain (escaped on the way out); values that are not finite are gaps.
struct Series {
  SeriesKind kind = SeriesKind::kLine;
  std::string name;
  std::string color = "ink";              // a colour name of the page, "/alpha" allowed
  std::vector<std::string> point_colors;  // bars: one a point instead of `color`
  std::vector<std::string> categories;    // bars: the category axis
  std::vector<double> x, y;               // bars: only the value axis; bands: y is the upper edge
  std::vector<double> y_low;              // bands: the lower edge
  std::vector<std::vector<double>> z;     // heat maps: [y.size()][x.size()]
  std::string pattern;                    // bars: "" / \ x - | + .
  std::string dash = "solid";             // lines: solid dash dot dashdot
  std::string marker;                     // lines: "" (none) circle square diamond triangle-up ...
  std::string hover;                      // plotly hover template of our own making
  std::string group;  // legend group; members after the first show no legend entry
  std::vector<double> error_low, error_high;  // lines, points: lower and upper end of a bar each
  std::vector<std::uint32_t> rows;            // points: which row of the page's table each one is
  struct Dimension {                          // parallel coordinates: one axis
    std::string title;
    std::vector<double> values;
    std::vector<double> tick_values;
    std::vector<std::string> tick_texts;
  };
  std::vector<Dimension> dimensions;
  int x_axis = 0, y_axis = 0;  // indices into Figure::x_axes, y_axes
  bool legend = true;
  std::string color_title;          // heat maps: title of the colour bar
  std::vector<double> color_ticks;  // heat maps: ticks of the colour bar
  std::vector<std::string> color_tick_texts;
  std::pair<double, double> color_range{0, 1};
};

// Text placed in the figure. x, y are shares of the plotting area, or data when the axis is given
// (on log axes too).
struct Annotation {
  std::string text;
  double x = 0, y = 0;
  int x_axis = -1, y_axis = -1;  // -1: share of the whole figure
  std::string x_anchor = "left", y_anchor = "middle";
  std::string color = "muted";
  // Data: an arrow comes from here and ends at x, y.
  std::optional<std::pair<double, double>> arrow_from;
};

struct Figure {
  std::string id;  // "energy": file name of the CSV and anchor of the page
  std::string title;
  std::string caption;  // what to see; plain text
  std::vector<Series> series;
  std::vector<Axis> x_axes{Axis{}}, y_axes{Axis{}};
  std::vector<Annotation> annotations;
  bool stacked = false;  // bars on top of each other
  int height = 360;      // pixels
  std::string csv;       // the figure's data
  bool empty() const { return series.empty(); }
};

// {"data": [...], "layout": {...}} as JSON text; a pure function of the figure.
std::string figure_json(const Figure& figure);

// The colour name of a datapath (mac, gather_add, ternary, topk have their own; others share one).
std::string datapath_color(const std::string& datapath);
// The n-th neutral shade and pattern for things that are not datapaths (components, stages).
std::string neutral_color(std::size_t n);
std::string neutral_pattern(std::size_t n);

}  // namespace stoat::sim
