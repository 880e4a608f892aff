// `stoat sweep plan | run | resume | status | merge | watch | submit`: many points, any order, the
// same bytes.
#pragma once

#include "sim/verb.h"

namespace CLI {
class App;
}

namespace stoat::sim {

void add_sweep_verb(CLI::App& app, VerbResult& result);

}  // namespace stoat::sim
