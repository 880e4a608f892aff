// A process a task, forked without exec from a parent that has parsed everything; limits, one
// retry, and a reason for every failure.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

namespace stoat::sim {

struct WorkerLimits {
  unsigned jobs = 1;
  std::uint64_t memory_bytes = 0;  // above what the parent has; 0 = none
  double seconds = 0;              // a task; 0 = none
  unsigned attempts = 2;
};

struct TaskOutcome {
  bool good = false;
  bool usage = false;  // the task's own configuration is wrong: not tried again
  std::string text;    // the answer, or the reason of the last attempt
  unsigned attempts = 0;
};

// Runs work(0) ... work(count - 1) in children and hands over each outcome in the parent, in the
// order in which tasks end. `idle` is called a few times a second. Stops early when `stop` is set:
// running children are ended and their tasks are not reported. Returns how many were reported.
std::uint64_t run_workers(std::uint64_t count, const WorkerLimits& limits,
                          const std::function<std::string(std::uint64_t task)>& work,
                          const std::function<void(std::uint64_t task, TaskOutcome&&)>& done,
                          const std::function<void()>& idle, const std::atomic<bool>& stop);

// "killed by signal 6 (Aborted)" and the like, from a status of waitpid.
std::string death_text(int wait_status);

}  // namespace stoat::sim
