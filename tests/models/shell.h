// A program as people start it: one shell command, its exit code and what it printed. Not a test.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <regex>
#include <string>

namespace stoat {

struct Outcome {
  int code = -1;     // 128 + the signal that ended it
  std::string text;  // what came on stdout; 2>&1 in the command: stderr, too
};

inline Outcome shell(const std::string& command) {
  Outcome outcome;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return outcome;
  char buffer[4096];
  std::size_t n = 0;
  while ((n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0) outcome.text.append(buffer, n);
  const int status = ::pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  // AddressSanitizer warns of itself where an exception leaves one of SystemC's stacks.
  static const std::regex kWarning(
      "==\\d+==WARNING: ASan is ignoring requested __asan_handle_no_return[^\\n]*\\n"
      "False positive[^\\n]*\\nFor details[^\\n]*\\n");
  outcome.text = std::regex_replace(outcome.text, kWarning, "");
  return outcome;
}

}  // namespace stoat
