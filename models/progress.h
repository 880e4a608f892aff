// Talk about a long job: a bar with an honest ETA on a terminal, a line every 30 seconds elsewhere,
// nothing when quiet. Goes to stderr and never throws because of it.
//
// Not for results, and no clock of the study: what is measured elsewhere comes from the simulator.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace stoat {

// What a bar or a line shows. `share` is the part of the work done, 0 to 1.
struct ProgressView {
  std::string what;  // "prefill"
  std::string unit;  // "tokens"
  std::uint64_t done = 0, total = 0;
  double share = 0;
  double elapsed_seconds = 0;
};
std::string progress_bar(const ProgressView& view);   // one line without its end
std::string progress_line(const ProgressView& view);  // one line with its end

class Progress {
 public:
  Progress(std::string what, std::string unit, std::uint64_t total, bool quiet);
  ~Progress();  // removes the bar from a terminal
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `work` is done units weighted by their cost, on the same scale as total_work (attention over n
  // tokens costs n^2).
  void at(std::uint64_t done, double work, double total_work);
  void at(std::uint64_t done) {
    at(done, static_cast<double>(done), static_cast<double>(view_.total));
  }
  double seconds() const;  // since it was made

 private:
  using Clock = std::chrono::steady_clock;
  ProgressView view_;
  bool quiet_, terminal_;
  bool drawn_ = false;
  Clock::time_point begin_, last_;
};

// "42 s", "3 min 20 s", "1 h 05 min".
std::string duration_text(double seconds);

}  // namespace stoat
