// `stoat memory`: a DRAM standard under the reference patterns, with the first-ready controller.
#pragma once

#include "sim/verb.h"

namespace CLI {
class App;
}

namespace stoat::sim {

void add_memory_verb(CLI::App& app, VerbResult& result);

}  // namespace stoat::sim
