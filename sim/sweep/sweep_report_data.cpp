// Reading a sweep's answer, pairing points with their dense baseline, finding the front.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"
#include "models/table.h"
#include "sim/sweep/sweep_design.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// Columns that say what a point is, and not what came out. Those of the sweep's own keys are added.
const std::vector<std::string>& configuration_columns() {
  static const std::vector<std::string> names{"datapath",
                                              "arch",
                                              "dram",
                                              "price_list",
                                              "model",
                                              "method",
                                              "budget",
                                              "score_kind",
                                              "ternary_draws",
                                              "ternary_coupling",
                                              "ternary_normaliser",
                                              "kv_element",
                                              "k_layout",
                                              "repeats",
                                              "tile_dealing",
                                              "layers",
                                              "query_heads",
                                              "kv_heads",
                                              "head_dim",
                                              "steps",
                                              "context_max",
                                              "placement",
                                              "stacks",
                                              "dense_accumulator",
                                              "gather_add_accumulator",
                                              "ternary_accumulator",
                                              "topk_unit",
                                              "ternary_draw_merging",
                                              "source"};
  return names;
}

// What may differ between a point and the dense point it is compared with.
bool selection_column(const std::string& name) {
  static const std::set<std::string> names{"datapath",
                                           "method",
                                           "budget",
                                           "score_kind",
                                           "ternary_draws",
                                           "ternary_coupling",
                                           "ternary_normaliser",
                                           "kv_element",
                                           "repeats",
                                           "source",
                                           "gather_add_accumulator",
                                           "ternary_accumulator",
                                           "topk_unit",
                                           "ternary_draw_merging",
                                           "index",
                                           "point",
                                           "participation"};
  return names.count(name) != 0 || name.starts_with("ternary.") ||
         name.starts_with("engine.lanes.gather_add") || name.starts_with("engine.lanes.ternary") ||
         name.starts_with("engine.accumulator.gather") ||
         name.starts_with("engine.accumulator.ternary") || name == "engine.repeats" ||
         name == "kv.element" || name == "engine.topk" || name == "engine.ternary_draws" ||
         name == "seed" || name == "sinks" || name == "recency" || name == "group_correlation";
}

double number(const std::string& text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, status] = std::from_chars(text.data(), end, value);
  return status == std::errc{} && rest == end && !text.empty() ? value : kNone;
}

std::vector<std::vector<std::string>> read_rows(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) return {};
  const Table table = Table::read(path, {"index"});
  std::vector<std::vector<std::string>> rows{table.columns()};
  for (std::size_t i = 0; i < table.size(); ++i) {
    rows.emplace_back();
    for (const std::string& column : table.columns()) rows.back().push_back(table.text(i, column));
  }
  return rows;
}

// Case axes of the sweep ("selection", "place") name what a reader calls a point.
std::vector<std::string> axis_names(const nlohmann::json& manifest) {
  std::vector<std::string> names;
  for (const auto& axis : manifest.at("axes")) names.push_back(axis.at("name").get<std::string>());
  return names;
}

void find_varying(const nlohmann::json& manifest, SweepReport& report) {
  std::vector<std::string> candidates = axis_names(manifest);
  for (const std::string& name : configuration_columns()) candidates.push_back(name);
  for (std::size_t c = 3; c < report.columns.size(); ++c) {  // keys that stand before the summary
    if (report.columns[c] == "datapath") break;
    candidates.push_back(report.columns[c]);
  }
  for (const std::string& name : candidates) {
    const auto at = std::find(report.columns.begin(), report.columns.end(), name);
    if (at == report.columns.end() ||
        std::find(report.varying.begin(), report.varying.end(), name) != report.varying.end())
      continue;
    const auto c = static_cast<std::size_t>(at - report.columns.begin());
    const bool varies = std::any_of(report.cells.begin(), report.cells.end(), [&](const auto& row) {
      return row[c] != report.cells.front()[c];
    });
    if (varies) report.varying.push_back(name);
  }
}

// The columns that name a point: those that vary, without the context and without repeating what a
// case axis already says.
std::vector<std::string> label_columns(const SweepReport& report) {
  std::vector<std::string> names;
  for (const std::string& name : report.varying) {
    if (name == "context" || name == "context_max" || name == "source" || name == "index") continue;
    // Determined by the columns chosen so far?
    std::map<std::string, std::string> seen;
    bool new_information = false;
    for (std::size_t i = 0; i < report.cells.size() && !new_information; ++i) {
      std::string key;
      for (const std::string& chosen : names) key += report.cell(i, chosen) + "\n";
      const auto [found, fresh] = seen.emplace(key, report.cell(i, name));
      new_information = !fresh && found->second != report.cell(i, name);
    }
    if (names.empty() || new_information) names.push_back(name);
  }
  return names;
}

std::string label_of(const SweepReport& report, std::size_t row,
                     const std::vector<std::string>& columns) {
  std::string text;
  for (const std::string& name : columns) {
    const std::string& value = report.cell(row, name);
    if (value.empty()) continue;
    const std::string shown = name == "budget"                 ? "S=" + value
                              : number(value) == number(value) ? name + " " + value
                                                               : value;
    text += (text.empty() ? "" : ", ") + shown;
  }
  return text.empty() ? report.cell(row, "datapath") : text;
}

// Operations of attention itself, from the counts: a product and its addition for every element of
// a scored key and of a weighted value, one addition for every touched feature of a ternary query
// and for every element of a drawn value.
double operations_of(const SweepReport& report, std::size_t i) {
  const auto value = [&](const char* column) { return number(report.cell(i, column)); };
  const std::string& datapath = report.cell(i, "datapath");
  const bool weighted = datapath == "mac" || datapath == "topk";
  const double row = value("head_dim");
  const double score = value("key_rows_logical") *
                       (datapath == "ternary" ? value("touched_features_per_head") : 2 * row);
  return score + (weighted ? 2 * value("value_rows_logical") : value("value_draws")) * row;
}

SweepRow read_row(const SweepReport& report, std::size_t i, const std::vector<std::string>& label) {
  const auto value = [&](const char* column) { return number(report.cell(i, column)); };
  SweepRow row;
  row.datapath = report.cell(i, "datapath");
  row.method = report.cell(i, "method");
  row.element = report.cell(i, "kv_element");
  row.budget_text = report.cell(i, "budget");
  row.label = label_of(report, i, label);
  const double steps = value("steps");
  row.context = value("context_max");
  row.budget = value("budget");
  row.energy = value("energy_per_step_aJ") * 1e-18;
  row.time = value("ps_per_step") * 1e-12;
  row.error = value("total_error");
  const double rounding = value("kv_error");
  const auto total = [&](double part) { return std::sqrt(part * part + rounding * rounding); };
  row.error_low = total(value("error_proxy_low"));
  row.error_high = total(value("error_proxy_high"));
  row.bandwidth = value("bandwidth_percent");
  row.row_hits = value("row_hit_percent");
  row.token_share = value("attention_share_percent");
  row.token_saving = value("token_saving_percent");
  row.logical = value("logical_bytes") / steps;
  row.requested = value("requested_bytes") / steps;
  row.moved = value("moved_bytes") / steps;
  row.rows_drawn = value("value_draws") / steps;
  row.rows_logical = value("value_rows_logical") / steps;
  row.rows_distinct = value("value_rows_distinct") / steps;
  row.rows_fetched = row.rows_distinct + value("key_rows_distinct") / steps;
  row.participation = value("mean_participation");
  row.bursts = value("read_bursts") / steps;
  row.select_energy = value("select_energy_aJ") * 1e-18 / steps;
  row.select_cycles = value("select_busy_cycles") / steps / value("engines");
  row.engines = value("engines");
  row.operations = operations_of(report, i) / steps;
  row.intensity = row.operations / row.moved;
  row.rate = row.operations / row.time;
  row.peak_bytes = value("peak_bytes_per_second");
  for (const std::string& name : report.components)
    row.components.push_back(value(("component_" + name + "_aJ").c_str()) * 1e-18 / steps);
  if (!(row.energy > 0) || !(row.time > 0)) {
    throw damaged_error(Place{"results.csv", i + 2}, "no energy or no time of the point",
                        "the columns energy_per_step_aJ and ps_per_step");
  }
  return row;
}

void find_baselines(const nlohmann::json& manifest, SweepReport& report) {
  // A case axis is only a name: the keys it sets have columns of their own.
  static const std::set<std::string> plain{"arch",     "trace",    "model",        "query_heads",
                                           "kv_heads", "head_dim", "layers",       "steps",
                                           "batch",    "context",  "address_order"};
  std::vector<std::string> columns;
  const std::vector<std::string> axes = axis_names(manifest);
  for (const std::string& name : report.varying) {
    const bool axis = std::find(axes.begin(), axes.end(), name) != axes.end();
    const bool only_a_name = axis && name.find('.') == std::string::npos && plain.count(name) == 0;
    if (!selection_column(name) && !only_a_name) columns.push_back(name);
  }
  std::map<std::string, int> dense;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    SweepRow& row = report.rows[i];
    for (const std::string& name : columns) {
      row.others += report.cell(i, name) + "\n";
      if (name != "context" && name != "context_max") row.design += report.cell(i, name) + "\n";
    }
    const bool baseline = row.datapath == "mac" && row.element == "bf16";
    if (baseline) dense.emplace(row.others, static_cast<int>(i));
  }
  for (SweepRow& row : report.rows) {
    const auto found = dense.find(row.others);
    if (found != dense.end()) row.dense = found->second;
  }
}

void find_front(SweepReport& report) {
  // Among points of one context; smallest energy first, then smaller and smaller errors.
  std::map<double, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    if (std::isfinite(report.rows[i].error)) groups[report.rows[i].context].push_back(i);
  }
  for (auto& [context, members] : groups) {
    std::stable_sort(members.begin(), members.end(), [&](std::size_t a, std::size_t b) {
      const SweepRow &x = report.rows[a], &y = report.rows[b];
      return x.energy != y.energy ? x.energy < y.energy : x.error < y.error;
    });
    double best = std::numeric_limits<double>::infinity();
    for (const std::size_t i : members) {
      if (report.rows[i].error < best) {
        report.rows[i].front = true;
        best = report.rows[i].error;
      }
    }
  }
}

void read_manifest(const nlohmann::json& json, SweepReport& report) {
  report.name = json.at("sweep").get<std::string>();
  const auto& points = json.at("points");
  report.points = points.at("all").get<std::size_t>();
  report.skipped = points.at("skipped").get<std::size_t>();
  report.invalid = points.at("invalid").get<std::size_t>();
  report.missing = points.at("missing").get<std::size_t>();
  const auto add = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) report.provenance.emplace_back(name, value);
  };
  add("tool", "stoat " + json.at("tool_version").get<std::string>());
  add("build", json.at("build").get<std::string>());
  report.base = json.at("base").get<std::string>();
  add("accelerator", report.base);
  add("seed", json.at("seed").dump());
  for (const auto& [name, value] : json.at("set").items()) {
    report.constants.emplace_back(name, value.get<std::string>());
    add("set: " + name, value.get<std::string>());
  }
  for (const auto& [name, value] : json.at("traces").items())
    add("trace " + name, value.get<std::string>());
  for (const auto& [name, value] : json.at("dram").items())
    add("DRAM table " + name, value.get<std::string>());
  if (json.contains("price_lists")) {
    for (const auto& [name, about] : json.at("price_lists").items()) {
      report.price_lists.emplace_back(name, about.at("hash").get<std::string>());
      add("price list " + name,
          about.at("boundary").get<std::string>() + "; " + about.at("hash").get<std::string>());
    }
  }
}

}  // namespace

const std::string& SweepReport::cell(std::size_t row, std::string_view column) const {
  static const std::string empty;
  const auto at = std::find(columns.begin(), columns.end(), column);
  return at == columns.end() ? empty : cells[row][static_cast<std::size_t>(at - columns.begin())];
}

bool holds_sweep(const std::string& folder) {
  std::error_code failure;
  const std::string path = folder + "/manifest.json";
  if (!std::filesystem::is_regular_file(path, failure)) {
    return std::filesystem::is_regular_file(folder + "/sweep.json", failure);
  }
  const auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  return json.is_object() && json.value("format", "") == "stoat-sweep-results";
}

SweepReport read_sweep_report(const std::string& folder) {
  const std::string manifest_path = folder + "/manifest.json";
  std::error_code failure;
  if (!std::filesystem::exists(manifest_path, failure)) {
    throw usage_error(Place{folder}, "this sweep has no results yet (no manifest.json)",
                      "a sweep that ended", "stoat sweep resume " + folder);
  }
  SweepReport report;
  try {
    const auto json = nlohmann::json::parse(read_file(manifest_path));
    if (json.at("version") != 1) {
      throw damaged_error(Place{manifest_path}, "results of version " + json.at("version").dump(),
                          "version 1");
    }
    read_manifest(json, report);
    const std::string results = folder + "/results.csv";
    if (!std::filesystem::exists(results, failure)) {
      throw usage_error(Place{folder}, "no point of this sweep gave a result",
                        "at least one row in results.csv", "see failed.csv");
    }
    if (hash_text(read_file(results)) != json.at("files").at("results.csv").get<std::string>()) {
      throw damaged_error(Place{results}, "not the file that the manifest names",
                          "the results as they were written",
                          "stoat sweep resume writes them again");
    }
    auto rows = read_rows(results);
    report.columns = std::move(rows.front());
    rows.erase(rows.begin());
    report.cells = std::move(rows);
    report.failed = read_rows(folder + "/failed.csv");
    for (const std::string& name : report.columns) {
      if (name.starts_with("component_") && name.ends_with("_aJ"))
        report.components.push_back(name.substr(10, name.size() - 13));
    }
    find_varying(json, report);
    const std::vector<std::string> label = label_columns(report);
    for (std::size_t i = 0; i < report.cells.size(); ++i)
      report.rows.push_back(read_row(report, i, label));
    find_baselines(json, report);
  } catch (const nlohmann::json::exception& error) {
    throw damaged_error(Place{manifest_path}, error.what(), "a manifest of stoat sweep");
  }
  find_front(report);
  add_design_values(report);
  return report;
}

double compared_context(const SweepReport& report) {
  double context = 0;
  for (const SweepRow& row : report.rows) {
    if (row.dense >= 0 && row.datapath != "mac") context = std::max(context, row.context);
  }
  return context;
}

const SweepRow* sweep_champion(const SweepReport& report, Champion kind) {
  constexpr double kGoodError = 0.25;
  const double context = compared_context(report);
  const auto good = [](const SweepRow& row) { return row.error <= kGoodError; };
  const auto find = [&](const std::string* design) {
    const SweepRow* best = nullptr;
    for (const SweepRow& row : report.rows) {
      const Champion is = row.datapath == "mac"    ? Champion::kNarrowDense
                          : row.datapath == "topk" ? Champion::kTopK
                                                   : Champion::kSampled;
      if (row.context != context || row.dense < 0 || is != kind) continue;
      if (is == Champion::kNarrowDense && row.element == "bf16") continue;
      if (design != nullptr && row.design != *design) continue;
      const bool better = best == nullptr || (good(row) && !good(*best)) ||
                          (good(row) == good(*best) &&
                           (good(row) ? row.energy < best->energy : row.error < best->error));
      if (better) best = &row;
    }
    return best;
  };
  // A rival on the same design says more than one on another.
  const SweepRow* sampled =
      kind == Champion::kSampled ? nullptr : sweep_champion(report, Champion::kSampled);
  const SweepRow* rival = sampled == nullptr ? nullptr : find(&sampled->design);
  return rival != nullptr ? rival : find(nullptr);
}

}  // namespace stoat::sim
