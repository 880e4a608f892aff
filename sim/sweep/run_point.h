// One point, from its records to its counts: what a worker does.
#pragma once

#include <string>

#include "sim/engine/result.h"
#include "sim/sweep/point_source.h"
#include "sim/sweep/sweep_plan.h"

namespace stoat::sim {

struct PointResult {
  DatapathResult counts;
  DrawError error;
  double participation = 0;
};

// Simulates (so once a process) and returns the result as JSON text, equal for equal points.
std::string run_point(const PlannedPoint& point);
// Throws Error (damaged) for text that is no result.
PointResult read_point_result(const std::string& text);

}  // namespace stoat::sim
