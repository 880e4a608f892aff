// The verb: everything from outside becomes typed values, then one child a datapath simulates, then
// results are written.
#include "sim/verb_sim.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>

#include "models/energy/price_list.h"
#include "models/files.h"
#include "models/progress.h"
#include "models/streams.h"
#include "sim/engine/placement.h"
#include "sim/engine/simulate.h"
#include "sim/run_limits.h"
#include "sim/sweep/children.h"
#include "sim/sweep/results.h"
#include "sim/verb_sim_choice.h"
#include "sim/verb_sim_compare.h"
#include "sim/verb_sim_dram.h"
#include "sim/verb_sim_output.h"
#include "traces/reader.h"

namespace stoat::sim {
#ifdef STOAT_EXTERNAL_MEMORY
std::unique_ptr<MemoryModel> make_external_memory(const std::string&, const DramStandard&,
                                                  std::uint32_t, const DesignPoint&);
#endif
namespace {

struct Range {
  std::uint32_t first = 0, end = 0;
};

// "A:B" = [A, B); either side may be left out. `count` bounds it.
Range parse_range(const std::string& text, std::uint32_t count, const char* option) {
  Range range{0, count};
  if (text.empty()) return range;
  const auto fail = [&] {
    return usage_error({}, std::string(option) + " is '" + text + "'",
                       "A:B with A < B, from 0 to " + std::to_string(count));
  };
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) throw fail();
  const auto number = [&](std::string_view part, std::uint32_t& value) {
    if (part.empty()) return;
    const auto [end, status] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (status != std::errc{} || end != part.data() + part.size()) throw fail();
  };
  number(std::string_view(text).substr(0, colon), range.first);
  number(std::string_view(text).substr(colon + 1), range.end);
  if (range.first >= range.end || range.end > count) throw fail();
  return range;
}

std::string budget_text(const TraceHeader& header) {
  std::string text;
  for (const std::uint32_t budget : header.budgets) {
    text += (text.empty() ? "" : ";") + std::to_string(budget);
  }
  return text;
}

RunDescription describe(const TraceHeader& header, const DesignPoint& point,
                        const DramStandard& dram, const Range& layers) {
  RunDescription run;
  run.arch = point.name;
  run.dram = dram.name;
  run.model = header.model_name;
  run.method = method_name(header.method);
  run.budget = header.method == Method::kDense ? "" : budget_text(header);
  run.score_kind = header.score_kind == ScoreKind::kTernary ? "ternary" : "exact";
  if (header.score_kind == ScoreKind::kTernary) {
    run.ternary_draws = std::to_string(header.ternary.draws);
    run.ternary_coupling = coupling_name(header.ternary.coupling);
    run.ternary_normaliser = normaliser_name(header.ternary.normaliser);
  }
  run.kv_element = element_name(point.element);
  run.k_layout = layout_name(point.k_layout);
  run.repeats = repeats_name(point.repeats);
  run.tile_dealing = dealing_name(point.dealing);
  run.placement = placement_name(point.placement);
  run.stacks = std::to_string(point.stacks);
  run.dense_accumulator = accumulator_name(point.dense_accumulator);
  run.gather_add_accumulator = accumulator_name(point.gather_add_accumulator);
  run.ternary_accumulator = accumulator_name(point.ternary_accumulator);
  run.topk_unit = topk_name(point.topk);
  run.ternary_draw_merging = ternary_draws_name(point.ternary_draws);
  run.layers = layers.end - layers.first;
  run.query_heads = header.n_q_heads;
  run.kv_heads = header.n_kv_heads;
  run.head_dim = header.head_dim;
  run.peak_bytes_per_second =
      placed_standard(dram, point.placement).peak_bytes_per_second() * pseudo_channels(dram, point);
  // Weights of all layers stand beside K and V of all layers only.
  run.weight_bytes_per_token = run.layers == header.n_layers ? header.weight_bytes_per_token : 0;
  return run;
}

// What the address map must hold, and how much there is to do.
struct Survey {
  std::uint64_t layer_steps = 0;
  std::uint64_t slice_bytes = 0;  // of the largest slice that is held at once
};
Survey survey(const TraceReader& reader, const Range& steps, const Range& layers,
              SimulationInput& input) {
  Survey found;
  constexpr std::uint32_t kChunk = 16;  // as many steps as the simulation reads at once
  for (std::uint32_t first = steps.first; first < steps.end; first += kChunk) {
    const TraceRecords records = reader.read_steps(first, std::min(kChunk, steps.end - first));
    found.slice_bytes = std::max(found.slice_bytes, bytes_of(records));
    std::uint64_t previous = ~std::uint64_t{0};
    for (std::size_t i = 0; i < records.size(); ++i) {
      if (records.layer[i] < layers.first || records.layer[i] >= layers.end) continue;
      input.context_max = std::max(input.context_max, records.context[i]);
      input.sequences = std::max(input.sequences, records.seq[i] + 1);
      const std::uint64_t key = std::uint64_t{records.step[i]} << 16 | records.layer[i];
      found.layer_steps += key != previous ? 1 : 0;
      previous = key;
    }
  }
  return found;
}

unsigned processes_at_once() { return std::max(1U, std::thread::hardware_concurrency()); }

// Where the timeline of the one datapath goes; empty: nowhere.
struct TimelineFile {
  std::string path;
  std::uint64_t limit = 0;
};

std::vector<DatapathResult> simulate_all(const SimulationInput& base,
                                         const std::vector<const Datapath*>& chosen,
                                         std::uint64_t layer_step_count, bool quiet,
                                         const TimelineFile& file, const RunLimits& limits) {
  std::vector<ChildTask> tasks;
  for (const Datapath* datapath : chosen) {
    tasks.push_back(
        {"datapath " + std::string(datapath->name), [&base, &file, datapath](auto& progress) {
           SimulationInput input = base;
           input.datapath = datapath;
           input.progress = &progress;
           Timeline timeline(file.limit);
           if (!file.path.empty()) input.timeline = &timeline;
           std::string answer = to_json(simulate(input)).dump();
           if (!file.path.empty()) {
             const EngineShape shape = engine_shape(input.point, input.dram, input.header);
             write_file_whole(file.path, timeline.json(shape.stride));
           }
           return answer;
         }});
  }
  const std::uint64_t total = layer_step_count * chosen.size();
  limits.check_time(0, total);
  std::vector<std::string> answers;
  {
    Progress progress("simulate", "layer steps", total, quiet);
    answers = run_children(tasks, processes_at_once(), [&](std::uint64_t done) {
      progress.at(done);
      if (done < total) limits.check_time(done, total);
    });
  }
  std::vector<DatapathResult> results;
  for (const std::string& answer : answers)
    results.push_back(result_from_json(nlohmann::json::parse(answer)));
  return results;
}

void write_results(const std::string& folder, const ResultTables& tables,
                   const std::string& manifest) {
  std::remove((folder + "/manifest.json").c_str());  // of an earlier run
  write_file_whole(folder + "/summary.csv", tables.summary);
  write_file_whole(folder + "/energy.csv", tables.energy);
  write_file_whole(folder + "/traffic.csv", tables.traffic);
  write_file_whole(folder + "/steps.csv", tables.steps);
  write_file_whole(folder + "/manifest.json",
                   manifest);  // last: a manifest means the rest is there
}

constexpr std::string_view kTimelineMark = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[";

// A timeline of ours may be replaced; anything else of that name is somebody's (the trace!).
void ensure_timeline_replaceable(const std::string& path) {
  ensure_output_file(path, true, "--timeline");
  std::ifstream file(path, std::ios::binary);
  if (!file) return;
  std::string start(kTimelineMark.size(), '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  if (start != kTimelineMark) {
    throw usage_error({path}, "this file exists and is no timeline of stoat", "a new name",
                      "choose another with --timeline FILE");
  }
}

}  // namespace

// One datapath's units, queues and banks: two at once would be two pictures.
TimelineFile timeline_of(const SimOptions& options, const std::vector<const Datapath*>& chosen) {
  if (!options.timeline.empty() && chosen.size() != 1) {
    throw usage_error({"--timeline"}, std::to_string(chosen.size()) + " datapaths",
                      "the timeline of one", "add -d " + std::string(chosen.front()->name));
  }
  return {options.timeline, options.timeline_limit};
}

ExitCode run_sim(const SimOptions& options) {
  if (!options.compare.empty()) {
    print_result(compare_results(options.compare.at(0), options.compare.at(1), options.json));
    return ExitCode::kOk;
  }
  const RunLimits limits(options.limits);
  ensure_output_folder(options.out);
  SimulationInput input;
  input.point = read_design_point(options.arch, options.overrides);
  input.dram = read_dram_standard(input.point.dram);
#ifdef STOAT_EXTERNAL_MEMORY
  if (options.external_memory) input.memory = make_external_memory;
#endif
  const PriceList prices = PriceList::read(input.point.prices);
  check_prices(input.point, prices);
  const DramPricing dram_prices(options.dram_prices, options.boundary, input.point, input.dram);
  const TraceReader reader(options.trace);
  input.header = reader.header();
  engine_shape(input.point, input.dram, input.header);
  const Range steps = parse_range(options.steps, reader.steps(), "--steps");
  const Range layers = parse_range(options.layers, input.header.n_layers, "--layers");
  input.first_step = steps.first;
  input.end_step = steps.end;
  input.first_layer = layers.first;
  input.end_layer = layers.end;
  input.read_steps = [&reader](std::uint32_t first, std::uint32_t count) {
    return reader.read_steps(first, count);
  };

  SimReport report;
  const std::vector<const Datapath*> chosen = choose(options.datapath, input.header, report.notes);
  const TimelineFile timeline = timeline_of(options, chosen);
  const Survey found = survey(reader, steps, layers, input);
  limits.check_memory(found.slice_bytes,
                      std::min<std::uint64_t>(chosen.size(), processes_at_once()));
  if (found.layer_steps == 0) {
    throw usage_error(Place{options.trace}, "no decode steps to simulate",
                      "a trace with at least one step");
  }
  add_notes(input.header, input.point, report);
  if (input.memory != nullptr) {
    report.notes.emplace_back(
        "External memory model: its own rows and refreshes are not counted here, so DRAM energy "
        "holds "
        "bits only.");
  }
  report.run = describe(input.header, input.point, input.dram, layers);
  make_folders(options.out);  // before the work: a folder that cannot be made costs no hours
  if (!timeline.path.empty()) ensure_timeline_replaceable(timeline.path);
  report.results = simulate_all(input, chosen, found.layer_steps, options.quiet, timeline, limits);

  const ResultTables tables = make_tables(report.run, report.results, prices);
  const ManifestInput manifest{options.command_line,
                               options.trace,
                               reader.content_hash(),
                               input.header,
                               input.point,
                               input.dram,
                               prices,
                               tables,
                               steps.first,
                               steps.end,
                               layers.first,
                               layers.end};
  write_results(options.out, tables, manifest_json(manifest, report));
  if (options.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::parse(summary_json(report, tables));
    if (dram_prices.wanted()) json["dram"] = dram_prices.json(report.results);
    print_answer(json.dump(2) + "\n", options.out);
  } else if (!options.quiet) {
    print_answer(
        fmt::format("{}{}  Results: {}/summary.csv energy.csv traffic.csv steps.csv "
                    "manifest.json\n",
                    terminal_table(report, prices), dram_prices.text(report.results), options.out),
        options.out);
  }
  return ExitCode::kOk;
}

void add_sim_verb(CLI::App& app, VerbResult& result) {
  auto options = std::make_shared<SimOptions>();
  CLI::App* verb =
      app.add_subcommand("sim", "Replay a trace on an accelerator: time, energy, traffic");
  verb->add_option("ARCH", options->arch,
                   "Accelerator: a name in models/arch (hbm3) or a .yaml file");
  verb->add_option("TRACE", options->trace, "Trace file of stoat capture or stoat trace synth");
  verb->add_option("-d,--datapath", options->datapath, "mac, gather_add, ternary, topk or all")
      ->capture_default_str();
  verb->add_option("--set", options->overrides,
                   "Change the accelerator: engine.lanes.dense=128 (repeatable)")
      ->allow_extra_args(false);
  verb->add_option("--steps", options->steps, "Only decode steps A:B (B not included)");
  verb->add_option("--layers", options->layers, "Only layers A:B (B not included)");
  verb->add_option("-o,--out", options->out,
                   "Folder for summary.csv, energy.csv, traffic.csv, steps.csv, manifest.json");
  verb->add_option(
      "--timeline", options->timeline,
      "Write what one datapath did when as trace-event JSON (ui.perfetto.dev opens it)");
  verb->add_option("--timeline-limit", options->timeline_limit, "Events a timeline may hold")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{100000000}))
      ->capture_default_str();
  verb->add_option("--limit", options->limits,
                   "Refuse a run that needs more memory or time: '4 GiB', '60 s' (repeatable)")
      ->allow_extra_args(false);
  verb->add_option("--dram-prices", options->dram_prices,
                   "Also price the memory's commands and states: a set of models/dram/energy");
  verb->add_option("--boundary", options->boundary, "Of --dram-prices: die, io, system")
      ->capture_default_str();
#ifdef STOAT_EXTERNAL_MEMORY
  verb->add_flag("--external-memory", options->external_memory,
                 "Bind the memory model of -DSTOAT_EXTERNAL_MEMORY instead of the own channels");
#endif
  verb->add_option("--compare", options->compare, "Compare two result folders instead: A B")
      ->expected(2);
  verb->add_flag("--json", options->json, "Print the summary as JSON instead of the table");
  verb->add_flag("-q,--quiet", options->quiet, "Print nothing but errors");
  verb->callback([options, verb, &result] {
    for (const char* name : {"ARCH", "TRACE", "--out"}) {
      if (options->compare.empty() && verb->get_option(name)->count() == 0) {
        throw CLI::RequiredError(name);
      }
    }
    options->command_line = result.command_line;
    result.code = run_sim(*options);
  });
}

}  // namespace stoat::sim
