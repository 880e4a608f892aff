// Finished points by key, in one SQLite file (WAL): the state of a sweep's folder, or a store that
// sweeps share. Every body carries its hash; what does not match is dropped and named.
//
// Not for a network file system: a cluster writes shards (shards.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace stoat::sim {

struct StoredFailure {
  std::string key, reason;
  unsigned attempts = 0;
};

class ResultStore {
 public:
  // Creates the file when needed. A file that is no database any more is moved to PATH.damaged,
  // said so, and begun anew. Throws Error: resource (read-only, full), damaged (another version).
  explicit ResultStore(const std::string& path);
  // For looking only: never creates; throws Error (damaged) for what is no database.
  static ResultStore read_only(const std::string& path);
  ~ResultStore();
  ResultStore(ResultStore&& other) noexcept;
  ResultStore& operator=(ResultStore&& other) noexcept;

  std::unordered_set<std::string> keys() const;
  // Nothing when absent, or damaged: then the row is dropped (when writable) and said so.
  std::optional<std::string> find(const std::string& key);
  void put(const std::string& key, const std::string& body);  // also forgets a failure of this key
  void put_failure(const StoredFailure& failure);
  void forget_failures();
  std::vector<StoredFailure> failures() const;  // by key
  // Many puts at once.
  void begin();
  void commit();

 private:
  struct State;
  explicit ResultStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace stoat::sim
