// Progress on stderr.
#include "gpu/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/streams.h"

namespace stoat {
namespace {
constexpr int kBarWidth = 30;
constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 30.0;
constexpr double kFirstEstimateSeconds = 0.5;  // before that an ETA would be a guess
}  // namespace

Progress::Progress(std::string what, std::uint64_t total, bool quiet)
    : what_(std::move(what)),
      total_(total),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) != 0),
      begin_(Clock::now()),
      last_(begin_) {}

Progress::~Progress() {
  if (drawn_ && terminal_) say("\r\x1b[K");
}

double Progress::seconds() const {
  return std::chrono::duration<double>(Clock::now() - begin_).count();
}

void Progress::at(std::uint64_t done, double work, double total_work) {
  if (quiet_) return;
  const Clock::time_point now = Clock::now();
  if (std::chrono::duration<double>(now - last_).count() <
      (terminal_ ? kRedrawSeconds : kLineSeconds))
    return;
  last_ = now;
  const double share = total_work > 0 ? std::min(1.0, work / total_work) : 1.0;
  const double elapsed = seconds();
  std::string eta = "ETA ...";
  if (elapsed >= kFirstEstimateSeconds && share > 0)
    eta = "ETA " + duration_text(elapsed * (1 - share) / share);
  if (terminal_) {
    const int filled = static_cast<int>(share * kBarWidth);
    say(fmt::format("\r\x1b[K{:<8} [{:=<{}}{:<{}}] {}/{}  {}", what_, "", filled, "",
                    kBarWidth - filled, done, total_, eta));
  } else {
    say(fmt::format("{}: {} of {} tokens, {}\n", what_, done, total_, eta));
  }
  drawn_ = true;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace stoat
