// manifest.json of a result directory, for the report's provenance: names and values in the file's
// order.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace stoat::sim {

struct Manifest {
  std::vector<std::pair<std::string, std::string>> entries;  // "trace.content_hash" -> value
  std::vector<std::string> notes;                            // what the simulator remarked
};

// Paths from the root lose their folders: they tell about a machine. Throws Error with file and
// line.
Manifest read_manifest(const std::string& path);

}  // namespace stoat::sim
