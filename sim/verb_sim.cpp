// The verb: everything from outside becomes typed values, then one child a datapath simulates, then
// results are written.
#include "sim/verb_sim.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "models/energy/price_list.h"
#include "models/files.h"
#include "models/progress.h"
#include "sim/engine/simulate.h"
#include "sim/sweep/children.h"
#include "sim/sweep/results.h"
#include "sim/verb_sim_output.h"
#include "traces/reader.h"

namespace stoat::sim {
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

std::string ternary_command(const TraceHeader& header) {
  const std::string method = header.method == Method::kDense || header.method == Method::kTopK
                                 ? "prop"
                                 : std::string(method_name(header.method));
  const std::string budget = header.budgets.size() == 1 && header.method != Method::kDense
                                 ? std::to_string(header.budgets[0])
                                 : "128";
  const std::string tail =
      " --method " + method + " --budget " + budget + " --score ternary --ternary-draws 4 -o FILE";
  return header.origin == "synth" ? "stoat trace synth" + tail
                                  : "stoat capture --model DIR --prompt FILE" + tail;
}

// Why a datapath cannot run on this trace; empty when it can.
std::string obstacle(const Datapath& datapath, const TraceHeader& header) {
  const std::string name(datapath.name);
  if (datapath.gather == &kGatherAdd &&
      (header.method == Method::kDense || header.method == Method::kTopK)) {
    return name + " needs sampled rows and this trace was recorded with --method " +
           std::string(method_name(header.method)) + ": capture with --method prop --budget 128";
  }
  if (datapath.score == &kScoreTernary && header.score_kind != ScoreKind::kTernary) {
    return name +
           " needs a capture of its own, since ternary scores also change which rows are drawn: " +
           ternary_command(header);
  }
  if (datapath.select == &kSelectTopK && header.method != Method::kTopK) {
    return name + " needs a trace recorded with --method topk";
  }
  return {};
}

std::vector<const Datapath*> choose(const std::string& wanted, const TraceHeader& header,
                                    std::vector<std::string>& notes) {
  std::vector<const Datapath*> chosen;
  if (wanted != "all") {
    const Datapath& one = datapath_from_name(wanted);
    const std::string why = obstacle(one, header);
    if (!why.empty()) throw usage_error({}, why);
    return {&one};
  }
  for (const Datapath& each : datapaths()) {
    const std::string why = obstacle(each, header);
    if (why.empty()) {
      chosen.push_back(&each);
    } else if (each.select != &kSelectTopK) {  // the rival is not missed in every table
      notes.push_back(why);
    }
  }
  return chosen;
}

void add_notes(const TraceHeader& header, const DesignPoint& point, SimReport& report) {
  const bool ternary = header.score_kind == ScoreKind::kTernary;
  if (ternary && point.k_layout == KLayout::kTokenMajor) {
    report.notes.emplace_back(
        "K is token-major: a burst holds neighbouring features of one token, so untouched features "
        "save no burst; "
        "--set mapping.k_layout=feature_major reads only touched ones.");
  }
  if (ternary && header.ternary.coupling == TernaryCoupling::kGroupMean) {
    report.notes.emplace_back(
        "Ternary, group-mean: every touched feature is reweighted, one multiplication a key.");
  } else if (ternary) {
    const bool shifts = header.ternary.normaliser == TernaryNormaliser::kPow2 &&
                        (header.ternary.draws & (header.ternary.draws - 1)) == 0;
    report.notes.emplace_back(
        shifts ? "Ternary scores: only folding log2(e)/sqrt(d) into the query multiplies (head_dim "
                 "a head and layer)."
               : "Ternary scores: folding log2(e)/sqrt(d) into the query, and one multiplication a "
                 "key and head "
                 "remain; --ternary-normaliser pow2 and draws a power of two leave shifts.");
  }
  if (ternary)
    report.notes.emplace_back(
        "mac and gather_add use the rows of this trace, drawn with ternary scores.");
  const std::string element(element_name(point.element));
  if (header.kv_dtype != element) {
    report.notes.push_back("KV elements are simulated as " + element +
                           ", the trace was recorded with " + header.kv_dtype + ".");
  }
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
  run.layers = layers.end - layers.first;
  run.query_heads = header.n_q_heads;
  run.kv_heads = header.n_kv_heads;
  run.head_dim = header.head_dim;
  run.peak_bytes_per_second = dram.peak_bytes_per_second() * dram.pseudo_channels_total();
  // Weights of all layers stand beside K and V of all layers only.
  run.weight_bytes_per_token = run.layers == header.n_layers ? header.weight_bytes_per_token : 0;
  return run;
}

// What the address map must hold, and how much there is to do.
std::uint64_t survey(const TraceReader& reader, const Range& steps, const Range& layers,
                     SimulationInput& input) {
  std::uint64_t layer_step_count = 0;
  constexpr std::uint32_t kChunk = 64;
  for (std::uint32_t first = steps.first; first < steps.end; first += kChunk) {
    const TraceRecords records = reader.read_steps(first, std::min(kChunk, steps.end - first));
    std::uint64_t previous = ~std::uint64_t{0};
    for (std::size_t i = 0; i < records.size(); ++i) {
      if (records.layer[i] < layers.first || records.layer[i] >= layers.end) continue;
      input.context_max = std::max(input.context_max, records.context[i]);
      input.sequences = std::max(input.sequences, records.seq[i] + 1);
      const std::uint64_t key = std::uint64_t{records.step[i]} << 16 | records.layer[i];
      layer_step_count += key != previous ? 1 : 0;
      previous = key;
    }
  }
  return layer_step_count;
}

std::vector<DatapathResult> simulate_all(const SimulationInput& base,
                                         const std::vector<const Datapath*>& chosen,
                                         std::uint64_t layer_step_count, bool quiet) {
  std::vector<ChildTask> tasks;
  for (const Datapath* datapath : chosen) {
    tasks.push_back({"datapath " + std::string(datapath->name), [&base, datapath](auto& progress) {
                       SimulationInput input = base;
                       input.datapath = datapath;
                       input.progress = &progress;
                       return to_json(simulate(input)).dump();
                     }});
  }
  const unsigned at_once = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::string> answers;
  {
    Progress progress("simulate", "layer steps", layer_step_count * chosen.size(), quiet);
    answers = run_children(tasks, at_once, [&](std::uint64_t done) { progress.at(done); });
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

}  // namespace

ExitCode run_sim(const SimOptions& options) {
  ensure_output_folder(options.out);
  SimulationInput input;
  input.point = read_design_point(options.arch, options.overrides);
  input.dram = read_dram_standard(input.point.dram);
  const PriceList prices = PriceList::read(input.point.prices);
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
  const std::uint64_t layer_step_count = survey(reader, steps, layers, input);
  if (layer_step_count == 0) {
    throw usage_error(Place{options.trace}, "no decode steps to simulate",
                      "a trace with at least one step");
  }
  add_notes(input.header, input.point, report);
  report.run = describe(input.header, input.point, input.dram, layers);
  make_folders(options.out);  // before the work: a folder that cannot be made costs no hours
  report.results = simulate_all(input, chosen, layer_step_count, options.quiet);

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
    print_answer(summary_json(report, tables), options.out);
  } else if (!options.quiet) {
    print_answer(fmt::format("{}  Results: {}/summary.csv energy.csv traffic.csv steps.csv "
                             "manifest.json\n",
                             terminal_table(report, prices), options.out),
                 options.out);
  }
  return ExitCode::kOk;
}

void add_sim_verb(CLI::App& app, VerbResult& result) {
  auto options = std::make_shared<SimOptions>();
  CLI::App* verb =
      app.add_subcommand("sim", "Replay a trace on an accelerator: time, energy, traffic");
  verb->add_option("ARCH", options->arch,
                   "Accelerator: a name in models/arch (hbm3) or a .yaml file")
      ->required();
  verb->add_option("TRACE", options->trace, "Trace file of stoat capture or stoat trace synth")
      ->required();
  verb->add_option("-d,--datapath", options->datapath, "mac, gather_add, ternary, topk or all")
      ->capture_default_str();
  verb->add_option("--set", options->overrides,
                   "Change the accelerator: engine.lanes.dense=128 (repeatable)")
      ->allow_extra_args(false);
  verb->add_option("--steps", options->steps, "Only decode steps A:B (B not included)");
  verb->add_option("--layers", options->layers, "Only layers A:B (B not included)");
  verb->add_option("-o,--out", options->out,
                   "Folder for summary.csv, energy.csv, traffic.csv, steps.csv, manifest.json")
      ->required();
  verb->add_flag("--json", options->json, "Print the summary as JSON instead of the table");
  verb->add_flag("-q,--quiet", options->quiet, "Print nothing but errors");
  verb->callback([options, &result] {
    options->command_line = result.command_line;
    result.code = run_sim(*options);
  });
}

}  // namespace stoat::sim
