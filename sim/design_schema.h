// The fields of a design point by path: one list that the YAML reader, `--set` and the canonical
// text all use.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "models/error.h"
#include "sim/design_point.h"

namespace stoat::sim {

struct DesignField {
  const char* path;  // "engine.lanes.dense"
  void (*set)(DesignPoint&, const std::string& text, const DesignField& self, const Place& place);
  std::string (*get)(const DesignPoint&);  // canonical text
  const char* expected;                    // "a whole number from 1 to 65536"
};

const std::vector<DesignField>& design_fields();
const DesignField* find_field(std::string_view path);
// Is it the path of a section, such as "engine" or "engine.lanes"?
bool is_section(std::string_view path);
// Where a value was written: file and line, and the comment behind it (its source). `--set` has
// none.
struct DesignOrigin {
  Place place;
  std::string comment;
};
// By path, of every field that read_design_point would read.
std::map<std::string, DesignOrigin> read_design_origins(
    const std::string& name_or_path, const std::vector<std::string>& overrides = {});
// Names of the shipped accelerators, sorted.
std::vector<std::string> shipped_designs();
// Keys that may stand directly in a section ("" = the top).
std::vector<std::string> keys_of_section(std::string_view section);

}  // namespace stoat::sim
