// `stoat-capture accuracy`: a plan in, one JSON file of marks and numbers out.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "gpu/accuracy.h"
#include "gpu/accuracy_variance.h"
#include "models/command_line.h"
#include "models/error.h"
#include "models/files.h"
#include "models/streams.h"
#include "models/version.h"
#include "traces/output_file.h"

namespace stoat {
namespace {

using nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct AccuracyWords {
  std::string plan, json, backend = "auto";
  unsigned threads = 0;
  bool force = false, quiet = false;
};

double milli(double value) { return std::round(value * 1e3) / 1e3; }

ordered_json rounded_list(const std::vector<double>& values, double per_unit) {
  ordered_json list = ordered_json::array();
  for (const double value : values) list.push_back(std::round(value * per_unit) / per_unit);
  return list;
}

std::string marks(const std::vector<bool>& right) {
  std::string text;
  for (const bool one : right) text += one ? '1' : '0';
  return text;
}

ordered_json cell_json(const AccuracyCell& cell) {
  ordered_json json{{"setting", cell.setting}};
  if (!cell.refused.empty()) {
    json["refused"] = cell.refused;
    return json;
  }
  json["seconds"] = milli(cell.seconds);
  for (const auto& ask : cell.asks) {
    ordered_json turns = ordered_json::array();
    for (const AccuracyTurnResult& turn : ask)
      turns.push_back({{"kind", turn.kind}, {"right", marks(turn.right)}});
    json["asks"].push_back(std::move(turns));
  }
  if (!cell.bits.empty()) {
    json["bits"] = rounded_list(cell.bits, 1e3);
    json["total_variation"] = rounded_list(cell.total_variation, 1e6);
    json["top1_agreement"] = rounded_list(cell.top1_agreement, 1e6);
  }
  return json;
}

ordered_json group_json(const AccuracyGroup& group, const AccuracyGroupResult& result) {
  ordered_json json{{"name", result.name},
                    {"length", result.length},
                    {"prompts", result.prompts},
                    {"prefill_seconds", milli(result.prefill_seconds)}};
  if (!group.continuation.empty()) json["bytes"] = group.continuation_bytes;
  for (const AccuracyCell& cell : result.cells) json["cells"].push_back(cell_json(cell));
  return json;
}

ordered_json variance_json(const AccuracyPlan& plan, ThreadPool& pool,
                           const std::atomic<bool>* stop) {
  const Clock::time_point begin = Clock::now();
  ordered_json json{{"prompts", plan.variance.prompts.size()},
                    {"queries_a_prompt", plan.variance.steps},
                    {"replicates", plan.variance.replicates}};
  for (const VarianceCell& cell : measure_variance(plan, pool, stop)) {
    ordered_json row{{"layer", cell.layer},
                     {"method", method_name(cell.method)},
                     {"budget", cell.budget},
                     {"heads", cell.heads},
                     {"squared_error", cell.squared_error},
                     {"squared_error_standard_error", cell.error_of_sum},
                     {"squared_output", cell.squared_output}};
    if (cell.theory > 0 || cell.method != Method::kSystematic) row["theory"] = cell.theory;
    json["rows"].push_back(std::move(row));
  }
  json["seconds"] = milli(std::chrono::duration<double>(Clock::now() - begin).count());
  return json;
}

// `done` takes every group as it is finished, and of one in which the decoder fails what is done.
void measure(const AccuracyPlan& plan, bool cuda, ThreadPool& pool, const AccuracyWords& words,
             const std::atomic<bool>* stop, const std::function<void(ordered_json)>& done) {
  std::unique_ptr<AccuracyDecoder> decoder;
  AccuracyDecoderNeeds needs;
  for (const AccuracyGroup& group : plan.groups) {
    if (stop && stop->load()) break;
    const auto batch = static_cast<std::uint32_t>(group.prompts.size());
    if (!decoder || needs.batch != batch || needs.capacity < group.largest_context() ||
        needs.capacity > group.largest_context() + kTileRows) {
      decoder.reset();
      needs = {plan.model_folder, plan.config, batch, group.largest_context(), plan.settings};
      decoder =
          cuda ? make_cuda_accuracy_decoder(needs, pool) : make_cpu_accuracy_decoder(needs, pool);
    }
    if (!words.quiet)
      say(fmt::format("{} at {} tokens: {} prompts, {} settings\n", group.name, group.length, batch,
                      plan.settings.size()));
    const AccuracyGroupResult result = measure_group(plan, group, *decoder, pool, stop);
    done(group_json(group, result));
    if (result.failure) std::rethrow_exception(result.failure);
  }
}

int run_accuracy(const AccuracyWords& words, const std::atomic<bool>* stop) {
  const BackendChoice backend = choose_backend(backend_from_name(words.backend));
  ensure_not_input(words.json, words.plan);
  const AccuracyPlan plan = read_accuracy_plan(words.plan);
  ensure_not_input(words.json, plan.texts_file);
  ensure_output_file(words.json, words.force, "--json");
  if (!words.quiet && !backend.why.empty()) say("stoat capture accuracy: " + backend.why + "\n");
  ThreadPool pool(words.threads);
  const Clock::time_point begin = Clock::now();
  ordered_json result{{"format", "stoat-accuracy"},     {"version", 1},
                      {"tool_version", tool_version()}, {"build_id", build_id()},
                      {"backend", backend.name},        {"model_config_hash", plan.config.hash}};
  const auto stopped = [&] { return stop && stop->load(); };
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  const auto write = [&](bool interrupted) {
    ordered_json whole = result;
    whole["seconds"] = milli(seconds());
    whole["interrupted"] = interrupted;
    write_file_whole(words.json, whole.dump() + "\n");
  };
  measure(plan, backend.name == "cuda", pool, words, stop, [&](ordered_json group) {
    result["groups"].push_back(std::move(group));
    write(true);  // what is measured stays, whatever happens to the rest
  });
  if (!plan.variance.prompts.empty() && !stopped()) {
    ordered_json variance = variance_json(plan, pool, stop);
    if (!stopped()) result["variance"] = std::move(variance);
  }
  write(stopped());
  if (stopped()) {
    say(fmt::format(
        "stoat capture accuracy: interrupted; {} holds what was measured of {} groups\n",
        words.json, plan.groups.size()));
    return static_cast<int>(ExitCode::kInterrupted);
  }
  print_result(fmt::format("{}: {} groups, {} settings in {:.1f} s on {}\n", words.json,
                           plan.groups.size(), plan.settings.size(), seconds(), backend.name));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

int accuracy_main(int argc, char** argv, const std::atomic<bool>* stop) {
  AccuracyWords words;
  CLI::App app(
      "What a budget costs on tasks and text: runs a plan of scripts/accuracy.py, which makes the "
      "tables.",
      "stoat capture accuracy");
  app.add_option("--plan", words.plan, "plan; the file with its texts lies beside it")->required();
  app.add_option("--json", words.json, "file to write")->required();
  app.add_option("--backend", words.backend, "auto cpu cuda")->capture_default_str();
  app.add_option("--threads", words.threads, "0: all cores")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  app.add_flag("--force", words.force, "replace the output when it exists");
  app.add_flag("-q,--quiet", words.quiet, "no talk but errors");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    KnownWords known;
    add_options(known, app);
    say(command_line_problem("stoat capture accuracy", {argv + 1, argv + argc}, known,
                             error.what()) +
        "\n");
    return static_cast<int>(ExitCode::kUsage);
  }
  return run_accuracy(words, stop);
}

}  // namespace stoat
