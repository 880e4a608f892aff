// What the results of the emulated score pass must be. Not a test.
#pragma once

#include <cstdint>
#include <string>

#include "tests/gpu/emulation/batch.h"
#include "tests/gpu/emulation/kernels.h"

namespace stoat::emulation {

// The first thing that is wrong with the results of `launch` (its blocks are the case's), or "":
// codes within 1 of those of scores in double and nearly all equal, exponents theirs, masses
// exactly those of the codes, signals and the counter of tiles as the gather and the next launch
// need them, no bank conflict.
std::string what_is_wrong(const BatchCase& of, Launch launch);

}  // namespace stoat::emulation
