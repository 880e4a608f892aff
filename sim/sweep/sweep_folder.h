// A sweep's results folder: what was asked (sweep.json), who works in it (lock), its files.
//
//   sweep.json     format, version, the sweep file's text and the folder it was in
//   lock           held by the one local run; names its holder
//   state.sqlite   finished and failed points (result_store.h)
//   shards/        of a cluster: append-only, merged into the state (shards.h)
//   slurm/         scripts and logs of stoat sweep submit
//   results.csv failed.csv skipped.csv manifest.json   the answer (sweep_tables.h)
#pragma once

#include <string>

#include "sim/sweep/sweep_spec.h"

namespace stoat::sim {

class SweepFolder {
 public:
  // Makes the folder or takes an existing one of this version, and records what is asked. Throws
  // Error for a folder of another version or one that holds something else.
  static SweepFolder create(const std::string& path, const std::string& sweep_file);
  // An existing one. Throws Error.
  static SweepFolder open(const std::string& path);
  static bool is_one(const std::string& path);

  const std::string& path() const { return path_; }
  const std::string& text() const { return text_; }  // of the sweep file
  SweepSpec spec() const;
  std::string state() const { return path_ + "/state.sqlite"; }
  std::string shards() const { return path_ + "/shards"; }
  std::string lock() const { return path_ + "/lock"; }
  std::string slurm() const { return path_ + "/slurm"; }

 private:
  std::string path_, text_, file_, folder_;
};

// Held while a run works in a folder; the kernel lets go when the process dies.
class FolderLock {
 public:
  // Throws Error (resource) that names the holder.
  explicit FolderLock(const SweepFolder& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  // "process 123 on host, since ...", or empty when nobody holds it.
  static std::string holder(const SweepFolder& folder);

 private:
  int file_ = -1;
};

}  // namespace stoat::sim
