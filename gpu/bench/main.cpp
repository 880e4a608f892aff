// stoat-bench: times the attention kernels and the read floors on this machine's GPU. Results to
// stdout as a table, and with --json to a file that holds every sample.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gpu/bench/measure.h"
#include "models/error.h"
#include "models/version.h"

namespace stoat::gpu {
namespace {

struct Options {
  std::vector<std::uint32_t> batches{1, 4, 16};
  std::vector<std::uint32_t> contexts{4096, 8192, 16384, 32768, 65536, 131072};
  std::vector<std::string> kernels;
  std::uint32_t replays = 50;
  float spread = 3.5F;
  bool quick = false;
  std::string layout = "nhd";
  std::uint32_t score_splits = 0;
  std::string json;
};

const std::vector<BenchItem> kItems{{BenchKind::kReadK},
                                    {BenchKind::kReadKv},
                                    {BenchKind::kDecode, Method::kDense},
                                    {BenchKind::kScore, Method::kProp, 128},
                                    {BenchKind::kDecode, Method::kProp, 128},
                                    {BenchKind::kDecode, Method::kProp, 1024},
                                    {BenchKind::kDecode, Method::kFlash, 2048},
                                    {BenchKind::kDecode, Method::kProp, 128, true}};

std::vector<std::string> item_names() {
  std::vector<std::string> names;
  for (const BenchItem& item : kItems) names.push_back(item.name());
  return names;
}

nlohmann::json clocks(const Machine& machine) {
  return {{"sm_mhz", machine.sm_clock_mhz}, {"memory_mhz", machine.memory_clock_mhz}};
}

// To a nanosecond: finer than the timer is.
std::vector<double> rounded(std::vector<double> microseconds) {
  for (double& value : microseconds) value = std::round(value * 1000) / 1000;
  return microseconds;
}

nlohmann::json row(const BenchShape& shape, const BenchItem& item, const Timing& timing) {
  return {{"kernel", item.name()},
          {"batch", shape.batch},
          {"context", shape.context},
          {"q_heads", shape.q_heads},
          {"kv_heads", shape.kv_heads},
          {"head_dim", shape.head_dim},
          {"element", "bf16"},
          {"score_splits", shape.score_splits},
          {"kv_layout", shape.hnd ? "HND" : "NHD"},
          {"steps_per_graph", timing.steps},
          {"rotated_bytes", timing.rotated_bytes},
          {"p10_us", quantile(rounded(timing.microseconds), 0.1)},
          {"median_us", quantile(rounded(timing.microseconds), 0.5)},
          {"p90_us", quantile(rounded(timing.microseconds), 0.9)},
          {"samples_us", rounded(timing.microseconds)}};
}

nlohmann::json measure_all(const Options& options) {
  std::vector<BenchShape> shapes;
  for (const std::uint32_t batch : options.batches) {
    for (const std::uint32_t context : options.contexts) {
      BenchShape shape;
      shape.batch = batch;
      shape.context = context;
      shape.hnd = options.layout == "hnd";
      shape.score_splits = options.score_splits;
      shapes.push_back(shape);
    }
  }
  Bench bench(shapes, options.spread);
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("{:>5} {:>7}  {:<20} {:>9} {:>9} {:>9}\n", "batch", "context", "kernel", "p10 us",
             "median us", "p90 us");
  for (const BenchShape& shape : shapes) {
    for (const BenchItem& item : kItems) {
      const auto& wanted = options.kernels;
      if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), item.name()) == wanted.end())
        continue;
      // flash needs a sample for each of its tiles
      if (item.method == Method::kFlash && item.budget < (shape.context + 255) / 256) continue;
      const Timing timing = bench.measure(shape, item, options.replays);
      fmt::print("{:>5} {:>7}  {:<20} {:>9.2f} {:>9.2f} {:>9.2f}\n", shape.batch, shape.context,
                 item.name(), quantile(timing.microseconds, 0.1),
                 quantile(timing.microseconds, 0.5), quantile(timing.microseconds, 0.9));
      std::fflush(stdout);
      rows.push_back(row(shape, item, timing));
    }
  }
  return rows;
}

void run(const Options& options, const std::string& command) {
  const Machine before = this_machine();
  if (before.gpu.empty())
    throw resource_error({}, "no CUDA device was found", "a machine with a GPU");
  const nlohmann::json rows = measure_all(options);
  const Machine after = this_machine();
  if (options.json.empty()) return;
  const nlohmann::json head{{"format", "stoat-bench"},
                            {"version", 1},
                            {"tool_version", tool_version()},
                            {"build_id", build_id()},
                            {"command", command},
                            {"gpu", before.gpu},
                            {"multiprocessors", before.multiprocessors},
                            {"driver", before.driver},
                            {"cuda_runtime", before.cuda_runtime},
                            {"clocks_before", clocks(before)},
                            {"clocks_after", clocks(after)},
                            {"score_spread", rounded({static_cast<double>(options.spread)})[0]}};
  std::ofstream file(options.json);
  // One row a line: the file is committed, and read by people too.
  const std::string text = head.dump(1);
  file << text.substr(0, text.rfind('\n')) << ",\n \"rows\": [";
  for (std::size_t i = 0; i < rows.size(); ++i)
    file << (i == 0 ? "\n  " : ",\n  ") << rows[i].dump();
  file << "\n ]\n}\n";
  file.close();
  if (!file)
    throw resource_error({options.json}, "the file could not be written", "a writable place");
}

}  // namespace
}  // namespace stoat::gpu

int main(int argc, char** argv) {
  using namespace stoat::gpu;
  Options options;
  CLI::App app(
      "Times the attention kernels and the read floors on this machine's GPU: one layer, "
      "one decode step, 32 query heads, 8 KV heads, head_dim 128, bf16.");
  app.name("stoat-bench");
  app.add_option("--batch", options.batches, "batch sizes")->delimiter(',');
  app.add_option("--context", options.contexts, "context lengths")->delimiter(',');
  app.add_option("--kernel", options.kernels, "only these rows")
      ->delimiter(',')
      ->check(CLI::IsMember(item_names()));
  app.add_option("--replays", options.replays, "timed graph replays a row")
      ->check(CLI::Range(1, 10000));
  app.add_option("--spread", options.spread, "standard deviation of the scores");
  app.add_option("--layout", options.layout, "order of K and V: nhd or hnd")
      ->check(CLI::IsMember({"nhd", "hnd"}));
  app.add_option("--score-splits", options.score_splits,
                 "blocks that share a KV head in the score and dense pass (0: automatic)");
  app.add_flag("--quick", options.quick, "batch 1 and 4, 4k and 32k, 20 replays");
  app.add_option("--json", options.json, "write every sample to this file");
  app.set_version_flag("--version", std::string(stoat::tool_version()));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(stoat::ExitCode::kUsage);
  }
  if (options.quick) {
    options.batches = {1, 4};
    options.contexts = {4096, 32768};
    options.replays = 20;
  }
  std::string command = "stoat-bench";
  for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
  try {
    run(options, command);
    return 0;
  } catch (const stoat::Error& error) {
    fmt::print(stderr, "stoat-bench: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}
