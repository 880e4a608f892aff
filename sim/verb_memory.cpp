// Bandwidth, row hits, commands and energy of whole patterns: one line a pattern. All requests are
// wanted at time 0, every channel is simulated.
#include "sim/verb_memory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/dram/energy.h"
#include "models/streams.h"
#include "sim/memory/activity.h"
#include "sim/memory/address_map.h"
#include "sim/memory/controller.h"
#include "sim/memory/patterns.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;

struct MemoryOptions {
  std::string standard, pattern = "all", map = "chunk", page = "open", refresh = "all-bank";
  std::string prices, boundary = "die";
  std::string address_order;
  std::uint32_t channels = 0;
  ControllerOptions controller;
  bool split_queue = false, json = false;
};

// The index of a word among those allowed.
std::size_t choice(const std::string& option, const std::string& word,
                   const std::vector<std::string>& words) {
  const auto at = std::find(words.begin(), words.end(), word);
  if (at == words.end()) {
    throw usage_error({}, option + " '" + word + "'", fmt::format("{}", fmt::join(words, ", ")),
                      nearest_name_hint(word, words));
  }
  return static_cast<std::size_t>(at - words.begin());
}

ControllerOptions controller_of(const MemoryOptions& options) {
  ControllerOptions controller = options.controller;
  controller.shared_queue = !options.split_queue;
  controller.page_policy =
      static_cast<PagePolicy>(choice("--page", options.page, {"open", "closed", "timeout"}));
  controller.refresh = static_cast<RefreshMode>(
      choice("--refresh", options.refresh, {"off", "all-bank", "per-bank"}));
  return controller;
}

struct Run {
  Picoseconds time{0};
  ChannelCounts counts;
};

Run run_pattern(const Pattern& pattern, const DramStandard& standard,
                const ControllerOptions& options, ReferenceMap map) {
  Run run;
  std::vector<DramController> channels;
  const std::uint64_t capacity = AddressMap(standard).capacity().count();
  for (const std::vector<MemoryRequest>& requests : requests_of(pattern, standard, map)) {
    for (const MemoryRequest& request : requests) {
      if (request.address + request.size.count() <= capacity) continue;
      throw usage_error(Place{standard.source}, fmt::format("{} bytes a pseudo-channel", capacity),
                        fmt::format("room for the pattern {}", pattern.name),
                        "correct rows_per_bank, or take more channels (--channels)");
    }
    channels.emplace_back(standard, options);
    for (const MemoryRequest& request : requests) channels.back().submit(request);
    channels.back().drain();
    run.time = std::max(run.time, channels.back().last_data());
  }
  for (DramController& channel : channels) {
    channel.finish(run.time);
    run.counts += channel.counts();
  }
  return run;
}

double percent_of_peak(const Run& run, const DramStandard& standard) {
  return 100 * static_cast<double>(run.counts.bytes_moved.count()) /
         (static_cast<double>(run.time.count()) * 1e-12) /
         static_cast<double>(standard.stack_peak_bytes_per_second());
}

Json json_of(const Pattern& pattern, const Run& run, const DramStandard& standard) {
  const ChannelCounts& c = run.counts;
  return {{"pattern", pattern.name},
          {"time_ps", run.time.count()},
          {"bytes", c.bytes_moved.count()},
          {"percent_of_peak", percent_of_peak(run, standard)},
          {"row_hits", c.row_hits},
          {"row_misses", c.row_misses},
          {"activates", c.activates},
          {"precharges", c.precharges},
          {"refreshes", c.refreshes},
          {"bank_refreshes", c.bank_refreshes},
          {"power_downs", c.power_downs},
          {"active_standby_ps", c.active_standby.count()},
          {"precharge_standby_ps", c.precharge_standby.count()},
          {"active_down_ps", c.active_down.count()},
          {"precharge_down_ps", c.precharge_down.count()}};
}

void run_memory(const MemoryOptions& options) {
  DramStandard standard = read_dram_standard(options.standard);
  if (options.channels > 0) standard.channels = options.channels;
  const auto map = static_cast<ReferenceMap>(choice("--map", options.map, {"fine", "chunk"}));
  standard.address_order =
      options.address_order.empty() ? address_order(map) : options.address_order;
  const ControllerOptions controller = controller_of(options);
  const auto boundary =
      static_cast<EnergyBoundary>(choice("--boundary", options.boundary, {"die", "io", "system"}));
  std::vector<Pattern> patterns = all_patterns();
  if (options.pattern != "all") {
    std::vector<std::string> names = {"all"};
    for (const Pattern& pattern : patterns) names.push_back(pattern.name);
    patterns = {patterns.at(choice("--pattern", options.pattern, names) - 1)};
  }
  Json json = {{"standard", standard.name},
               {"channels", standard.channels},
               {"map", options.map},
               {"address_order", standard.address_order},
               {"patterns", Json::array()}};
  std::string text =
      fmt::format("{} {} channels, map {}, {} entries\n{:<12} {:>9} {:>9} {:>11} {:>10}",
                  standard.name, standard.channels, options.map, controller.queue_bursts, "pattern",
                  "% of peak", "row hits", "activations", "time us");
  text += options.prices.empty()
              ? "\n"
              : fmt::format("  pJ/bit ({}, {})\n", options.prices, energy_boundary_words(boundary));
  for (const Pattern& pattern : patterns) {
    const Run run = run_pattern(pattern, standard, controller, map);
    const ChannelCounts& c = run.counts;
    Json line = json_of(pattern, run, standard);
    text += fmt::format("{:<12} {:>9.1f} {:>9.3f} {:>11} {:>10.2f}", pattern.name,
                        percent_of_peak(run, standard),
                        static_cast<double>(c.row_hits) / static_cast<double>(c.read_bursts),
                        c.activates, static_cast<double>(run.time.count()) * 1e-6);
    if (!options.prices.empty()) {
      const DramEnergy energy =
          price_dram(activity_of(c, standard), DramPrices::read(options.prices), boundary);
      const double bits = 8 * static_cast<double>(c.bytes_moved.count());
      text += fmt::format("  {:.3f}", static_cast<double>(energy.total().count()) * 1e-6 / bits);
      line["energy_aJ"] = to_string(energy.total().count());
      line["boundary"] = std::string(energy_boundary_words(boundary));
      for (std::size_t i = 0; i < kDramEvents; ++i) {
        const auto event = static_cast<DramEvent>(i);
        line["energy_parts_aJ"][std::string(dram_event_name(event))] =
            to_string(energy.of(event).count());
      }
    }
    text += "\n";
    json["patterns"].push_back(std::move(line));
  }
  print_result(options.json ? json.dump(2) + "\n" : text);
}

}  // namespace

void add_memory_verb(CLI::App& app, VerbResult& result) {
  const auto o = std::make_shared<MemoryOptions>();
  CLI::App* verb =
      app.add_subcommand("memory", "Bandwidth and energy of a DRAM standard on reference patterns");
  verb->add_option("STANDARD", o->standard, "A name in models/dram or the path of a .csv file")
      ->required();
  verb->add_option("--pattern", o->pattern,
                   "all, a_stream, b_gather256, c_gather64, d_stride256, e_mixed")
      ->capture_default_str();
  verb->add_option("--map", o->map, "chunk (256 bytes side by side) or fine (bursts)")
      ->capture_default_str();
  verb->add_option("--address-order", o->address_order,
                   "Fields of a pseudo-channel, least significant first");
  verb->add_option("--channels", o->channels, "Instead of the standard's")
      ->check(CLI::Range(1, 4096));
  verb->add_option("--queue", o->controller.queue_bursts, "Entries")->capture_default_str();
  verb->add_flag("--split-queue", o->split_queue, "A queue a pseudo-channel instead of a channel");
  verb->add_option("--row-hit-cap", o->controller.row_hit_cap, "0: none")->capture_default_str();
  verb->add_option("--page", o->page, "open, closed, timeout")->capture_default_str();
  verb->add_option("--page-timeout", o->controller.page_timeout, "Command cycles");
  verb->add_option("--refresh", o->refresh, "all-bank, per-bank, off")->capture_default_str();
  verb->add_flag("--stagger", o->controller.stagger_refresh, "Pseudo-channels refresh in turn");
  verb->add_option("--power-down", o->controller.power_down_after,
                   "Idle command cycles before power-down; 0: never");
  verb->add_option("--prices", o->prices, "A set in models/dram/energy or a path");
  verb->add_option("--boundary", o->boundary, "die, io, system")->capture_default_str();
  verb->add_flag("--json", o->json, "JSON on stdout");
  verb->callback([o, &result] {
    run_memory(*o);
    result.code = ExitCode::kOk;
  });
}

}  // namespace stoat::sim
