// What a narrower KV element costs in accuracy: the rival's side of the comparison with sampling.
#pragma once

#include "sim/design_point.h"

namespace stoat::sim {

// Root mean square of the rounding error of V against bf16, relative to V, for independent normal
// elements: fp8 as e4m3, int8 with one scale a row of 128. Independent errors average out as
// independent values do, so it is the relative error of the attention output too (K's share is left
// out). 0 for bf16. A fixed draw: the same on every machine.
double kv_rounding_error(KvElement element);

}  // namespace stoat::sim
