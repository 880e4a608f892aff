// Options of the sweep's verbs, and what they say.
#include "sim/verb_sweep.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "models/files.h"
#include "models/progress.h"
#include "models/streams.h"
#include "models/units.h"
#include "sim/sweep/ask_tell.h"
#include "sim/sweep/slurm.h"
#include "sim/sweep/sweep_run.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;

struct SweepOptions {
  std::string sweep;  // a SWEEP.yaml, or a results folder
  std::string out;
  unsigned jobs = 0;
  std::string point_memory, point_time;
  unsigned retries = 1;
  std::string store, shard;
  bool ask_tell = false, json = false, quiet = false;
  SlurmOptions slurm;
};

SweepSpec read_sweep(const std::string& file) {
  return parse_sweep(read_file(file, std::uint64_t{1} << 20), file);
}

// The results folder of an option: made from a sweep file, or an existing one.
SweepFolder folder_of(const SweepOptions& options) {
  if (SweepFolder::is_one(options.sweep)) {
    if (!options.out.empty() && options.out != options.sweep) {
      throw usage_error({}, "-o beside a results folder", "one folder",
                        "leave -o out, or name the SWEEP.yaml");
    }
    return SweepFolder::open(options.sweep);
  }
  std::error_code failure;
  if (std::filesystem::is_directory(options.sweep, failure))
    return SweepFolder::open(options.sweep);
  if (options.out.empty()) {
    throw usage_error({}, "no results folder", "-o DIR");
  }
  read_sweep(options.sweep);  // its mistakes before any folder
  ensure_output_folder(options.out);
  return SweepFolder::create(options.out, options.sweep);
}

WorkerLimits limits_of(const SweepOptions& options) {
  WorkerLimits limits;
  limits.jobs =
      options.jobs != 0 ? options.jobs : std::max(1U, std::thread::hardware_concurrency());
  if (!options.point_memory.empty())
    limits.memory_bytes = parse_bytes(options.point_memory, "--point-memory").count();
  if (!options.point_time.empty()) {
    limits.seconds =
        static_cast<double>(parse_time(options.point_time, "--point-time").count()) / 1e12;
    if (!(limits.seconds > 0)) {
      throw usage_error({}, "--point-time is '" + options.point_time + "'", "more than 0 s",
                        "leave it out for no limit");
    }
  }
  limits.attempts = options.retries + 1;
  return limits;
}

Json counts_json(const SweepCounts& n) {
  return {{"points", n.points},          {"done", n.done},       {"failed", n.failed},
          {"missing", n.missing},        {"skipped", n.skipped}, {"invalid", n.invalid},
          {"simulations", n.simulations}};
}

std::string counts_text(const SweepCounts& n) {
  std::string text = fmt::format("{} of {} points done", n.done, n.points - n.skipped - n.invalid);
  if (n.failed != 0) text += fmt::format(", {} failed", n.failed);
  if (n.missing != 0) text += fmt::format(", {} not yet run", n.missing);
  if (n.skipped != 0) text += fmt::format(", {} skipped by rules", n.skipped);
  if (n.invalid != 0) text += fmt::format(", {} left out as invalid", n.invalid);
  return text;
}

ExitCode code_of(const SweepCounts& n) {
  if (n.failed != 0) return ExitCode::kPointsFailed;
  return n.missing != 0 ? ExitCode::kInterrupted : ExitCode::kOk;
}

// Reasons with how many points each left out, the most frequent first.
std::vector<std::pair<std::string, std::size_t>> reasons(const SweepPlan& plan) {
  std::map<std::string, std::size_t> found;
  for (const PlannedPoint& point : plan.points()) {
    if (point.state != PlannedPoint::State::kRun) ++found[point.reason];
  }
  std::vector<std::pair<std::string, std::size_t>> sorted(found.begin(), found.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return sorted;
}

std::map<std::string, std::size_t> sources(const SweepPlan& plan) {
  std::map<std::string, std::size_t> found;
  for (const PlannedPoint& point : plan.points()) {
    if (point.state == PlannedPoint::State::kRun)
      ++found[std::string(source_name(point.source->kind))];
  }
  return found;
}

std::string plan_text(const SweepPlan& plan) {
  const std::size_t run = plan.count(PlannedPoint::State::kRun);
  std::string text =
      fmt::format("{}: {} points, {} to run ({} distinct simulations)\n", plan.spec().name,
                  plan.points().size(), run, plan.simulations().size());
  for (const SweepAxis& axis : plan.spec().axes) {
    std::string values;
    const std::size_t shown = plan.spec().sample ? 0 : std::min<std::size_t>(8, axis.values.size());
    for (std::size_t i = 0; i < shown; ++i) values += " " + axis.values[i].label;
    if (shown < axis.values.size()) values += shown == 0 ? " drawn" : " ...";
    text += fmt::format("  {:<24} {:>5} values:{}\n", axis.name, axis.values.size(), values);
  }
  for (const auto& [name, count] : sources(plan)) {
    text += fmt::format("  records from {:<11} {:>5} points\n", name, count);
  }
  for (const auto& [reason, count] : reasons(plan))
    text += fmt::format("  left out {:>5}: {}\n", count, reason);
  return text;
}

Json plan_json(const SweepPlan& plan) {
  Json json;
  json["sweep"] = plan.spec().name;
  json["points"] = plan.points().size();
  json["run"] = plan.count(PlannedPoint::State::kRun);
  json["skipped"] = plan.count(PlannedPoint::State::kSkipped);
  json["invalid"] = plan.count(PlannedPoint::State::kInvalid);
  json["simulations"] = plan.simulations().size();
  json["sources"] = sources(plan);
  json["left_out"] = Json::array();
  for (const auto& [reason, count] : reasons(plan))
    json["left_out"].push_back({{"reason", reason}, {"points", count}});
  return json;
}

ExitCode plan_verb(const SweepOptions& options) {
  const SweepPlan plan(SweepFolder::is_one(options.sweep) ? SweepFolder::open(options.sweep).spec()
                                                          : read_sweep(options.sweep));
  print_answer(options.json ? plan_json(plan).dump(2) + "\n" : plan_text(plan), options.sweep);
  return ExitCode::kOk;
}

ExitCode say_report(const SweepOptions& options, const SweepFolder& folder,
                    const SweepRunReport& report, const std::string& how) {
  const ExitCode code = report.interrupted ? ExitCode::kInterrupted : code_of(report.counts);
  if (options.json) {
    Json json = counts_json(report.counts);
    json["simulated_now"] = report.simulated;
    json["found"] = report.found;
    json["interrupted"] = report.interrupted;
    json["folder"] = folder.path();
    print_answer(json.dump(2) + "\n", folder.path());
  } else if (!options.quiet) {
    std::string text = counts_text(report.counts);
    text += fmt::format(" ({} simulated now in {}, {} finished before)\n", report.simulated,
                        duration_text(report.seconds), report.found);
    print_answer(text + how, folder.path());
  }
  if (report.interrupted)
    say("stoat: interrupted; stoat sweep resume " + folder.path() + " continues\n");
  return code;
}

ExitCode run_verb(const SweepOptions& options) {
  const SweepFolder folder = folder_of(options);
  SweepRunOptions run;
  run.limits = limits_of(options);
  run.store = options.store;
  run.quiet = options.quiet;
  if (options.ask_tell) return ask_tell(folder, folder.spec(), run);
  const SweepPlan plan(folder.spec());
  if (!options.shard.empty()) {
    const ShardNumber shard = ShardNumber::parse(options.shard);
    return say_report(options, folder, run_shard(folder, plan, shard, run),
                      fmt::format("shard {} of {}; when all are done: stoat sweep merge {}\n",
                                  shard.index, shard.count, folder.path()));
  }
  const SweepRunReport report = run_sweep(folder, plan, run);
  std::string how;
  if (!report.interrupted) {
    if (report.counts.done != 0) how = fmt::format("results: {}/results.csv\n", folder.path());
    if (report.counts.failed != 0)
      how += fmt::format("failed:  {}/failed.csv names each and why\n", folder.path());
  }
  return say_report(options, folder, report, how);
}

// The first missing points by index and what sets them apart.
std::string missing_text(const SweepPlan& plan, const std::vector<std::uint32_t>& missing) {
  constexpr std::size_t kMost = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(kMost, missing.size()); ++i) {
    const PlannedPoint& point = plan.points()[missing[i]];
    text += fmt::format("\n  point {}", point.index);
    for (std::size_t a = 0; a < plan.spec().axes.size(); ++a)
      text += fmt::format("{} {}={}", a == 0 ? ":" : ",", plan.columns()[a], plan.cell(point, a));
  }
  if (missing.size() > kMost) text += fmt::format("\n  and {} more", missing.size() - kMost);
  return text;
}

ExitCode merge_verb(const SweepOptions& options) {
  const SweepFolder folder = SweepFolder::open(options.sweep);
  const SweepPlan plan(folder.spec());
  std::vector<std::string> damage;
  const SweepCounts counts = merge_sweep(folder, plan, damage);
  for (const std::string& each : damage) say("stoat: " + each + "\n");
  Json json = counts_json(counts);
  json["damage"] = damage;
  const std::vector<std::uint32_t> missing =
      counts.missing == 0 ? std::vector<std::uint32_t>() : missing_points(folder, plan);
  json["missing_points"] = missing;
  std::string text = counts_text(counts) + "\n";
  if (!missing.empty()) {
    text += fmt::format("missing: {}\nto run the rest: stoat sweep resume {}, or submit again\n",
                        missing_text(plan, missing), folder.path());
  }
  if (counts.done != 0) text += fmt::format("results: {}/results.csv\n", folder.path());
  print_answer(options.json ? json.dump(2) + "\n" : text, folder.path());
  // Shards that lack points are incomplete input; nothing was interrupted here.
  return counts.missing != 0 ? ExitCode::kDamaged : code_of(counts);
}

ExitCode status_verb(const SweepOptions& options) {
  const SweepFolder folder = SweepFolder::open(options.sweep);
  const SweepPlan plan(folder.spec());
  const SweepCounts counts = count_sweep(folder, plan);
  const std::string holder = FolderLock::holder(folder);
  const std::vector<QueueEntry> queue = slurm_queue(folder);
  if (options.json) {
    Json json = counts_json(counts);
    json["running"] = holder;
    json["queue"] = Json::array();
    for (const QueueEntry& each : queue)
      json["queue"].push_back({{"job", each.job}, {"state", each.state}, {"reason", each.reason}});
    print_answer(json.dump(2) + "\n", folder.path());
    return ExitCode::kOk;
  }
  std::string text = counts_text(counts) + "\n";
  if (!holder.empty()) text += "running: " + holder + "\n";
  std::map<std::string, std::size_t> states;
  for (const QueueEntry& each : queue) ++states[each.state];
  for (const auto& [state, count] : states)
    text += fmt::format("queue:   {} jobs {}\n", count, state);
  print_answer(text, folder.path());
  return ExitCode::kOk;
}

ExitCode watch_verb(const SweepOptions& options) {
  const SweepFolder folder = SweepFolder::open(options.sweep);
  const SweepPlan plan(folder.spec());
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  std::string before;
  while (true) {
    const SweepCounts counts = count_sweep(folder, plan);
    const std::string holder = FolderLock::holder(folder);
    const bool queued = !slurm_queue(folder).empty();
    const std::string text = counts_text(counts);
    if (text != before) print_result((terminal ? "\r\x1b[K" : "") + text + (terminal ? "" : "\n"));
    before = text;
    if (counts.missing == 0 || (holder.empty() && !queued)) {
      print_result(terminal ? "\n" : "");
      if (counts.missing != 0)
        print_result("nobody works on it; stoat sweep resume " + folder.path() + " continues\n");
      return code_of(counts);
    }
    std::this_thread::sleep_for(std::chrono::seconds(2));
  }
}

ExitCode submit_verb(const SweepOptions& options) {
  const SweepFolder folder = folder_of(options);
  const SweepPlan plan(folder.spec());
  const SlurmJobs jobs = submit_slurm(folder, plan, options.slurm);
  if (options.json) {
    print_answer(Json{{"array_script", jobs.array_script},
                      {"merge_script", jobs.merge_script},
                      {"array_job", jobs.array_job},
                      {"merge_job", jobs.merge_job},
                      {"shards", jobs.shards}}
                         .dump(2) +
                     "\n",
                 folder.path());
    return ExitCode::kOk;
  }
  print_answer(jobs.text, folder.path());
  return ExitCode::kOk;
}

using Verb = ExitCode (*)(const SweepOptions&);

CLI::App* add(CLI::App& sweep, VerbResult& result, const std::shared_ptr<SweepOptions>& options,
              const char* name, const char* help, const char* what, Verb verb) {
  CLI::App* app = sweep.add_subcommand(name, help);
  app->add_option(what, options->sweep, "A SWEEP.yaml, or a results folder")->required();
  app->add_flag("--json", options->json, "The answer as JSON");
  app->callback([options, verb, &result] { result.code = verb(*options); });
  return app;
}

void add_run_options(CLI::App& app, SweepOptions& o) {
  app.add_option("-j,--jobs", o.jobs, "Points side by side (default: all cores)")
      ->check(CLI::Range(1U, 4096U));
  app.add_option("--point-memory", o.point_memory, "Most memory of a point, such as '2 GiB'");
  app.add_option("--point-time", o.point_time, "Most time of a point, such as '600 s'");
  app.add_option("--retries", o.retries, "Tries after a point's first failure")
      ->capture_default_str()
      ->check(CLI::Range(0U, 100U));
  app.add_option("--store", o.store, "Folder with results that sweeps share")
      ->envname("STOAT_STORE");
  app.add_flag("-q,--quiet", o.quiet, "Print nothing but errors");
}

}  // namespace

void add_sweep_verb(CLI::App& app, VerbResult& result) {
  CLI::App* sweep = app.add_subcommand(
      "sweep", "Run many points: plan, run, resume, status, merge, watch, submit");
  sweep->require_subcommand(1);
  const auto options = std::make_shared<SweepOptions>();
  add(*sweep, result, options, "plan", "Say what would run, and what is left out and why", "SWEEP",
      plan_verb);
  CLI::App* run = add(*sweep, result, options, "run", "Run every point that is not finished",
                      "SWEEP", run_verb);
  run->add_option("-o,--out", options->out, "Results folder");
  run->add_option("--shard", options->shard,
                  "I/N: only every N-th point, into the folder's shards (cluster workers)");
  run->add_flag("--ask-tell", options->ask_tell,
                "Points come as JSON lines on stdin, answers go to stdout");
  add_run_options(*run, *options);
  CLI::App* resume = add(*sweep, result, options, "resume", "Continue a run that was interrupted",
                         "DIR", run_verb);
  add_run_options(*resume, *options);
  add(*sweep, result, options, "status", "What is finished, who works on it", "DIR", status_verb);
  add(*sweep, result, options, "merge", "Take the shards of a cluster, write the results", "DIR",
      merge_verb);
  add(*sweep, result, options, "watch", "Follow a run until it ends", "DIR", watch_verb);
  CLI::App* submit = add(*sweep, result, options, "submit",
                         "Write and submit the jobs of a cluster", "SWEEP", submit_verb);
  submit->add_option("-o,--out", options->out, "Results folder, seen by every node");
  SlurmOptions& slurm = options->slurm;
  submit->add_option("--engine", slurm.engine, "slurm")->capture_default_str();
  submit->add_option("--shards", slurm.shards, "Array tasks")
      ->capture_default_str()
      ->check(CLI::Range(1U, 100000U));
  submit->add_option("--at-once", slurm.at_once, "Tasks side by side (0: up to the cluster)")
      ->capture_default_str();
  submit->add_option("--jobs", slurm.jobs, "Points side by side in a task")->capture_default_str();
  submit->add_option("--time", slurm.time, "Time limit of a task, in sbatch's words (01:00:00)");
  submit->add_option("--memory", slurm.memory, "Memory of a task, in sbatch's words (4G)");
  submit->add_option("--partition", slurm.partition, "Partition");
  submit->add_option("--point-memory", slurm.point_memory, "Most memory of a point");
  submit->add_option("--point-time", slurm.point_time, "Most time of a point");
  submit->add_flag("--dry-run", slurm.dry_run, "Write the scripts, submit nothing");
}

}  // namespace stoat::sim
