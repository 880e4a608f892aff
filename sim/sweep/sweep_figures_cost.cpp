// The figures of a sweep about what hardware does with the work: roofline, rows and bursts, the
// cost of selecting, area.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "sim/sweep/html.h"
#include "sim/sweep/sweep_figure_parts.h"

namespace stoat::sim {
namespace {

constexpr std::size_t kMaxRoofs = 4;

std::string tokens(double context) {
  return grouped(static_cast<std::uint64_t>(context)) + " tokens of context";
}

Figure absent(const char* id, const char* title, std::string reason) {
  Figure figure;
  figure.id = id;
  figure.title = title;
  figure.caption = std::move(reason);
  return figure;
}

// The same report with `member` known at one context only: rows of others are no alternatives.
SweepReport at_context(const SweepReport& report, double context, double SweepRow::*member) {
  SweepReport shown = report;
  for (SweepRow& row : shown.rows) {
    if (row.context != context || !(row.*member > 0)) row.*member = std::nan("");
  }
  return shown;
}

std::pair<double, double> span_of(const SweepReport& shown, double SweepRow::*member) {
  std::pair<double, double> span{0, 0};
  for (const SweepRow& row : shown.rows) {
    if (!std::isfinite(row.intensity) || !std::isfinite(row.*member)) continue;
    span.first = span.second > 0 ? std::min(span.first, row.*member) : row.*member;
    span.second = std::max(span.second, row.*member);
  }
  return span;
}

// Slanted lines of the memories, and the level of the multiply-accumulate lanes where it is known.
void add_roofs(const SweepReport& shown, const Scale& scale, Figure& figure) {
  std::set<double> memories;
  double lanes = 0;
  for (const SweepRow& row : shown.rows) {
    if (!std::isfinite(row.intensity)) continue;
    if (row.peak_bytes > 0) memories.insert(row.peak_bytes);
    if (std::isfinite(row.peak_rate)) lanes = std::max(lanes, row.peak_rate);
  }
  const auto [low, high] = span_of(shown, &SweepRow::intensity);
  const double left = low / 2, right = high * 2;
  std::size_t n = 0;
  for (auto each = memories.rbegin(); each != memories.rend() && n < kMaxRoofs; ++each, ++n) {
    Series roof;
    roof.name = fmt::format("memory, {} GB/s", significant(*each * 1e-9, 4));
    roof.color = "muted";
    roof.dash = dash_of(n);
    roof.hover = roof.name + "<extra></extra>";
    roof.x = {left, right};
    roof.y = {left * *each * scale.factor, right * *each * scale.factor};
    if (lanes > 0 && lanes < right * *each) {
      roof.x[1] = std::max(left, lanes / *each);
      roof.y[1] = roof.x[1] * *each * scale.factor;
    }
    figure.series.push_back(std::move(roof));
  }
  if (!(lanes > 0)) return;
  Series roof;
  roof.name = fmt::format("multiply-accumulate lanes, {} {}", significant(lanes * scale.factor, 4),
                          scale.unit);
  roof.color = "ink/0.55";
  roof.hover = roof.name + "<extra></extra>";
  roof.x = {memories.empty() ? left : std::clamp(lanes / *memories.rbegin(), left, right), right};
  roof.y = {lanes * scale.factor, lanes * scale.factor};
  if (roof.x[0] < roof.x[1]) figure.series.push_back(std::move(roof));
}

}  // namespace

Figure roofline_figure(const SweepReport& report) {
  constexpr const char* kTitle = "Roofline";
  const double compared = compared_context(report);
  const double context = compared > 0 ? compared : widest_context(report);
  const SweepReport shown = at_context(report, context, &SweepRow::intensity);
  const double most = largest(shown, &SweepRow::rate);
  const Scale scale =
      most >= 1e12 ? Scale{1e-12, "Tera-operations/s"} : Scale{1e-9, "Giga-operations/s"};
  Figure figure;
  figure.id = "roofline";
  add_points(shown, &SweepRow::intensity, 1, &SweepRow::rate, scale.factor,
             "%{x:.3~g} operations a byte, %{y:.4~g} " + scale.unit, figure);
  if (figure.series.empty()) {
    return absent("roofline", kTitle,
                  "the results hold no counts of rows and bytes that operations follow from.");
  }
  add_roofs(shown, scale, figure);
  figure.title = fmt::format("{}: operations a byte and a second, {}", kTitle, tokens(context));
  figure.caption =
      "Slanted: what each memory allows; level: all multiply-accumulate lanes at two operations a "
      "cycle, of the design that has most. A point below the slanted line of its memory waits for "
      "something else than its bytes. Operations "
      "are attention's own: a product and its addition for every element of a scored key or a "
      "weighted value, one addition for every touched feature of a ternary query and every element "
      "of a drawn value; scaling and the merging of partial outputs are not in them.";
  const SweepRow* sampled = compared > 0 ? sweep_champion(report, Champion::kSampled) : nullptr;
  if (sampled != nullptr && sampled->intensity > 0) {
    const SweepRow& dense = report.rows[static_cast<std::size_t>(sampled->dense)];
    Annotation arrow;
    arrow.x = sampled->intensity;
    arrow.y = sampled->rate * scale.factor;
    arrow.x_axis = arrow.y_axis = 0;
    arrow.color = "ink";
    arrow.arrow_from = {dense.intensity, dense.rate * scale.factor};
    figure.annotations.push_back(std::move(arrow));
    figure.caption += fmt::format(
        " The arrow goes from dense ({} operations a byte) to {} ({}), which does {} of dense's "
        "operations in {} of its time.",
        significant(dense.intensity, 3), sampled->label, significant(sampled->intensity, 3),
        significant(sampled->operations / dense.operations, 3),
        significant(sampled->time / dense.time, 3));
  }
  figure.x_axes[0].title = "operations a byte moved";
  figure.x_axes[0].log = true;
  figure.y_axes[0].title = "achieved [" + scale.unit + "]";
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(report, {{"operations", &SweepRow::operations},
                               {"moved_bytes", &SweepRow::moved},
                               {"operations_per_byte", &SweepRow::intensity},
                               {"operations_per_second", &SweepRow::rate},
                               {"peak_bytes_per_second", &SweepRow::peak_bytes},
                               {"peak_lane_operations_per_second", &SweepRow::peak_rate}});
  return figure;
}

Figure rows_figure(const SweepReport& report) {
  const std::vector<std::size_t> rows = bar_rows(report);
  Figure figure;
  figure.id = "rows";
  double bursts = 0;
  for (const std::size_t i : rows) bursts = std::max(bursts, report.rows[i].bursts);
  const bool millions = bursts >= 1e6;
  struct Kind {
    const char* name;
    double SweepRow::*member;
    const char* color;
    const char* marker;
    int axis;
    const char* unit;
  };
  for (const Kind& kind :
       {Kind{"draws", &SweepRow::rows_drawn, "shade4", "cross", 0, "draws"},
        Kind{"logical rows: every head its own", &SweepRow::rows_logical, "shade1", "square-open",
             0, "rows"},
        Kind{"distinct rows: after the union over the group", &SweepRow::rows_distinct, "shade0",
             "circle", 0, "rows"},
        Kind{"bursts moved, K and V", &SweepRow::bursts, "shade0", "diamond", 1,
             millions ? "million" : "thousand"},
        Kind{"row hits", &SweepRow::row_hits, "shade1", "triangle-up", 2, "%"}}) {
    Series dots;
    dots.kind = SeriesKind::kPoints;
    dots.name = kind.name;
    dots.color = kind.color;
    dots.marker = kind.marker;
    dots.x_axis = kind.axis;
    dots.hover = std::string("%{x:.5~g} ") + kind.unit + "<extra></extra>";
    for (std::size_t n = 0; n < rows.size(); ++n) {
      const double value = report.rows[rows[n]].*kind.member;
      if (!(value > 0)) continue;  // a dense datapath draws nothing
      dots.x.push_back(kind.axis == 1 ? value * (millions ? 1e-6 : 1e-3) : value);
      dots.y.push_back(static_cast<double>(n));
      dots.rows.push_back(static_cast<std::uint32_t>(rows[n]));
    }
    if (!dots.x.empty()) figure.series.push_back(std::move(dots));
  }
  if (figure.series.empty()) {
    return absent("rows", "Logical and distinct rows, bursts, row hits",
                  "the results hold no counts of rows.");
  }
  figure.title = fmt::format("Rows of V asked for and fetched, bursts moved, row hits, {}",
                             tokens(widest_context(report)));
  figure.caption =
      "Left, on a logarithmic scale: from draws to logical rows is what repeats save, from logical "
      "to distinct rows what the query heads of a group share. Middle: bursts of the memory, K "
      "included. Right: how many of them found their row open; scattered rows miss more often." +
      bar_note(report, rows);
  figure.x_axes = {Axis{}, Axis{}, Axis{}};
  figure.x_axes[0].title = "rows or draws of V a token";
  figure.x_axes[1].title =
      std::string("bursts [") + (millions ? "million" : "thousand") + " a token]";
  figure.x_axes[1].range = {0, bursts * (millions ? 1.08e-6 : 1.08e-3)};
  figure.x_axes[2].title = "row hits [%]";
  figure.x_axes[0].domain = {0, 0.44};
  figure.x_axes[1].domain = {0.5, 0.72};
  figure.x_axes[2].domain = {0.78, 1};
  figure.x_axes[0].log = true;
  figure.y_axes[0] = bar_axis(report, rows);
  figure.y_axes[0].category = false;
  figure.y_axes[0].grid = true;
  figure.y_axes[0].range = {-0.6, static_cast<double>(rows.size()) - 0.4};
  figure.height = static_cast<int>(140 + 26 * rows.size());
  figure.csv = csv_of(report, {{"value_draws", &SweepRow::rows_drawn},
                               {"value_rows_logical", &SweepRow::rows_logical},
                               {"value_rows_distinct", &SweepRow::rows_distinct},
                               {"read_bursts", &SweepRow::bursts},
                               {"row_hit_percent", &SweepRow::row_hits}});
  return figure;
}

Figure selection_figure(const SweepReport& report) {
  constexpr const char* kTitle = "What selecting costs: samplers beside top-k";
  const double context = widest_context(report);
  const Scale scale = energy_scale(largest(report, &SweepRow::select_energy));
  std::vector<std::size_t> rows;
  bool top_k = false, samplers = false;
  double dense_energy = 0, dense_cycles = 0;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    if (row.context != context || !(row.select_energy > 0)) continue;
    if (std::isfinite(row.budget)) {
      rows.push_back(i);
      (row.datapath == "topk" ? top_k : samplers) = true;
    } else if (row.element == "bf16" && dense_energy == 0) {
      dense_energy = row.select_energy;
      dense_cycles = row.select_cycles;
    }
  }
  if (!top_k && !samplers) {
    return absent("selection", kTitle, "no point of this sweep selects rows.");
  }
  std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
    return report.rows[a].budget < report.rows[b].budget;
  });
  std::map<std::string, std::vector<std::size_t>> lines;
  std::vector<std::string> order;
  const auto collect = [&] {
    lines.clear();
    order.clear();
    for (const std::size_t i : rows) {
      const std::string name = label_without_budget(report.rows[i]);
      if (lines.find(name) == lines.end()) order.push_back(name);
      lines[name].push_back(i);
    }
  };
  collect();
  const SweepRow* best = answer_row(report);
  const bool one_design = order.size() > kMaxSeries && best != nullptr;
  if (one_design) {
    std::erase_if(rows, [&](std::size_t i) { return report.rows[i].design != best->design; });
    collect();
  }
  if (order.size() > kMaxSeries || order.empty()) {
    return absent("selection", kTitle,
                  fmt::format("{} kinds of points are more than {} lines can tell apart; the "
                              "columns select_energy_aJ and select_busy_cycles of results.csv "
                              "hold the costs.",
                              order.size(), kMaxSeries));
  }
  const std::vector<std::string> names = one_design ? telling_labels(order) : order;
  Figure figure;
  figure.id = "selection";
  for (const int panel : {0, 1}) {
    double SweepRow::*member = panel == 0 ? &SweepRow::select_energy : &SweepRow::select_cycles;
    const double factor = panel == 0 ? scale.factor : 1;
    const std::string unit = panel == 0 ? scale.unit : "cycles";
    const auto add = [&](Series line, std::size_t n) {
      line.dash = n == order.size() ? "dot" : dash_of(n);
      line.group = line.name;
      line.legend = panel == 0;
      line.x_axis = line.y_axis = panel;
      line.hover =
          "S = %{x}: %{y:.4~g} " + unit + "<extra>" + escape_plot_text(line.name) + "</extra>";
      figure.series.push_back(std::move(line));
    };
    for (std::size_t n = 0; n < order.size(); ++n) {
      Series line;
      line.name = names[n];
      line.color = color_of(report.rows[lines[order[n]].front()]);
      line.marker = marker_of(n);
      for (const std::size_t i : lines[order[n]]) {
        line.x.push_back(report.rows[i].budget);
        line.y.push_back(report.rows[i].*member * factor);
        line.rows.push_back(static_cast<std::uint32_t>(i));
      }
      add(std::move(line), n);
    }
    if (dense_energy > 0) {
      Series line;
      line.name = "dense: softmax without a selection";
      line.color = "muted";
      const double least = report.rows[rows.front()].budget, most = report.rows[rows.back()].budget;
      line.x = {least, most > least ? most : least * 2};
      line.y.assign(2, (panel == 0 ? dense_energy : dense_cycles) * factor);
      add(std::move(line), order.size());
    }
  }
  figure.title = fmt::format("{}, {}", kTitle, tokens(context));
  figure.caption = fmt::format(
      "The select stage alone: exponentials, stash and the sampler or the top-k unit; left its "
      "energy a token, right the cycles a token that it is busy in each engine. Dotted: the "
      "softmax of dense attention, which every sampler also needs.{}",
      top_k ? "" : " No point of this sweep uses top-k.");
  if (one_design) figure.caption += " " + one_design_note(report);
  figure.x_axes = {Axis{}, Axis{}};
  figure.y_axes = {Axis{}, Axis{}};
  figure.x_axes[0].domain = {0, 0.45};
  figure.x_axes[1].domain = {0.56, 1};
  for (Axis& axis : figure.x_axes) {
    axis.title = "budget S [rows drawn or kept a head]";
    axis.log = true;
  }
  figure.y_axes[0].title = "energy of selection [" + scale.unit + " a token]";
  figure.y_axes[1].title = "busy [cycles a token]";
  figure.y_axes[0].log = figure.y_axes[1].log = true;
  figure.height = 440;
  figure.csv = csv_of(report, {{"select_energy_J", &SweepRow::select_energy},
                               {"select_cycles", &SweepRow::select_cycles}});
  return figure;
}

Figure area_figure(const SweepReport& report) {
  constexpr const char* kTitle = "Time a token against an area proxy";
  const double context = widest_context(report);
  const SweepReport shown = at_context(report, context, &SweepRow::area);
  std::set<double> areas;
  for (const SweepRow& row : shown.rows) {
    if (std::isfinite(row.area)) areas.insert(row.area);
  }
  if (areas.empty()) {
    return absent("pareto-area", kTitle,
                  "no accelerator of these points is found here, or none of their accumulators has "
                  "an area in models/arch/area_proxy.csv.");
  }
  if (areas.size() < 2) {
    return absent("pareto-area", kTitle, "all points have the same lanes and buffers.");
  }
  Figure figure;
  figure.id = "pareto-area";
  const Scale time = time_scale(largest(shown, &SweepRow::time));
  add_points(shown, &SweepRow::area, 1, &SweepRow::time, time.factor,
             "%{x:.3~g} mm², %{y:.4~g} " + time.unit, figure);
  std::vector<std::pair<double, double>> cloud;
  std::size_t without = 0;
  for (const SweepRow& row : shown.rows) {
    if (std::isfinite(row.area)) {
      cloud.emplace_back(row.area, row.time * time.factor);
    } else if (row.context == context) {
      ++without;
    }
  }
  add_front(std::move(cloud), figure);
  figure.title = fmt::format("{}, {}", kTitle, tokens(context));
  figure.caption =
      "Lower left is better. The proxy orders designs and is no layout: lanes of the datapath, "
      "stash, row and query buffer of all engines at the 7 nm areas of "
      "models/arch/area_proxy.csv. Exponential units, comparators, control, wires and the memory's "
      "dies are not in it.";
  if (without > 0) {
    figure.caption += fmt::format(
        " {} points have an accumulator without an area there and are "
        "left out.",
        without);
  }
  figure.x_axes[0].title = "area proxy [mm²]";
  figure.x_axes[0].log = *areas.rbegin() > 5 * *areas.begin();
  figure.y_axes[0].title = "time [" + time.unit + " a token]";
  figure.y_axes[0].log = true;
  figure.height = 420;
  figure.csv = csv_of(report, {{"area_proxy_mm2", &SweepRow::area}, {"time_s", &SweepRow::time}});
  return figure;
}

}  // namespace stoat::sim
