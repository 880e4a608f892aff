// Bytes asked for, asked for once, and moved; and attention beside the whole token.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sim/sweep/figures.h"
#include "sim/sweep/html.h"

namespace stoat::sim {
namespace {

struct PartLook {
  const char* part;
  const char* name;
  const char* alpha;
  const char* pattern;
  const char* neutral;
};
constexpr std::array<PartLook, 4> kPartLooks = {
    {{"key", "keys", "", "", "shade1"},
     {"value", "values", "/0.65", "/", "shade3"},
     {"spill_write", "scores spilled", "/0.45", "x", "shade4"},
     {"spill_read", "scores read back", "/0.3", ".", "shade5"}}};
constexpr std::array<const char*, 3> kKinds = {"logical", "requested", "moved"};

double bytes_of(const TrafficRow& row, std::size_t kind) {
  return kind == 0 ? row.logical_bytes : kind == 1 ? row.requested_bytes : row.moved_bytes;
}

std::string traffic_csv(const ReportData& data) {
  std::string csv =
      "datapath,part,logical_rows_per_token,distinct_rows_per_token,logical_bytes_per_token,"
      "requested_bytes_per_token,moved_bytes_per_token,bursts_per_token\n";
  for (const ReportDatapath& d : data.datapaths) {
    for (const TrafficRow& row : d.traffic) {
      csv += fmt::format(
          "{},{},{},{},{},{},{},{}\n", csv_cell(d.label), csv_cell(row.part),
          exact_number(row.logical_rows / d.steps), exact_number(row.distinct_rows / d.steps),
          exact_number(row.logical_bytes / d.steps), exact_number(row.requested_bytes / d.steps),
          exact_number(row.moved_bytes / d.steps), exact_number(row.bursts / d.steps));
    }
  }
  return csv;
}

}  // namespace

Figure traffic_figure(const ReportData& data) {
  Figure figure;
  figure.id = "traffic";
  figure.title = "Logical against physical bytes";
  figure.stacked = true;
  double largest = 0;
  for (const ReportDatapath& d : data.datapaths) {
    largest = std::max({largest, d.logical_bytes(), d.requested_bytes(), d.moved_bytes()});
  }
  if (largest == 0) return figure;
  const Scale scale = bytes_scale(largest);
  std::vector<std::string> all_categories;
  for (const ReportDatapath& d : data.datapaths) {
    for (const char* kind : kKinds) all_categories.push_back(fmt::format("{} · {}", d.label, kind));
  }
  for (const PartLook& look : kPartLooks) {
    Series bar;
    bar.kind = SeriesKind::kHorizontalBar;
    bar.name = look.name;
    bar.pattern = look.pattern;
    bar.color = look.neutral;
    bar.legend = false;
    bar.categories = all_categories;
    bar.hover =
        fmt::format("{}: %{{x:.4~g}} {} a token<extra>%{{y}}</extra>", look.name, scale.unit);
    double sum = 0;
    for (const ReportDatapath& d : data.datapaths) {
      for (std::size_t kind = 0; kind < kKinds.size(); ++kind) {
        double bytes = 0;
        for (const TrafficRow& row : d.traffic)
          bytes += row.part == look.part ? bytes_of(row, kind) / d.steps : 0.0;
        bar.x.push_back(bytes * scale.factor);
        bar.point_colors.push_back(datapath_color(d.datapath) + look.alpha);
        sum += bytes;
      }
    }
    if (sum == 0) continue;
    figure.series.push_back(std::move(bar));
    Series entry;
    entry.kind = SeriesKind::kHorizontalBar;
    entry.name = look.name;
    entry.pattern = look.pattern;
    entry.color = look.neutral;
    figure.series.push_back(std::move(entry));
  }
  figure.x_axes[0].title = fmt::format("data [{} a token]", scale.unit);
  figure.x_axes[0].range = {0, largest * scale.factor * 1.14};
  Axis& y = figure.y_axes[0];
  y.category = y.reversed = true;
  y.grid = false;
  for (std::size_t i = 0; i < data.datapaths.size(); ++i) {
    const ReportDatapath& d = data.datapaths[i];
    const std::array<double, 3> totals = {d.logical_bytes(), d.requested_bytes(), d.moved_bytes()};
    for (std::size_t kind = 0; kind < kKinds.size(); ++kind) {
      Annotation a;
      a.text = significant(totals[kind] * scale.factor, 3);
      a.x = (totals[kind] + largest * 0.01) * scale.factor;
      a.y = static_cast<double>(i * kKinds.size() + kind);
      a.x_axis = a.y_axis = 0;
      a.color = "ink";
      figure.annotations.push_back(a);
    }
  }
  figure.height = 120 + 26 * static_cast<int>(3 * data.datapaths.size());
  figure.caption =
      "Logical: every query head reads its own rows. Requested: a row that several heads of a KV "
      "group want is "
      "fetched once. Moved: whole DRAM bursts. The sampled methods lose part of what they save "
      "where heads of a group "
      "disagree, because their union is larger than any one head's rows.";
  figure.csv = traffic_csv(data);
  return figure;
}

Figure token_figure(const ReportData& data) {
  Figure figure;
  figure.id = "whole-token";
  figure.title = "Attention beside the whole token";
  figure.stacked = true;
  double largest = 0;
  for (const ReportDatapath& d : data.datapaths) {
    if (d.weight_bytes == 0) return figure;
    largest = std::max(largest, d.weight_bytes + d.requested_bytes());
  }
  const Scale scale = bytes_scale(largest);
  struct Piece {
    const char* name;
    const char* part;
    const char* pattern;
    const char* alpha;
    const char* neutral;
  };
  constexpr std::array<Piece, 3> kPieces = {{{"weights", "", "", "", "shade6"},
                                             {"keys", "key", "", "", "shade1"},
                                             {"values", "value", "/", "/0.65", "shade3"}}};
  figure.csv =
      "datapath,weight_bytes_per_token,key_bytes_per_token,value_bytes_per_token,saved_bytes_per_"
      "token\n";
  for (const Piece& piece : kPieces) {
    Series bar;
    bar.kind = SeriesKind::kHorizontalBar;
    bar.name = piece.name;
    bar.pattern = piece.pattern;
    bar.legend = false;
    bar.hover =
        fmt::format("{}: %{{x:.4~g}} {} a token<extra>%{{y}}</extra>", piece.name, scale.unit);
    for (const ReportDatapath& d : data.datapaths) {
      const bool weights = *piece.part == '\0';
      bar.categories.push_back(d.label);
      bar.x.push_back((weights ? d.weight_bytes : d.requested_bytes(piece.part)) * scale.factor);
      bar.point_colors.push_back(weights ? piece.neutral
                                         : datapath_color(d.datapath) + piece.alpha);
    }
    figure.series.push_back(std::move(bar));
    Series entry;
    entry.kind = SeriesKind::kHorizontalBar;
    entry.name = piece.name;
    entry.pattern = piece.pattern;
    entry.color = piece.neutral;
    figure.series.push_back(std::move(entry));
  }
  Axis& y = figure.y_axes[0];
  y.category = y.reversed = true;
  y.grid = false;
  figure.x_axes[0].title = fmt::format("bytes read [{} a token, batch 1]", scale.unit);
  for (std::size_t i = 0; i < data.datapaths.size(); ++i) {
    const ReportDatapath& d = data.datapaths[i];
    const double total = d.weight_bytes + d.requested_bytes();
    const double dense = d.weight_bytes + d.dense_kv_bytes / d.steps;
    Annotation a;
    a.text = fmt::format("{}", significant(total * scale.factor, 3));
    a.x = (total + largest * 0.012) * scale.factor;
    a.y = static_cast<double>(i);
    a.x_axis = a.y_axis = 0;
    a.color = "ink";
    figure.annotations.push_back(a);
    figure.csv +=
        fmt::format("{},{},{},{},{}\n", csv_cell(d.label), exact_number(d.weight_bytes),
                    exact_number(d.requested_bytes("key")),
                    exact_number(d.requested_bytes("value")), exact_number(dense - total));
  }
  figure.x_axes[0].range = {0, largest * scale.factor * 1.14};
  figure.height = 130 + 46 * static_cast<int>(data.datapaths.size());
  figure.caption =
      "A decode step reads the model's weights as well. At batch 1 they are all of this token's; "
      "with a larger batch "
      "they are shared, and attention's part grows. The table says what the whole token saves.";
  return figure;
}

}  // namespace stoat::sim
