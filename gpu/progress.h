// Talk about a long job: a bar with an honest ETA on a terminal, a line every 30 seconds elsewhere,
// nothing when quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace stoat {

class Progress {
 public:
  Progress(std::string what, std::uint64_t total, bool quiet);
  ~Progress();  // ends the line on a terminal
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `work` is done units weighted by their cost, on the same scale as total_work (attention over n
  // tokens costs n^2).
  void at(std::uint64_t done, double work, double total_work);
  void at(std::uint64_t done) { at(done, static_cast<double>(done), static_cast<double>(total_)); }
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  std::uint64_t total_;
  bool quiet_, terminal_;
  bool drawn_ = false;
  Clock::time_point begin_, last_;
};

// "42 s", "3 min 20 s", "1 h 05 min".
std::string duration_text(double seconds);

}  // namespace stoat
