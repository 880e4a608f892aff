// Energy by stage and by component, as stacked bars.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "sim/sweep/figures.h"
#include "sim/sweep/html.h"

namespace stoat::sim {
namespace {

constexpr const char* kStageNames[] = {"score", "select", "gather", "append"};
constexpr const char* kStagePatterns[] = {"", ".", "/", "x"};

double joules_per_step(const ReportDatapath& d, Uint128 attojoules) {
  return static_cast<double>(attojoules) * 1e-18 / d.steps;
}

double part_energy(const ReportDatapath& d, const std::string& stage, bool dram) {
  Uint128 sum = 0;
  for (const EnergyRow& row : d.energy) {
    if (row.stage == stage && row.dram() == dram) sum += row.energy;
  }
  return joules_per_step(d, sum);
}

double component_energy(const ReportDatapath& d, const std::string& component) {
  Uint128 sum = 0;
  for (const EnergyRow& row : d.energy) {
    if (row.component == component) sum += row.energy;
  }
  return joules_per_step(d, sum);
}

std::string energy_csv(const ReportData& data) {
  std::string csv = "datapath,stage,component,event,count,price_aJ,energy_aJ,energy_per_token_aJ\n";
  for (const ReportDatapath& d : data.datapaths) {
    for (const EnergyRow& row : d.energy) {
      csv += fmt::format(
          "{},{},{},{},{},{},{},{}\n", csv_cell(d.label), csv_cell(row.stage),
          csv_cell(row.component), csv_cell(row.event), to_string(static_cast<Int128>(row.count)),
          to_string(static_cast<Int128>(row.price)), to_string(static_cast<Int128>(row.energy)),
          exact_number(static_cast<double>(row.energy) / d.steps));
    }
  }
  return csv;
}

Axis datapath_axis(const ReportData& data) {
  Axis axis;
  axis.category = true;
  axis.reversed = true;
  axis.grid = false;
  for (const ReportDatapath& d : data.datapaths) axis.tick_texts.push_back(d.label);
  for (std::size_t i = 0; i < data.datapaths.size(); ++i)
    axis.tick_values.push_back(static_cast<double>(i));
  return axis;
}

std::vector<std::string> datapath_labels(const ReportData& data) {
  std::vector<std::string> labels;
  for (const ReportDatapath& d : data.datapaths) labels.push_back(d.label);
  return labels;
}

// A legend entry in a neutral shade: the bars themselves have their datapath's colour.
Series legend_entry(const std::string& name, const std::string& pattern, const std::string& color) {
  Series entry;
  entry.kind = SeriesKind::kHorizontalBar;
  entry.name = name;
  entry.pattern = pattern;
  entry.color = color;
  entry.categories = {};
  return entry;
}

// Total at the end of each bar.
void add_totals(const ReportData& data, const std::vector<double>& totals, const std::string& unit,
                Figure& figure) {
  const double largest = *std::max_element(totals.begin(), totals.end());
  for (std::size_t i = 0; i < data.datapaths.size(); ++i) {
    Annotation a;
    a.text = fmt::format("{} {}", significant(totals[i], 3), unit);
    a.x = totals[i] + largest * 0.012;
    a.y = static_cast<double>(i);
    a.x_axis = a.y_axis = 0;
    a.color = "ink";
    figure.annotations.push_back(a);
  }
  figure.x_axes[0].range = {0, largest * 1.16};
}

}  // namespace

Figure energy_figure(const ReportData& data) {
  Figure figure;
  figure.id = "energy";
  figure.title = "Energy a token, by stage";
  figure.stacked = true;
  double largest = 0;
  for (const ReportDatapath& d : data.datapaths) largest = std::max(largest, d.energy_per_step);
  const Scale scale = energy_scale(largest);
  std::vector<double> totals(data.datapaths.size(), 0.0);
  for (std::size_t s = 0; s < std::size(kStageNames); ++s) {
    for (const bool dram : {true, false}) {
      Series bar;
      bar.kind = SeriesKind::kHorizontalBar;
      bar.name = fmt::format("{}, {}", kStageNames[s], dram ? "DRAM" : "engine");
      bar.pattern = kStagePatterns[s];
      bar.categories = datapath_labels(data);
      bar.hover =
          fmt::format("{}: %{{x:.4~g}} {} a token<extra>%{{y}}</extra>", bar.name, scale.unit);
      bar.legend = false;
      bool any = false;
      for (std::size_t i = 0; i < data.datapaths.size(); ++i) {
        const ReportDatapath& d = data.datapaths[i];
        const double value = part_energy(d, kStageNames[s], dram) * scale.factor;
        any |= value > 0;
        totals[i] += value;
        bar.x.push_back(value);
        bar.point_colors.push_back(datapath_color(d.datapath) + (dram ? "" : "/0.55"));
      }
      if (!any) continue;
      figure.series.push_back(std::move(bar));
      figure.series.push_back(
          legend_entry(fmt::format("{}, {}", kStageNames[s], dram ? "DRAM" : "engine"),
                       kStagePatterns[s], dram ? "shade1" : "shade4"));
    }
  }
  if (figure.series.empty()) return figure;
  figure.x_axes[0].title = fmt::format("energy [{} a token]", scale.unit);
  figure.y_axes[0] = datapath_axis(data);
  add_totals(data, totals, scale.unit, figure);
  figure.height = 130 + 52 * static_cast<int>(data.datapaths.size());
  double dram = 0, all = 0;
  const ReportDatapath& first =
      data.baseline() != nullptr ? *data.baseline() : data.datapaths.front();
  for (const EnergyRow& row : first.energy) {
    (row.dram() ? dram : all) += static_cast<double>(row.energy);
  }
  all += dram;
  figure.caption = fmt::format(
      "Each bar is one datapath; the three stages score the keys, select value rows and gather "
      "them. Full colour is "
      "DRAM, pale is the engine itself. With {}, {} % of the energy is DRAM, so what a datapath "
      "fetches decides what "
      "it costs. The parts sum exactly to the total at the end of the bar.",
      first.label, significant(all > 0 ? 100 * dram / all : 0, 3));
  figure.csv = energy_csv(data);
  return figure;
}

Figure on_chip_figure(const ReportData& data) {
  Figure figure;
  figure.id = "engine-energy";
  figure.title = "The engine alone, by component";
  figure.stacked = true;
  std::vector<std::string> components;
  double largest = 0;
  for (const ReportDatapath& d : data.datapaths) {
    double sum = 0;
    for (const EnergyRow& row : d.energy) {
      if (row.dram() || row.energy == 0) continue;
      sum += joules_per_step(d, row.energy);
      if (std::find(components.begin(), components.end(), row.component) == components.end()) {
        components.push_back(row.component);
      }
    }
    largest = std::max(largest, sum);
  }
  if (components.empty()) return figure;
  const Scale scale = energy_scale(largest);
  std::vector<double> totals(data.datapaths.size(), 0.0);
  figure.csv = "datapath,component,energy_per_token_J\n";
  for (std::size_t c = 0; c < components.size(); ++c) {
    Series bar;
    bar.kind = SeriesKind::kHorizontalBar;
    bar.name = components[c];
    bar.color = neutral_color(c * 2 % 7);
    bar.pattern = neutral_pattern(c);
    bar.categories = datapath_labels(data);
    bar.hover = fmt::format("{}: %{{x:.4~g}} {} a token<extra>%{{y}}</extra>",
                            escape_plot_text(components[c]), scale.unit);
    for (std::size_t i = 0; i < data.datapaths.size(); ++i) {
      const double joules = component_energy(data.datapaths[i], components[c]);
      bar.x.push_back(joules * scale.factor);
      totals[i] += joules * scale.factor;
      figure.csv += fmt::format("{},{},{}\n", csv_cell(data.datapaths[i].label),
                                csv_cell(components[c]), exact_number(joules));
    }
    figure.series.push_back(std::move(bar));
  }
  figure.x_axes[0].title = fmt::format("energy outside the DRAM [{} a token]", scale.unit);
  figure.y_axes[0] = datapath_axis(data);
  add_totals(data, totals, scale.unit, figure);
  figure.height = 150 + 52 * static_cast<int>(data.datapaths.size());
  figure.caption =
      "The pale parts of the figure above, enlarged: arithmetic, exponentials, the sampler and the "
      "small memories. This "
      "is where sampling has to pay for itself, and where its own cost shows.";
  return figure;
}

}  // namespace stoat::sim
