// The demo's steps: three captures by stoat-capture, three simulations, the report, the last words.
#include "sim/verb_demo.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <vector>

#include "models/data_path.h"
#include "models/files.h"
#include "models/hash.h"
#include "models/streams.h"
#include "models/units.h"
#include "models/version.h"
#include "sim/sweep/demo_steps.h"
#include "sim/sweep/html.h"
#include "sim/sweep/report.h"
#include "sim/sweep/report_style.h"
#include "sim/verb_sim.h"
#include "traces/reader.h"

namespace stoat::sim {
namespace {

namespace fs = std::filesystem;

constexpr const char* kArch = "hbm3";

struct Run {
  const char* name;   // of the trace and the result directory
  const char* words;  // how the progress names it
  const char* datapath;
  std::vector<std::string> method;
};

const std::vector<Run>& runs() {
  static const std::vector<std::string> budget = {
      "--budget", "128", "--stats", "full", "--probe-budgets", "4,16,64,256,1024"};
  static const std::vector<Run> all = [] {
    std::vector<Run> list = {
        {"dense", "decode, all rows", "mac", {"--method", "dense"}},
        {"prop", "decode, 128 sampled value rows", "gather_add", {"--method", "prop"}},
        {"ternary", "decode, ternary scores as well", "ternary", {"--method", "prop"}}};
    for (std::size_t i = 1; i < list.size(); ++i)
      list[i].method.insert(list[i].method.end(), budget.begin(), budget.end());
    // A power of two as normaliser and as number of draws leaves shifts only: no multiplier.
    for (const char* word : {"--score", "ternary", "--ternary-draws", "8", "--ternary-coupling",
                             "coupled", "--ternary-normaliser", "pow2"}) {
      list[2].method.emplace_back(word);
    }
    return list;
  }();
  return all;
}

struct Inputs {
  std::string model, prompt, questions, program;
  std::string key;  // hash over all of them: the same key, the same traces
};

std::string part_of_model(const std::string& model, const char* name) {
  const std::string path = model + "/" + name;
  std::error_code failure;
  if (!fs::is_regular_file(path, failure)) {
    throw usage_error({path}, "this part of the shipped model is missing",
                      "the trained model in models/llm/needle",
                      "take the whole source tree, or point STOAT_DATA to one");
  }
  return path;
}

Inputs find_inputs() {
  Inputs inputs;
  inputs.model = data_path("llm/needle");
  const std::string weights = part_of_model(inputs.model, "model.safetensors");
  const std::string config = part_of_model(inputs.model, "config.json");
  inputs.prompt = part_of_model(inputs.model, "demo/prompt.txt");
  inputs.questions = part_of_model(inputs.model, "demo/questions.jsonl");
  inputs.program = program_folder() + "/stoat-capture";
  if (::access(inputs.program.c_str(), X_OK) != 0) {
    throw usage_error({inputs.program}, "no such program", "stoat-capture beside stoat",
                      "build it: cmake --build BUILD --target stoat-capture");
  }
  for (const std::string& path :
       {weights, config, inputs.prompt, inputs.questions, inputs.program}) {
    inputs.key += hash_file(path);
  }
  return inputs;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string trace_path(const DemoOptions& options, const Run& run) {
  return options.folder + "/" + run.name + ".h5";
}

// True when the trace of an earlier demo is whole and was made from the same things.
bool reusable(const DemoOptions& options, const Run& run, const DemoState& state,
              const std::string& key) {
  const std::string path = trace_path(options, run);
  std::error_code failure;
  if (!fs::exists(path, failure) || !fs::exists(path + ".run.json", failure)) return false;
  try {
    const TraceReader reader(path);
    return state.has(run.name, hash_text(key + reader.content_hash()));
  } catch (const Error&) {
    return false;
  }
}

void capture(const DemoOptions& options, const Inputs& inputs, const Run& run, DemoState& state,
             DemoProgress& progress) {
  std::vector<std::string> arguments = {
      inputs.program,   "--model",     inputs.model,
      "--prompt",       inputs.prompt, "--questions",
      inputs.questions, "--seed",      std::to_string(options.seed)};
  arguments.insert(arguments.end(), run.method.begin(), run.method.end());
  const std::string key = hash_text(inputs.key + std::to_string(options.seed) + join(run.method));
  const std::string out = trace_path(options, run);
  progress.begin(run.words);
  if (reusable(options, run, state, key)) {
    progress.end("(from an earlier demo)");
    return;
  }
  // What an interrupted demo left behind is ours to remove.
  for (const char* suffix : {"", ".spool", ".run.json"}) {
    std::error_code ignored;
    fs::remove(out + suffix, ignored);
  }
  for (const std::string& word :
       {std::string("--threads"), std::to_string(options.threads), std::string("-o"), out}) {
    arguments.push_back(word);
  }
  run_logged(arguments, options.folder + "/log/capture-" + run.name + ".log", progress);
  state.set(run.name, hash_text(key + TraceReader(out).content_hash()));
  progress.end();
}

std::string result_folder(const DemoOptions& options, const Run& run) {
  return options.folder + "/results/" + run.name;
}

void simulate(const DemoOptions& options, const Run& run, DemoProgress& progress) {
  progress.begin(fmt::format("simulate the datapath {}", run.datapath));
  SimOptions sim;
  sim.arch = kArch;
  sim.trace = trace_path(options, run);
  sim.out = result_folder(options, run);
  sim.datapath = run.datapath;
  sim.quiet = true;
  sim.command_line = {"stoat",      "sim",        kArch, std::string(run.name) + ".h5",
                      "--datapath", run.datapath, "-o",  std::string("results/") + run.name};
  run_sim(sim);
  progress.end();
}

ReportData write_report(const DemoOptions& options, const std::string& plotly,
                        DemoProgress& progress) {
  progress.begin("write the report");
  std::vector<std::string> folders, traces;
  for (const Run& run : runs()) {
    folders.push_back(result_folder(options, run));
    traces.push_back(trace_path(options, run));
  }
  ReportData data = read_report_data(folders, traces);
  write_file_whole(options.folder + "/report.html", report_html(data, plotly));
  progress.end();
  return data;
}

// A long context takes a CPU minutes to prefill: its traces were recorded on a GPU and are shipped.
struct LongRun {
  const char* name;
  const char* trace;
  const char* datapath;
};
constexpr LongRun kLongRuns[] = {{"dense", "needle_dense_scores_32k.h5", "mac"},
                                 {"prop", "needle_prop128_32k.h5", "gather_add"}};

bool has_gpu() { return ::access("/dev/nvidiactl", F_OK) == 0; }

// "mac 1.2 mJ, gather_add 0.6 mJ (0.5x)" of the shipped traces.
std::string simulate_long_context(const DemoOptions& options, DemoProgress& progress) {
  progress.begin("no GPU here: simulate shipped traces of an H200, 32k tokens");
  std::string cost;
  std::vector<std::string> folders, traces;
  for (const LongRun& run : kLongRuns) {
    SimOptions sim;
    sim.arch = kArch;
    sim.trace = data_path(std::string("../traces/shipped/") + run.trace);
    sim.out = options.folder + "/shipped/" + run.name;
    sim.datapath = run.datapath;
    sim.steps = "0:2";
    sim.quiet = true;
    sim.command_line = {
        "stoat",      "sim",     kArch, run.trace, "--datapath",
        run.datapath, "--steps", "0:2", "-o",      std::string("shipped/") + run.name};
    run_sim(sim);
    folders.push_back(sim.out);
    traces.push_back(sim.trace);
  }
  const ReportData data = read_report_data(folders, traces);
  for (const ReportDatapath& d : data.datapaths) {
    const Scale energy = energy_scale(d.energy_per_step);
    cost += fmt::format("{}{} {} {}", cost.empty() ? "" : ", ", d.label,
                        significant(d.energy_per_step * energy.factor, 3), energy.unit);
    const double ratio = energy_ratio(data, d);
    if (d.datapath != "mac" && ratio > 0) cost += fmt::format(" ({}x)", significant(ratio, 2));
  }
  progress.end();
  return fmt::format(
      "at 32k    a token: {}; this machine has no GPU, so from traces recorded on an H200 that are "
      "shipped\n",
      cost);
}

// The last lines: what was answered, what it cost, where the report lies.
std::string last_words(const ReportData& data, const std::string& long_context,
                       const std::string& report) {
  std::string answered, cost;
  for (const ReportDatapath& d : data.datapaths) {
    const Scale energy = energy_scale(d.energy_per_step), time = time_scale(d.time_per_step);
    const TraceView* view = data.trace_of(d);
    const std::string right = questions_right(data, d);
    if (!right.empty()) {
      answered += fmt::format("{}{} {}", answered.empty() ? "" : ", ",
                              view->score_kind == "ternary" ? "ternary" : view->method, right);
    }
    cost += fmt::format("{}{} {} {} and {} {}", cost.empty() ? "" : ", ", d.label,
                        significant(d.energy_per_step * energy.factor, 3), energy.unit,
                        significant(d.time_per_step * time.factor, 3), time.unit);
    const double ratio = energy_ratio(data, d);
    if (d.datapath != "mac" && ratio > 0) cost += fmt::format(" ({}x)", significant(ratio, 2));
  }
  return fmt::format("\nanswered  {} questions right\ncost      a token: {}\n{}report    {}\n",
                     answered.empty() ? "no" : answered, cost, long_context, report);
}

// CLI11 reads numbers with strtoull: "-1" would become 2^64 - 1.
std::string whole_number(const std::string& text) {
  try {
    return std::to_string(parse_count(text, ""));
  } catch (const Error& error) {
    throw CLI::ValidationError(error.what());
  }
}

}  // namespace

ExitCode run_demo(const DemoOptions& options) {
  const Inputs inputs = find_inputs();
  const std::string plotly = plotly_source();
  ensure_output_folder(options.folder);
  claim_demo_folder(options.folder);
  DemoState state(options.folder);
  const bool shipped = !has_gpu();
  DemoProgress progress(static_cast<int>(2 * runs().size()) + (shipped ? 2 : 1));
  for (const Run& run : runs()) capture(options, inputs, run, state, progress);
  for (const Run& run : runs()) simulate(options, run, progress);
  const std::string long_context = shipped ? simulate_long_context(options, progress) : "";
  const ReportData data = write_report(options, plotly, progress);
  const std::string report = options.folder + "/report.html";
  if (options.json) {
    print_answer(answer_table_json(data, report), options.folder);
  } else {
    print_answer("\n" + answer_table_text(data) + last_words(data, long_context, report),
                 options.folder);
  }
  say(fmt::format("{:.0f} s in all\n", progress.seconds()));
  return ExitCode::kOk;
}

void add_demo_verb(CLI::App& app, VerbResult& result) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* verb =
      app.add_subcommand("demo", "From a prompt to a report with the shipped model, without a GPU");
  verb->add_option("-o,--out", options->folder, "Folder for traces, results and report.html")
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Seed of all draws")
      ->capture_default_str()
      ->transform(whole_number);
  verb->add_option("--threads", options->threads, "0: all cores; results do not depend on it")
      ->capture_default_str()
      ->transform(whole_number);
  verb->add_flag("--json", options->json, "Print the answer as JSON instead of the table");
  verb->callback([options, &result] { result.code = run_demo(*options); });
}

}  // namespace stoat::sim
