// The local engine: workers, state, progress.
#include "sim/sweep/sweep_run.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <memory>
#include <unordered_set>

#include "models/files.h"
#include "models/progress.h"
#include "models/streams.h"

namespace stoat::sim {
namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

extern "C" void request_stop(int) { stop_requested = true; }

class StopOnSignal {
 public:
  StopOnSignal() {
    stop_requested = false;
    struct sigaction action {};
    action.sa_handler = request_stop;
    ::sigaction(SIGINT, &action, &before_int_);
    ::sigaction(SIGTERM, &action, &before_term_);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  ~StopOnSignal() {
    ::sigaction(SIGINT, &before_int_, nullptr);
    ::sigaction(SIGTERM, &before_term_, nullptr);
  }

 private:
  struct sigaction before_int_ {
  }, before_term_{};
};

// A bar on a terminal, a line every 30 s elsewhere: done, points/s, failures, ETA.
class SweepProgress {
 public:
  SweepProgress(std::uint64_t total, bool quiet)
      : total_(total), quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}
  SweepProgress(const SweepProgress&) = delete;
  SweepProgress& operator=(const SweepProgress&) = delete;
  ~SweepProgress() {
    if (drawn_ && terminal_) say("\r\x1b[K");
  }
  void one(bool good) {
    ++done_;
    failed_ += good ? 0 : 1;
  }
  void draw() {
    const auto now = Clock::now();
    const double since = std::chrono::duration<double>(now - last_).count();
    if (quiet_ || total_ == 0 || since < (terminal_ ? 0.2 : 30.0)) return;
    last_ = now;
    const double elapsed = seconds();
    const auto rate = static_cast<double>(done_) / std::max(elapsed, 1e-9);
    std::string unit = "points, " + std::to_string(static_cast<std::uint64_t>(rate * 10) / 10) +
                       "." + std::to_string(static_cast<std::uint64_t>(rate * 10) % 10) + "/s, " +
                       std::to_string(failed_) + " failed";
    const ProgressView view{"sweep",
                            std::move(unit),
                            done_,
                            total_,
                            static_cast<double>(done_) / static_cast<double>(total_),
                            elapsed};
    say(terminal_ ? "\r\x1b[K" + progress_bar(view) : progress_line(view));
    drawn_ = true;
  }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  std::uint64_t total_, done_ = 0, failed_ = 0;
  bool quiet_, terminal_, drawn_ = false;
  Clock::time_point begin_ = Clock::now(), last_ = begin_;
};

std::unique_ptr<ResultStore> open_store(const std::string& folder) {
  if (folder.empty()) return nullptr;
  make_folders(folder);
  return std::make_unique<ResultStore>(folder + "/store.sqlite");
}

// Shards that lie there count as finished.
void take_shards(const SweepFolder& folder, ResultStore& state, std::vector<std::string>& damage) {
  const ShardContents shards = read_shards(folder.shards());
  damage.insert(damage.end(), shards.damage.begin(), shards.damage.end());
  if (shards.results.empty() && shards.failures.empty()) return;
  const std::unordered_set<std::string> have = state.keys();
  state.begin();
  for (const auto& [key, body] : shards.results) {
    if (have.count(key) == 0) state.put(key, body);
  }
  for (const auto& [key, failure] : shards.failures) {
    if (have.count(key) == 0) state.put_failure(failure);
  }
  state.commit();
}

// Keys of what has an answer, in the state and in the shards.
struct Ended {
  explicit Ended(const SweepFolder& folder) {
    std::error_code failure;
    if (std::filesystem::exists(folder.state(), failure)) {
      const ResultStore state = ResultStore::read_only(folder.state());
      good = state.keys();
      for (const StoredFailure& each : state.failures()) failed.insert(each.key);
    }
    const ShardContents shards = read_shards(folder.shards());
    for (const auto& [key, body] : shards.results) good.insert(key);
    for (const auto& [key, each] : shards.failures) failed.insert(key);
  }
  std::unordered_set<std::string> good, failed;
};

}  // namespace

SweepRunReport run_sweep(const SweepFolder& folder, const SweepPlan& plan,
                         const SweepRunOptions& options) {
  const FolderLock lock(folder);
  ResultStore state(folder.state());
  std::vector<std::string> damage;
  take_shards(folder, state, damage);
  for (const std::string& each : damage) say("stoat: " + each + "\n");
  state.forget_failures();  // a new run tries them again
  const std::unique_ptr<ResultStore> store = open_store(options.store);

  SweepRunReport report;
  std::vector<std::uint32_t> todo;
  for (const std::uint32_t index : plan.simulations()) {
    const std::string& key = plan.points()[index].sim_key;
    if (state.find(key)) {
      ++report.found;
      continue;
    }
    const auto shared = store ? store->find(key) : std::nullopt;
    if (shared) {
      state.put(key, *shared);
      ++report.found;
    } else {
      todo.push_back(index);
    }
  }
  {
    const StopOnSignal signals;
    SweepProgress progress(todo.size(), options.quiet);
    const auto done = [&](std::uint64_t task, TaskOutcome&& outcome) {
      const std::string& key = plan.points()[todo[task]].sim_key;
      if (outcome.good) {
        state.put(key, outcome.text);
        if (store) store->put(key, outcome.text);
      } else {
        state.put_failure({key, outcome.text, outcome.attempts});
      }
      progress.one(outcome.good);
      ++report.simulated;
    };
    run_workers(
        todo.size(), options.limits,
        [&](std::uint64_t task) { return run_point(plan.points()[todo[task]]); }, done,
        [&] { progress.draw(); }, stop_requested);
    report.interrupted = stop_requested;
    report.seconds = progress.seconds();
  }
  if (report.interrupted) {
    report.counts = count_sweep(folder, plan);
    return report;
  }
  const SweepTables tables = make_sweep_tables(plan, state);
  write_sweep_tables(folder.path(), tables);
  report.counts = tables.counts;
  return report;
}

SweepRunReport run_shard(const SweepFolder& folder, const SweepPlan& plan, ShardNumber shard,
                         const SweepRunOptions& options) {
  SweepRunReport report;
  std::unordered_set<std::string> have;
  {  // not the state: SQLite and a network file system do not go together
    const ShardContents before = read_shards(folder.shards());
    for (const auto& [key, body] : before.results) have.insert(key);
  }
  std::vector<std::uint32_t> todo;
  for (std::size_t i = shard.index; i < plan.simulations().size(); i += shard.count) {
    const std::uint32_t index = plan.simulations()[i];
    if (have.count(plan.points()[index].sim_key) == 0) {
      todo.push_back(index);
    } else {
      ++report.found;
    }
  }
  report.counts.points = report.found + todo.size();
  if (todo.empty()) return report;
  ShardWriter writer(folder.shards(), shard);
  const StopOnSignal signals;
  SweepProgress progress(todo.size(), options.quiet);
  const auto done = [&](std::uint64_t task, TaskOutcome&& outcome) {
    const std::string& key = plan.points()[todo[task]].sim_key;
    if (outcome.good) {
      writer.result(key, outcome.text);
    } else {
      writer.failure({key, outcome.text, outcome.attempts});
      ++report.counts.failed;
    }
    progress.one(outcome.good);
    ++report.simulated;
  };
  run_workers(
      todo.size(), options.limits,
      [&](std::uint64_t task) { return run_point(plan.points()[todo[task]]); }, done,
      [&] { progress.draw(); }, stop_requested);
  report.interrupted = stop_requested;
  report.seconds = progress.seconds();
  report.counts.done = report.found + report.simulated - report.counts.failed;
  report.counts.missing = todo.size() - report.simulated;
  return report;
}

SweepCounts merge_sweep(const SweepFolder& folder, const SweepPlan& plan,
                        std::vector<std::string>& damage) {
  const FolderLock lock(folder);
  ResultStore state(folder.state());
  take_shards(folder, state, damage);
  const SweepTables tables = make_sweep_tables(plan, state);
  write_sweep_tables(folder.path(), tables);
  return tables.counts;
}

SweepCounts count_sweep(const SweepFolder& folder, const SweepPlan& plan) {
  const Ended ended(folder);
  SweepCounts counts;
  counts.points = plan.points().size();
  counts.simulations = plan.simulations().size();
  for (const PlannedPoint& point : plan.points()) {
    if (point.state == PlannedPoint::State::kSkipped) {
      ++counts.skipped;
    } else if (point.state == PlannedPoint::State::kInvalid) {
      ++counts.invalid;
    } else if (ended.good.count(point.sim_key) != 0) {
      ++counts.done;
    } else {
      ++(ended.failed.count(point.sim_key) != 0 ? counts.failed : counts.missing);
    }
  }
  return counts;
}

std::vector<std::uint32_t> missing_points(const SweepFolder& folder, const SweepPlan& plan) {
  const Ended ended(folder);
  std::vector<std::uint32_t> missing;
  for (const PlannedPoint& point : plan.points()) {
    if (point.state == PlannedPoint::State::kRun && ended.good.count(point.sim_key) == 0 &&
        ended.failed.count(point.sim_key) == 0)
      missing.push_back(point.index);
  }
  return missing;
}

}  // namespace stoat::sim
