// The Pareto fronts of a sweep, what its figures share, and the order of all of them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "sim/sweep/html.h"
#include "sim/sweep/sweep_figure_parts.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {

const std::vector<std::string>& markers() {
  static const std::vector<std::string> names{"circle",        "square", "diamond", "triangle-up",
                                              "triangle-down", "cross",  "x",       "star"};
  return names;
}
const std::vector<std::string>& dashes() {
  static const std::vector<std::string> names{"solid", "dash", "dot", "dashdot"};
  return names;
}

const std::string& marker_of(std::size_t n) { return markers()[n % markers().size()]; }
// No two of the first 32 lines have marker and dash in common.
const std::string& dash_of(std::size_t n) {
  return dashes()[(n + n / markers().size()) % dashes().size()];
}

std::string color_of(const SweepRow& row) {
  return row.datapath == "mac" && row.element != "bf16" ? "other" : datapath_color(row.datapath);
}
namespace {

std::string kind_of(const SweepRow& row) {
  return row.datapath == "mac" && row.element != "bf16" ? "dense " + row.element
         : row.datapath == "mac"                        ? std::string("dense")
                                                        : row.datapath;
}

}  // namespace

void add_points(const SweepReport& report, double SweepRow::*x, double x_factor,
                double SweepRow::*y, double y_factor, const std::string& hover, Figure& figure) {
  std::map<std::string, Series> kinds;
  std::vector<std::string> order;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    if (!std::isfinite(row.*x) || !std::isfinite(row.*y)) continue;
    const std::string kind = kind_of(row);
    auto found = kinds.find(kind);
    if (found == kinds.end()) {
      Series series;
      series.kind = SeriesKind::kPoints;
      series.name = kind;
      series.color = color_of(row);
      series.marker = markers()[order.size() % markers().size()];
      series.hover = hover + "<extra>" + escape_plot_text(kind) + "</extra>";
      found = kinds.emplace(kind, std::move(series)).first;
      order.push_back(kind);
    }
    found->second.x.push_back(row.*x * x_factor);
    found->second.y.push_back(row.*y * y_factor);
    found->second.rows.push_back(static_cast<std::uint32_t>(i));
  }
  for (const std::string& kind : order) figure.series.push_back(std::move(kinds[kind]));
}

void add_front(std::vector<std::pair<double, double>> points, Figure& figure) {
  std::sort(points.begin(), points.end());
  Series front;
  front.name = "Pareto front";
  front.color = "ink/0.55";
  front.dash = "dot";
  double best = std::numeric_limits<double>::infinity();
  for (const auto& [x, y] : points) {
    if (y >= best) continue;
    if (!front.x.empty()) {  // a step: nothing between two points of the front is known
      front.x.push_back(x);
      front.y.push_back(best);
    }
    front.x.push_back(x);
    front.y.push_back(y);
    best = y;
  }
  front.hover = "<extra></extra>";
  if (front.x.size() > 1) figure.series.push_back(std::move(front));
}

std::string label_without_budget(const SweepRow& row) {
  std::string name = row.label;
  const std::string budget = "S=" + row.budget_text;
  const std::size_t at = name.find(budget);
  if (at != std::string::npos) {
    name.erase(at, budget.size());
    if (at >= 2 && name.compare(at - 2, 2, ", ") == 0) name.erase(at - 2, 2);
    // Nothing else may say what draws the rows.
    if (at == 0) name = (row.method.empty() ? row.datapath : row.method) + name;
    while (name.ends_with(' ')) name.pop_back();
  }
  return name.empty() ? row.datapath : name;
}

namespace {

Figure error_front_figure(const SweepReport& report) {
  Figure figure;
  figure.id = "pareto-error";
  const double context = widest_context(report);
  SweepReport shown = report;  // rows of other contexts are no alternatives to these
  for (SweepRow& row : shown.rows) {
    if (row.context != context || !(row.error > 0)) row.error = std::nan("");
  }
  const Scale scale = energy_scale(largest(shown, &SweepRow::energy));
  add_points(shown, &SweepRow::error, 1, &SweepRow::energy, scale.factor,
             "error %{x:.3~g}, %{y:.4~g} " + scale.unit, figure);
  if (figure.series.empty()) return {};
  std::vector<std::pair<double, double>> cloud;
  for (const SweepRow& row : shown.rows) {
    if (std::isfinite(row.error)) cloud.emplace_back(row.error, row.energy * scale.factor);
  }
  const std::size_t before = figure.series.size();
  add_front(cloud, figure);
  const bool one_best = figure.series.size() == before;
  figure.title = fmt::format("Energy a token against error, {} tokens of context",
                             grouped(static_cast<std::uint64_t>(context)));
  figure.caption =
      "Each point is one configuration; lower left is better, the dotted line is the front. Dense "
      "attention "
      "in bf16 has no error and stands in the next figure. Error: root mean square of the output "
      "against "
      "exact attention, relative, were value rows independent; for narrow KV elements the rounding "
      "of V. "
      "Click a point for its whole configuration.";
  if (one_best) {
    const auto best = std::min_element(shown.rows.begin(), shown.rows.end(),
                                       [](const SweepRow& a, const SweepRow& b) {
                                         return (std::isfinite(a.error) ? a.energy : 1e300) <
                                                (std::isfinite(b.error) ? b.energy : 1e300);
                                       });
    figure.caption +=
        fmt::format(" There is no front to draw: one point, {}, is the best in both.", best->label);
  }
  figure.x_axes[0].title = "error of the attention output, relative";
  figure.x_axes[0].log = true;
  figure.y_axes[0].title = "energy [" + scale.unit + " a token]";
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(shown, {{"total_error", &SweepRow::error}, {"energy_J", &SweepRow::energy}});
  return figure;
}

Figure latency_front_figure(const SweepReport& report) {
  Figure figure;
  figure.id = "pareto-latency";
  const Scale energy = energy_scale(largest(report, &SweepRow::energy));
  const Scale time = time_scale(largest(report, &SweepRow::time));
  add_points(report, &SweepRow::time, time.factor, &SweepRow::energy, energy.factor,
             "%{x:.4~g} " + time.unit + ", %{y:.4~g} " + energy.unit, figure);
  if (report.rows.size() < 2) return {};
  const double context = widest_context(report);
  std::vector<std::pair<double, double>> cloud;
  for (const SweepRow& row : report.rows) {
    if (row.context == context)
      cloud.emplace_back(row.time * time.factor, row.energy * energy.factor);
  }
  add_front(cloud, figure);
  figure.title = "Energy against time a token";
  figure.caption = fmt::format(
      "All {} points; lower left is better. The dotted line is the front among points with {} "
      "tokens of "
      "context. Click a point for its whole configuration.",
      report.rows.size(), grouped(static_cast<std::uint64_t>(context)));
  figure.x_axes[0].title = "time [" + time.unit + " a token]";
  figure.x_axes[0].log = true;
  figure.y_axes[0].title = "energy [" + energy.unit + " a token]";
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(report, {{"time_s", &SweepRow::time}, {"energy_J", &SweepRow::energy}});
  return figure;
}

}  // namespace

std::vector<Figure> sweep_figures(const SweepReport& report) {
  return {error_front_figure(report),    latency_front_figure(report), area_figure(report),
          parallel_figure(report),       breakdown_figure(report),     roofline_figure(report),
          context_figure(report, false), context_figure(report, true), token_figure_of(report),
          rows_figure(report),           bytes_figure(report),         sweep_access_figure(report),
          selection_figure(report),      error_budget_figure(report),  measured_figure(report),
          tornado_figure(report),        assumptions_figure(report),   rivals_note(report)};
}

}  // namespace stoat::sim
