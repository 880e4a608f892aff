// The verbs of accelerators: tables for people, JSON for programs.
#include "sim/verb_arch.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "models/energy/price_list.h"
#include "models/streams.h"
#include "sim/arch_facts.h"
#include "sim/arch_scaling.h"
#include "sim/design_point.h"
#include "sim/design_schema.h"
#include "sim/engine/placement.h"
#include "sim/engine/simulate.h"
#include "sim/memory/address_map.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;

struct ArchOptions {
  std::vector<std::string> archs;
  std::vector<std::string> overrides;
  std::string model = "llama-3.1-8b";
  std::uint32_t context = 32768, budget = 128;
  std::string node;  // "14 HP": prices there, where no table exists
  double volts = 0;
  bool json = false;
};

struct Whole {
  DesignPoint point;
  DramStandard dram;
  PriceList prices;
};

// Reads all that a design names and looks whether it fits together.
Whole read_whole(const std::string& arch, const std::vector<std::string>& overrides) {
  Whole whole;
  whole.point = read_design_point(arch, overrides);
  whole.dram = read_dram_standard(whole.point.dram);
  whole.prices = PriceList::read(whole.point.prices);
  check_prices(whole.point, whole.prices);
  const DramStandard memory = designed_standard(whole.dram, whole.point);
  const std::uint32_t most = pseudo_channels(memory, whole.point);
  if (whole.point.engines_per_head > most) {
    throw usage_error({},
                      fmt::format("mapping.engines_per_head of {}", whole.point.engines_per_head),
                      fmt::format("at most {}: {} has so many pseudo-channels for all KV heads",
                                  most, memory.name),
                      "--set mapping.engines_per_head=all");
  }
  return whole;
}

double peak_gb(const Whole& whole) {
  const DramStandard placed = placed_standard(whole.dram, whole.point.placement);
  return static_cast<double>(placed.peak_bytes_per_second()) *
         pseudo_channels(placed, whole.point) / 1e9;
}

void run_list(const ArchOptions& options) {
  Json json = Json::array();
  std::string text = fmt::format("{:<14}  {:<12}  {:>10}  {:<10}  {}\n", "name", "memory", "GB/s",
                                 "engines", "prices");
  for (const std::string& name : shipped_designs()) {
    const Whole whole = read_whole(name, {});
    const std::string where = fmt::format("{} {}", pseudo_channels(whole.dram, whole.point),
                                          placement_name(whole.point.placement));
    text += fmt::format("{:<14}  {:<12}  {:>10.1f}  {:<10}  {}\n", name, whole.dram.name,
                        peak_gb(whole), where, whole.prices.name());
    json.push_back({{"name", name},
                    {"memory", whole.dram.name},
                    {"peak_gb_per_second", peak_gb(whole)},
                    {"engines", pseudo_channels(whole.dram, whole.point)},
                    {"placement", placement_name(whole.point.placement)},
                    {"prices", whole.prices.name()},
                    {"hash", whole.point.hash}});
  }
  print_result(options.json ? json.dump(2) + "\n" : text);
}

void run_show(const ArchOptions& options) {
  const DesignPoint point = read_design_point(options.archs.at(0), options.overrides);
  if (!options.json) {
    print_result(canonical_text(point));
    return;
  }
  Json json = {{"name", point.name}, {"hash", point.hash}};
  for (const DesignField& field : design_fields()) json["fields"][field.path] = field.get(point);
  print_result(json.dump(2) + "\n");
}

void run_validate(const ArchOptions& options) {
  Json json = Json::array();
  std::string text;
  for (const std::string& arch : options.archs) {
    const Whole whole = read_whole(arch, options.overrides);
    text += fmt::format("{}: sound ({} on {}, {:.1f} GB/s)\n", arch, whole.prices.name(),
                        whole.dram.name, peak_gb(whole));
    json.push_back({{"arch", arch}, {"sound", true}, {"hash", whole.point.hash}});
  }
  print_result(options.json ? json.dump(2) + "\n" : text);
}

std::string prices_text(const PriceList& prices) {
  std::string text = fmt::format("Prices ({}; DRAM: {})\n", prices.name(), prices.boundary());
  for (std::size_t e = 0; e < kEvents; ++e) {
    const auto event = static_cast<Event>(e);
    if (!prices.has(event)) {
      text += fmt::format("  {:<22}  {:>12}\n", event_name(event), "no price");
      continue;
    }
    text += fmt::format("  {:<22}  {:>9.6g} pJ  {:<28}  {}\n", event_name(event),
                        static_cast<double>(prices.price(event).count()) / 1e6, prices.width(event),
                        prices.source(event));
  }
  return text;
}

std::string checks_text(const PriceList& prices) {
  std::string text = fmt::format(
      "Against synthesis at {} nm (pJ; glitch-free, and the bound with glitches; V17: 25 %)\n",
      prices.node());
  for (const CrossCheck& check : cross_checks(prices)) {
    text += fmt::format("  {:<26}  {:>8.4g}  {:>8.4g}  {:>8.4g}  {}\n", check.unit, check.table_pj,
                        check.synthesis_pj, check.glitch_pj, check.verdict);
  }
  return text +
         "  Columns: table, synthesis, glitch bound. Where they differ, price all lanes from "
         "one basis: rtl_asap7 or rtl_nangate45.\n";
}

std::string scaled_text(const ArchOptions& options) {
  std::string text = fmt::format(
      "Scaled to {} nm at {:.2f} V (Stillmaker and Baas 2017; pJ): no table exists there\n",
      options.node, options.volts);
  for (const ScaledPrice& price : scaled_prices(options.node, options.volts)) {
    text += fmt::format(
        "  {:<22}  {:<18}  from 45 nm {:>8.4g} -> {:>8.4g}   from 7 nm {:>8.4g} -> "
        "{:>8.4g}   band {:.4g} to {:.4g}\n",
        event_name(price.event), price.width, price.table_45_pj, price.from_45_pj, price.table_7_pj,
        price.from_7_pj, std::min(price.from_45_pj, price.from_7_pj),
        std::max(price.from_45_pj, price.from_7_pj));
  }
  return text +
         "  The equations overstate what 45 to 7 nm saves; the two ends are the band. Other "
         "operations have no pair of tables.\n";
}

std::string explain_text(const Whole& whole, const std::map<std::string, DesignOrigin>& origins,
                         const FactShape& shape) {
  std::string text = fmt::format("{} ({})\nValues\n", whole.point.name, whole.point.hash);
  for (const DesignField& field : design_fields()) {
    const DesignOrigin& origin = origins.at(field.path);
    text += fmt::format("  {:<27}  {:<20}  {}  [{}]\n", field.path, field.get(whole.point),
                        origin.comment, origin.place.text());
  }
  text +=
      fmt::format("Derived for {}, {} tokens, S = {}\n", shape.model, shape.context, shape.budget);
  for (const Fact& fact : derived_facts(whole.point, whole.dram, shape)) {
    text += fmt::format("  {:<32}  {:>14}  {}\n", fact.name, fact.value, fact.how);
  }
  return text + prices_text(whole.prices) + checks_text(whole.prices);
}

Json explain_json(const Whole& whole, const std::map<std::string, DesignOrigin>& origins,
                  const FactShape& shape) {
  Json json = {{"name", whole.point.name}, {"hash", whole.point.hash}};
  for (const DesignField& field : design_fields()) {
    const DesignOrigin& origin = origins.at(field.path);
    json["values"].push_back({{"path", field.path},
                              {"value", field.get(whole.point)},
                              {"source", origin.comment},
                              {"line", origin.place.line}});
  }
  for (const Fact& fact : derived_facts(whole.point, whole.dram, shape)) {
    json["derived"].push_back({{"name", fact.name}, {"value", fact.value}, {"how", fact.how}});
  }
  for (std::size_t e = 0; e < kEvents; ++e) {
    const auto event = static_cast<Event>(e);
    if (!whole.prices.has(event)) continue;
    json["prices"].push_back({{"event", event_name(event)},
                              {"aJ", to_string(whole.prices.price(event).count())},
                              {"width", whole.prices.width(event)},
                              {"source", whole.prices.source(event)}});
  }
  for (const CrossCheck& check : cross_checks(whole.prices)) {
    json["synthesis"].push_back({{"unit", check.unit},
                                 {"table_pJ", check.table_pj},
                                 {"synthesis_pJ", check.synthesis_pj},
                                 {"glitch_pJ", check.glitch_pj},
                                 {"verdict", check.verdict},
                                 {"source", check.source}});
  }
  return json;
}

void run_explain(const ArchOptions& options) {
  const std::string& arch = options.archs.at(0);
  const Whole whole = read_whole(arch, options.overrides);
  const FactShape shape = fact_shape(options.model, options.context, options.budget);
  if (options.node.empty() != (options.volts == 0)) {
    throw usage_error({}, "one of --node and --volts", "both", "--node '14 HP' --volts 0.8");
  }
  const auto origins = read_design_origins(arch, options.overrides);
  if (options.json) {
    Json json = explain_json(whole, origins, shape);
    if (!options.node.empty()) {
      for (const ScaledPrice& price : scaled_prices(options.node, options.volts)) {
        json["scaled"].push_back({{"event", event_name(price.event)},
                                  {"width", price.width},
                                  {"node", options.node},
                                  {"volts", options.volts},
                                  {"from_45nm_pJ", price.from_45_pj},
                                  {"from_7nm_pJ", price.from_7_pj}});
      }
    }
    print_result(json.dump(2) + "\n");
    return;
  }
  print_result(explain_text(whole, origins, shape) +
               (options.node.empty() ? std::string() : scaled_text(options)));
}

}  // namespace

void add_arch_verb(CLI::App& app, VerbResult& result) {
  const auto options = std::make_shared<ArchOptions>();
  CLI::App* verb = app.add_subcommand("arch", "List, show, check and explain accelerators");
  verb->require_subcommand(1);
  const auto sub = [&](const char* name, const char* summary, void (*run)(const ArchOptions&)) {
    CLI::App* each = verb->add_subcommand(name, summary);
    each->add_flag("--json", options->json, "JSON on stdout");
    each->callback([options, run, &result] {
      run(*options);
      result.code = ExitCode::kOk;
    });
    return each;
  };
  const auto with_arch = [&](CLI::App* each, bool many) {
    auto* arch = each->add_option("ARCH", options->archs,
                                  "A name in models/arch or the path of a .yaml file");
    arch->required();
    if (!many) arch->expected(1);
    each->add_option("--set", options->overrides, "Change a value: path=value (repeatable)")
        ->allow_extra_args(false);
  };
  sub("list", "The shipped accelerators", run_list);
  with_arch(sub("show", "All values of one, as they are used", run_show), false);
  with_arch(sub("validate", "Reads all that the files name and checks that it fits", run_validate),
            true);
  CLI::App* explain =
      sub("explain", "Every value, derived number and price, with its source", run_explain);
  with_arch(explain, false);
  explain->add_option("--model", options->model, "A shape of models/llm/shapes.csv")
      ->capture_default_str();
  explain->add_option("--node", options->node,
                      "Also prices at a node without a table, scaled, with their band: '14 HP'");
  explain->add_option("--volts", options->volts, "The supply at that node");
  explain->add_option("--context", options->context, "Tokens")->capture_default_str();
  explain->add_option("--budget", options->budget, "Rows drawn, S")->capture_default_str();
}

}  // namespace stoat::sim
