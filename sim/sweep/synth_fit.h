// What a recorded trace says about contexts that were not recorded: how sharp attention is, how
// much of it lies on the newest rows and on the first ones, and how much the heads of a group
// agree. Recency and agreement are found by trying: of many synthetic steps like the recorded ones,
// those that look most like them. A fit of four numbers and no more: which rows matter is not in
// it.
#pragma once

#include <optional>
#include <string>

#include "sim/sweep/point_source.h"

namespace stoat::sim {

struct SynthFit {
  std::optional<double> recency;      // nothing: the trace holds neither drawn rows nor scores
  std::optional<double> correlation;  // of the logits of the heads of one group
  std::uint32_t sinks = 0;
};

// Deterministic; costs some tens of synthetic steps of one layer.
SynthFit fit_synth(const LoadedTrace& trace);
// Participation at another context: a power law through the recorded steps where they span a
// factor of 1.5 at least, else what was recorded; from 1 to the context.
double fitted_participation(const LoadedTrace& trace, std::uint32_t context);

}  // namespace stoat::sim
