// See arch_facts.h.
#include "sim/arch_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/data_path.h"
#include "models/error.h"
#include "models/table.h"
#include "sim/datapath/stage.h"
#include "sim/engine/placement.h"
#include "sim/engine/simulate.h"

namespace stoat::sim {
namespace {

constexpr double kAttoPerPico = 1e6;
constexpr double kWithin = 0.25;  // of validation target V17

double picojoules(const PriceList& prices, Event event) {
  return static_cast<double>(prices.price(event).count()) / kAttoPerPico;
}

std::vector<Event> events_of(const std::string& text, const Place& place) {
  std::vector<Event> events;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    std::size_t e = 0;
    while (e < kEvents && event_name(static_cast<Event>(e)) != name) ++e;
    if (e == kEvents) throw usage_error(place, "unknown event '" + name + "'");
    events.push_back(static_cast<Event>(e));
    begin = end + 1;
  }
  return events;
}

std::string verdict_of(double table, double synthesis, double glitch) {
  const double ratio = table / synthesis;
  if (std::fabs(ratio - 1) <= kWithin) return "within 25 %";
  const std::string times = fmt::format("outside: {:.2f} times the synthesis", ratio);
  if (glitch > 0 && ratio > 1 && table <= glitch) return times + ", below its glitch bound";
  return times;
}

}  // namespace

FactShape fact_shape(const std::string& model, std::uint32_t context, std::uint32_t budget) {
  const Table table =
      Table::read(data_path("llm/shapes.csv"), {"name", "n_q_heads", "n_kv_heads", "head_dim"});
  std::vector<std::string> known;
  for (std::size_t row = 0; row < table.size(); ++row) {
    known.push_back(table.text(row, "name"));
    if (known.back() != model) continue;
    const auto number = [&](const char* column) {
      return static_cast<std::uint32_t>(table.integer(row, column));
    };
    return {model, number("n_q_heads"), number("n_kv_heads"), number("head_dim"), context, budget};
  }
  throw usage_error({}, "unknown model '" + model + "'", "a shape of models/llm/shapes.csv",
                    nearest_name_hint(model, known));
}

std::vector<Fact> derived_facts(const DesignPoint& point, const DramStandard& plain,
                                const FactShape& shape) {
  const DramStandard dram = placed_standard(plain, point.placement);
  const auto group = shape.q_heads / shape.kv_heads;
  const double burst_ns = static_cast<double>(dram.burst_cycles) * 1e9 /
                          static_cast<double>(dram.command_clock.count());
  const double clock_ghz = static_cast<double>(point.clock.count()) / 1e9;
  const auto access = static_cast<double>(dram.access_size.count());
  const double peak = access / burst_ns;  // GB/s
  const std::uint32_t total = pseudo_channels(dram, point);
  const auto element = static_cast<double>(element_bytes(point.element).count());
  const double row_bytes = element * shape.head_dim;
  std::vector<Fact> facts;
  const auto add = [&](std::string name, std::string value, std::string how) {
    facts.push_back({std::move(name), std::move(value), std::move(how)});
  };
  add("burst time", fmt::format("{:.3f} ns", burst_ns),
      fmt::format("{} cycles of {:.4g} GHz", dram.burst_cycles,
                  static_cast<double>(dram.command_clock.count()) / 1e9));
  add("bandwidth an engine", fmt::format("{:.4g} GB/s", peak),
      fmt::format("{} B a burst; {} times the bus ({})", dram.access_size.count(),
                  internal_bandwidth(point.placement), placement_name(point.placement)));
  add("bandwidth", fmt::format("{:.5g} GB/s", peak * total),
      fmt::format("{} pseudo-channels = {} channels x {} x {} stacks", total, dram.channels,
                  dram.pseudo_channels, point.stacks));
  const std::uint32_t stride = engines_per_kv_head(total, shape.kv_heads);
  const std::uint32_t engines = point.engines_per_head == 0 ? stride : point.engines_per_head;
  if (engines > stride) {
    throw usage_error(
        {}, fmt::format("mapping.engines_per_head of {}", engines),
        fmt::format("at most {}: {} pseudo-channels / {} KV heads", stride, total, shape.kv_heads),
        "--set mapping.engines_per_head=all");
  }
  add("engines a KV head", std::to_string(engines),
      fmt::format("{} pseudo-channels / {} KV heads; mapping.engines_per_head", total,
                  shape.kv_heads));
  const double products = access / element * group;
  const double needed = products / (burst_ns * clock_ghz);
  add("dense lanes that keep up", fmt::format("{:.1f} of {}", needed, point.dense_lanes),
      fmt::format("{:.0f} elements a burst x {} query heads of a group / {:.2f} cycles a burst",
                  access / element, group, burst_ns * clock_ghz));
  add("gather-add lanes that keep up",
      fmt::format("{:.1f} of {}", needed / group, point.gather_add_lanes),
      "one head a sampled row, one addition an element");
  const double latency =
      (dram.rcd_read + dram.read_latency + dram.burst_cycles) * burst_ns / dram.burst_cycles;
  add("bursts that cover a row miss",
      fmt::format("{:.0f} of {}", std::ceil(latency / burst_ns), point.outstanding_bursts),
      fmt::format("tRCD + read latency + burst = {:.1f} ns without queueing", latency));
  add("rows in the row buffer",
      fmt::format("{:.0f}", static_cast<double>(point.row_buffer.count()) / row_bytes),
      fmt::format("{} B / {:.0f} B a row ({} x {})", point.row_buffer.count(), row_bytes,
                  shape.head_dim, element_name(point.element)));
  const double keys = static_cast<double>(point.stash.count()) / (group * kCodeBits / 8.0);
  add("context before the stash spills", fmt::format("{:.0f} tokens", keys * engines),
      fmt::format("{} B / ({} heads x {} bit) x {} engines", point.stash.count(), group, kCodeBits,
                  engines));
  const double used = peak * engines * shape.kv_heads;
  const double k_bytes = static_cast<double>(shape.context) * row_bytes * shape.kv_heads;
  const double rows = std::min<double>(shape.context, static_cast<double>(shape.budget) * group);
  const double v_bytes = rows * row_bytes * shape.kv_heads;
  add("K and V of a layer", fmt::format("{:.0f} B", 2 * k_bytes),
      fmt::format("2 x {} tokens x {:.0f} B x {} KV heads", shape.context, row_bytes,
                  shape.kv_heads));
  add("dense layer at peak bandwidth", fmt::format("{:.1f} us", 2 * k_bytes / used / 1e3),
      fmt::format("{:.0f} B / {:.1f} GB/s; no refresh, no row misses", 2 * k_bytes, used));
  add("sampled layer at peak bandwidth", fmt::format("{:.1f} us", (k_bytes + v_bytes) / used / 1e3),
      fmt::format("K and at most S x group = {:.0f} rows a KV head, S = {}", rows, shape.budget));
  add("bound of the gain", fmt::format("{:.3f}", 2 * k_bytes / (k_bytes + v_bytes)),
      "bytes of dense over bytes of sampled, K untouched");
  return facts;
}

std::vector<CrossCheck> cross_checks(const PriceList& prices) {
  const Table table =
      Table::read(data_path("energy/rtl_crosscheck.csv"),
                  {"unit", "node_nm", "energy_pJ", "glitch_pJ", "events", "source"});
  std::vector<CrossCheck> checks;
  for (std::size_t row = 0; row < table.size(); ++row) {
    if (table.text(row, "node_nm") != prices.node()) continue;
    CrossCheck check;
    check.unit = table.text(row, "unit");
    check.events = table.text(row, "events");
    check.source = table.text(row, "source");
    check.synthesis_pj = table.number(row, "energy_pJ");
    if (!table.text(row, "glitch_pJ").empty()) check.glitch_pj = table.number(row, "glitch_pJ");
    const std::vector<Event> events = events_of(check.events, table.place(row));
    const bool priced =
        std::all_of(events.begin(), events.end(), [&](Event event) { return prices.has(event); });
    for (const Event event : events) check.table_pj += picojoules(prices, event);
    check.verdict = priced ? verdict_of(check.table_pj, check.synthesis_pj, check.glitch_pj)
                           : "the list has no price";
    if (!priced) check.table_pj = 0;
    checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace stoat::sim
