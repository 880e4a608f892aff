// A decoder over random rows and the recorder of a capture, with a clock around each.
#include "gpu/llm/recorded_bench.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "gpu/llm/cuda_decoder.h"
#include "gpu/llm/engine.h"
#include "gpu/recorder.h"

namespace stoat {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kLeastWarmUp = 4;

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::uint32_t largest_context(const StepTiming& row, std::uint32_t steps) {
  return row.context + steps + 8;
}

// A capture without a model's files or a prompt: random weights, random rows.
CapturePlan pretended_plan(const ModelConfig& config, const StepTiming& row, std::uint32_t steps) {
  CapturePlan plan;
  plan.model_folder = "random";
  plan.config = config;
  plan.prompts.resize(row.batch);
  plan.steps = steps;
  plan.largest_context = largest_context(row, steps);
  plan.random_weights = true;
  plan.backend.name = "cuda";
  plan.recording.method = row.method;
  if (row.method != Method::kDense) plan.recording.budgets = {row.budget};
  plan.recording.seed = 1;
  TraceHeader& header = plan.header;
  header.model_name = plan.model_folder;
  header.seed = 1;
  header.method = row.method;
  header.budgets = plan.recording.budgets;
  header.row_bytes = 2 * config.head_dim;
  header.n_layers = config.n_layers;
  header.n_q_heads = config.n_q_heads;
  header.n_kv_heads = config.n_kv_heads;
  header.head_dim = config.head_dim;
  return plan;
}

// Decodes and records as a capture does; at(done) after every step.
class RecordedRun {
 public:
  RecordedRun(const StepBenchOptions& options, const ModelConfig& config, const StepTiming& row,
              std::uint32_t steps)
      : plan_(pretended_plan(config, row, steps)),
        decoder_(make_pretending_decoder(plan_, pool_, row.context - 1)),
        recorder_(fmt::format("{}/stoat-bench-{}", options.folder, ::getpid()), plan_.header,
                  decoder_->bytes_a_step(), pool_.threads()) {}
  ~RecordedRun() {
    std::error_code ignored;
    std::filesystem::remove(recorder_.spool_path(), ignored);
  }

  void run(const std::function<void(std::uint32_t)>& at) {
    std::uint32_t submitted = 0;
    for (std::uint32_t collected = 0; collected < plan_.steps;) {
      const auto begin = Clock::now();
      for (; submitted < plan_.steps && submitted - collected < decoder_->depth(); ++submitted)
        decoder_->submit({});
      const auto queued = Clock::now();
      DecodedStep step = decoder_->collect();
      const auto decoded = Clock::now();
      recorder_.add(std::move(step));
      submit_ += queued - begin;
      wait_ += decoded - queued;
      add_ += Clock::now() - decoded;
      at(++collected);
    }
    recorder_.drain();
  }
  // Mean microseconds of a step that the decoding thread spent on each.
  void split(StepTiming& row) const {
    const auto mean = [&](Clock::duration sum) {
      return std::chrono::duration<double, std::micro>(sum).count() / plan_.steps;
    };
    row.submit_microseconds = mean(submit_);
    row.wait_microseconds = mean(wait_);
    row.add_microseconds = mean(add_);
  }
  std::uint64_t spool_bytes() const { return recorder_.spool_bytes(); }

 private:
  ThreadPool pool_;
  CapturePlan plan_;
  std::unique_ptr<Decoder> decoder_;
  Recorder recorder_;
  Clock::duration submit_{}, wait_{}, add_{};
};

// A long run may be slower than a short one without any recording, since the clock falls with the
// power drawn: recorded steps are compared with as many of these, after as long a warm-up and with
// as large a cache.
double time_unrecorded_steps(const ModelConfig& config, const StepTiming& row,
                             std::uint32_t warm_up, std::uint32_t steps) {
  gpu::EngineOptions o;
  o.batch = row.batch;
  o.capacity = largest_context(row, warm_up + steps);
  o.method = row.method;
  if (row.method != Method::kDense) o.budgets = {row.budget};
  o.seed = 1;
  gpu::Engine engine(config, gpu::DeviceWeights::random(config, 1), o);
  engine.pretend_context(row.context - 1, 7);
  for (std::uint32_t i = 0; i < warm_up; ++i) engine.submit();
  const gpu::DeviceEvent begin, end;
  begin.record(engine.stream());
  for (std::uint32_t i = 0; i < steps; ++i) engine.submit();
  end.record(engine.stream());
  end.wait();
  return 1000 * end.milliseconds_since(begin) / steps;
}

}  // namespace

// Wall time from the end of the warm-up to the last step on its way to the spool: by then threads
// and disk have long been what the decode waits for, if it waits.
void time_recorded_steps(const StepBenchOptions& options, const ModelConfig& config,
                         StepTiming& row) {
  const std::uint32_t warm_up = std::max(kLeastWarmUp, options.record / 4);
  row.unrecorded_microseconds = time_unrecorded_steps(config, row, warm_up, options.record);
  RecordedRun run(options, config, row, warm_up + options.record);
  Clock::time_point begin, end;
  run.run([&](std::uint32_t done) {
    if (done == warm_up) begin = Clock::now();
    end = Clock::now();
    if (done == warm_up + options.record)
      row.resident_megabytes = static_cast<double>(resident_bytes()) / 1e6;
  });
  row.recorded_microseconds =
      std::chrono::duration<double, std::micro>(end - begin).count() / options.record;
  run.split(row);
  row.recorded_megabytes =
      static_cast<double>(run.spool_bytes()) / 1e6 / (warm_up + options.record);
}

void record_many_steps(const StepBenchOptions& options, const ModelConfig& config,
                       const StepTiming& row,
                       const std::function<void(const EndurancePoint&)>& at) {
  RecordedRun run(options, config, row, options.endurance);
  const Clock::time_point begin = Clock::now();
  run.run([&](std::uint32_t done) {
    if (done % std::max(1U, options.endurance / 10) != 0) return;
    at({done, static_cast<double>(resident_bytes()) / 1e6,
        static_cast<double>(run.spool_bytes()) / 1e6,
        std::chrono::duration<double>(Clock::now() - begin).count()});
  });
}

}  // namespace stoat
