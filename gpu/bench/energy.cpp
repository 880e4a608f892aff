// Readings one after the other: idle, whole decode steps, the attention of one layer, idle again.
#include "gpu/bench/energy.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "gpu/bench/energy_counter.h"
#include "gpu/bench/measure.h"
#include "gpu/bench/result_file.h"
#include "gpu/cuda_refusal.h"
#include "gpu/inputs.h"
#include "gpu/llm/engine.h"
#include "models/error.h"

namespace stoat::gpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kWarmUps = 8;
constexpr std::uint32_t kChunk = 32;  // steps queued between two looks at the clock
constexpr double kSettle = 0.3;       // seconds of work before a reading begins

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Repeats `work`, which returns the steps it did and waits for them, for `seconds`, between two
// readings.
void read_around(const EnergyCounter& counter, double seconds,
                 const std::function<std::uint64_t()>& work, EnergyReading& reading) {
  for (const Clock::time_point begin = Clock::now(); seconds_since(begin) < kSettle;) work();
  const std::uint64_t before = counter.millijoules();
  const Clock::time_point begin = Clock::now();
  while (seconds_since(begin) < seconds) reading.steps += work();
  reading.joules = static_cast<double>(counter.millijoules() - before) / 1000;
  reading.seconds = seconds_since(begin);
  reading.sm_clock_mhz = sm_clock_mhz();
}

EnergyReading read_idle(const EnergyCounter& counter, double seconds) {
  EnergyReading reading;
  reading.work = "idle";
  read_around(
      counter, seconds,
      [] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return std::uint64_t{0};
      },
      reading);
  return reading;
}

void read_decode(const EnergyCounter& counter, const EnergyPlan& plan, const ModelConfig& config,
                 EnergyReading& reading) {
  const auto [method, budget] = parse_method_and_budget(reading.method, "--methods");
  EngineOptions options;
  options.batch = reading.batch;
  options.capacity = plan.context + kWarmUps + kChunk + 8;
  options.method = method;
  if (method != Method::kDense) options.budgets = {budget};
  options.seed = 1;
  Engine engine(config, DeviceWeights::random(config, 1), options);
  reading.weight_bytes = engine.weights().bytes_per_token();
  engine.pretend_context(plan.context - 1, 7);
  const std::vector<std::uint32_t> lengths(reading.batch, plan.context - 1);
  for (std::uint32_t i = 0; i < kWarmUps; ++i) engine.submit();
  engine.wait();
  read_around(
      counter, plan.seconds,
      [&] {
        engine.rewind(lengths);
        for (std::uint32_t i = 0; i < kChunk; ++i) engine.submit();
        engine.wait();
        return std::uint64_t{kChunk};
      },
      reading);
  engine.collect();  // what the device reports
}

void read_attention(const EnergyCounter& counter, const EnergyPlan& plan, Bench& bench,
                    EnergyReading& reading) {
  const auto [method, budget] = parse_method_and_budget(reading.method, "--methods");
  BenchShape shape;
  shape.batch = reading.batch;
  shape.context = plan.context;
  BenchItem item;
  item.method = method;
  item.budget = budget;
  if (const std::string why = item_refusal(shape, item); !why.empty()) {
    reading.left_out = why;
    return;
  }
  const Timing probe = bench.measure(shape, item, 20);
  const double graph = quantile(probe.microseconds, 0.5) * probe.steps / 1e6;
  const auto replays = static_cast<std::uint32_t>(std::ceil(1.0 / graph));
  read_around(
      counter, plan.seconds,
      [&] {
        const Timing timing = bench.measure(shape, item, replays);
        return std::uint64_t{timing.steps} * (replays + kBenchWarmUps);
      },
      reading);
}

std::string line(const EnergyReading& r) {
  std::string text =
      fmt::format("{:<10} {:>5} {:>8} {:<10}", r.work, r.batch ? fmt::to_string(r.batch) : "-",
                  r.context ? fmt::to_string(r.context) : "-", r.method);
  if (!r.left_out.empty()) return text + " " + r.left_out;
  text += fmt::format(" {:>6.2f} {:>9.1f} {:>7.1f}", r.seconds, r.joules, r.joules / r.seconds);
  if (r.steps == 0) return text;
  const double tokens = static_cast<double>(r.steps) * r.batch;
  return text + fmt::format(" {:>9.1f} {:>10.4f}", 1e6 * r.seconds / static_cast<double>(r.steps),
                            1000 * r.joules / tokens);
}

nlohmann::json row(const EnergyReading& r) {
  nlohmann::json json{{"work", r.work},         {"method", r.method},
                      {"batch", r.batch},       {"context", r.context},
                      {"seconds", r.seconds},   {"joules", r.joules},
                      {"steps", r.steps},       {"weight_bytes", r.weight_bytes},
                      {"kv_bytes", r.kv_bytes}, {"sm_mhz", r.sm_clock_mhz}};
  if (!r.left_out.empty()) json["left_out"] = r.left_out;
  return json;
}

}  // namespace

std::vector<EnergyReading> measure_energy(const EnergyPlan& plan) {
  const EnergyCounter counter;
  const ModelConfig config = config_of_shape(shape_from(plan.shape));
  std::vector<EnergyReading> readings;
  const auto keep = [&](EnergyReading reading) {
    fmt::print("{}\n", line(reading));
    std::fflush(stdout);
    readings.push_back(std::move(reading));
  };
  fmt::print("{:<10} {:>5} {:>8} {:<10} {:>6} {:>9} {:>7} {:>9} {:>10}\n", "work", "batch",
             "context", "method", "s", "J", "W", "us/step", "mJ/token");
  sm_clock_mhz();
  device_multiprocessors();  // the context exists: idle is that of a process that waits
  keep(read_idle(counter, plan.seconds));
  const auto each = [&](const std::string& work, std::uint64_t layers, const auto& read) {
    for (const std::uint32_t batch : plan.batches) {
      for (const std::string& method : plan.methods) {
        EnergyReading reading;
        reading.work = work;
        reading.method = method;
        reading.batch = batch;
        reading.context = plan.context;
        reading.kv_bytes =
            std::uint64_t{4} * layers * config.n_kv_heads * config.head_dim * batch * plan.context;
        try {
          read(reading);
        } catch (const Error& error) {
          reading.left_out = error.what();
        }
        keep(std::move(reading));
      }
    }
  };
  each("decode", config.n_layers,
       [&](EnergyReading& reading) { read_decode(counter, plan, config, reading); });
  std::vector<BenchShape> shapes;
  for (const std::uint32_t batch : plan.batches) {
    shapes.emplace_back();
    shapes.back().batch = batch;
    shapes.back().context = plan.context;
  }
  Bench bench(shapes, 3.5F);
  each("attention", 1,
       [&](EnergyReading& reading) { read_attention(counter, plan, bench, reading); });
  keep(read_idle(counter, plan.seconds));
  return readings;
}

void run_energy(const EnergyPlan& plan, const std::string& json, const std::string& command) {
  for (const std::string& method : plan.methods) {
    if (parse_method_and_budget(method, "--methods").second > kMaxGpuBudget)
      throw usage_error({"--methods"}, "'" + method + "'",
                        "a budget of at most " + std::to_string(kMaxGpuBudget));
  }
  const EnergyCounter counter;  // before anything is measured
  const Machine before = this_machine();
  nlohmann::json rows = nlohmann::json::array();
  for (const EnergyReading& reading : measure_energy(plan)) rows.push_back(row(reading));
  nlohmann::json head = result_head(command, before, this_machine());
  head["format"] = "stoat-energy";
  head["shape"] = plan.shape;
  head["boundary"] =
      "the board's own counter: GPU, HBM, converters, idle power included; nothing subtracted";
  if (!json.empty()) write_json(json, head, rows);
}

}  // namespace stoat::gpu
