// Running a sweep's points on this machine: all of them, or one shard's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/error.h"
#include "sim/sweep/shards.h"
#include "sim/sweep/sweep_folder.h"
#include "sim/sweep/sweep_tables.h"
#include "sim/sweep/worker_pool.h"

namespace stoat::sim {

struct SweepRunOptions {
  WorkerLimits limits;
  std::string store;  // a folder whose results sweeps share; empty: none
  bool quiet = false;
};

struct SweepRunReport {
  SweepCounts counts;
  std::uint64_t simulated = 0;  // in this run
  std::uint64_t found = 0;      // finished before, here or in the store
  double seconds = 0;
  bool interrupted = false;
};

// Runs what is not finished and writes the tables. SIGINT and SIGTERM end it: what is finished
// stays. Throws Error.
SweepRunReport run_sweep(const SweepFolder& folder, const SweepPlan& plan,
                         const SweepRunOptions& options);

// Runs one shard's points into shards/; writes no tables.
SweepRunReport run_shard(const SweepFolder& folder, const SweepPlan& plan, ShardNumber shard,
                         const SweepRunOptions& options);

// Takes the shards into the state and writes the tables. `damage` names what could not be read.
SweepCounts merge_sweep(const SweepFolder& folder, const SweepPlan& plan,
                        std::vector<std::string>& damage);

// What is finished, without running anything.
SweepCounts count_sweep(const SweepFolder& folder, const SweepPlan& plan);
// Indices of the points that neither finished nor failed.
std::vector<std::uint32_t> missing_points(const SweepFolder& folder, const SweepPlan& plan);

}  // namespace stoat::sim
