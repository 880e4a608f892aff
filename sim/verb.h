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

}  // namespace stoat::sim
