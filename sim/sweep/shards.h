// Results of a cluster's workers: append-only files in a shared folder, one a worker process, so no
// two processes ever write to the same file. A line is "CRC32C JSON"; what a dead worker left half
// written is ignored, any other line that does not match its sum is damage, named, and its point
// runs again. Merging does not depend on order: a result beats a failure, equal results are one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/sweep/result_store.h"

namespace stoat::sim {

// "3/16": this worker takes every 16th simulation from the fourth on.
struct ShardNumber {
  std::uint32_t index = 0, count = 1;
  static ShardNumber parse(const std::string& text);  // throws Error (usage)
};

class ShardWriter {
 public:
  // Creates FOLDER/INDEX-of-COUNT.HOST.PID.N.jsonl. Throws Error (resource).
  ShardWriter(const std::string& folder, ShardNumber shard);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // One write and one fsync a line. A short write cuts the file back to whole lines and throws.
  void result(const std::string& key, const std::string& body);
  void failure(const StoredFailure& failure);
  const std::string& path() const { return path_; }

 private:
  void line(const std::string& json);
  std::string path_;
  int file_ = -1;
  std::uint64_t bytes_ = 0;
};

struct ShardContents {
  std::map<std::string, std::string> results;     // key -> body
  std::map<std::string, StoredFailure> failures;  // without a result
  std::vector<std::string> damage;                // "file: line 7: ..."
  std::uint64_t files = 0, lines = 0, duplicates = 0;
};
// All shards of a folder; an absent folder holds none. Throws Error (damaged) when two results of
// one key differ, or for another version.
ShardContents read_shards(const std::string& folder);

}  // namespace stoat::sim
