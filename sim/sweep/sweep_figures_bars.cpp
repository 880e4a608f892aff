// The figures of a sweep that are bars, the tornado and the parallel coordinates.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "sim/sweep/html.h"
#include "sim/sweep/sweep_figure_parts.h"

namespace stoat::sim {

constexpr std::size_t kMaxBars = 24, kMaxParallel = 1000;

std::vector<std::size_t> bar_rows(const SweepReport& report) {
  const double context = widest_context(report);
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    if (report.rows[i].context == context) rows.push_back(i);
  }
  if (rows.size() > kMaxBars) {
    std::erase_if(rows, [&](std::size_t i) {
      return !report.rows[i].front && report.rows[i].dense != static_cast<int>(i);
    });
  }
  if (rows.size() > kMaxBars) rows.resize(kMaxBars);
  return rows;
}

Axis bar_axis(const SweepReport& report, const std::vector<std::size_t>& rows) {
  Axis axis;
  axis.category = true;
  axis.reversed = true;
  axis.grid = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    axis.tick_values.push_back(static_cast<double>(i));
    axis.tick_texts.push_back(report.rows[rows[i]].label);
  }
  return axis;
}

namespace {

Series::Dimension dimension(const SweepReport& report, const std::string& name) {
  Series::Dimension out;
  out.title = name;
  bool numeric = true;
  std::vector<double> values;
  std::map<std::string, double> words;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const std::string& text = report.cell(i, name);
    double value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    numeric = numeric && status == std::errc{} && end == text.data() + text.size();
    values.push_back(value);
    words.emplace(text, static_cast<double>(words.size()));
  }
  const bool spread =
      numeric && *std::max_element(values.begin(), values.end()) >
                     50 * std::max(1e-300, *std::min_element(values.begin(), values.end()));
  if (numeric && !spread) {
    out.values = std::move(values);
    return out;
  }
  std::map<double, std::string> places;  // few values: evenly apart, in their order
  std::map<std::string, double> place;
  if (numeric) {
    std::set<double> sorted(values.begin(), values.end());
    double n = 0;
    for (const double each : sorted) places[n++] = fmt::format("{}", each);
    std::map<double, double> at;
    n = 0;
    for (const double each : sorted) at[each] = n++;
    for (const double each : values) out.values.push_back(at[each]);
  } else {
    for (std::size_t i = 0; i < report.rows.size(); ++i)
      out.values.push_back(words[report.cell(i, name)]);
    for (const auto& [word, n] : words) places[n] = word.empty() ? "-" : word;
  }
  if (places.size() <= 30) {
    for (const auto& [n, word] : places) {
      out.tick_values.push_back(n);
      out.tick_texts.push_back(word);
    }
  }
  return out;
}

}  // namespace

double largest(const SweepReport& report, double SweepRow::*member) {
  double most = 0;
  for (const SweepRow& row : report.rows) {
    if (std::isfinite(row.*member)) most = std::max(most, row.*member);
  }
  return most;
}

std::string csv_of(const SweepReport& report,
                   const std::vector<std::pair<std::string, double SweepRow::*>>& values) {
  std::string csv = "index,point";
  for (const std::string& name : report.varying) csv += "," + csv_cell(name);
  for (const auto& [name, member] : values) csv += "," + name;
  csv += "\n";
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    csv += report.cell(i, "index") + "," + report.cell(i, "point");
    for (const std::string& name : report.varying) csv += "," + csv_cell(report.cell(i, name));
    for (const auto& [name, member] : values) csv += "," + exact_number(report.rows[i].*member);
    csv += "\n";
  }
  return csv;
}

double widest_context(const SweepReport& report) { return largest(report, &SweepRow::context); }

Figure breakdown_figure(const SweepReport& report) {
  const std::vector<std::size_t> rows = bar_rows(report);
  if (rows.empty()) return {};
  Figure figure;
  figure.id = "breakdown";
  figure.title = fmt::format("Where the energy of a token goes, {} tokens of context",
                             grouped(static_cast<std::uint64_t>(widest_context(report))));
  figure.stacked = true;
  double most = 0;
  for (const std::size_t i : rows) most = std::max(most, report.rows[i].energy);
  const Scale scale = energy_scale(most);
  std::string csv = "index,point,label";
  for (const std::string& name : report.components) csv += "," + name + "_J";
  csv += "\n";
  for (const std::size_t i : rows) {
    csv += report.cell(i, "index") + "," + report.cell(i, "point") + "," +
           csv_cell(report.rows[i].label);
    for (const double each : report.rows[i].components) csv += "," + exact_number(each);
    csv += "\n";
  }
  std::size_t shade = 0;
  for (std::size_t c = 0; c < report.components.size(); ++c) {
    Series bar;
    bar.kind = SeriesKind::kHorizontalBar;
    bar.name = report.components[c];
    bar.color = neutral_color(shade);
    bar.pattern = neutral_pattern(shade);
    bool any = false;
    for (std::size_t n = 0; n < rows.size(); ++n) {
      bar.categories.push_back(report.rows[rows[n]].label);
      bar.x.push_back(report.rows[rows[n]].components[c] * scale.factor);
      any = any || report.rows[rows[n]].components[c] > 0.001 * most;
    }
    bar.hover = bar.name + ": %{x:.4~g} " + scale.unit + "<extra>%{y}</extra>";
    if (!any) continue;  // below a thousandth of the longest bar: in the CSV
    ++shade;
    figure.series.push_back(std::move(bar));
  }
  figure.caption =
      "Components below a thousandth of the longest bar are only in the CSV. DRAM is nearly "
      "everything unless "
      "the engine sits in the bank.";
  figure.x_axes[0].title = "energy [" + scale.unit + " a token]";
  figure.y_axes[0] = bar_axis(report, rows);
  figure.height = static_cast<int>(120 + 26 * rows.size());
  figure.csv = csv;
  return figure;
}

Figure bytes_figure(const SweepReport& report) {
  const std::vector<std::size_t> rows = bar_rows(report);
  if (rows.empty()) return {};
  Figure figure;
  figure.id = "bytes";
  figure.title = "Bytes a token: asked for by heads, after the union, moved";
  double most = 0;
  for (const std::size_t i : rows)
    most = std::max({most, report.rows[i].logical, report.rows[i].moved});
  const Scale scale = bytes_scale(most);
  struct Kind {
    const char* name;
    double SweepRow::*member;
    const char* color;
    const char* pattern;
  };
  for (const Kind& kind :
       {Kind{"logical: every head its own rows", &SweepRow::logical, "shade4", ""},
        Kind{"requested: after the union over the group", &SweepRow::requested, "shade2", "/"},
        Kind{"moved: whole bursts", &SweepRow::moved, "shade0", ""}}) {
    Series bar;
    bar.kind = SeriesKind::kHorizontalBar;
    bar.name = kind.name;
    bar.color = kind.color;
    bar.pattern = kind.pattern;
    for (const std::size_t i : rows) {
      bar.categories.push_back(report.rows[i].label);
      bar.x.push_back(report.rows[i].*kind.member * scale.factor);
    }
    bar.hover = "%{x:.4~g} " + scale.unit + "<extra>%{y}</extra>";
    figure.series.push_back(std::move(bar));
  }
  figure.caption =
      "Grouped heads share rows, so fewer bytes are requested than the heads ask for; bursts that "
      "are used in "
      "part make the moved bytes more again.";
  figure.x_axes[0].title = "bytes [" + scale.unit + " a token]";
  figure.y_axes[0] = bar_axis(report, rows);
  figure.height = static_cast<int>(120 + 44 * rows.size());
  figure.csv = csv_of(report, {{"logical_bytes", &SweepRow::logical},
                               {"requested_bytes", &SweepRow::requested},
                               {"moved_bytes", &SweepRow::moved}});
  return figure;
}

// How much sampled / dense energy moves when one component's price is a fifth higher or lower.
Figure tornado_figure(const SweepReport& report) {
  const SweepRow* best = sweep_champion(report, Champion::kSampled);
  if (best == nullptr) best = sweep_champion(report, Champion::kTopK);
  if (best == nullptr) return {};
  const double context = best->context;
  const SweepRow& sampled = *best;
  const SweepRow& dense = report.rows[static_cast<std::size_t>(sampled.dense)];
  const double ratio = sampled.energy / dense.energy;
  struct Bar {
    std::string name;
    double low, high;
  };
  std::vector<Bar> bars;
  for (std::size_t c = 0; c < report.components.size(); ++c) {
    const auto scaled = [&](double by) {
      return (sampled.energy + (by - 1) * sampled.components[c]) /
             (dense.energy + (by - 1) * dense.components[c]);
    };
    bars.push_back({report.components[c], scaled(0.8) / ratio - 1, scaled(1.2) / ratio - 1});
  }
  std::stable_sort(bars.begin(), bars.end(), [](const Bar& a, const Bar& b) {
    return std::abs(a.high - a.low) > std::abs(b.high - b.low);
  });
  std::erase_if(bars, [](const Bar& bar) { return std::abs(bar.high - bar.low) < 1e-6; });
  if (bars.size() > 10) bars.resize(10);
  if (bars.empty()) return {};
  Figure figure;
  figure.id = "sensitivity";
  figure.title = "Which price the answer depends on";
  figure.caption = fmt::format(
      "{} beside {} at {} tokens costs {} of its energy. Bars: the change of that ratio when one "
      "component's "
      "prices are 20 % lower or higher, all others kept.",
      sampled.label, dense.label, grouped(static_cast<std::uint64_t>(context)),
      significant(ratio, 3));
  figure.csv = "component,ratio,change_at_-20_percent,change_at_+20_percent\n";
  for (const bool high : {false, true}) {
    Series bar;
    bar.kind = SeriesKind::kHorizontalBar;
    bar.name = high ? "price + 20 %" : "price - 20 %";
    bar.color = high ? "shade1" : "shade4";
    bar.pattern = high ? "" : "/";
    for (const Bar& each : bars) {
      bar.categories.push_back(each.name);
      bar.x.push_back(100 * (high ? each.high : each.low));
    }
    bar.hover = "%{x:.3~g} %<extra>%{y}</extra>";
    figure.series.push_back(std::move(bar));
  }
  for (const Bar& each : bars) {
    figure.csv += each.name + "," + exact_number(ratio) + "," + exact_number(each.low) + "," +
                  exact_number(each.high) + "\n";
  }
  figure.x_axes[0].title = "change of sampled / dense energy [%]";
  figure.y_axes[0].category = true;
  figure.y_axes[0].reversed = true;
  figure.y_axes[0].grid = false;
  figure.height = static_cast<int>(120 + 34 * bars.size());
  return figure;
}

Figure parallel_figure(const SweepReport& report) {
  if (report.rows.size() > kMaxParallel || report.rows.size() < 3) return {};
  Figure figure;
  figure.id = "parallel";
  figure.title = "All points at once";
  figure.caption =
      "One line a point; drag along an axis to keep a range of it. Darker lines cost more energy a "
      "token.";
  Series lines;
  lines.kind = SeriesKind::kParallel;
  for (const std::string& name : report.varying) {
    if (name == "source" || (name == "context" && lines.dimensions.size() > 6)) continue;
    if (lines.dimensions.size() < 6) lines.dimensions.push_back(dimension(report, name));
  }
  const Scale energy = energy_scale(largest(report, &SweepRow::energy));
  const Scale time = time_scale(largest(report, &SweepRow::time));
  Series::Dimension error{"error", {}, {}, {}}, joules{"energy [" + energy.unit + "]", {}, {}, {}},
      seconds{"time [" + time.unit + "]", {}, {}, {}};
  for (const SweepRow& row : report.rows) {
    joules.values.push_back(row.energy * energy.factor);
    seconds.values.push_back(row.time * time.factor);
    error.values.push_back(std::isfinite(row.error) ? row.error : 0);
    lines.y.push_back(row.energy * energy.factor);
  }
  lines.dimensions.push_back(std::move(error));
  lines.dimensions.push_back(std::move(seconds));
  lines.dimensions.push_back(std::move(joules));
  figure.series.push_back(std::move(lines));
  figure.height = 420;
  figure.csv = csv_of(report, {{"total_error", &SweepRow::error},
                               {"time_s", &SweepRow::time},
                               {"energy_J", &SweepRow::energy}});
  return figure;
}

}  // namespace stoat::sim
