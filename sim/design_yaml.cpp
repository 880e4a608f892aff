// The strict reader of design points: walks the tree of design_tree.h against the list of fields.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>

#include "models/data_path.h"
#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"
#include "sim/design_point.h"
#include "sim/design_schema.h"
#include "sim/design_tree.h"

namespace stoat::sim {
namespace {

constexpr std::uint32_t kMaxBases = 8;

using FieldsSeen = std::set<std::string>;
using Origins = std::map<std::string, DesignOrigin>;

// The text behind '#' of a line (from 1), without blanks around it.
std::string comment_of(std::string_view text, std::uint64_t line) {
  for (; line > 1 && !text.empty(); --line) {
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  }
  text = text.substr(0, text.find('\n'));
  const std::size_t hash = text.find(" #");
  if (hash == std::string_view::npos) return {};
  text.remove_prefix(hash + 2);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return std::string(text);
}

class Reader {
 public:
  Reader(DesignPoint& point, FieldsSeen& seen, std::string file, Origins* origins = nullptr)
      : point_(point), seen_(seen), origins_(origins), file_(std::move(file)) {}

  void read(std::string_view text, std::uint32_t bases) {
    text_ = text;
    const ConfigNode top = parse_config(text, file_);
    if (top.kind != ConfigNode::Kind::kMap) {
      throw usage_error(Place{file_, 1, 1}, "no keys",
                        "sections memory, energy, engine, mapping, kv");
    }
    read_base(top, bases);
    walk(top, "");
  }

 private:
  void read_base(const ConfigNode& top, std::uint32_t bases);

  void walk(const ConfigNode& map, const std::string& section) {
    for (const ConfigNode::Entry& entry : map.entries) {
      const Place& at = entry.place;
      const std::string& key = entry.key;
      const std::string path = section.empty() ? key : section + "." + key;
      if (path == "base") continue;
      if (is_section(path)) {
        if (entry.value.kind != ConfigNode::Kind::kMap) {
          throw usage_error(entry.value.place, "'" + path + "' has no keys of its own", "a section",
                            nearest_name_hint("", keys_of_section(path)));
        }
        walk(entry.value, path);
        continue;
      }
      const DesignField* field = find_field(path);
      if (field == nullptr) {
        throw usage_error(at, "unknown key '" + path + "'",
                          section.empty() ? "a section of the design" : "a key of " + section,
                          nearest_name_hint(key, keys_of_section(section)));
      }
      const Place& value_at = entry.value.place;
      if (entry.value.kind != ConfigNode::Kind::kScalar) {
        throw usage_error(value_at, path + " is not a single value", field->expected);
      }
      field->set(point_, entry.value.text, *field, value_at);
      seen_.insert(path);
      if (origins_ != nullptr) (*origins_)[path] = {value_at, comment_of(text_, value_at.line)};
    }
  }

  DesignPoint& point_;
  FieldsSeen& seen_;
  Origins* origins_;
  std::string file_;
  std::string_view text_;
};

// `place`: where the name stands, if in a file.
std::string find_file(const std::string& name_or_path, const Place& place) {
  const bool is_path = name_or_path.find('/') != std::string::npos ||
                       std::filesystem::path(name_or_path).extension() == ".yaml";
  if (is_path) return name_or_path;
  const std::vector<std::string> known = shipped_designs();
  const std::filesystem::path folder = data_path("arch");
  if (std::find(known.begin(), known.end(), name_or_path) == known.end()) {
    throw usage_error(place, "no accelerator '" + name_or_path + "'",
                      "a shipped name or the path of a .yaml file",
                      nearest_name_hint(name_or_path, known));
  }
  return (folder / (name_or_path + ".yaml")).string();
}

void Reader::read_base(const ConfigNode& top, std::uint32_t bases) {
  const ConfigNode* base = top.find("base");
  if (base == nullptr) return;
  const Place& at = base->place;
  if (base->kind != ConfigNode::Kind::kScalar)
    throw usage_error(at, "base is not a name", "a name or a path");
  if (bases >= kMaxBases) {
    throw usage_error(at, "more than 8 files based on each other", "a base without a circle");
  }
  std::string path = find_file(base->text, at);
  if (base->text.find('/') == std::string::npos && path == base->text) {
    path = (std::filesystem::path(file_).parent_path() / path).string();
  }
  Reader(point_, seen_, path, origins_).read(read_file(path, kMaxConfigBytes), bases + 1);
}

void apply_override(DesignPoint& point, FieldsSeen& seen, const std::string& text) {
  const Place place{"--set " + text};
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw usage_error(place, "no '='", "path=value, such as engine.lanes.dense=128");
  }
  const std::string path = text.substr(0, equals);
  const DesignField* field = find_field(path);
  if (field == nullptr) {
    std::vector<std::string> known;
    for (const DesignField& each : design_fields()) known.emplace_back(each.path);
    throw usage_error(place, "unknown key '" + path + "'", "a key of the design",
                      nearest_name_hint(path, known));
  }
  field->set(point, text.substr(equals + 1), *field, place);
  seen.insert(path);
}

}  // namespace

DesignPoint parse_design_point(std::string_view text, const std::string& file,
                               const std::vector<std::string>& overrides) {
  DesignPoint point;
  FieldsSeen seen;
  Reader(point, seen, file).read(text, 0);
  for (const std::string& each : overrides) apply_override(point, seen, each);
  std::string missing;
  for (const DesignField& field : design_fields()) {
    if (seen.count(field.path) == 0)
      missing += (missing.empty() ? "" : ", ") + std::string(field.path);
  }
  if (!missing.empty()) {
    throw usage_error(Place{file}, "missing: " + missing, "every key", "add them, or base: hbm3");
  }
  check_design(point);
  point.name = std::filesystem::path(file).stem().string();
  point.hash = hash_text(canonical_text(point));
  return point;
}

DesignPoint change_design_point(DesignPoint base, const std::vector<std::string>& overrides) {
  FieldsSeen seen;
  for (const std::string& each : overrides) apply_override(base, seen, each);
  check_design(base);
  base.hash = hash_text(canonical_text(base));
  return base;
}

DesignPoint read_design_point(const std::string& name_or_path,
                              const std::vector<std::string>& overrides) {
  const std::string path = find_file(name_or_path, {});
  return parse_design_point(read_file(path, kMaxConfigBytes), path, overrides);
}

std::vector<std::string> shipped_designs() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(data_path("arch"))) {
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::map<std::string, DesignOrigin> read_design_origins(const std::string& name_or_path,
                                                        const std::vector<std::string>& overrides) {
  const std::string path = find_file(name_or_path, {});
  DesignPoint point;
  FieldsSeen seen;
  Origins origins;
  Reader(point, seen, path, &origins).read(read_file(path, kMaxConfigBytes), 0);
  for (const std::string& each : overrides) {
    apply_override(point, seen, each);
    origins[each.substr(0, each.find('='))] = {Place{"--set " + each}, {}};
  }
  return origins;
}

}  // namespace stoat::sim
