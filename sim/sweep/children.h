// One child process a piece of work: the SystemC kernel elaborates once a process, and a crash
// stays the child's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace stoat::sim {

struct ChildTask {
  std::string name;  // for messages
  // Runs in the child; what it returns reaches the parent. The counter is shared with the parent.
  std::function<std::string(std::atomic<std::uint64_t>& progress)> work;
};

// Runs all tasks, at most `at_once` side by side, and returns what they returned, in order. `tick`
// is called in the parent a few times a second with the sum of the counters. A child's Error is
// thrown again in the parent with its exit code; Bug likewise; a child that died throws Error
// (resource) naming task and signal. The others are stopped then.
std::vector<std::string> run_children(const std::vector<ChildTask>& tasks, unsigned at_once,
                                      const std::function<void(std::uint64_t done)>& tick);

}  // namespace stoat::sim
