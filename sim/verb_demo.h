// `stoat demo`: the shipped model decodes a prompt three ways, three datapaths replay it, a report
// says what came of it.
#pragma once

#include <cstdint>
#include <string>

#include "models/error.h"
#include "sim/verb.h"

namespace CLI {
class App;
}

namespace stoat::sim {

struct DemoOptions {
  std::string folder = "stoat-demo";
  std::uint64_t seed = 1;
  unsigned threads = 0;  // 0: all
  bool json = false;
};

void add_demo_verb(CLI::App& app, VerbResult& result);
ExitCode run_demo(const DemoOptions& options);  // throws Error

}  // namespace stoat::sim
