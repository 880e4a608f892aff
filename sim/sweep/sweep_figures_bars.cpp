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

const SweepRow* answer_row(const SweepReport& report) {
  const SweepRow* best = sweep_champion(report, Champion::kSampled);
  return best != nullptr ? best : sweep_champion(report, Champion::kTopK);
}

std::string one_design_note(const SweepReport& report) {
  std::string text;
  const SweepRow* best = answer_row(report);
  const auto at = static_cast<std::size_t>(best - report.rows.data());
  for (const std::string& name : report.varying) {
    bool same = true, shared = true;
    for (std::size_t i = 0; i < report.rows.size(); ++i) {
      const bool equal = report.cell(i, name) == report.cell(at, name);
      same = same && equal;
      if (report.rows[i].design == best->design) shared = shared && equal;
    }
    if (!same && shared && !report.cell(at, name).empty())
      text += (text.empty() ? "" : ", ") + name + " " + report.cell(at, name);
  }
  return "Of many designs the one of the first sentence is shown" +
         (text.empty() ? std::string() : " (" + text + ")") + ".";
}

std::vector<std::size_t> bar_rows(const SweepReport& report) {
  const double context = widest_context(report);
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    if (report.rows[i].context == context) rows.push_back(i);
  }
  const SweepRow* best = answer_row(report);
  if (rows.size() > kMaxBars && best != nullptr) {
    std::erase_if(rows, [&](std::size_t i) { return report.rows[i].design != best->design; });
  }
  if (rows.size() > kMaxBars) {
    std::erase_if(rows, [&](std::size_t i) {
      return !report.rows[i].front && report.rows[i].dense != static_cast<int>(i);
    });
  }
  if (rows.size() > kMaxBars) rows.resize(kMaxBars);
  return rows;
}

std::string bar_note(const SweepReport& report, const std::vector<std::size_t>& rows) {
  const double context = widest_context(report);
  const auto here = static_cast<std::size_t>(
      std::count_if(report.rows.begin(), report.rows.end(),
                    [context](const SweepRow& row) { return row.context == context; }));
  return rows.size() == here ? std::string()
                             : fmt::format(" {} of {} points at this context.", rows.size(), here);
}

std::vector<std::string> telling_labels(std::vector<std::string> labels) {
  const auto parts = [](const std::string& label) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at <= label.size();) {
      const std::size_t end = std::min(label.find(", ", at), label.size());
      out.push_back(label.substr(at, end - at));
      at = end + 2;
    }
    return out;
  };
  std::map<std::string, std::size_t> seen;
  for (const std::string& label : labels) {
    for (const std::string& part : parts(label)) ++seen[part];
  }
  if (labels.size() < 2) return labels;
  for (std::string& label : labels) {
    std::string shorter;
    for (const std::string& part : parts(label)) {
      if (seen[part] < labels.size()) shorter += (shorter.empty() ? "" : ", ") + part;
    }
    if (!shorter.empty()) label = shorter;
  }
  return labels;
}

std::vector<std::string> bar_labels(const SweepReport& report,
                                    const std::vector<std::size_t>& rows) {
  std::vector<std::string> labels;
  for (const std::size_t i : rows) labels.push_back(report.rows[i].label);
  return telling_labels(std::move(labels));
}

Axis bar_axis(const SweepReport& report, const std::vector<std::size_t>& rows) {
  Axis axis;
  axis.category = true;
  axis.reversed = true;
  axis.grid = false;
  axis.tick_texts = bar_labels(report, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) axis.tick_values.push_back(static_cast<double>(i));
  return axis;
}

namespace {

Series::Dimension dimension(const SweepReport& report, const std::string& name) {
  Series::Dimension out;
  out.title = name.substr(name.find('.') + 1);  // without engine., mapping., ...
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
  csv += ",sum_J,rows_of_K_and_V,fJ_per_row\n";
  for (const std::size_t i : rows) {
    csv += report.cell(i, "index") + "," + report.cell(i, "point") + "," +
           csv_cell(report.rows[i].label);
    for (const double each : report.rows[i].components) csv += "," + exact_number(each);
    const SweepRow& row = report.rows[i];
    csv += "," + exact_number(row.energy) + "," + exact_number(row.rows_fetched) + "," +
           exact_number(row.energy / row.rows_fetched * 1e15) + "\n";
  }
  const std::vector<std::string> labels = bar_labels(report, rows);
  std::size_t shade = 0;
  for (std::size_t c = 0; c < report.components.size(); ++c) {
    Series bar;
    bar.kind = SeriesKind::kHorizontalBar;
    bar.name = report.components[c];
    bar.color = neutral_color(shade);
    bar.pattern = neutral_pattern(shade);
    bool any = false;
    for (std::size_t n = 0; n < rows.size(); ++n) {
      bar.categories.push_back(labels[n]);
      bar.x.push_back(report.rows[rows[n]].components[c] * scale.factor);
      any = any || report.rows[rows[n]].components[c] > 0.001 * most;
    }
    bar.hover = bar.name + ": %{x:.4~g} " + scale.unit + "<extra>%{y}</extra>";
    if (!any) continue;  // below a thousandth of the longest bar: in the CSV
    ++shade;
    figure.series.push_back(std::move(bar));
  }
  for (std::size_t n = 0; n < rows.size(); ++n) {
    const SweepRow& row = report.rows[rows[n]];
    const double each = row.energy / row.rows_fetched;
    const Scale of_row = energy_scale(each);
    Annotation sum;
    sum.text = fmt::format(" {} {}", significant(row.energy * scale.factor, 4), scale.unit);
    if (std::isfinite(each))
      sum.text += fmt::format(", {} {} a row", significant(each * of_row.factor, 3), of_row.unit);
    sum.x = row.energy * scale.factor;
    sum.y = static_cast<double>(n);
    sum.x_axis = sum.y_axis = 0;
    figure.annotations.push_back(std::move(sum));
  }
  figure.x_axes[0].range = {0, most * scale.factor * 1.4};
  figure.caption =
      "Behind each bar its sum, and the sum over the rows of K and V that are fetched. Components "
      "below a thousandth of the longest bar are only in the CSV. DRAM is nearly everything unless "
      "the engine sits in the bank." +
      bar_note(report, rows);
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
    for (const std::size_t i : rows) bar.x.push_back(report.rows[i].*kind.member * scale.factor);
    bar.categories = bar_labels(report, rows);
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

Figure parallel_figure(const SweepReport& report) {
  if (report.rows.size() < 3) return {};
  if (report.rows.size() > kMaxParallel) {
    // The fronts, and every n-th of the others.
    SweepReport some = report;
    some.rows.clear();
    some.cells.clear();
    const auto fronts = static_cast<std::size_t>(std::count_if(
        report.rows.begin(), report.rows.end(), [](const SweepRow& row) { return row.front; }));
    const std::size_t room = kMaxParallel - std::min(fronts, kMaxParallel / 2);
    const std::size_t every = (report.rows.size() + room - 1) / room;
    for (std::size_t i = 0; i < report.rows.size() && some.rows.size() < kMaxParallel; ++i) {
      if (!report.rows[i].front && i % every != 0) continue;
      some.rows.push_back(report.rows[i]);
      some.cells.push_back(report.cells[i]);
    }
    Figure figure = parallel_figure(some);
    figure.title = fmt::format("{} of {} points at once", some.rows.size(), report.rows.size());
    figure.caption += fmt::format(" Shown are the front and every {}. of the other points.", every);
    return figure;
  }
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

Figure rivals_note(const SweepReport& report) {
  Figure figure;
  figure.id = "rivals";
  const auto any = [&](auto is) { return std::any_of(report.rows.begin(), report.rows.end(), is); };
  const bool narrow =
      any([](const SweepRow& row) { return row.datapath == "mac" && row.element == "fp8"; });
  const bool top_k = any([](const SweepRow& row) { return row.datapath == "topk"; });
  if (narrow && top_k) return figure;
  figure.title = "Rivals";
  figure.caption = "this sweep has no points of";
  if (!narrow)
    figure.caption += " dense attention on an fp8 cache (datapath: mac, kv.element: fp8)";
  if (!narrow && !top_k) figure.caption += " and none of";
  if (!top_k) figure.caption += " top-k (datapath: topk, budget: K)";
  figure.caption += ", so no figure compares with them.";
  return figure;
}

}  // namespace stoat::sim
