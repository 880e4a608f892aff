// What the program's main and its verbs share.
#pragma once

#include <string>
#include <vector>

#include "models/error.h"

namespace stoat::sim {

// A verb's callback runs it and leaves its exit code here.
struct VerbResult {
  ExitCode code = ExitCode::kOk;
  std::vector<std::string> command_line;  // as typed, the program's name first
};

// Looks before a long job whether results can go to this folder, which may be new. Throws Error:
// usage for an empty name, a file, a device or a dangling link, also on the way to it; resource
// where nothing can be written.
void ensure_output_folder(const std::string& path);

// Text to stdout. When it cannot be written, the Error says that `whole` is whole nevertheless.
void print_answer(const std::string& text, const std::string& whole);

}  // namespace stoat::sim
