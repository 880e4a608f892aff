// `stoat sim ARCH TRACE -o DIR`: replays a trace on an accelerator and writes what it cost.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/error.h"
#include "sim/verb.h"

namespace CLI {
class App;
}

namespace stoat::sim {

struct SimOptions {
  std::string arch;   // name or path
  std::string trace;  // path
  std::string out;    // folder
  std::string datapath = "all";
  std::vector<std::string> overrides;  // --set path=value
  std::string steps, layers;           // "A:B", empty = all
  std::string timeline;                // file, empty = none
  std::uint64_t timeline_limit = 500000;
  std::string dram_prices, boundary = "die";  // a set of models/dram/energy; empty: none
  bool external_memory = false;               // the model of -DSTOAT_EXTERNAL_MEMORY
  std::vector<std::string> limits;            // "4 GiB", "60 s"
  std::vector<std::string> compare;           // two result folders; then nothing else is looked at
  bool json = false;                          // the summary as JSON on stdout instead of the table
  bool quiet = false;                         // no table and no progress
  std::vector<std::string> command_line;
};

void add_sim_verb(CLI::App& app, VerbResult& result);
// Throws Error. Also what `stoat demo` calls.
ExitCode run_sim(const SimOptions& options);

}  // namespace stoat::sim
