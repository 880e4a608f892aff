// Job scripts for Slurm over `stoat sweep run --shard I/N`: an array and a merge that waits for it.
// Needs sbatch and squeue, no accounting database.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/sweep/sweep_folder.h"
#include "sim/sweep/sweep_plan.h"

namespace stoat::sim {

struct SlurmOptions {
  std::string engine = "slurm";
  std::uint32_t shards = 16, at_once = 0, jobs = 1;
  std::string time, memory, partition, point_memory, point_time;
  bool dry_run = false;
};

struct SlurmJobs {
  std::string array_script, merge_script, array_job, merge_job;  // jobs empty in a dry run
  std::uint32_t shards = 0;
  std::string text;  // for people
};

// Writes FOLDER/slurm/array.sh and merge.sh and submits them. Throws Error.
SlurmJobs submit_slurm(const SweepFolder& folder, const SweepPlan& plan,
                       const SlurmOptions& options);

struct QueueEntry {
  std::string job, state, reason;
};
// The jobs of this folder that the queue still knows; empty without jobs or without an answer.
std::vector<QueueEntry> slurm_queue(const SweepFolder& folder);

}  // namespace stoat::sim
