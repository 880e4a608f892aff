// The figures of a sweep that are points and lines, and the order of all of them.
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
    if (name.starts_with(", ")) name.erase(0, 2);
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
  add_front(cloud, figure);
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

struct Lines {
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::size_t>> rows;
};

// Rows by label, each sorted by x; empty when there are too many lines or no line.
Lines lines_by_label(const SweepReport& report, double SweepRow::*x) {
  Lines lines;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    if (!std::isfinite(row.*x)) continue;
    const std::string& label = row.label;
    if (lines.rows.find(label) == lines.rows.end()) lines.order.push_back(label);
    lines.rows[label].push_back(i);
  }
  bool any = false;
  for (auto& [label, rows] : lines.rows) {
    std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
      return report.rows[a].*x < report.rows[b].*x;
    });
    any = any || rows.size() > 1;
  }
  if (!any || lines.order.size() > kMaxSeries) return {};
  return lines;
}

Figure context_figure(const SweepReport& report, bool energy) {
  std::set<double> contexts;
  for (const SweepRow& row : report.rows) contexts.insert(row.context);
  if (contexts.size() < 2) return {};
  const Lines lines = lines_by_label(report, &SweepRow::context);
  Figure figure;
  figure.id = energy ? "energy-context" : "time-context";
  const Scale scale = energy ? energy_scale(largest(report, &SweepRow::energy))
                             : time_scale(largest(report, &SweepRow::time));
  double SweepRow::*member = energy ? &SweepRow::energy : &SweepRow::time;
  for (std::size_t n = 0; n < lines.order.size(); ++n) {
    const auto& rows = lines.rows.at(lines.order[n]);
    Series series;
    series.name = lines.order[n];
    series.color = color_of(report.rows[rows.front()]);
    series.marker = markers()[n % markers().size()];
    series.dash = dashes()[n % dashes().size()];
    series.hover = "%{x} tokens, %{y:.4~g} " + scale.unit + "<extra>" +
                   escape_plot_text(lines.order[n]) + "</extra>";
    for (const std::size_t i : rows) {
      series.x.push_back(report.rows[i].context);
      series.y.push_back(report.rows[i].*member * scale.factor);
      series.rows.push_back(static_cast<std::uint32_t>(i));
    }
    figure.series.push_back(std::move(series));
  }
  figure.title = energy ? "Energy a token against context" : "Time a token against context";
  figure.caption =
      "Both axes are logarithmic: a constant gain is a constant distance. Keys are read in full by "
      "exact "
      "scores, so no budget falls below the half that they cost.";
  figure.x_axes[0].title = "context [tokens]";
  figure.x_axes[0].log = true;
  for (const double each : contexts) {
    if (contexts.size() > 12) break;
    figure.x_axes[0].tick_values.push_back(each);
    figure.x_axes[0].tick_texts.push_back(each >= 1024 && std::fmod(each, 1024) == 0
                                              ? fmt::format("{}k", each / 1024)
                                              : fmt::format("{}", each));
  }
  figure.y_axes[0].title = fmt::format("{} [{} a token]", energy ? "energy" : "time", scale.unit);
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(report, {{energy ? "energy_J" : "time_s", member}});
  return figure;
}

Figure error_budget_figure(const SweepReport& report) {
  const double context = widest_context(report);
  std::set<double> budgets;
  for (const SweepRow& row : report.rows) {
    if (row.context == context && row.error > 0 && std::isfinite(row.budget))
      budgets.insert(row.budget);
  }
  if (budgets.size() < 3) return {};
  // Every column of the label but the budget.
  std::map<std::string, Series> lines;
  std::vector<std::string> order;
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    if (row.context == context && row.error > 0 && std::isfinite(row.budget)) rows.push_back(i);
  }
  std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
    return report.rows[a].budget < report.rows[b].budget;
  });
  for (const std::size_t i : rows) {
    const SweepRow& row = report.rows[i];
    const std::string name = label_without_budget(row);
    if (lines.find(name) == lines.end()) order.push_back(name);
    Series& line = lines[name];
    line.name = name;
    line.color = color_of(row);
    line.x.push_back(row.budget);
    line.y.push_back(row.error);
    line.error_low.push_back(row.error_low);
    line.error_high.push_back(row.error_high);
    line.rows.push_back(static_cast<std::uint32_t>(i));
  }
  if (order.size() > kMaxSeries) return {};
  Figure figure;
  figure.id = "error-budget";
  figure.title = fmt::format("Error of the attention output against budget, {} tokens of context",
                             grouped(static_cast<std::uint64_t>(context)));
  figure.caption =
      "Bars: one standard error over heads, layers and steps. Independent draws fall as one over "
      "the root of "
      "S; systematic ones faster once S passes the number of rows that matter; top-k is biased and "
      "levels "
      "off where its rows end.";
  for (std::size_t n = 0; n < order.size(); ++n) {
    Series& line = lines[order[n]];
    line.marker = markers()[n % markers().size()];
    line.dash = dashes()[n % dashes().size()];
    line.hover = "S = %{x}, error %{y:.3~g}<extra>" + escape_plot_text(order[n]) + "</extra>";
    figure.series.push_back(std::move(line));
  }
  figure.x_axes[0].title = "budget S [rows drawn a head]";
  figure.x_axes[0].log = true;
  figure.y_axes[0].title = "error, relative";
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(report, {{"budget", &SweepRow::budget},
                               {"total_error", &SweepRow::error},
                               {"total_error_low", &SweepRow::error_low},
                               {"total_error_high", &SweepRow::error_high}});
  return figure;
}

Figure token_figure_of(const SweepReport& report) {
  std::set<double> contexts;
  for (const SweepRow& row : report.rows) {
    if (std::isfinite(row.token_saving)) contexts.insert(row.context);
  }
  if (contexts.size() < 2) return {};
  const Lines lines = lines_by_label(report, &SweepRow::context);
  Figure figure;
  figure.id = "token";
  for (std::size_t n = 0; n < lines.order.size(); ++n) {
    const auto& rows = lines.rows.at(lines.order[n]);
    if (report.rows[rows.front()].datapath == "mac" &&
        report.rows[rows.front()].element == "bf16") {
      continue;
    }
    Series line;
    line.name = lines.order[n];
    line.color = color_of(report.rows[rows.front()]);
    line.marker = markers()[n % markers().size()];
    line.dash = dashes()[n % dashes().size()];
    line.hover = "%{x} tokens: %{y:.3~g} % saved<extra>" + escape_plot_text(line.name) + "</extra>";
    for (const std::size_t i : rows) {
      line.x.push_back(report.rows[i].context);
      line.y.push_back(report.rows[i].token_saving);
      line.rows.push_back(static_cast<std::uint32_t>(i));
    }
    figure.series.push_back(std::move(line));
  }
  Series share;
  share.name = "all of attention (K and V read densely)";
  share.color = "muted";
  share.dash = "dot";
  std::map<double, double> shares;
  for (const SweepRow& row : report.rows) {
    if (std::isfinite(row.token_share)) shares.emplace(row.context, row.token_share);
  }
  for (const auto& [context, percent] : shares) {
    share.x.push_back(context);
    share.y.push_back(percent);
  }
  share.hover = "%{x} tokens: %{y:.3~g} %<extra>share of attention</extra>";
  figure.series.push_back(std::move(share));
  figure.title = "What it saves of a whole token's bytes";
  figure.caption =
      "Bytes of a decode step are the weights and K and V of all layers. The dotted line is what K "
      "and V are "
      "of them, the most that any attention could save.";
  figure.x_axes[0].title = "context [tokens]";
  figure.x_axes[0].log = true;
  figure.y_axes[0].title = "share of a token's bytes [%]";
  figure.height = 380;
  figure.csv = csv_of(report, {{"attention_share_percent", &SweepRow::token_share},
                               {"token_saving_percent", &SweepRow::token_saving}});
  return figure;
}

}  // namespace

std::vector<Figure> sweep_figures(const SweepReport& report) {
  return {error_front_figure(report),    latency_front_figure(report), area_figure(report),
          breakdown_figure(report),      roofline_figure(report),      context_figure(report, true),
          context_figure(report, false), token_figure_of(report),      rows_figure(report),
          bytes_figure(report),          selection_figure(report),     error_budget_figure(report),
          tornado_figure(report),        parallel_figure(report)};
}

}  // namespace stoat::sim
