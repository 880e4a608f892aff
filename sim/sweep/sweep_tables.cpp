// Pricing and writing down.
#include "sim/sweep/sweep_tables.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "models/files.h"
#include "models/hash.h"
#include "models/version.h"
#include "sim/engine/placement.h"
#include "sim/engine/simulate.h"
#include "sim/sweep/html.h"
#include "sim/sweep/kv_error.h"
#include "sim/sweep/results.h"

namespace stoat::sim {
namespace {

using Cells = std::vector<std::pair<std::string, std::string>>;

std::string csv_line(const Cells& cells, bool names) {
  std::string text;
  for (const auto& [name, value] : cells) {
    text += (text.empty() ? "" : ",") + csv_cell(names ? name : value);
  }
  return text + "\n";
}

RunDescription describe(const PlannedPoint& point) {
  const TraceHeader& header = point.source->header;
  const DesignPoint& design = *point.design;
  RunDescription run;
  run.arch = design.name;
  run.dram = point.dram->name;
  run.model = header.model_name;
  run.method = method_name(point.source->method);
  run.budget = point.source->method == Method::kDense ? "" : std::to_string(point.source->budget);
  const bool ternary = header.score_kind == ScoreKind::kTernary;
  run.score_kind = ternary ? "ternary" : "exact";
  if (ternary) {
    run.ternary_draws = std::to_string(header.ternary.draws);
    run.ternary_coupling = coupling_name(header.ternary.coupling);
    run.ternary_normaliser = normaliser_name(header.ternary.normaliser);
  }
  run.kv_element = element_name(design.element);
  run.k_layout = layout_name(design.k_layout);
  run.repeats = repeats_name(design.repeats);
  run.tile_dealing = dealing_name(design.dealing);
  run.placement = placement_name(design.placement);
  run.stacks = std::to_string(design.stacks);
  run.dense_accumulator = accumulator_name(design.dense_accumulator);
  run.gather_add_accumulator = accumulator_name(design.gather_add_accumulator);
  run.ternary_accumulator = accumulator_name(design.ternary_accumulator);
  run.topk_unit = topk_name(design.topk);
  run.ternary_draw_merging = ternary_draws_name(design.ternary_draws);
  run.layers = point.source->layers;
  run.query_heads = header.n_q_heads;
  run.kv_heads = header.n_kv_heads;
  run.head_dim = header.head_dim;
  run.peak_bytes_per_second =
      placed_standard(*point.dram, design.placement).peak_bytes_per_second() *
      pseudo_channels(*point.dram, design);
  run.weight_bytes_per_token = header.weight_bytes_per_token;
  return run;
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size() && (quoted || line[i] != '\n'); ++i) {
    const char c = line[i];
    if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      cells.back() += '"';
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  return cells;
}

// Components in the order of the events.
std::vector<std::string> components() {
  std::vector<std::string> names;
  for (std::size_t e = 0; e < kEvents; ++e) {
    const std::string name(event_component(static_cast<Event>(e)));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

void add_energies(const PlannedPoint& point, const PointResult& result, Cells& cells) {
  const EnergyTable energy = price(result.counts.events, *point.prices);
  static const std::vector<std::string> names = components();
  std::vector<Int128> sums(names.size(), 0);
  for (std::size_t e = 0; e < kEvents; ++e) {
    const auto event = static_cast<Event>(e);
    const auto at = std::find(names.begin(), names.end(), event_component(event));
    sums[static_cast<std::size_t>(at - names.begin())] += energy.of_event(event).count();
  }
  for (std::size_t i = 0; i < names.size(); ++i)
    cells.emplace_back("component_" + names[i] + "_aJ", to_string(sums[i]));
}

void add_error(KvElement element, const PointResult& result, Cells& cells) {
  const DrawError& error = result.error;
  const bool known = error.records != 0;
  const auto root = [&](double square) {
    return known ? exact_number(std::sqrt(std::max(0.0, square))) : std::string();
  };
  cells.emplace_back("error_proxy", root(error.mean_square));
  cells.emplace_back("error_proxy_low", root(error.mean_square - error.standard_error));
  cells.emplace_back("error_proxy_high", root(error.mean_square + error.standard_error));
  cells.emplace_back("error_kind", error.kind);
  static const std::array<double, 3> kRounding{kv_rounding_error(KvElement::kBf16),
                                               kv_rounding_error(KvElement::kFp8),
                                               kv_rounding_error(KvElement::kInt8)};
  const double rounding = kRounding.at(static_cast<std::size_t>(element));
  cells.emplace_back("kv_error", exact_number(rounding));
  cells.emplace_back("total_error", root(error.mean_square + rounding * rounding));
  cells.emplace_back("mean_participation",
                     result.participation > 0 ? exact_number(result.participation) : "");
}

Cells key_cells(const SweepPlan& plan, const PlannedPoint& point) {
  Cells cells{{"index", std::to_string(point.index)}};
  for (std::size_t c = 0; c < plan.columns().size(); ++c)
    cells.emplace_back(plan.columns()[c], plan.cell(point, c));
  return cells;
}

std::string manifest_json(const SweepPlan& plan, const SweepTables& tables) {
  nlohmann::ordered_json json;
  json["format"] = "stoat-sweep-results";
  json["version"] = 1;
  json["tool_version"] = tool_version();
  json["build"] = result_build();
  json["sweep"] = plan.spec().name;
  json["seed"] = plan.spec().seed;
  const SweepCounts& n = tables.counts;
  json["points"] = {{"all", n.points},
                    {"done", n.done},
                    {"failed", n.failed},
                    {"missing", n.missing},
                    {"skipped", n.skipped},
                    {"invalid", n.invalid},
                    {"simulations", n.simulations}};
  std::map<std::string, std::string> traces, drams, designs;
  std::map<std::string, std::pair<std::string, std::string>> prices;
  for (const PlannedPoint& point : plan.points()) {
    if (point.state != PlannedPoint::State::kRun) continue;
    if (point.source->trace != nullptr) {
      traces[std::filesystem::path(point.source->trace->path).filename().string()] =
          point.source->trace->hash;
    }
    drams[point.dram->name] = point.dram->hash;
    prices[point.prices->name()] = {point.prices->hash(), point.prices->boundary()};
  }
  json["traces"] = traces;
  json["dram"] = drams;
  for (const auto& [name, about] : prices)
    json["price_lists"][name] = {{"hash", about.first}, {"boundary", about.second}};
  json["base"] = plan.spec().base;
  json["axes"] = nlohmann::ordered_json::array();
  for (const SweepAxis& axis : plan.spec().axes) {
    nlohmann::ordered_json each{{"name", axis.name}, {"values", nlohmann::ordered_json::array()}};
    if (!plan.spec().sample) {
      for (const AxisValue& value : axis.values) each["values"].push_back(value.label);
    }
    json["axes"].push_back(std::move(each));
  }
  json["set"] = nlohmann::ordered_json::object();
  for (const KeyValue& each : plan.spec().constants) json["set"][each.first] = each.second;
  json["files"] = {{"results.csv", hash_text(tables.results)},
                   {"failed.csv", hash_text(tables.failed)},
                   {"skipped.csv", hash_text(tables.skipped)}};
  return json.dump(2) + "\n";
}

}  // namespace

Cells result_row(const SweepPlan& plan, const PlannedPoint& point, const PointResult& result) {
  const RunDescription run = describe(point);
  const ResultTables tables = make_tables(run, {result.counts}, *point.prices);
  const std::size_t end = tables.summary.find('\n');
  const std::vector<std::string> names = cells_of(tables.summary.substr(0, end));
  const std::vector<std::string> values = cells_of(tables.summary.substr(end + 1));
  Cells cells{{"index", std::to_string(point.index)},
              {"point", point.id},
              {"source", std::string(source_name(point.source->kind))},
              {"fit", point.source->fit}};
  const std::set<std::string> taken(names.begin(), names.end());
  for (std::size_t c = 0; c < plan.columns().size(); ++c) {
    const std::string& name = plan.columns()[c];
    if (taken.count(name) == 0) cells.emplace_back(name, plan.cell(point, c));
  }
  for (std::size_t i = 0; i < names.size(); ++i) cells.emplace_back(names[i], values.at(i));
  add_energies(point, result, cells);
  add_error(point.design->element, result, cells);
  cells.emplace_back("model_layers", std::to_string(point.source->model_layers));
  return cells;
}

SweepTables make_sweep_tables(const SweepPlan& plan, ResultStore& store) {
  SweepTables tables;
  tables.counts.points = plan.points().size();
  tables.counts.simulations = plan.simulations().size();
  std::unordered_map<std::string, StoredFailure> failures;
  for (StoredFailure& failure : store.failures()) failures.emplace(failure.key, failure);
  for (const PlannedPoint& point : plan.points()) {
    if (point.state != PlannedPoint::State::kRun) {
      Cells cells = key_cells(plan, point);
      const bool skipped = point.state == PlannedPoint::State::kSkipped;
      cells.emplace_back("state", skipped ? "skipped" : "invalid");
      cells.emplace_back("reason", point.reason);
      ++(skipped ? tables.counts.skipped : tables.counts.invalid);
      if (tables.skipped.empty()) tables.skipped = csv_line(cells, true);
      tables.skipped += csv_line(cells, false);
      continue;
    }
    const auto failed = failures.find(point.sim_key);
    StoredFailure reason;
    if (const auto body = store.find(point.sim_key)) {
      try {
        const Cells cells = result_row(plan, point, read_point_result(*body));
        if (tables.results.empty()) tables.results = csv_line(cells, true);
        tables.results += csv_line(cells, false);
        ++tables.counts.done;
        continue;
      } catch (const Error& error) {  // a price list that lacks what was counted
        reason = {point.sim_key, error.what(), 1};
      }
    } else if (failed != failures.end()) {
      reason = failed->second;
    } else {
      ++tables.counts.missing;
      continue;
    }
    Cells cells = key_cells(plan, point);
    cells.emplace_back("point", point.id);
    cells.emplace_back("attempts", std::to_string(reason.attempts));
    cells.emplace_back("reason", reason.reason);
    ++tables.counts.failed;
    if (tables.failed.empty()) tables.failed = csv_line(cells, true);
    tables.failed += csv_line(cells, false);
  }
  tables.manifest = manifest_json(plan, tables);
  return tables;
}

void write_sweep_tables(const std::string& folder, const SweepTables& tables) {
  std::remove((folder + "/manifest.json").c_str());
  const auto write = [&](const char* name, const std::string& text) {
    const std::string path = folder + "/" + name;
    if (text.empty()) {
      std::remove(path.c_str());
    } else {
      write_file_whole(path, text);
    }
  };
  write("results.csv", tables.results);
  write("failed.csv", tables.failed);
  write("skipped.csv", tables.skipped);
  write_file_whole(folder + "/manifest.json", tables.manifest);
}

}  // namespace stoat::sim
