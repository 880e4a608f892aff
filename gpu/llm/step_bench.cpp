// A row is one batch, context and method: an engine with a cache of random rows decodes on, graph
// by graph; events around `steps` steps, several times. The bound is what must be read (weights, K
// and V of every sequence) at a given bandwidth.
#include "gpu/llm/step_bench.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <tuple>

#include "gpu/backend.h"
#include "gpu/cuda_refusal.h"
#include "gpu/inputs.h"
#include "gpu/llm/engine.h"
#include "gpu/llm/kernels.h"
#include "gpu/llm/recorded_bench.h"
#include "models/command_line.h"
#include "models/error.h"
#include "models/files.h"
#include "models/streams.h"
#include "models/version.h"

namespace stoat {
namespace {

using gpu::DeviceEvent;
using gpu::DeviceWeights;
using gpu::Engine;
using gpu::EngineOptions;
using nlohmann::ordered_json;

constexpr std::uint32_t kWarmUps = 4;

double median(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples[(samples.size() - 1) / 2];
}

std::uint64_t kv_bytes(const ModelConfig& c, std::uint32_t batch, std::uint32_t context) {
  return std::uint64_t{4} * c.n_layers * c.n_kv_heads * c.head_dim * batch * context;
}

void time_steps(const StepBenchOptions& options, const ModelConfig& config, StepTiming& row) {
  EngineOptions o;
  o.batch = row.batch;
  o.capacity = row.context + kWarmUps + options.samples * options.steps + 8;
  o.method = row.method;
  if (row.method != Method::kDense) o.budgets = {row.budget};
  o.seed = 1;
  Engine::ensure_fits(config, o);
  Engine engine(config, DeviceWeights::random(config, 1), o);
  row.weight_bytes = engine.weights().bytes_per_token();
  engine.pretend_context(row.context - 1, 7);
  for (std::uint32_t i = 0; i < kWarmUps; ++i) engine.submit();
  engine.wait();
  const DeviceEvent begin, end;
  for (std::uint32_t sample = 0; sample < options.samples; ++sample) {
    begin.record(engine.stream());
    for (std::uint32_t i = 0; i < options.steps; ++i) engine.submit();
    end.record(engine.stream());
    end.wait();
    row.microseconds.push_back(1000 * end.milliseconds_since(begin) / options.steps);
  }
  engine.collect();  // what the device reports
  if (!options.parts || row.batch > gpu::kSkinnyRows) return;
  for (std::size_t i = 0; i < std::size(gpu::kStepParts); ++i) {
    // The token's kernel makes contexts longer: last, and not often.
    const std::uint32_t repeats = i + 1 < std::size(gpu::kStepParts) ? 5 : 1;
    row.parts.emplace_back(engine.time_part(static_cast<gpu::StepPart>(i), repeats));
  }
}

void write_json(const StepBenchOptions& options, const ordered_json& head,
                const std::vector<ordered_json>& rows) {
  if (options.json.empty()) return;
  const std::string begin = head.dump(1);
  std::string text = begin.substr(0, begin.rfind('\n')) + ",\n \"rows\": [";
  for (std::size_t i = 0; i < rows.size(); ++i)
    text += (i == 0 ? "\n  " : ",\n  ") + rows[i].dump();
  write_file_whole(options.json, text + "\n ]\n}\n");  // a run that is killed loses no row
}

// Host memory along a long recording.
void run_endurance(const StepBenchOptions& options, const ModelConfig& config) {
  StepTiming row;
  row.batch = options.batches.front();
  row.context = options.contexts.front();
  std::tie(row.method, row.budget) = parse_method_and_budget(options.methods.front(), "--method");
  ordered_json points = ordered_json::array();
  print_result("    step  resident MB       spool MB          s\n");
  record_many_steps(options, config, row, [&](const EndurancePoint& at) {
    print_result(fmt::format("{:>8} {:>12.0f} {:>14.0f} {:>10.1f}\n", at.step,
                             at.resident_megabytes, at.spool_megabytes, at.seconds));
    points.push_back({{"step", at.step},
                      {"resident_mb", at.resident_megabytes},
                      {"spool_mb", at.spool_megabytes},
                      {"seconds", at.seconds}});
  });
  const ordered_json head{{"format", "stoat-endurance"}, {"tool_version", tool_version()},
                          {"build_id", build_id()},      {"gpu", gpu::device_name()},
                          {"shape", options.shape},      {"method", options.methods.front()},
                          {"batch", row.batch}};
  write_json(options, head, points);
}

double time_prefill(const ModelConfig& config, std::uint32_t length) {
  EngineOptions o;
  o.capacity = length + 1;
  Engine::ensure_fits(config, o);
  Engine engine(config, DeviceWeights::random(config, 1), o);
  std::vector<std::int32_t> tokens(length);
  for (std::uint32_t i = 0; i < length; ++i)
    tokens[i] = static_cast<std::int32_t>((i * 2654435761U >> 8) % config.vocab_size);
  engine.prefill(0, {tokens.data(), 1});  // loads kernels and library
  const DeviceEvent begin, end;
  begin.record(engine.stream());
  engine.prefill(0, std::span<const std::int32_t>(tokens).subspan(1));
  end.record(engine.stream());
  end.wait();
  engine.chosen();
  return end.milliseconds_since(begin) / 1000;
}

std::string row_name(const StepTiming& row) {
  return row.method == Method::kDense ? "dense"
                                      : fmt::format("{} S={}", method_name(row.method), row.budget);
}

std::string parts_text(const StepTiming& row) {
  std::string text;
  for (std::size_t i = 0; i < row.parts.size(); ++i)
    text +=
        fmt::format("{}{} {:.0f}", i == 0 ? "      µs: " : ", ", gpu::kStepParts[i], row.parts[i]);
  return row.parts.empty() ? "" : text + "\n";
}

std::string row_text(const StepTiming& row, double terabytes_per_second) {
  std::string text = fmt::format("{:>5} {:>8} {:<14}", row.batch, row.context, row_name(row));
  if (!row.left_out.empty()) return text + " " + row.left_out + "\n";
  const double bound =
      static_cast<double>(row.weight_bytes + row.kv_bytes) / (1e6 * terabytes_per_second);
  const double time = median(row.microseconds);
  text += fmt::format(" {:>9.0f} {:>9.0f} {:>7.1f} {:>9.1f} {:>9.1f}", time, bound,
                      100 * bound / time, static_cast<double>(row.weight_bytes) / 1e9,
                      static_cast<double>(row.kv_bytes) / 1e9);
  if (row.recorded_microseconds > 0)
    text += fmt::format(
        "   recorded {:.0f} µs, {:+.1f} % of {:.0f} (submit {:.0f}, wait {:.0f}, hand over "
        "{:.0f}), {:.2f} MB a step, {:.0f} MB resident",
        row.recorded_microseconds,
        100 * (row.recorded_microseconds / row.unrecorded_microseconds - 1),
        row.unrecorded_microseconds, row.submit_microseconds, row.wait_microseconds,
        row.add_microseconds, row.recorded_megabytes, row.resident_megabytes);
  return text + "\n" + parts_text(row);
}

ordered_json row_json(const StepTiming& row) {
  ordered_json json{{"batch", row.batch},
                    {"context", row.context},
                    {"method", method_name(row.method)},
                    {"budget", row.budget},
                    {"weight_bytes", row.weight_bytes},
                    {"kv_bytes", row.kv_bytes}};
  if (!row.left_out.empty()) {
    json["left_out"] = row.left_out;
    return json;
  }
  json["median_us"] = median(row.microseconds);
  json["samples_us"] = row.microseconds;
  if (row.recorded_microseconds > 0) {
    json["recorded_us"] = row.recorded_microseconds;
    json["unrecorded_us"] = row.unrecorded_microseconds;
    json["recorded_mb"] = row.recorded_megabytes;
    json["resident_mb"] = row.resident_megabytes;
    json["recorded_host_us"] = {{"submit", row.submit_microseconds},
                                {"wait", row.wait_microseconds},
                                {"hand_over", row.add_microseconds}};
  }
  for (std::size_t i = 0; i < row.parts.size(); ++i)
    json["parts_us"][gpu::kStepParts[i]] = row.parts[i];
  return json;
}

// The rows of a file of an interrupted run by the same program on the same GPU; a row is found by
// what it measures.
class KeptRows {
 public:
  KeptRows(const StepBenchOptions& options, const ordered_json& head) {
    std::ifstream file(options.json);
    if (!options.resume || !file) return;
    const ordered_json found = ordered_json::parse(file, nullptr, false);
    const auto is_object = [](const ordered_json& value) { return value.is_object(); };
    if (!found.is_object() || !found.contains("rows") || !found["rows"].is_array() ||
        !std::all_of(found["rows"].begin(), found["rows"].end(), is_object))
      throw usage_error({options.json}, "no rows of a run before", "its --json",
                        "leave --resume out");
    for (const auto& [key, value] : head.items()) {
      if (found.value(key, ordered_json()) != value)
        throw usage_error({options.json}, "rows of another run (" + key + ")",
                          "the same program, GPU and options", "leave --resume out");
    }
    rows_ = found["rows"];
  }
  // Null where there is none. keys: an object.
  const ordered_json* find(const ordered_json& keys) const {
    for (const ordered_json& row : rows_) {
      const auto same = [&row](const auto& item) {
        return row.value(item.key(), ordered_json()) == item.value();
      };
      const auto items = keys.items();
      if (std::all_of(items.begin(), items.end(), same)) return &row;
    }
    return nullptr;
  }

 private:
  ordered_json rows_ = ordered_json::array();
};

// Before anything is measured.
void ensure_sensible(const StepBenchOptions& options) {
  const auto positive = [](const std::vector<std::uint32_t>& values, const char* option) {
    if (std::find(values.begin(), values.end(), 0U) != values.end())
      throw usage_error({option}, "0", "at least 1");
  };
  positive(options.batches, "--batch");
  positive(options.contexts, "--context");
  positive(options.prefills, "--prefill");
  for (const std::string& text : options.methods) parse_method_and_budget(text, "--method");
  if (!options.json.empty()) ensure_output_file(options.json, true, "--json");
}

}  // namespace

void run_step_bench(const StepBenchOptions& options) {
  ensure_sensible(options);
  if (const std::string why = cuda_obstacle(); !why.empty())
    throw resource_error({}, why, "a CUDA device");
  const ModelConfig config = config_of_shape(shape_from(options.shape));
  if (options.endurance > 0) return run_endurance(options, config);
  const ordered_json head{
      {"format", "stoat-step-bench"},     {"tool_version", tool_version()},
      {"build_id", build_id()},           {"gpu", gpu::device_name()},
      {"shape", options.shape},           {"terabytes_per_second", options.terabytes_per_second},
      {"steps_a_sample", options.steps},  {"samples", options.samples},
      {"recorded_steps", options.record}, {"parts", options.parts}};
  const KeptRows kept(options, head);
  std::vector<ordered_json> rows;
  for (const std::uint32_t length : options.prefills) {
    if (const ordered_json* row = kept.find({{"prefill", length}})) {
      rows.push_back(*row);
      continue;
    }
    const double seconds = time_prefill(config, length);
    print_result(fmt::format("prefill of {} tokens: {:.2f} s\n", length, seconds));
    rows.push_back({{"prefill", length}, {"seconds", seconds}});
  }
  if (!options.batches.empty())
    print_result(
        "batch  context method          step µs  bound µs  share %  weight GB      KV GB\n");
  for (const std::uint32_t batch : options.batches) {
    for (const std::uint32_t context : options.contexts) {
      for (const std::string& text : options.methods) {
        StepTiming row;
        row.batch = batch;
        row.context = context;
        std::tie(row.method, row.budget) = parse_method_and_budget(text, "--method");
        row.kv_bytes = kv_bytes(config, batch, context);
        if (const ordered_json* before = kept.find({{"batch", batch},
                                                    {"context", context},
                                                    {"method", method_name(row.method)},
                                                    {"budget", row.budget}})) {
          rows.push_back(*before);
          continue;
        }
        try {
          time_steps(options, config, row);
          if (options.record > 0) time_recorded_steps(options, config, row);
        } catch (const Error& error) {
          row.left_out = error.what();
        }
        print_result(row_text(row, options.terabytes_per_second));
        rows.push_back(row_json(row));
        write_json(options, head, rows);
      }
    }
  }
  write_json(options, head, rows);
}

int step_bench_main(int argc, char** argv) {
  StepBenchOptions options;
  CLI::App app("Times decode steps of a whole model with random weights.", "stoat capture bench");
  app.add_option("--shape", options.shape, "a shape's name (models/llm/shapes.csv) or a table")
      ->capture_default_str();
  app.add_option("--batch", options.batches, "batch sizes")->delimiter(',')->expected(0, -1);
  app.add_option("--context", options.contexts, "rows of the cache")->delimiter(',');
  app.add_option("--method", options.methods, "dense, or METHOD:BUDGET")->delimiter(',');
  app.add_option("--samples", options.samples, "timed runs a row")->check(CLI::Range(1, 1000));
  app.add_option("--steps", options.steps, "steps a run")->check(CLI::Range(1, 1000));
  app.add_flag("--parts", options.parts, "time the kernels of a step by kind, too");
  app.add_option("--record", options.record, "record so many steps a row, too")
      ->check(CLI::Range(1, 1000000));
  app.add_option("--endurance", options.endurance,
                 "only record so many steps and print the host memory along the way")
      ->check(CLI::Range(1, 10000000));
  app.add_option("--folder", options.folder, "where recordings lie while they are made")
      ->capture_default_str();
  app.add_option("--prefill", options.prefills, "lengths of prompts to time too")->delimiter(',');
  app.add_option("--json", options.json, "write every sample to this file");
  app.add_flag("--resume", options.resume, "keep the rows that --json has of an interrupted run");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    KnownWords known;
    add_options(known, app);
    say(command_line_problem("stoat capture bench", {argv + 1, argv + argc}, known, error.what()) +
        "\n");
    return static_cast<int>(ExitCode::kUsage);
  }
  run_step_bench(options);
  return 0;
}

}  // namespace stoat
