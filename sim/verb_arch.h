// `stoat arch list | show | validate | explain`: the accelerators, what they say and what follows.
#pragma once

#include "sim/verb.h"

namespace CLI {
class App;
}

namespace stoat::sim {

void add_arch_verb(CLI::App& app, VerbResult& result);

}  // namespace stoat::sim
