// Which assumption moves the answer most: prices from the counts of two points, everything else
// from a sweep that varies it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "sim/sweep/html.h"
#include "sim/sweep/sweep_figure_parts.h"

namespace stoat::sim {

// How much sampled / dense energy moves when one component's price is a fifth higher or lower.
Figure tornado_figure(const SweepReport& report) {
  const SweepRow* best = sweep_champion(report, Champion::kSampled);
  if (best == nullptr) best = sweep_champion(report, Champion::kTopK);
  if (best == nullptr) {
    Figure none;
    none.id = "sensitivity";
    none.title = "Which price the answer depends on";
    none.caption = "no point that selects rows has a dense one beside it.";
    return none;
  }
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

namespace {

// Sampled over dense, relative to the same of the base: [energy or time][lower or higher].
struct Change {
  std::array<std::array<double, 2>, 2> of{{{0, 0}, {0, 0}}};
  double size() const {
    double most = 0;
    for (const auto& pair : of) most = std::max({most, std::abs(pair[0]), std::abs(pair[1])});
    return most;
  }
};

std::array<double, 2> ratios_of(const SweepReport& report, const SweepRow& row) {
  const SweepRow& dense = report.rows[static_cast<std::size_t>(row.dense)];
  return {row.energy / dense.energy, row.time / dense.time};
}

// Cases of an axis "assumption": "base", "NAME -20 %", "NAME +20 %".
std::vector<std::pair<std::string, Change>> changes_of(const SweepReport& report) {
  std::map<std::string, Change> found;
  const SweepRow* base = nullptr;
  const auto sampled = [](const SweepRow& row) { return row.datapath != "mac" && row.dense >= 0; };
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    if (sampled(report.rows[i]) && report.cell(i, "assumption") == "base") base = &report.rows[i];
  }
  if (base == nullptr) return {};
  const auto reference = ratios_of(report, *base);
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const std::string& label = report.cell(i, "assumption");
    const bool lower = label.ends_with(" -20 %"), higher = label.ends_with(" +20 %");
    if (!sampled(report.rows[i]) || (!lower && !higher)) continue;
    const auto ratios = ratios_of(report, report.rows[i]);
    Change& change = found[label.substr(0, label.size() - 6)];
    for (std::size_t k = 0; k < 2; ++k) change.of[k][higher ? 1 : 0] = ratios[k] / reference[k] - 1;
  }
  std::vector<std::pair<std::string, Change>> sorted(found.begin(), found.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.size() > b.second.size(); });
  return sorted;
}

}  // namespace

Figure assumptions_figure(const SweepReport& report) {
  Figure figure;
  figure.id = "assumptions";
  figure.title = "Which assumption the answer depends on";
  const auto changes = changes_of(report);
  if (changes.empty()) {
    figure.caption =
        "prices are in the figure before; sizes, latencies and sharpness need points of their own "
        "(an axis 'assumption' with cases base, NAME -20 % and NAME +20 %, as in "
        "scripts/experiments/assumptions.yaml).";
    return figure;
  }
  figure.caption =
      "Change of sampled over dense when one assumption is a fifth lower or higher, all others "
      "kept: left energy, right time. Bars that are not there are changes of nothing.";
  figure.csv = "assumption,quantity,change_at_-20_percent,change_at_+20_percent\n";
  for (const std::size_t quantity : {std::size_t{0}, std::size_t{1}}) {
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      Series bar;
      bar.kind = SeriesKind::kHorizontalBar;
      bar.name = side == 1 ? "assumption + 20 %" : "assumption - 20 %";
      bar.group = bar.name;
      bar.legend = quantity == 0;
      bar.color = side == 1 ? "shade1" : "shade4";
      bar.pattern = side == 1 ? "" : "/";
      bar.x_axis = static_cast<int>(quantity);
      for (const auto& [name, change] : changes) {
        bar.categories.push_back(name);
        bar.x.push_back(100 * change.of[quantity][side]);
      }
      bar.hover = "%{x:.3~g} %<extra>%{y}</extra>";
      figure.series.push_back(std::move(bar));
    }
    for (const auto& [name, change] : changes) {
      figure.csv += csv_cell(name) + (quantity == 0 ? ",energy," : ",time,") +
                    exact_number(change.of[quantity][0]) + "," +
                    exact_number(change.of[quantity][1]) + "\n";
    }
  }
  figure.x_axes = {Axis{}, Axis{}};
  figure.x_axes[0].domain = {0, 0.47};
  figure.x_axes[1].domain = {0.53, 1};
  figure.x_axes[0].title = "change of energy, sampled / dense [%]";
  figure.x_axes[1].title = "change of time, sampled / dense [%]";
  figure.y_axes[0].category = true;
  figure.y_axes[0].reversed = true;
  figure.y_axes[0].grid = false;
  figure.height = static_cast<int>(130 + 34 * changes.size());
  return figure;
}

}  // namespace stoat::sim
