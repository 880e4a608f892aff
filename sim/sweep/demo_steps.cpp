// Folder, children and progress of the demo. See demo_steps.h.
#include "sim/sweep/demo_steps.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "models/error.h"
#include "models/files.h"
#include "models/streams.h"

namespace stoat::sim {
namespace {

namespace fs = std::filesystem;
constexpr const char* kFormat = "stoat-demo";

nlohmann::ordered_json read_state(const std::string& path) {
  std::error_code failure;
  if (!fs::exists(path, failure)) return {};
  nlohmann::ordered_json state =
      nlohmann::ordered_json::parse(read_file(path, 1u << 20), nullptr, false);
  if (state.is_discarded() || !state.is_object() || state.value("format", "") != kFormat) return {};
  return state;
}

// The last line with something in it, for messages.
std::string last_line(const std::string& path) {
  std::string text;
  try {
    text = read_file(path, 64u << 20);
  } catch (const Error&) {
    return {};
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text.substr(text.find_last_of("\r\n") + 1);
}

[[noreturn]] void become(const std::vector<std::string>& arguments, int log) {
  ::signal(SIGINT, SIG_DFL);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  std::vector<char*> words;
  for (const std::string& argument : arguments)
    words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  ::execv(words[0], words.data());
  const std::string message =
      std::string("cannot start ") + words[0] + ": " + std::strerror(errno) + "\n";
  if (::write(STDERR_FILENO, message.data(), message.size()) < 0) ::_exit(126);
  ::_exit(static_cast<int>(ExitCode::kUsage));
}

ExitCode known_code(int code) {
  switch (static_cast<ExitCode>(code)) {
    case ExitCode::kUsage:
    case ExitCode::kDamaged:
    case ExitCode::kResource:
    case ExitCode::kPointsFailed:
    case ExitCode::kInterrupted:
      return static_cast<ExitCode>(code);
    default:
      return ExitCode::kResource;
  }
}

void check_end(int status, const std::string& program, const std::string& log) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  if (code == static_cast<int>(ExitCode::kInterrupted) ||
      (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT)) {
    throw Error(ExitCode::kInterrupted,
                "interrupted; `stoat demo` again goes on after the last finished step");
  }
  const std::string how = WIFSIGNALED(status)
                              ? fmt::format("was killed by signal {}", WTERMSIG(status))
                              : fmt::format("failed with exit code {}", code);
  throw Error(known_code(code),
              fmt::format("{} {}: {} (log: {})", program, how, last_line(log), log));
}

}  // namespace

void claim_demo_folder(const std::string& folder) {
  std::error_code failure;
  if (fs::exists(folder, failure) && !fs::is_directory(folder, failure)) {
    throw usage_error({folder}, "this is a file", "a folder for the demo",
                      "choose another with -o DIR");
  }
  const bool ours = !read_state(folder + "/demo.json").is_null();
  if (fs::is_directory(folder, failure) && !fs::is_empty(folder, failure) && !ours) {
    throw usage_error({folder}, "this folder holds something else",
                      "a new folder, or one of an earlier demo", "choose another with -o DIR");
  }
  make_folders(folder);
  if (!ours) {  // first, so that on a full disk no folder is left that the next demo does not know
    write_file_whole(folder + "/demo.json",
                     nlohmann::ordered_json{{"format", kFormat}}.dump(2) + "\n");
  }
  make_folders(folder + "/log");
}

DemoState::DemoState(std::string folder) : path_(std::move(folder) + "/demo.json") {
  const nlohmann::ordered_json state = read_state(path_);
  if (!state.is_object() || !state.contains("steps") || !state["steps"].is_object()) return;
  for (const auto& item : state["steps"].items()) {
    if (item.value().is_string()) steps_.emplace_back(item.key(), item.value().get<std::string>());
  }
}

bool DemoState::has(const std::string& step, const std::string& key) const {
  for (const auto& [name, known] : steps_) {
    if (name == step) return known == key;
  }
  return false;
}

void DemoState::set(const std::string& step, const std::string& key) {
  bool found = false;
  for (auto& [name, known] : steps_) {
    if (name != step) continue;
    known = key;
    found = true;
  }
  if (!found) steps_.emplace_back(step, key);
  write();
}

void DemoState::write() const {
  nlohmann::ordered_json state = {{"format", kFormat}, {"steps", nlohmann::ordered_json::object()}};
  for (const auto& [name, key] : steps_) state["steps"][name] = key;
  write_file_whole(path_, state.dump(2) + "\n");
}

DemoProgress::DemoProgress(int steps)
    : steps_(steps),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

void DemoProgress::begin(const std::string& what) {
  ++step_;
  what_ = what;
  step_start_ = std::chrono::steady_clock::now();
  tick();
}

void DemoProgress::tick() {
  if (!terminal_) return;
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - step_start_;
  say(fmt::format("\r[{}/{}] {:<40} {:5.0f} s", step_, steps_, what_, passed.count()));
}

void DemoProgress::end(const std::string& how) {
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - step_start_;
  say(fmt::format("{}[{}/{}] {:<40} {:5.1f} s{}\n", terminal_ ? "\r" : "", step_, steps_, what_,
                  passed.count(), how.empty() ? "" : "  " + how));
}

double DemoProgress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void run_logged(const std::vector<std::string>& arguments, const std::string& log,
                DemoProgress& progress) {
  const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0)
    throw resource_error({log}, std::string("cannot be written: ") + std::strerror(errno));
  // The child gets the terminal's interrupt too, ends in order and says so; the parent only waits.
  auto* const before = ::signal(SIGINT, SIG_IGN);
  const pid_t child = ::fork();
  if (child == 0) become(arguments, file);
  ::close(file);
  int status = 0;
  while (child > 0) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child || (ended < 0 && errno != EINTR)) break;
    progress.tick();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ::signal(SIGINT, before);
  if (child < 0)
    throw resource_error({}, std::string("cannot start a process: ") + std::strerror(errno));
  check_end(status, fs::path(arguments.front()).filename().string(), log);
}

}  // namespace stoat::sim
