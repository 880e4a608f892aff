// One strict YAML (or JSON) document as plain values with their places: the only reader of
// configuration files. Bounds size, depth and documents; refuses anchors, aliases and repeated
// keys, which the YAML library accepts silently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/error.h"

namespace stoat::sim {

struct ConfigNode {
  enum class Kind : std::uint8_t { kNone, kScalar, kList, kMap };
  struct Entry;

  Kind kind = Kind::kNone;
  std::string text;    // of a scalar, as written
  bool plain = false;  // a scalar without quotes
  Place place;
  std::vector<ConfigNode> items;  // of a list
  std::vector<Entry> entries;     // of a map, in the order of the file

  const ConfigNode* find(std::string_view key) const;  // null when absent
};

struct ConfigNode::Entry {
  std::string key;
  Place place;
  ConfigNode value;
};

inline constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{1} << 20;

// `file` names the place in messages. An empty document is kNone. Throws Error (usage).
ConfigNode parse_config(std::string_view text, const std::string& file);

}  // namespace stoat::sim
