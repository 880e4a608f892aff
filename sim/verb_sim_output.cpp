// Text for people (rounded, with units) and JSON for programs.
#include "sim/verb_sim_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/hash.h"
#include "models/version.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;

std::string scaled(double value, const char* const* units, std::size_t count, double step) {
  std::size_t i = 0;
  while (i + 1 < count && value >= step) {
    value /= step;
    ++i;
  }
  return fmt::format("{:.{}f} {}", value, value < 10 ? 3 : value < 100 ? 2 : 1, units[i]);
}

std::string energy_text(Int128 attojoules, std::uint64_t steps) {
  static const char* const kUnits[] = {"aJ", "fJ", "pJ", "nJ", "uJ", "mJ", "J", "kJ"};
  if (attojoules == 0) return "0";
  return scaled(
      static_cast<double>(attojoules) / static_cast<double>(std::max<std::uint64_t>(1, steps)),
      kUnits, 8, 1000);
}

std::string bytes_text(std::uint64_t bytes, std::uint64_t steps) {
  static const char* const kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes == 0) return "0";
  return scaled(static_cast<double>(bytes) / static_cast<double>(std::max<std::uint64_t>(1, steps)),
                kUnits, 5, 1024);
}

std::string time_text(std::uint64_t picoseconds) {
  static const char* const kUnits[] = {"ps", "ns", "us", "ms", "s"};
  return scaled(static_cast<double>(picoseconds), kUnits, 5, 1000);
}

std::string per_step(std::uint64_t count, std::uint64_t steps) {
  return count == 0
             ? "0"
             : fmt::format("{:.6g}", static_cast<double>(count) /
                                         static_cast<double>(std::max<std::uint64_t>(1, steps)));
}

class Rows {
 public:
  explicit Rows(const SimReport& report) : report_(report) {}

  template <class Text>
  void add(const std::string& name, Text text) {
    std::vector<std::string> row{name};
    for (std::size_t i = 0; i < report_.results.size(); ++i)
      row.push_back(text(report_.results[i], i));
    rows_.push_back(std::move(row));
  }
  auto begin() const { return report_.results.begin(); }
  auto end() const { return report_.results.end(); }
  void heading(const std::string& name) { rows_.push_back({name}); }

  std::string text() const {
    std::size_t first = 0, other = 12;
    for (const auto& row : rows_) {
      if (row.size() > 1) first = std::max(first, row[0].size());
      for (std::size_t i = 1; i < row.size(); ++i) other = std::max(other, row[i].size());
    }
    std::string out;
    for (const auto& row : rows_) {
      std::string line = fmt::format("  {:<{}}", row[0], first);
      for (std::size_t i = 1; i < row.size(); ++i) line += fmt::format("  {:>{}}", row[i], other);
      while (!line.empty() && line.back() == ' ') line.pop_back();
      out += line + "\n";
    }
    return out;
  }

 private:
  const SimReport& report_;
  std::vector<std::vector<std::string>> rows_;
};

// Energy by report component, in a fixed order of first appearance.
std::vector<std::pair<std::string, std::vector<Int128>>> components(
    const std::vector<EnergyTable>& tables) {
  std::vector<std::pair<std::string, std::vector<Int128>>> out;
  for (std::size_t e = 0; e < kEvents; ++e) {
    const auto event = static_cast<Event>(e);
    const std::string name(event_component(event));
    auto found =
        std::find_if(out.begin(), out.end(), [&](const auto& each) { return each.first == name; });
    if (found == out.end())
      found = out.insert(out.end(), {name, std::vector<Int128>(tables.size(), 0)});
    for (std::size_t i = 0; i < tables.size(); ++i)
      found->second[i] += tables[i].of_event(event).count();
  }
  return out;
}

const Traffic& part(const DatapathResult& r, Part which) {
  return r.traffic[static_cast<std::size_t>(which)];
}

void add_energy(Rows& rows, const SimReport& report, const PriceList& prices) {
  std::vector<EnergyTable> tables;
  for (const DatapathResult& r : report.results) tables.push_back(price(r.events, prices));
  rows.add("energy a step", [&](const DatapathResult& r, std::size_t i) {
    return energy_text(tables[i].total().count(), r.steps);
  });
  for (const Stage stage : {Stage::kScore, Stage::kSelect, Stage::kGather, Stage::kAppend}) {
    rows.add("  " + std::string(stage_name(stage)), [&](const DatapathResult& r, std::size_t i) {
      return energy_text(tables[i].of_stage(stage).count(), r.steps);
    });
  }
  rows.heading("  by component");
  for (const auto& [name, energies] : components(tables)) {
    if (std::all_of(energies.begin(), energies.end(), [](Int128 e) { return e == 0; })) continue;
    rows.add("    " + name, [&energies = energies](const DatapathResult& r, std::size_t i) {
      return energy_text(energies[i], r.steps);
    });
  }
}

void add_traffic(Rows& rows, const SimReport& report) {
  rows.add("bytes a step, logical", [](const DatapathResult& r, std::size_t) {
    return bytes_text(r.total_traffic().logical.count(), r.steps);
  });
  rows.add("  requested (K)", [](const DatapathResult& r, std::size_t) {
    return bytes_text(part(r, Part::kKey).requested.count(), r.steps);
  });
  rows.add("  requested (V)", [](const DatapathResult& r, std::size_t) {
    return bytes_text(part(r, Part::kValue).requested.count(), r.steps);
  });
  rows.add("  moved", [](const DatapathResult& r, std::size_t) {
    return bytes_text(r.attention_traffic().moved.count(), r.steps);
  });
  rows.add("  appended, apart", [](const DatapathResult& r, std::size_t) {
    return bytes_text(part(r, Part::kAppend).moved.count(), r.steps);
  });
  rows.add("V rows a step, logical", [](const DatapathResult& r, std::size_t) {
    return per_step(part(r, Part::kValue).logical_rows, r.steps);
  });
  rows.add("  distinct in a group", [](const DatapathResult& r, std::size_t) {
    return per_step(part(r, Part::kValue).distinct_rows, r.steps);
  });
  rows.add("DRAM bursts a step", [](const DatapathResult& r, std::size_t) {
    return per_step(r.read_bursts + r.write_bursts, r.steps);
  });
  rows.add("row-hit rate", [](const DatapathResult& r, std::size_t) {
    return percent(r.row_hits, Uint128{r.row_hits} + r.row_misses) + " %";
  });
  rows.add("achieved bandwidth", [&](const DatapathResult& r, std::size_t) {
    const Uint128 moved = Uint128{r.total_traffic().moved.count()} * 1000000000000ULL;
    return fmt::format("{} % of {:.1f} GB/s",
                       percent(moved, Uint128{report.run.peak_bytes_per_second} * r.time.count()),
                       static_cast<double>(report.run.peak_bytes_per_second) / 1e9);
  });
}

// Shares of the time, of all units of a kind together; the rest they had no work.
void add_use(Rows& rows) {
  rows.heading("use of the time (busy / starved / blocked)");
  for (std::size_t u = 0; u < kUnits; ++u) {
    rows.add("  " + std::string(kUnitNames[u]), [u](const DatapathResult& r, std::size_t) {
      const Uint128 time = Uint128{r.time.count()} * r.engines;
      const auto share = [&](Picoseconds t) { return ratio(Uint128{t.count()} * 100, time, 1); };
      const UnitUse& unit = r.units[u];
      return share(unit.busy) + " / " + share(unit.starved) + " / " + share(unit.blocked) + " %";
    });
  }
  rows.add("  data bus", [](const DatapathResult& r, std::size_t) {
    return percent(r.data_bus_busy.count(), Uint128{r.time.count()} * r.engines) + " %";
  });
  rows.add("  row-command bus", [](const DatapathResult& r, std::size_t) {
    return percent(r.row_bus_busy.count(), Uint128{r.time.count()} * r.channels) + " %";
  });
  rows.add("  banks (tRC an activation)", [](const DatapathResult& r, std::size_t) {
    return percent(r.bank_busy.count(), Uint128{r.time.count()} * r.banks) + " %";
  });
}

// What the busiest engine cannot go below, and how far the run is above it: latency, exchanges,
// row misses, engines that wait for the busiest.
void add_bounds(Rows& rows) {
  const auto a_step = [](Picoseconds t, const DatapathResult& r) {
    return time_text(t.count() / std::max<std::uint64_t>(1, r.steps));
  };
  rows.heading("least time of the busiest engine");
  rows.add("  data bus",
           [&](const DatapathResult& r, std::size_t) { return a_step(r.bus_bound, r); });
  rows.add("  refreshes beside it",
           [&](const DatapathResult& r, std::size_t) { return a_step(r.refresh_time, r); });
  rows.add("  its busiest lanes", [&](const DatapathResult& r, std::size_t) {
    return std::string(kUnitNames[static_cast<std::size_t>(r.lane_bound_unit)]) + " " +
           a_step(r.lane_bound, r);
  });
  rows.add("  time above the larger", [](const DatapathResult& r, std::size_t) {
    const Picoseconds least = std::max(r.bus_bound + r.refresh_time, r.lane_bound);
    return percent((r.time - std::min(r.time, least)).count(), r.time.count()) + " %";
  });
  const auto any = [&](auto has) { return std::any_of(rows.begin(), rows.end(), has); };
  if (any([](const DatapathResult& r) { return r.power_downs != 0; })) {
    rows.add("pseudo-channels powered down", [](const DatapathResult& r, std::size_t) {
      return percent((r.active_down + r.precharge_down).count(),
                     Uint128{r.time.count()} * r.engines) +
             " %";
    });
  }
  if (any([](const DatapathResult& r) { return r.bank_refreshes != 0; })) {
    rows.add("refreshes of banks a step", [](const DatapathResult& r, std::size_t) {
      return per_step(r.bank_refreshes, r.steps);
    });
  }
}

void add_token(Rows& rows, const SimReport& report) {
  const std::uint64_t weights = report.run.weight_bytes_per_token;
  if (weights == 0) return;
  rows.add("whole token: weights + this", [&](const DatapathResult& r, std::size_t) {
    return bytes_text(
        weights + r.attention_traffic().moved.count() / std::max<std::uint64_t>(1, r.steps), 1);
  });
  rows.add("  share of attention", [&](const DatapathResult& r, std::size_t) {
    const Uint128 moved = r.attention_traffic().moved.count();
    return percent(moved, moved + Uint128{weights} * r.steps) + " %";
  });
  rows.add("  saved of a dense token", [&](const DatapathResult& r, std::size_t) {
    const Uint128 moved = r.attention_traffic().moved.count();
    const Uint128 dense = r.dense_kv.count();
    return moved > dense ? std::string("none")
                         : percent(dense - moved, dense + Uint128{weights} * r.steps) + " %";
  });
}

void add_multiplications(Rows& rows, const SimReport& report) {
  for (const Stage stage : {Stage::kScore, Stage::kSelect, Stage::kGather}) {
    rows.add("multiplications a step, " + std::string(stage_name(stage)),
             [&](const DatapathResult& r, std::size_t) {
               return per_step(multiplications(r, stage), r.steps);
             });
  }
  const bool ternary = std::any_of(report.results.begin(), report.results.end(),
                                   [](const DatapathResult& r) { return r.group_steps != 0; });
  if (!ternary) return;
  const auto share = [&](std::uint64_t touched, std::uint64_t times) {
    return times == 0 ? std::string("all")
                      : percent(touched, Uint128{times} * report.run.head_dim) + " %";
  };
  rows.add("K features touched, a head", [&](const DatapathResult& r, std::size_t) {
    return share(r.touched_by_heads, r.head_steps);
  });
  rows.add("  a KV group", [&](const DatapathResult& r, std::size_t) {
    return share(r.touched_by_groups, r.group_steps);
  });
}

// Why a stage still multiplies; empty when it does not.
std::string reasons(const DatapathResult& r, Stage stage) {
  const std::uint64_t products =
      r.events.at(stage, Event::kMultiply) + r.events.at(stage, Event::kMultiplyInt8);
  const std::uint64_t scales = r.events.at(stage, Event::kScale);
  std::string why;
  const auto add = [&](bool there, const char* text) {
    if (there) why += (why.empty() ? "" : " and ") + std::string(text);
  };
  const bool sampled = r.select_stage == "select_sampled";
  const bool ternary = r.score_stage == "score_ternary";
  if (stage == Stage::kScore) {
    add(products != 0, ternary ? "counts or weights x K" : "q x K");
    add(scales != 0, ternary && r.head_steps != 0 ? "folding into q, and c/B where it is no shift"
                                                  : "folding log2(e)/sqrt(d) into q");
  } else if (stage == Stage::kSelect) {
    add(scales != 0, sampled ? "random word x mass, one a word" : "online rescaling");
  } else if (stage == Stage::kGather) {
    add(products != 0, r.gather_stage == "gather_add" ? "counts x V" : "weights x V");
    add(scales != 0, r.gather_stage == "gather_add" ? "the final 1/S, masses or int8 scale"
                                                    : "merging and normalising");
  }
  return why;
}

// "Multiplications that remain: gather_add: score q x K; ..."
std::string remaining_text(const SimReport& report) {
  std::string text = "Multiplications that remain:";
  for (const DatapathResult& r : report.results) {
    text += " " + r.datapath + ":";
    bool any = false;
    for (const Stage stage : {Stage::kScore, Stage::kSelect, Stage::kGather}) {
      const std::string why = reasons(r, stage);
      if (why.empty()) continue;
      text += std::string(any ? ", " : " ") + std::string(stage_name(stage)) + " " + why;
      any = true;
    }
    text += any ? ";" : " none;";
  }
  text.back() = '.';
  return text;
}

}  // namespace

std::string terminal_table(const SimReport& report, const PriceList& prices) {
  const RunDescription& run = report.run;
  Rows rows(report);
  rows.add("", [](const DatapathResult& r, std::size_t) { return r.datapath; });
  rows.add("cycles a step", [](const DatapathResult& r, std::size_t) {
    return per_step(r.cycles.count(), r.steps);
  });
  rows.add("time a step", [](const DatapathResult& r, std::size_t) {
    return time_text(r.time.count() / std::max<std::uint64_t>(1, r.steps));
  });
  add_energy(rows, report, prices);
  add_traffic(rows, report);
  add_use(rows);
  add_bounds(rows);
  add_token(rows, report);
  add_multiplications(rows, report);
  const DatapathResult& first = report.results.front();
  std::string text =
      fmt::format("{} on {} ({}): attention of {} steps, {} layer steps, context up to {}\n",
                  run.model.empty() ? "a trace" : run.model, run.arch, run.dram, first.steps,
                  first.layer_steps, first.context_max);
  text += rows.text();
  text +=
      fmt::format("  Prices: {}. DRAM energy boundary: {}.\n", prices.name(), prices.boundary());
  text += "  " + remaining_text(report) + "\n";
  for (const std::string& note : report.notes) text += "  " + note + "\n";
  return text;
}

std::string summary_json(const SimReport& report, const ResultTables& tables) {
  // The same cells as summary.csv, as text: exact decimals stay exact.
  const auto cells = [](const std::string& line) {
    std::vector<std::string> out(1);
    bool quoted = false;
    for (const char c : line) {
      if (c == '"') {
        quoted = !quoted;
      } else if (c == ',' && !quoted) {
        out.emplace_back();
      } else {
        out.back() += c;
      }
    }
    return out;
  };
  std::istringstream stream(tables.summary);
  std::string line;
  std::getline(stream, line);
  const std::vector<std::string> names = cells(line);
  Json json;
  json["datapaths"] = Json::array();
  while (std::getline(stream, line)) {
    const std::vector<std::string> values = cells(line);
    Json row;
    for (std::size_t i = 0; i < names.size(); ++i) row[names[i]] = values.at(i);
    json["datapaths"].push_back(std::move(row));
  }
  json["notes"] = report.notes;
  return json.dump(2) + "\n";
}

std::string manifest_json(const ManifestInput& in, const SimReport& report) {
  Json json;
  json["format"] = "stoat-sim";
  json["version"] = 1;
  json["tool_version"] = tool_version();
  json["build_id"] = build_id();
  json["command_line"] = in.command_line;
  json["trace"] = {{"file", std::filesystem::path(in.trace_path).filename().string()},
                   {"content_hash", in.trace_hash},
                   {"origin", in.header.origin},
                   {"model", in.header.model_name},
                   {"seed", in.header.seed},
                   {"first_step", in.first_step},
                   {"end_step", in.end_step},
                   {"first_layer", in.first_layer},
                   {"end_layer", in.end_layer}};
  json["arch"] = {
      {"name", in.point.name}, {"hash", in.point.hash}, {"text", canonical_text(in.point)}};
  json["dram"] = {{"name", in.dram.name}, {"hash", in.dram.hash}};
  json["price_list"] = {
      {"name", in.prices.name()}, {"hash", in.prices.hash()}, {"boundary", in.prices.boundary()}};
  for (const DatapathResult& r : report.results) json["datapaths"].push_back(r.datapath);
  json["files"] = {{"summary.csv", hash_text(in.tables.summary)},
                   {"energy.csv", hash_text(in.tables.energy)},
                   {"traffic.csv", hash_text(in.tables.traffic)},
                   {"steps.csv", hash_text(in.tables.steps)}};
  json["notes"] = report.notes;
  return json.dump(2) + "\n";
}

}  // namespace stoat::sim
