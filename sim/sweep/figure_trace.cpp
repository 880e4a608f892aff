// Which value rows were read, and how the error falls with the budget.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>

#include "sim/sweep/figures.h"
#include "sim/sweep/html.h"

namespace stoat::sim {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// Only cells with draws; the rest are 0.
std::string access_csv(const AccessMap& map) {
  std::string csv = fmt::format("first_row_of_{},first_{}_of_{},draws_per_row_head_and_step\n",
                                map.rows_per_bin, map.by_head ? "head" : "step", map.steps_per_bin);
  for (std::size_t s = 0; s < map.reads.size(); ++s) {
    for (std::size_t r = 0; r < map.reads[s].size(); ++r) {
      if (!(map.reads[s][r] > 0)) continue;
      csv += fmt::format("{},{},{:.3g}\n", r * map.rows_per_bin, s * map.steps_per_bin,
                         map.reads[s][r]);
    }
  }
  return csv;
}

// A logarithm to three decimals: a cell's colour needs no more, and the page stays small.
double short_log(double value) { return std::round(std::log10(value) * 1000) / 1000; }

// Ticks at powers of ten between two exponents.
void add_power_ticks(double low, double high, Series& heat) {
  for (double e = std::ceil(low); e <= std::floor(high) + 1e-9; e += 1) {
    heat.color_ticks.push_back(e);
    heat.color_tick_texts.push_back(
        e >= 0 ? significant(std::pow(10.0, e), 1)
               : fmt::format("{:.{}f}", std::pow(10.0, e), static_cast<int>(-e)));
  }
}

// 1, 2, 5 times powers of ten that cover [low, high]; the range ends on them.
void add_decimal_ticks(double low, double high, Axis& axis) {
  constexpr std::array<double, 3> kSteps = {1, 2, 5};
  const auto tick = [&](int n) {
    const int decade = n >= 0 ? n / 3 : -((2 - n) / 3);
    return kSteps[static_cast<std::size_t>(n - 3 * decade)] * std::pow(10.0, decade);
  };
  int first = 3 * static_cast<int>(std::floor(std::log10(low)));
  while (tick(first + 1) <= low) ++first;
  int last = first;
  while (tick(last) < high) ++last;
  for (int n = first; n <= last; ++n) {
    const double value = std::round(tick(n) * 1e9) / 1e9;
    axis.tick_values.push_back(value);
    axis.tick_texts.push_back(value >= 1e-4 ? significant(value, 1) : fmt::format("{:.0e}", value));
  }
  axis.range = {tick(first), tick(last)};
}

struct LineLook {
  const char* dash;
  const char* marker;
  const char* color;
};
constexpr std::array<LineLook, 6> kLooks = {{{"solid", "circle", "layer0"},
                                             {"dash", "square", "layer1"},
                                             {"dot", "diamond", "layer2"},
                                             {"dashdot", "triangle-up", "layer3"},
                                             {"longdash", "x", "layer4"},
                                             {"longdashdot", "star", "layer5"}}};

// At most six layers: the first, the last, and others evenly between.
std::vector<std::uint32_t> layers_to_draw(const std::vector<ProbePoint>& probes) {
  std::set<std::uint32_t> all;
  for (const ProbePoint& p : probes) all.insert(p.layer);
  const std::vector<std::uint32_t> sorted(all.begin(), all.end());
  if (sorted.size() <= kLooks.size()) return sorted;
  std::vector<std::uint32_t> some;
  for (std::size_t i = 0; i < kLooks.size(); ++i)
    some.push_back(sorted[i * (sorted.size() - 1) / (kLooks.size() - 1)]);
  return some;
}

void add_layer(const TraceView& view, std::uint32_t layer, const LineLook& look, Figure& figure) {
  Series line, band;
  band.kind = SeriesKind::kBand;
  band.name = fmt::format("layer {}", layer);
  band.color = std::string(look.color) + "/0.08";
  band.group = band.name;
  band.legend = false;
  line.name = line.group = band.name;
  line.color = look.color;
  line.dash = look.dash;
  line.marker = look.marker;
  line.hover = fmt::format("layer {}, S = %{{x}}: %{{y:.3~g}}<extra></extra>", layer);
  for (const ProbePoint& p : view.probes) {
    if (p.layer != layer) continue;
    line.x.push_back(p.budget);
    line.y.push_back(p.median > 0 ? p.median : kNone);
    if (p.low > 0 && p.high > 0) {
      band.x.push_back(p.budget);
      band.y.push_back(p.high);
      band.y_low.push_back(p.low);
    }
  }
  if (band.x.size() > 1) figure.series.insert(figure.series.begin(), std::move(band));
  figure.series.push_back(std::move(line));
}

double median_at(const TraceView& view, std::uint32_t budget) {
  std::vector<double> values;
  for (const ProbePoint& p : view.probes) {
    if (p.budget == budget) values.push_back(p.median);
  }
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

Figure access_figure(const TraceView& view, const std::string& id) {
  Figure figure;
  figure.id = id;
  const AccessMap& map = view.map;
  figure.title = fmt::format("Value rows read by {}", view.name);
  double high = 0, low = std::numeric_limits<double>::infinity();
  for (const auto& row : map.reads) {
    for (const double v : row) {
      if (!(v > 0)) continue;
      high = std::max(high, v);
      low = std::min(low, v);
    }
  }
  if (high == 0) return figure;
  Series heat;
  heat.kind = SeriesKind::kHeatMap;
  heat.name = "draws";
  // Empty cells inside the context take the lowest colour; the range is at most four decades.
  const double top = short_log(high), bottom = std::max(short_log(low), top - 4);
  heat.color_range = {bottom, std::max(top, bottom + 0.5)};
  heat.color_title = "draws a row, head and step";
  add_power_ticks(heat.color_range.first, heat.color_range.second, heat);
  const std::size_t bins = map.reads.front().size();
  for (std::size_t r = 0; r < bins; ++r) {
    heat.x.push_back((static_cast<double>(r) + 0.5) * map.rows_per_bin);
  }
  for (std::size_t s = 0; s < map.reads.size(); ++s) {
    heat.y.push_back((static_cast<double>(s) + 0.5) * map.steps_per_bin - 0.5);
    std::vector<double> row;
    for (const double v : map.reads[s])
      row.push_back(!std::isfinite(v) ? kNone : v > 0 ? short_log(v) : bottom);
    heat.z.push_back(std::move(row));
  }
  const char* const line = map.by_head ? "query head" : "step";
  heat.hover = fmt::format("row %{{x:.0f}}, {} %{{y:.0f}}: 10^%{{z:.2f}}<extra></extra>", line);
  figure.series.push_back(std::move(heat));
  figure.x_axes[0].title = "token position [row of the KV cache]";
  figure.x_axes[0].grid = false;
  figure.x_axes[0].range = {0, static_cast<double>(bins) * map.rows_per_bin};
  figure.y_axes[0].title = map.by_head ? "layer x heads + query head" : "decode step";
  figure.y_axes[0].grid = false;
  figure.y_axes[0].range = {-0.5, static_cast<double>(map.steps) - 0.5};
  figure.y_axes[0].reversed = true;
  for (std::uint32_t step = 0; step < map.steps && map.steps <= 10; ++step) {
    figure.y_axes[0].tick_values.push_back(step);
    figure.y_axes[0].tick_texts.push_back(std::to_string(step));
  }
  figure.height = 440;
  figure.caption = fmt::format(
      "The more a cell stands out from the page, the more often its rows were drawn: draws a row, "
      "head and step, on a logarithmic scale ({} rows by {} {}{} a cell, mean of all {}). The {} "
      "newest rows take {} % of the draws, where even draws would give them {} %; "
      "the first token takes {} %. Strokes far from the edge are rows that some steps look up. A "
      "head reads {} % of its context's rows at a step.",
      map.rows_per_bin, map.steps_per_bin, line, map.steps_per_bin == 1 ? "" : "s",
      map.by_head ? "steps" : "layers and heads", 64, significant(100 * map.share_recent, 3),
      significant(100 * map.share_even_recent, 2), significant(100 * map.share_first, 2),
      significant(100 * map.distinct_share, 2));
  figure.csv = access_csv(map);
  return figure;
}

Figure error_figure(const TraceView& view, const std::string& id) {
  Figure figure;
  figure.id = id;
  figure.title = fmt::format("Error against budget ({})", view.name);
  if (view.probes.empty()) return figure;
  const std::vector<std::uint32_t> layers = layers_to_draw(view.probes);
  for (std::size_t i = 0; i < layers.size(); ++i) add_layer(view, layers[i], kLooks[i], figure);
  std::set<std::uint32_t> budgets;
  for (const ProbePoint& p : view.probes) budgets.insert(p.budget);
  const std::uint32_t first = *budgets.begin(), last = *budgets.rbegin();
  const double start = median_at(view, first), end = median_at(view, last);
  if (budgets.size() > 1 && start > 0) {
    Series guide;
    guide.name = "slope −1/2";
    guide.color = "muted";
    guide.dash = "2px,3px";
    guide.x = {static_cast<double>(first), static_cast<double>(last)};
    guide.y = {start, start * std::sqrt(static_cast<double>(first) / last)};
    guide.hover = "independent draws: error falls as 1/√S<extra></extra>";
    figure.series.push_back(std::move(guide));
  }
  figure.x_axes[0].title = "budget S [draws a head and step]";
  figure.x_axes[0].log = true;
  for (const std::uint32_t budget : budgets) {
    figure.x_axes[0].tick_values.push_back(budget);
    figure.x_axes[0].tick_texts.push_back(std::to_string(budget));
  }
  figure.y_axes[0].title = "relative error of the attention output";
  figure.y_axes[0].log = true;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const ProbePoint& p : view.probes) {
    if (p.median > 0) low = std::min(low, p.low > 0 ? p.low : p.median);
    high = std::max(high, p.high);
  }
  if (high > 0) add_decimal_ticks(low, high, figure.y_axes[0]);
  figure.height = 420;
  figure.caption = fmt::format(
      "Median over heads and steps, band from the 10th to the 90th percentile, against exact "
      "attention on the same queries and keys. From S = {} to S = {} the median falls from {} to "
      "{}. ",
      first, last, significant(start, 2), significant(end, 2));
  figure.caption +=
      view.score_kind == "ternary"
          ? "What a larger budget does not remove is the error of the ternary scores: a noisy "
            "score "
            "is unbiased, the softmax of noisy scores is not."
          : "Lines steeper than the dotted guide gain more from a larger budget than independent "
            "draws would.";
  figure.csv = "layer,budget,error_p10,error_median,error_p90,records\n";
  for (const ProbePoint& p : view.probes) {
    figure.csv += fmt::format("{},{},{},{},{},{}\n", p.layer, p.budget, exact_number(p.low),
                              exact_number(p.median), exact_number(p.high), p.records);
  }
  return figure;
}

}  // namespace stoat::sim
