// stoat-bench: times the attention kernels and the read floors on this machine's GPU; `step` runs
// one step of each for a profiler; `bias` measures the sampled kernels' bias; `--energy` reads the
// board's energy counter around decode steps. Results to stdout as a table, and with --json to a
// file that holds every sample.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>

#include "gpu/bench/bias.h"
#include "gpu/bench/energy.h"
#include "gpu/bench/measure.h"
#include "gpu/bench/result_file.h"
#include "models/command_line.h"
#include "models/error.h"
#include "models/files.h"
#include "models/streams.h"
#include "models/version.h"

namespace stoat::gpu {
namespace {

struct Options {
  std::vector<std::uint32_t> batches{1, 4, 16};
  std::vector<std::uint32_t> contexts;
  std::vector<std::string> only;
  bool full = false;
  std::uint32_t replays = 50;
  float spread = 3.5F;
  std::string layout = "nhd";
  std::uint32_t score_splits = 0, gather_splits = 0, steps = 0;
  std::string json, csv;
  BiasPlan bias;
  bool energy = false;
  double seconds = 5;
  std::vector<std::string> methods{"dense", "prop:128"};
};

struct Job {
  BenchShape shape;
  const BenchItem* item;
};

std::vector<std::string> item_names() {
  std::vector<std::string> names;
  for (const BenchItem& item : bench_items()) names.push_back(item.name());
  return names;
}

std::vector<BenchShape> shapes_of(const Options& options) {
  std::vector<std::uint32_t> contexts = options.contexts;
  if (contexts.empty()) contexts = {4096, 32768};
  if (options.contexts.empty() && options.full)
    contexts = {4096, 8192, 16384, 32768, 65536, 131072};
  std::vector<BenchShape> shapes;
  for (const std::uint32_t batch : options.batches) {
    for (const std::uint32_t context : contexts) {
      BenchShape shape;
      shape.batch = batch;
      shape.context = context;
      shape.hnd = options.layout == "hnd";
      shape.score_splits = options.score_splits;
      shape.gather_splits = options.gather_splits;
      shape.steps = options.steps;
      shapes.push_back(shape);
    }
  }
  return shapes;
}

// What is asked for and can be launched; a refusal of something asked for by name is told.
std::vector<Job> jobs_of(const Options& options, const std::vector<BenchShape>& shapes) {
  std::vector<Job> jobs;
  for (const BenchShape& shape : shapes) {
    for (const BenchItem& item : bench_items()) {
      const bool named =
          std::find(options.only.begin(), options.only.end(), item.name()) != options.only.end();
      if (options.only.empty() ? !measured_by_default(shape, item) : !named) continue;
      const std::string why = item_refusal(shape, item);
      if (!why.empty()) {
        if (named) fmt::print(stderr, "stoat-bench: {} left out: {}\n", item.name(), why);
        continue;
      }
      jobs.push_back({shape, &item});
    }
  }
  if (jobs.empty())
    throw usage_error({"stoat-bench"}, "nothing to measure", "a kernel that runs in these shapes",
                      "see --only and --contexts in --help");
  return jobs;
}

// Says on stderr how far the work is: on a terminal one line that changes, elsewhere one every 30
// s. Jobs are weighed by the bytes that they read.
class Progress {
 public:
  explicit Progress(const std::vector<Job>& jobs) {
    for (const Job& job : jobs) total_ += weight(job);
  }
  void start(const Job& job) {
    const double elapsed = seconds();
    if (!terminal_ && elapsed < next_line_) return;
    next_line_ = elapsed + 30;
    const double left = done_ > 0 ? elapsed * (total_ - done_) / done_ : 0;
    fmt::print(stderr, "{}{:3.0f} %, {:.0f} s done, about {:.0f} s left: {}, batch {}, {} tokens{}",
               terminal_ ? "\r\033[K" : "", 100 * done_ / total_, elapsed, left, job.item->name(),
               job.shape.batch, job.shape.context, terminal_ ? "" : "\n");
    std::fflush(stderr);
  }
  void finish(const Job& job) {
    done_ += weight(job);
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }

 private:
  static double weight(const Job& job) {
    return static_cast<double>(must_read_bytes(job.shape, *job.item)) + 2e9;
  }
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double total_ = 0, done_ = 0, next_line_ = 30;
  bool terminal_ = isatty(2) != 0;
};

Machine machine_with_gpu() {
  Machine machine = this_machine();
  if (machine.gpu.empty())
    throw resource_error({}, "no CUDA device was found", "a machine with a GPU");
  return machine;
}

void write_results(const Options& options, const nlohmann::json& head, const nlohmann::json& rows,
                   const std::vector<std::string>& columns) {
  if (!options.json.empty()) write_json(options.json, head, rows);
  if (!options.csv.empty()) write_csv(options.csv, rows, columns);
}

void run_timing(const Options& options, const std::string& command) {
  const Machine before = machine_with_gpu();
  const std::vector<BenchShape> shapes = shapes_of(options);
  const std::vector<Job> jobs = jobs_of(options, shapes);
  Bench bench(shapes, options.spread);
  Progress progress(jobs);
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("{:>5} {:>7}  {:<24} {:>9} {:>9} {:>9}\n", "batch", "context", "kernel", "p10 us",
             "median us", "p90 us");
  for (const Job& job : jobs) {
    progress.start(job);
    rows.push_back(
        timing_row(job.shape, *job.item, bench.measure(job.shape, *job.item, options.replays)));
    if (job.item->ternary_draws > 0)
      rows.back()["touched_fraction"] = bench.touched_fraction(job.shape, *job.item);
    progress.finish(job);
    const auto us = [&](const char* name) { return rows.back().at(name).get<double>(); };
    fmt::print("{:>5} {:>7}  {:<24} {:>9.2f} {:>9.2f} {:>9.2f}\n", job.shape.batch,
               job.shape.context, job.item->name(), us("p10_us"), us("median_us"), us("p90_us"));
    std::fflush(stdout);
  }
  nlohmann::json head = result_head(command, before, this_machine());
  head["score_spread"] = options.spread;
  write_results(options, head, rows,
                {"kernel", "batch", "context", "kv_layout", "p10_us", "median_us", "p90_us",
                 "must_read_bytes", "sm_mhz"});
}

void run_step(const Options& options, const std::string& command) {
  const Machine before = machine_with_gpu();
  const std::vector<BenchShape> shapes = shapes_of(options);
  const std::vector<Job> jobs = jobs_of(options, shapes);
  Bench bench(shapes, options.spread);
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("{:>5} {:>7}  {:<24} {:>14} {:>12}\n", "batch", "context", "kernel", "must read",
             "V rows");
  for (const Job& job : jobs) {
    const BenchItem& item = *job.item;
    const bool sampled = item.kind == BenchKind::kDecode && item.method != Method::kDense;
    const std::uint64_t drawn = sampled ? bench.distinct_rows(job.shape, item) : 0;
    bench.profiled_step(job.shape, item, static_cast<std::uint32_t>(rows.size()));
    std::uint64_t bytes = must_read_bytes(job.shape, item);
    if (item.ternary_draws > 0)
      bytes = static_cast<std::uint64_t>(
          std::llround(bench.touched_fraction(job.shape, item) * static_cast<double>(bytes)));
    bytes += drawn * 2 * job.shape.head_dim;
    rows.push_back({{"kernel", item.name()},
                    {"batch", job.shape.batch},
                    {"context", job.shape.context},
                    {"distinct_value_rows", drawn},
                    {"must_read_bytes", bytes}});
    fmt::print("{:>5} {:>7}  {:<24} {:>14} {:>12}\n", job.shape.batch, job.shape.context,
               item.name(), bytes, drawn);
  }
  write_results(options, result_head(command, before, this_machine()), rows,
                {"kernel", "batch", "context", "distinct_value_rows", "must_read_bytes"});
}

// True when every case kept its bounds.
bool run_bias(const Options& options, const std::string& command) {
  const Machine before = machine_with_gpu();
  nlohmann::json rows = nlohmann::json::array();
  bool good = true;
  BiasPlan plan = options.bias;
  fmt::print("{}\n", bias_table_head());
  measure_bias(plan, [&](const BiasResult& result) {
    good = good && result.failures.empty();
    fmt::print("{}\n", bias_table_row(result));
    std::fflush(stdout);
    rows.push_back(bias_json(result));
  });
  nlohmann::json head = result_head(command, before, this_machine());
  head["format"] = "stoat-bias";
  write_results(options, head, rows, bias_columns());
  return good;
}

void run_energy_verb(const Options& options, const std::string& command) {
  if (options.contexts.size() > 1)
    throw usage_error({"--energy"}, std::to_string(options.contexts.size()) + " contexts", "one");
  EnergyPlan plan;
  plan.batches = options.batches;
  if (!options.contexts.empty()) plan.context = options.contexts.front();
  plan.methods = options.methods;
  plan.seconds = options.seconds;
  run_energy(plan, options.json, command);
}

void add_shape_options(CLI::App& app, Options& options) {
  app.add_option("--batches,--batch", options.batches, "batch sizes")->delimiter(',');
  app.add_option("--contexts,--context", options.contexts, "context lengths")->delimiter(',');
  app.add_option("--only,--kernel", options.only, "only these rows, of any context")
      ->delimiter(',')
      ->check(CLI::IsMember(item_names()));
  app.add_option("--spread", options.spread, "standard deviation of the scores");
  app.add_option("--layout", options.layout, "order of K and V: nhd or hnd")
      ->check(CLI::IsMember({"nhd", "hnd"}));
  app.add_option("--score-splits", options.score_splits,
                 "as DecodeParams::score_splits (0: automatic)");
  app.add_option("--gather-splits", options.gather_splits,
                 "as DecodeParams::gather_splits (0: automatic)");
}

void add_file_options(CLI::App& app, Options& options) {
  app.add_option("--json", options.json, "write everything to this file");
  app.add_option("--csv", options.csv, "write the summary to this file");
}

}  // namespace
}  // namespace stoat::gpu

int main(int argc, char** argv) {
  using namespace stoat::gpu;
  Options options;
  CLI::App app(
      "Times the attention kernels and the read floors on this machine's GPU: one layer, one "
      "decode step, 32 query heads, 8 KV heads, head_dim 128, bf16. Without --full: 4k and 32k "
      "tokens.");
  app.name("stoat-bench");
  app.require_subcommand(0, 1);
  add_shape_options(app, options);
  add_file_options(app, options);
  app.add_flag("--full", options.full, "contexts 4k to 128k");
  app.add_option("--replays", options.replays, "timed graph replays a row")
      ->check(CLI::Range(1, 10000));
  app.add_option("--steps", options.steps,
                 "steps of a graph (0: as a model's 32 layers, fewer of large shapes)")
      ->check(CLI::Range(0, 1024));
  CLI::Option* energy = app.add_flag(
      "--energy", options.energy,
      "joules a token and average power by the board's energy counter, whole decode steps and "
      "attention alone (32k tokens)");
  app.add_option("--seconds", options.seconds, "of work between two readings (--energy)")
      ->check(CLI::Range(1.0, 600.0))
      ->needs(energy);
  app.add_option("--methods", options.methods, "dense, METHOD:BUDGET (--energy)")
      ->delimiter(',')
      ->needs(energy);
  app.set_version_flag("--version",
                       std::string(stoat::tool_version()) + " kernels " + kernel_hash());
  CLI::App* step = app.add_subcommand(
      "step",
      "one step of each kernel on cold K and V, for a profiler, and the bytes it must read");
  add_shape_options(*step, options);
  add_file_options(*step, options);
  CLI::App* bias = app.add_subcommand(
      "bias",
      "bias and per-draw error of the sampled kernels over many seeds; exit code 5 when a "
      "bound is broken");
  add_file_options(*bias, options);
  bias->add_option("--draws", options.bias.draws, "seeds a case, a multiple of 64")
      ->check(CLI::Range(1024, 1 << 24));
  bias->add_option("--cases", options.bias.only, "only cases whose name contains one of these")
      ->delimiter(',');
  bias->add_option("--seed", options.bias.seed, "number that the seeds are made of");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const std::vector<std::string> words{argv + 1, argv + argc};
    stoat::KnownWords known;
    stoat::add_options(known, app);
    std::string program = "stoat-bench";
    for (const CLI::App* verb : app.get_subcommands({})) {
      if (words.empty() || verb->get_name() != words[0]) continue;
      stoat::add_options(known, *verb);
      program += " " + words[0];
    }
    stoat::say(stoat::command_line_problem(program, words, known, error.what()) + "\n");
    return static_cast<int>(stoat::ExitCode::kUsage);
  }
  std::string command = "stoat-bench";
  // Results name no folders of the machine that they were measured on.
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    command += " " + (argument[0] == '-' ? argument : argument.substr(argument.rfind('/') + 1));
  }
  try {
    if (!options.json.empty()) stoat::ensure_output_file(options.json, true, "--json");
    if (!options.csv.empty()) stoat::ensure_output_file(options.csv, true, "--csv");
    if (bias->parsed())
      return run_bias(options, command) ? 0 : static_cast<int>(stoat::ExitCode::kPointsFailed);
    if (options.energy) {
      run_energy_verb(options, command);
      return 0;
    }
    step->parsed() ? run_step(options, command) : run_timing(options, command);
    return 0;
  } catch (const stoat::Error& error) {
    fmt::print(stderr, "stoat-bench: {}\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "stoat-bench: internal error, please report: {}\n", error.what());
    return 1;
  }
}
