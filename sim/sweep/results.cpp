// Results as JSON between processes, and as CSV for people and reports.
#include "sim/sweep/results.h"

#include <nlohmann/json.hpp>

#include "models/error.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::json;

std::string num(std::uint64_t value) { return std::to_string(value); }

// A cell of text: quoted where CSV needs it.
std::string cell(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

struct Column {
  const char* name;
  std::string value;
};

std::string line(const std::vector<std::string>& cells) {
  std::string text;
  for (std::size_t i = 0; i < cells.size(); ++i) text += (i == 0 ? "" : ",") + cell(cells[i]);
  return text + "\n";
}

const Traffic& part(const DatapathResult& r, Part which) {
  return r.traffic[static_cast<std::size_t>(which)];
}

// Energy of DRAM commands and bits.
Energy dram_energy(const EnergyTable& energy) {
  Energy sum{0};
  for (const Event event : {Event::kDramActivate, Event::kDramReadBits, Event::kDramWriteBits,
                            Event::kDramRefresh, Event::kDramBackgroundNs}) {
    sum += energy.of_event(event);
  }
  return sum;
}

std::string bytes_per_second(Bytes bytes, Picoseconds time) {
  if (time.count() == 0) return "0";
  return to_string(static_cast<Int128>(Uint128{bytes.count()} * 1000000000000ULL / time.count()));
}

// The whole token at batch 1: all layers' K and V, and the weights. Simulated layers may be some of
// all.
struct Token {
  std::string attention_share, saving;
};
Token token_of(const RunDescription& run, const DatapathResult& r) {
  if (run.weight_bytes_per_token == 0 || r.steps == 0) return {};
  const Uint128 weights = Uint128{run.weight_bytes_per_token} * r.steps;
  const Uint128 dense = r.dense_kv.count();
  const Uint128 moved = r.attention_traffic().moved.count();
  return {percent(dense, dense + weights), moved <= dense
                                               ? percent(dense - moved, dense + weights)
                                               : "-" + percent(moved - dense, dense + weights)};
}

std::vector<Column> identity_columns(const RunDescription& run, const DatapathResult& r,
                                     const PriceList& prices) {
  return {{"datapath", r.datapath},
          {"score_stage", r.score_stage},
          {"select_stage", r.select_stage},
          {"gather_stage", r.gather_stage},
          {"arch", run.arch},
          {"dram", run.dram},
          {"price_list", prices.name()},
          {"dram_energy_boundary", prices.boundary()},
          {"model", run.model},
          {"method", run.method},
          {"budget", run.budget},
          {"score_kind", run.score_kind},
          {"ternary_draws", run.ternary_draws},
          {"ternary_coupling", run.ternary_coupling},
          {"ternary_normaliser", run.ternary_normaliser},
          {"kv_element", run.kv_element},
          {"k_layout", run.k_layout},
          {"repeats", run.repeats},
          {"tile_dealing", run.tile_dealing},
          {"layers", num(run.layers)},
          {"query_heads", num(run.query_heads)},
          {"kv_heads", num(run.kv_heads)},
          {"head_dim", num(run.head_dim)},
          {"steps", num(r.steps)},
          {"layer_steps", num(r.layer_steps)},
          {"context_max", num(r.context_max)}};
}

std::vector<Column> cost_columns(const DatapathResult& r, const EnergyTable& energy) {
  const Int128 steps = static_cast<Int128>(r.steps == 0 ? 1 : r.steps);
  return {{"cycles", num(r.cycles.count())},
          {"time_ps", num(r.time.count())},
          {"ps_per_step", num(r.steps == 0 ? 0 : r.time.count() / r.steps)},
          {"energy_aJ", to_string(energy.total().count())},
          {"energy_per_step_aJ", to_string(energy.total().count() / steps)},
          {"score_energy_aJ", to_string(energy.of_stage(Stage::kScore).count())},
          {"select_energy_aJ", to_string(energy.of_stage(Stage::kSelect).count())},
          {"gather_energy_aJ", to_string(energy.of_stage(Stage::kGather).count())},
          {"append_energy_aJ", to_string(energy.of_stage(Stage::kAppend).count())},
          {"dram_energy_aJ", to_string(dram_energy(energy).count())}};
}

std::vector<Column> traffic_columns(const RunDescription& run, const DatapathResult& r) {
  const Traffic all = r.attention_traffic();
  const Bytes bus = r.total_traffic().moved;
  const Uint128 peak_time = Uint128{run.peak_bytes_per_second} * r.time.count();
  const Token token = token_of(run, r);
  return {{"value_draws", num(r.value_draws)},
          {"value_rows_logical", num(part(r, Part::kValue).logical_rows)},
          {"value_rows_distinct", num(part(r, Part::kValue).distinct_rows)},
          {"key_rows_logical", num(part(r, Part::kKey).logical_rows)},
          {"key_rows_distinct", num(part(r, Part::kKey).distinct_rows)},
          {"logical_bytes", num(all.logical.count())},
          {"requested_bytes", num(all.requested.count())},
          {"moved_bytes", num(all.moved.count())},
          {"append_requested_bytes", num(part(r, Part::kAppend).requested.count())},
          {"append_moved_bytes", num(part(r, Part::kAppend).moved.count())},
          {"read_bursts", num(r.read_bursts)},
          {"write_bursts", num(r.write_bursts)},
          {"activates", num(r.activates)},
          {"row_hits", num(r.row_hits)},
          {"row_misses", num(r.row_misses)},
          {"row_hit_percent", percent(r.row_hits, Uint128{r.row_hits} + r.row_misses)},
          {"refreshes", num(r.refreshes)},
          {"achieved_bytes_per_second", bytes_per_second(bus, r.time)},
          {"peak_bytes_per_second", num(run.peak_bytes_per_second)},
          {"bandwidth_percent", percent(Uint128{bus.count()} * 1000000000000ULL, peak_time)},
          {"dense_kv_bytes", num(r.dense_kv.count())},
          {"weight_bytes_per_token",
           run.weight_bytes_per_token == 0 ? "" : num(run.weight_bytes_per_token)},
          {"attention_share_percent", token.attention_share},
          {"token_saving_percent", token.saving}};
}

std::vector<Column> engine_columns(const DatapathResult& r) {
  return {{"score_busy_cycles", num(r.busy[0].count())},
          {"select_busy_cycles", num(r.busy[1].count())},
          {"gather_busy_cycles", num(r.busy[2].count())},
          {"engines", num(r.engines)},
          {"touched_features_per_head", ratio(r.touched_by_heads, r.head_steps, 2)},
          {"touched_features_per_group", ratio(r.touched_by_groups, r.group_steps, 2)},
          {"multiplications_score", num(multiplications(r, Stage::kScore))},
          {"multiplications_select", num(multiplications(r, Stage::kSelect))},
          {"multiplications_gather", num(multiplications(r, Stage::kGather))}};
}

// How the units spent the run, in percent of their time.
std::vector<Column> use_columns(const DatapathResult& r) {
  const Uint128 time = Uint128{r.time.count()};
  std::vector<Column> columns = {
      {"data_bus_busy_percent", percent(r.data_bus_busy.count(), time * r.engines)},
      {"row_bus_busy_percent", percent(r.row_bus_busy.count(), time * r.channels)},
      {"bank_busy_percent", percent(r.bank_busy.count(), time * r.banks)}};
  static const char* const kNames[kUnits][3] = {
      {"score_busy_percent", "score_starved_percent", "score_blocked_percent"},
      {"exponential_busy_percent", "exponential_starved_percent", "exponential_blocked_percent"},
      {"select_busy_percent", "select_starved_percent", "select_blocked_percent"},
      {"gather_busy_percent", "gather_starved_percent", "gather_blocked_percent"}};
  for (std::size_t u = 0; u < kUnits; ++u) {
    const UnitUse& unit = r.units[u];
    columns.push_back({kNames[u][0], percent(unit.busy.count(), time * r.engines)});
    columns.push_back({kNames[u][1], percent(unit.starved.count(), time * r.engines)});
    columns.push_back({kNames[u][2], percent(unit.blocked.count(), time * r.engines)});
  }
  return columns;
}

std::vector<Column> design_columns(const RunDescription& run) {
  return {{"placement", run.placement},
          {"stacks", run.stacks},
          {"dense_accumulator", run.dense_accumulator},
          {"gather_add_accumulator", run.gather_add_accumulator},
          {"ternary_accumulator", run.ternary_accumulator},
          {"topk_unit", run.topk_unit},
          {"ternary_draw_merging", run.ternary_draw_merging}};
}

std::string energy_rows(const DatapathResult& r, const PriceList& prices,
                        const EnergyTable& energy) {
  std::string text;
  for (std::size_t s = 0; s < kStages; ++s) {
    for (std::size_t e = 0; e < kEvents; ++e) {
      const auto stage = static_cast<Stage>(s);
      const auto event = static_cast<Event>(e);
      if (r.events.at(stage, event) == 0) continue;
      text +=
          line({r.datapath, std::string(stage_name(stage)), std::string(event_component(event)),
                std::string(event_name(event)), num(r.events.at(stage, event)),
                to_string(prices.price(event).count()), to_string(energy.energy[s][e].count())});
    }
  }
  return text;
}

}  // namespace

std::string ratio(Uint128 numerator, Uint128 denominator, int digits) {
  if (denominator == 0) return "";
  Uint128 scale = 1;
  for (int i = 0; i < digits; ++i) scale *= 10;
  return decimal(static_cast<Int128>(numerator * scale / denominator), digits);
}

std::string percent(Uint128 numerator, Uint128 denominator) {
  return ratio(numerator * 100, denominator, 2);
}

std::uint64_t multiplications(const DatapathResult& r, Stage stage) {
  return r.events.at(stage, Event::kMultiply) + r.events.at(stage, Event::kMultiplyInt8) +
         r.events.at(stage, Event::kScale);
}

ResultTables make_tables(const RunDescription& run, const std::vector<DatapathResult>& results,
                         const PriceList& prices) {
  ResultTables tables;
  tables.energy = "datapath,stage,component,event,count,price_aJ,energy_aJ\n";
  tables.traffic =
      "datapath,part,logical_rows,distinct_rows,logical_bytes,requested_bytes,moved_bytes,bursts\n";
  tables.steps =
      "datapath,step,context_len,cycles,time_ps,key_bytes,value_bytes,moved_bytes,value_rows_"
      "logical,"
      "value_rows_distinct\n";
  for (const DatapathResult& r : results) {
    const EnergyTable energy = price(r.events, prices);
    Energy parts{0};
    for (std::size_t s = 0; s < kStages; ++s) parts += energy.of_stage(static_cast<Stage>(s));
    STOAT_ENSURE(parts == energy.total(), "energies of the stages sum to the total");
    std::vector<std::string> names, values;
    for (const auto& columns :
         {identity_columns(run, r, prices), cost_columns(r, energy), traffic_columns(run, r),
          engine_columns(r), use_columns(r), design_columns(run)}) {
      for (const Column& column : columns) {
        names.emplace_back(column.name);
        values.push_back(column.value);
      }
    }
    if (tables.summary.empty()) tables.summary = line(names);
    tables.summary += line(values);
    tables.energy += energy_rows(r, prices, energy);
    for (std::size_t p = 0; p < kParts; ++p) {
      const Traffic& t = r.traffic[p];
      tables.traffic += line({r.datapath, std::string(part_name(static_cast<Part>(p))),
                              num(t.logical_rows), num(t.distinct_rows), num(t.logical.count()),
                              num(t.requested.count()), num(t.moved.count()), num(t.bursts)});
    }
    for (const StepResult& s : r.per_step) {
      tables.steps +=
          line({r.datapath, num(s.step), num(s.context_len), num(s.cycles.count()),
                num(s.time.count()), num(s.key.count()), num(s.value.count()), num(s.moved.count()),
                num(s.value_rows_logical), num(s.value_rows_distinct)});
    }
  }
  return tables;
}

Json to_json(const DatapathResult& r) {
  Json json;
  json["names"] = {r.datapath, r.score_stage, r.select_stage, r.gather_stage};
  json["numbers"] = {r.steps,
                     r.layer_steps,
                     r.context_max,
                     r.engines,
                     r.cycles.count(),
                     r.time.count(),
                     r.value_draws,
                     r.dense_kv.count(),
                     r.activates,
                     r.row_hits,
                     r.row_misses,
                     r.refreshes,
                     r.read_bursts,
                     r.write_bursts,
                     r.data_bus_busy.count(),
                     r.touched_by_heads,
                     r.head_steps,
                     r.touched_by_groups,
                     r.group_steps,
                     r.row_bus_busy.count(),
                     r.bank_busy.count(),
                     r.channels,
                     r.banks,
                     r.bank_refreshes,
                     r.power_downs,
                     r.active_standby.count(),
                     r.precharge_standby.count(),
                     r.active_down.count(),
                     r.precharge_down.count(),
                     r.bus_bound.count(),
                     r.lane_bound.count(),
                     r.refresh_time.count(),
                     static_cast<std::uint64_t>(r.lane_bound_unit)};
  for (const CoreCycles cycles : r.busy) json["busy"].push_back(cycles.count());
  for (const UnitUse& unit : r.units) {
    json["units"].push_back({unit.busy.count(), unit.starved.count(), unit.blocked.count()});
  }
  json["events"] = r.events.count;
  for (const Traffic& t : r.traffic) {
    json["traffic"].push_back({t.logical_rows, t.distinct_rows, t.logical.count(),
                               t.requested.count(), t.moved.count(), t.bursts});
  }
  json["per_step"] = Json::array();
  for (const StepResult& s : r.per_step) {
    json["per_step"].push_back({s.step, s.context_len, s.cycles.count(), s.time.count(),
                                s.key.count(), s.value.count(), s.moved.count(),
                                s.value_rows_logical, s.value_rows_distinct});
  }
  return json;
}

DatapathResult result_from_json(const Json& json) {
  DatapathResult r;
  const auto names = json.at("names").get<std::vector<std::string>>();
  r.datapath = names.at(0);
  r.score_stage = names.at(1);
  r.select_stage = names.at(2);
  r.gather_stage = names.at(3);
  const auto n = json.at("numbers").get<std::vector<std::uint64_t>>();
  STOAT_ENSURE(n.size() == 33, "a result has 33 numbers");
  r.steps = n[0];
  r.layer_steps = n[1];
  r.context_max = static_cast<std::uint32_t>(n[2]);
  r.engines = static_cast<std::uint32_t>(n[3]);
  r.cycles = CoreCycles(n[4]);
  r.time = Picoseconds(n[5]);
  r.value_draws = n[6];
  r.dense_kv = Bytes(n[7]);
  r.activates = n[8];
  r.row_hits = n[9];
  r.row_misses = n[10];
  r.refreshes = n[11];
  r.read_bursts = n[12];
  r.write_bursts = n[13];
  r.data_bus_busy = Picoseconds(n[14]);
  for (std::size_t i = 0; i < kStages; ++i) {
    r.busy[i] = CoreCycles(json.at("busy").at(i).get<std::uint64_t>());
  }
  r.touched_by_heads = n[15];
  r.head_steps = n[16];
  r.touched_by_groups = n[17];
  r.group_steps = n[18];
  r.row_bus_busy = Picoseconds(n[19]);
  r.bank_busy = Picoseconds(n[20]);
  r.channels = n[21];
  r.banks = n[22];
  r.bank_refreshes = n[23];
  r.power_downs = n[24];
  r.active_standby = Picoseconds(n[25]);
  r.precharge_standby = Picoseconds(n[26]);
  r.active_down = Picoseconds(n[27]);
  r.precharge_down = Picoseconds(n[28]);
  r.bus_bound = Picoseconds(n[29]);
  r.lane_bound = Picoseconds(n[30]);
  r.refresh_time = Picoseconds(n[31]);
  r.lane_bound_unit = static_cast<Unit>(n[32]);
  for (std::size_t i = 0; i < kUnits; ++i) {
    const auto unit = json.at("units").at(i).get<std::vector<std::uint64_t>>();
    r.units[i] = {Picoseconds(unit.at(0)), Picoseconds(unit.at(1)), Picoseconds(unit.at(2))};
  }
  json.at("events").get_to(r.events.count);
  for (std::size_t i = 0; i < kParts; ++i) {
    const auto t = json.at("traffic").at(i).get<std::vector<std::uint64_t>>();
    r.traffic[i] = {t.at(0), t.at(1), Bytes(t.at(2)), Bytes(t.at(3)), Bytes(t.at(4)), t.at(5)};
  }
  for (const Json& each : json.at("per_step")) {
    const auto s = each.get<std::vector<std::uint64_t>>();
    r.per_step.push_back({static_cast<std::uint32_t>(s.at(0)), static_cast<std::uint32_t>(s.at(1)),
                          CoreCycles(s.at(2)), Picoseconds(s.at(3)), Bytes(s.at(4)), Bytes(s.at(5)),
                          Bytes(s.at(6)), s.at(7), s.at(8)});
  }
  return r;
}

}  // namespace stoat::sim
