// The answer of a sweep as files, in the order of the grid, priced from counts. Nothing of the host
// in them: equal sweeps, equal bytes, whoever simulated which point when.
//
// results.csv: index, point (its id), source (access, redrawn, synth, synth_fit), the sweep's keys,
//   the columns of summary.csv (results.h), one column of energy a component,
//   error_proxy (root of the mean of e^2, see point_source.h), error_proxy_low and _high (one
//   standard error of that mean), error_kind, kv_error (kv_error.h), total_error (both, as
//   independent errors add up), mean_participation (1 / sum p^2), model_layers.
// failed.csv: points that ran and gave nothing, with the reason; skipped.csv: points left out by a
//   rule (skipped) or because they make no sense (invalid). Neither is in results.csv.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sim/sweep/result_store.h"
#include "sim/sweep/run_point.h"
#include "sim/sweep/sweep_plan.h"

namespace stoat::sim {

struct SweepCounts {
  std::size_t points = 0, done = 0, failed = 0, missing = 0, skipped = 0, invalid = 0;
  std::size_t simulations = 0;  // distinct ones
};

struct SweepTables {
  std::string results, failed, skipped, manifest;
  SweepCounts counts;
};

// Reads every finished point from the store and prices it.
SweepTables make_sweep_tables(const SweepPlan& plan, ResultStore& store);
// The manifest is written last.
void write_sweep_tables(const std::string& folder, const SweepTables& tables);

// One point as (column, cell) pairs, as in results.csv.
std::vector<std::pair<std::string, std::string>> result_row(const SweepPlan& plan,
                                                            const PlannedPoint& point,
                                                            const PointResult& result);

}  // namespace stoat::sim
