// What the results of the emulated gather must be. Not a test.
#pragma once

#include <cstdint>
#include <string>

#include "tests/gpu/emulation/batch.h"
#include "tests/gpu/emulation/kernels.h"

namespace stoat::emulation {

// The first thing that is wrong with a gather on codes of the emulated score pass, or "": rows and
// counts exactly those of models/sampling, outputs within 2e-5 of the gather of those in double,
// log-sum-exp that of the codes. params: with method and budget.
std::string what_is_wrong(const Batch& batch, const BatchCase& of, const gpu::DecodeParams& params,
                          const ScoreResults& scores, const GatherResults& got);
// The same of run_gather() or, for top-k, run_topk() with these.
std::string what_is_wrong(const Batch& batch, const BatchCase& of, const gpu::DecodeParams& params,
                          const ScoreResults& scores, const Cut& cut, const Launch& launch);

}  // namespace stoat::emulation
