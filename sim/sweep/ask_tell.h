// Points from somebody else's search: a line of JSON in, a line of JSON out.
//
//   {"describe": true}                            -> {"axes": {"budget": {"values": [...]}, ...}}
//   {"id": 7, "set": {"budget": 64, ...}}         -> {"id": 7, "status": "done", "row": {...}}
//                                        or {"id": 7, "status": "failed" | "invalid", "reason":
//                                        "..."}
// Keys that a line does not set come from the sweep's `set:`; its axes are a description for the
// driver, not a limit. Results go to the folder's state: asking twice simulates once. At the end of
// the input the rows asked for are written to asked.csv, in order.
#pragma once

#include "sim/sweep/sweep_folder.h"
#include "sim/sweep/sweep_run.h"

namespace stoat::sim {

ExitCode ask_tell(const SweepFolder& folder, const SweepSpec& spec, const SweepRunOptions& options);

}  // namespace stoat::sim
