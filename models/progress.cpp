// Progress on stderr.
#include "models/progress.h"

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

std::string eta_text(const ProgressView& view) {
  if (view.elapsed_seconds < kFirstEstimateSeconds || view.share <= 0) return "ETA ...";
  return "ETA " + duration_text(view.elapsed_seconds * (1 - view.share) / view.share);
}

}  // namespace

std::string progress_bar(const ProgressView& view) {
  const int filled = static_cast<int>(view.share * kBarWidth);
  return fmt::format("{:<8} [{:=<{}}{:<{}}] {}/{} {}  {}", view.what, "", filled, "",
                     kBarWidth - filled, view.done, view.total, view.unit, eta_text(view));
}

std::string progress_line(const ProgressView& view) {
  return fmt::format("{}: {} of {} {}, {}\n", view.what, view.done, view.total, view.unit,
                     eta_text(view));
}

Progress::Progress(std::string what, std::string unit, std::uint64_t total, bool quiet)
    : view_{std::move(what), std::move(unit), 0, total, 0, 0},
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
  view_.done = done;
  view_.share = total_work > 0 ? std::clamp(work / total_work, 0.0, 1.0) : 1.0;
  view_.elapsed_seconds = seconds();
  say(terminal_ ? "\r\x1b[K" + progress_bar(view_) : progress_line(view_));
  drawn_ = true;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace stoat
