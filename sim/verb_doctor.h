// `stoat doctor`: what this machine can do, and what is missing for the rest. Looks, changes
// nothing.
#pragma once

#include <string>
#include <vector>

#include "sim/verb.h"

namespace CLI {
class App;
}

namespace stoat::sim {

struct Finding {
  std::string what;   // "GPU"
  bool there = true;  // false: missing, and what that leaves out is in text
  std::string text;
};
std::vector<Finding> examine_machine();
// [name, text] of each GPU in what nvidia-smi prints for
// --query-gpu=name,driver_version,memory.total,memory.free --format=csv,noheader.
std::vector<Finding> gpus_of(const std::string& nvidia_smi);

void add_doctor_verb(CLI::App& app, VerbResult& result);

}  // namespace stoat::sim
