// The figures of a sweep that are lines over the context or the budget.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "sim/sweep/html.h"
#include "sim/sweep/sweep_figure_parts.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {
namespace {

constexpr std::size_t kMaxShares = 4;

struct Lines {
  bool any = false;  // is one of them more than a dot?
  std::string note;  // what was left out
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::size_t>> rows;
};

// Rows by label, each sorted by x. `design`: of this one only.
Lines lines_by_label(const SweepReport& report, double SweepRow::*x, const std::string* design) {
  Lines lines;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    if (!std::isfinite(row.*x) || (design != nullptr && row.design != *design)) continue;
    const std::string& label = row.label;
    if (lines.rows.find(label) == lines.rows.end()) lines.order.push_back(label);
    lines.rows[label].push_back(i);
  }
  for (auto& [label, rows] : lines.rows) {
    std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
      return report.rows[a].*x < report.rows[b].*x;
    });
    lines.any = lines.any || rows.size() > 1;
  }
  return lines;
}

// All rows, or where their lines are more than a figure can tell apart those of one design: that of
// the answer's sentence.
Lines few_lines(const SweepReport& report, double SweepRow::*x) {
  Lines lines = lines_by_label(report, x, nullptr);
  if (lines.order.size() <= kMaxSeries) return lines;
  const SweepRow* best = answer_row(report);
  if (best == nullptr) return lines;
  lines = lines_by_label(report, x, &best->design);
  const std::vector<std::string> names = telling_labels(lines.order);
  if (std::set<std::string>(names.begin(), names.end()).size() == names.size()) {
    Lines shorter;
    for (std::size_t n = 0; n < names.size(); ++n)
      shorter.rows[names[n]] = std::move(lines.rows[lines.order[n]]);
    shorter.order = names;
    shorter.any = lines.any;
    lines = std::move(shorter);
  }
  lines.note = " " + one_design_note(report);
  return lines;
}

Figure too_many(Figure figure, std::size_t lines) {
  figure.series.clear();
  figure.caption = fmt::format(
      "{} kinds of points are more than {} lines can tell apart, and no sampled point has a dense "
      "one beside it that would say which to show; results.csv holds the numbers.",
      lines, kMaxSeries);
  return figure;
}

std::string context_text(double context) {
  return context >= 1024 && std::fmod(context, 1024) == 0 ? fmt::format("{}k", context / 1024)
                                                          : fmt::format("{}", context);
}

// A logarithmic axis of contexts, each of them named while there are few.
void label_contexts(Axis& axis, const std::set<double>& contexts) {
  axis.title = "context [tokens]";
  axis.log = true;
  if (contexts.size() > 12) return;
  for (const double each : contexts) {
    axis.tick_values.push_back(each);
    axis.tick_texts.push_back(context_text(each));
  }
}

// Independent draws by theory: e^2 = (P - 1) / S with P = 1 / sum p^2, for every participation that
// the points have (three at most).
void add_theory(const SweepReport& report, const std::vector<std::size_t>& rows, double low,
                double high, Figure& figure) {
  std::set<double> sharpness;
  for (const std::size_t i : rows) {
    const double p = report.rows[i].participation;
    if (p > 1) sharpness.insert(std::stod(fmt::format("{:.2g}", p)));
  }
  if (sharpness.size() > 3) return;
  for (const double p : sharpness) {
    Series line;
    line.name = fmt::format("theory: independent draws, as sharp as {} rows", significant(p, 2));
    line.color = "muted";
    line.dash = "dot";
    line.hover = "theory: %{y:.3~g}<extra></extra>";
    line.x = {low, high};
    line.y = {std::sqrt((p - 1) / low), std::sqrt((p - 1) / high)};
    figure.series.push_back(std::move(line));
  }
}

}  // namespace

Figure context_figure(const SweepReport& report, bool energy) {
  std::set<double> contexts;
  for (const SweepRow& row : report.rows) contexts.insert(row.context);
  Figure figure;
  figure.id = energy ? "energy-context" : "time-context";
  figure.title = energy ? "Energy a token against context" : "Time a token against context";
  if (contexts.size() < 2) {
    figure.caption = "all points have the same context.";
    return figure;
  }
  const Lines lines = few_lines(report, &SweepRow::context);
  if (!lines.any || lines.order.size() > kMaxSeries) return too_many(figure, lines.order.size());
  const Scale scale = energy ? energy_scale(largest(report, &SweepRow::energy))
                             : time_scale(largest(report, &SweepRow::time));
  double SweepRow::*member = energy ? &SweepRow::energy : &SweepRow::time;
  for (std::size_t n = 0; n < lines.order.size(); ++n) {
    const auto& rows = lines.rows.at(lines.order[n]);
    Series series;
    series.name = lines.order[n];
    series.color = color_of(report.rows[rows.front()]);
    series.marker = marker_of(n);
    series.dash = dash_of(n);
    series.hover = "%{x} tokens, %{y:.4~g} " + scale.unit + "<extra>" +
                   escape_plot_text(lines.order[n]) + "</extra>";
    for (const std::size_t i : rows) {
      series.x.push_back(report.rows[i].context);
      series.y.push_back(report.rows[i].*member * scale.factor);
      series.rows.push_back(static_cast<std::uint32_t>(i));
    }
    figure.series.push_back(std::move(series));
  }
  figure.caption =
      "Both axes are logarithmic: a constant gain is a constant distance. Keys are read in full by "
      "exact "
      "scores, so no budget falls below the half that they cost." +
      lines.note;
  label_contexts(figure.x_axes[0], contexts);
  figure.y_axes[0].title = fmt::format("{} [{} a token]", energy ? "energy" : "time", scale.unit);
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(report, {{energy ? "energy_J" : "time_s", member}});
  return figure;
}

Figure error_budget_figure(const SweepReport& report) {
  const double context = widest_context(report);
  Figure figure;
  figure.id = "error-budget";
  figure.title = fmt::format("Error of the attention output against budget, {} tokens of context",
                             grouped(static_cast<std::uint64_t>(context)));
  std::vector<std::size_t> rows;
  std::set<double> budgets;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    if (row.context != context || !(row.error > 0) || !std::isfinite(row.budget)) continue;
    rows.push_back(i);
    budgets.insert(row.budget);
  }
  if (budgets.size() < 3) {
    figure.caption = "it needs points with a known error at three budgets at least.";
    return figure;
  }
  std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
    return report.rows[a].budget < report.rows[b].budget;
  });
  std::map<std::string, Series> lines;
  std::vector<std::string> order;
  const auto collect = [&](const std::string* design) {
    lines.clear();
    order.clear();
    for (const std::size_t i : rows) {
      const SweepRow& row = report.rows[i];
      if (design != nullptr && row.design != *design) continue;
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
  };
  collect(nullptr);
  std::string note;
  const SweepRow* best = answer_row(report);
  if (order.size() > kMaxSeries && best != nullptr) {
    collect(&best->design);
    const std::vector<std::string> names = telling_labels(order);
    for (std::size_t n = 0; n < names.size(); ++n) lines[order[n]].name = names[n];
    note = " " + one_design_note(report);
  }
  if (order.size() > kMaxSeries || order.empty()) return too_many(figure, order.size());
  figure.caption =
      "Bars: one standard error over heads, layers and steps. Every sampler's mean is exact "
      "(E[count] = S p), so this is the root of its variance; top-k is all bias and levels off "
      "where its rows end. Independent draws follow the dotted line of theory, the root of (P - 1) "
      "/ S for P equal rows; systematic ones fall faster once S passes the rows that matter." +
      note;
  for (std::size_t n = 0; n < order.size(); ++n) {
    Series& line = lines[order[n]];
    line.marker = marker_of(n);
    line.dash = dash_of(n);
    line.hover = "S = %{x}, error %{y:.3~g}<extra>" + escape_plot_text(line.name) + "</extra>";
    figure.series.push_back(std::move(line));
  }
  add_theory(report, rows, *budgets.begin(), *budgets.rbegin(), figure);
  figure.x_axes[0].title = "budget S [rows drawn a head]";
  figure.x_axes[0].log = true;
  figure.y_axes[0].title = "error, relative";
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(report, {{"budget", &SweepRow::budget},
                               {"total_error", &SweepRow::error},
                               {"total_error_low", &SweepRow::error_low},
                               {"total_error_high", &SweepRow::error_high},
                               {"participation", &SweepRow::participation}});
  return figure;
}

Figure token_figure_of(const SweepReport& report) {
  std::set<double> contexts;
  for (const SweepRow& row : report.rows) {
    if (std::isfinite(row.token_saving)) contexts.insert(row.context);
  }
  Figure figure;
  figure.id = "token";
  figure.title = "What it saves of a whole token's bytes";
  if (contexts.size() < 2) {
    figure.caption =
        "it needs the bytes of the model's weights (model: NAME, or a recorded trace) and two "
        "contexts.";
    return figure;
  }
  const Lines lines = few_lines(report, &SweepRow::context);
  if (!lines.any || lines.order.size() > kMaxSeries) return too_many(figure, lines.order.size());
  for (std::size_t n = 0; n < lines.order.size(); ++n) {
    const auto& rows = lines.rows.at(lines.order[n]);
    if (report.rows[rows.front()].datapath == "mac" &&
        report.rows[rows.front()].element == "bf16") {
      continue;
    }
    Series line;
    line.name = lines.order[n];
    line.color = color_of(report.rows[rows.front()]);
    line.marker = marker_of(n);
    line.dash = dash_of(n);
    line.hover = "%{x} tokens: %{y:.3~g} % saved<extra>" + escape_plot_text(line.name) + "</extra>";
    for (const std::size_t i : rows) {
      line.x.push_back(report.rows[i].context);
      line.y.push_back(report.rows[i].token_saving);
      line.rows.push_back(static_cast<std::uint32_t>(i));
    }
    figure.series.push_back(std::move(line));
  }
  // K and V are a larger share of a larger batch.
  std::map<std::string, std::map<double, double>> shares;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    if (std::isfinite(row.token_share))
      shares[report.cell(i, "batch")].emplace(row.context, row.token_share);
  }
  for (const auto& [batch, by_context] : shares) {
    Series share;
    share.name = "all of attention";
    if (shares.size() > 1) share.name += ", batch " + batch;
    share.color = "muted";
    share.dash = "dot";
    for (const auto& [context, percent] : by_context) {
      share.x.push_back(context);
      share.y.push_back(percent);
    }
    share.hover = "%{x} tokens: %{y:.3~g} %<extra>" + escape_plot_text(share.name) + "</extra>";
    if (shares.size() <= kMaxShares) figure.series.push_back(std::move(share));
  }
  figure.caption =
      "Bytes of a decode step are the weights and K and V of all layers. The dotted line is what K "
      "and V are "
      "of them, the most that any attention could save." +
      lines.note;
  label_contexts(figure.x_axes[0], contexts);
  figure.y_axes[0].title = "share of a token's bytes [%]";
  figure.height = 380;
  figure.csv = csv_of(report, {{"attention_share_percent", &SweepRow::token_share},
                               {"token_saving_percent", &SweepRow::token_saving}});
  return figure;
}

}  // namespace stoat::sim
