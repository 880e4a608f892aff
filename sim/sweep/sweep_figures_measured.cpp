// What a GPU took beside what the simulator says of the same shapes, and which rows of the cache a
// sampled point reads. Nothing is fitted: measured numbers are read and drawn, and that is all.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/files.h"
#include "sim/sweep/figures.h"
#include "sim/sweep/html.h"
#include "sim/sweep/sweep_figure_parts.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {
namespace {

constexpr const char* kMeasuredTitle = "Model against GPU measurement";

// "dense", "prop S=128", "topk S=128"; everything else is a part of a step, or another question.
bool read_kernel(const std::string& name, MeasuredKernel& out) {
  if (name == "dense") {
    out.datapath = "mac";
    out.method = "dense";
    return true;
  }
  const std::size_t at = name.find(" S=");
  if (at == std::string::npos) return false;
  const char* const end = name.data() + name.size();
  const auto [rest, status] = std::from_chars(name.data() + at + 3, end, out.budget);
  out.method = name.substr(0, at);
  out.datapath = out.method == "topk" ? "topk" : "gather_add";
  return status == std::errc{} && rest == end;
}

std::uint32_t whole(const std::string& text) {
  std::uint32_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

struct Pair {
  std::size_t row = 0;
  const MeasuredKernel* kernel = nullptr;
  double simulated = 0;  // seconds of a layer
  const MeasuredKernel* dense_kernel = nullptr;
};

const MeasuredKernel* find(const Measurements& measured, const MeasuredKernel& wanted) {
  for (const MeasuredKernel& each : measured.rows) {
    if (each.datapath == wanted.datapath && each.method == wanted.method &&
        each.element == wanted.element && each.budget == wanted.budget &&
        each.batch == wanted.batch && each.context == wanted.context &&
        each.query_heads == wanted.query_heads && each.kv_heads == wanted.kv_heads &&
        each.head_dim == wanted.head_dim)
      return &each;
  }
  return nullptr;
}

std::vector<Pair> pairs_of(const SweepReport& report) {
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    MeasuredKernel wanted;
    wanted.datapath = row.datapath;
    wanted.method = row.datapath == "mac" ? "dense" : row.method;
    wanted.element = row.element;
    wanted.budget = whole(row.budget_text);
    wanted.batch = std::max(1U, whole(report.cell(i, "batch")));
    wanted.context = static_cast<std::uint32_t>(row.context);
    wanted.query_heads = whole(report.cell(i, "query_heads"));
    wanted.kv_heads = whole(report.cell(i, "kv_heads"));
    wanted.head_dim = whole(report.cell(i, "head_dim"));
    const MeasuredKernel* kernel = find(report.measured, wanted);
    const double layers = whole(report.cell(i, "layers"));
    if (kernel == nullptr || !(layers > 0)) continue;
    wanted.datapath = "mac";
    wanted.method = "dense";
    wanted.budget = 0;
    pairs.push_back({i, kernel, row.time / layers, find(report.measured, wanted)});
  }
  return pairs;
}

std::string kind_of(const Pair& pair) {
  return pair.kernel->datapath == "mac"
             ? std::string("dense")
             : fmt::format("{} S={}", pair.kernel->method, pair.kernel->budget);
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

std::string spread(const std::vector<double>& values) {
  return fmt::format("{} ({} to {})", significant(quantile(values, 0.5), 3),
                     significant(quantile(values, 0), 3), significant(quantile(values, 1), 3));
}

// Where both agree.
Series diagonal(double low, double high, int panel) {
  Series line;
  line.name = "equal";
  line.group = line.name;
  line.legend = panel == 0;
  line.color = "muted";
  line.dash = "dot";
  line.x = line.y = {low, high};
  line.x_axis = line.y_axis = panel;
  line.hover = "<extra></extra>";
  return line;
}

}  // namespace

Measurements read_measurements(const std::string& path) {
  Measurements out;
  out.file = std::filesystem::path(path).filename().string();
  const auto json = nlohmann::json::parse(read_file(path, std::uint64_t{64} << 20), nullptr, false);
  if (!json.is_object() || json.value("format", "") != "stoat-decode-comparison") {
    throw damaged_error(Place{path}, "no measurements of decode kernels",
                        "the JSON of scripts/gpu-results.sh (format stoat-decode-comparison)");
  }
  try {
    out.gpu = json.at("gpu").get<std::string>();
    out.kernels = json.value("kernel_hash", "");
    for (const auto& row : json.at("rows")) {
      MeasuredKernel kernel;
      if (row.value("by", "stoat") != "stoat" ||
          !read_kernel(row.at("kernel").get<std::string>(), kernel))
        continue;
      kernel.element = row.at("element").get<std::string>();
      kernel.batch = row.at("batch").get<std::uint32_t>();
      kernel.context = row.at("context").get<std::uint32_t>();
      kernel.query_heads = row.at("q_heads").get<std::uint32_t>();
      kernel.kv_heads = row.at("kv_heads").get<std::uint32_t>();
      kernel.head_dim = row.at("head_dim").get<std::uint32_t>();
      kernel.low = row.at("p10_us").get<double>() * 1e-6;
      kernel.median = row.at("median_us").get<double>() * 1e-6;
      kernel.high = row.at("p90_us").get<double>() * 1e-6;
      out.rows.push_back(std::move(kernel));
    }
  } catch (const nlohmann::json::exception& error) {
    throw damaged_error(Place{path}, error.what(), "the JSON of scripts/gpu-results.sh");
  }
  return out;
}

Figure measured_figure(const SweepReport& report) {
  Figure figure;
  figure.id = "measured";
  figure.title = kMeasuredTitle;
  if (report.measured.rows.empty()) {
    figure.caption =
        "no measurements were given; stoat report DIR --measured gpu/results/decode_h200.json.";
    return figure;
  }
  const std::vector<Pair> pairs = pairs_of(report);
  if (pairs.empty()) {
    figure.caption = fmt::format(
        "no point has the shape, batch, context and budget of a kernel in {} (bf16, {} query heads "
        "over {} KV heads of {} elements).",
        report.measured.file, report.measured.rows.front().query_heads,
        report.measured.rows.front().kv_heads, report.measured.rows.front().head_dim);
    return figure;
  }
  std::map<std::string, std::array<Series, 2>> kinds;
  std::vector<std::string> order;
  std::vector<double> dense_errors, sampled_errors, ratio_errors;
  double low = 1e30, high = 0, low_ratio = 1e30, high_ratio = 0, peak = 0;
  figure.csv =
      "index,point,kernel,batch,context,measured_s,measured_p10_s,measured_p90_s,simulated_s,"
      "simulated_over_measured,measured_over_dense,simulated_over_dense\n";
  for (const Pair& pair : pairs) {
    const SweepRow& row = report.rows[pair.row];
    const std::string kind = kind_of(pair);
    auto found = kinds.find(kind);
    if (found == kinds.end()) {
      Series series;
      series.kind = SeriesKind::kPoints;
      series.name = series.group = kind;
      series.color = color_of(row);
      series.marker = markers()[order.size() % markers().size()];
      Series ratio = series;
      series.hover = "measured %{x:.4~g} µs, simulated %{y:.4~g} µs<extra>" +
                     escape_plot_text(kind) + "</extra>";
      ratio.hover = "of dense: measured %{x:.3~g}, simulated %{y:.3~g}<extra>" +
                    escape_plot_text(kind) + "</extra>";
      ratio.legend = false;
      ratio.x_axis = ratio.y_axis = 1;
      found = kinds.emplace(kind, std::array<Series, 2>{std::move(series), std::move(ratio)}).first;
      order.push_back(kind);
    }
    const double measured = pair.kernel->median;
    found->second[0].x.push_back(measured * 1e6);
    found->second[0].y.push_back(pair.simulated * 1e6);
    found->second[0].rows.push_back(static_cast<std::uint32_t>(pair.row));
    const bool is_dense = pair.kernel->datapath == "mac";
    (is_dense ? dense_errors : sampled_errors).push_back(pair.simulated / measured);
    low = std::min({low, measured * 1e6, pair.simulated * 1e6});
    high = std::max({high, measured * 1e6, pair.simulated * 1e6});
    peak = std::max(peak, row.peak_bytes);
    double of_dense = std::nan(""), simulated_of_dense = std::nan("");
    if (!is_dense && row.dense >= 0 && pair.dense_kernel != nullptr) {
      of_dense = measured / pair.dense_kernel->median;
      simulated_of_dense = row.time / report.rows[static_cast<std::size_t>(row.dense)].time;
      found->second[1].x.push_back(of_dense);
      found->second[1].y.push_back(simulated_of_dense);
      found->second[1].rows.push_back(static_cast<std::uint32_t>(pair.row));
      ratio_errors.push_back(simulated_of_dense / of_dense);
      low_ratio = std::min({low_ratio, of_dense, simulated_of_dense});
      high_ratio = std::max({high_ratio, of_dense, simulated_of_dense});
    }
    figure.csv += fmt::format(
        "{},{},{},{},{},{},{},{},{},{},{},{}\n", report.cell(pair.row, "index"),
        report.cell(pair.row, "point"), csv_cell(kind), pair.kernel->batch, pair.kernel->context,
        exact_number(measured), exact_number(pair.kernel->low), exact_number(pair.kernel->high),
        exact_number(pair.simulated), exact_number(pair.simulated / measured),
        exact_number(of_dense), exact_number(simulated_of_dense));
  }
  figure.series.push_back(diagonal(low / 1.3, high * 1.3, 0));
  if (high_ratio > 0) figure.series.push_back(diagonal(low_ratio * 0.95, high_ratio * 1.05, 1));
  for (const int panel : {0, 1}) {
    for (const std::string& kind : order) {
      Series& series = kinds[kind][static_cast<std::size_t>(panel)];
      if (!series.x.empty()) figure.series.push_back(std::move(series));
    }
  }
  figure.title = fmt::format("{}, one layer and step", kMeasuredTitle);
  figure.caption = fmt::format(
      "Left: time of {} points against the median of our kernels on an {} ({}, kernels {}); right: "
      "the same times over dense attention's. Simulated over measured is {} for dense",
      pairs.size(), report.measured.gpu, report.measured.file,
      report.measured.kernels.empty() ? "unknown" : report.measured.kernels,
      dense_errors.empty() ? "n/a" : spread(dense_errors));
  if (!sampled_errors.empty())
    figure.caption += fmt::format(" and {} for the others", spread(sampled_errors));
  if (!ratio_errors.empty())
    figure.caption += fmt::format("; of the ratio to dense {}", spread(ratio_errors));
  figure.caption += fmt::format(
      " (median, least and most). Boundary: the simulator is an accelerator with an engine at "
      "every "
      "pseudo-channel, {} GB/s at its pins and no launches; the GPU's times hold kernels, the gaps "
      "between them and its caches. No parameter is fitted, so the distance from the dotted line "
      "tells two machines apart and is not the error of a calibration.",
      significant(peak * 1e-9, 4));
  figure.x_axes = {Axis{}, Axis{}};
  figure.y_axes = {Axis{}, Axis{}};
  figure.x_axes[0].domain = {0, 0.45};
  figure.x_axes[1].domain = {0.56, 1};
  figure.x_axes[0].title = "measured [µs]";
  figure.y_axes[0].title = "simulated [µs]";
  figure.x_axes[0].log = figure.y_axes[0].log = true;
  figure.x_axes[1].title = "measured, of dense";
  figure.y_axes[1].title = "simulated, of dense";
  if (high_ratio == 0) {
    figure.x_axes.pop_back();
    figure.y_axes.pop_back();
    figure.x_axes[0].domain = {0, 1};
  }
  figure.height = 440;
  return figure;
}

Figure sweep_access_figure(const SweepReport& report) {
  TraceView view;
  view.map = report.access.map;
  view.name = report.access.label;
  Figure figure = access_figure(view, "access");
  if (figure.empty()) {
    figure.title = "KV access heat map";
    figure.caption = report.access.absent;
  }
  return figure;
}

}  // namespace stoat::sim
