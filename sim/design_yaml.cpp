// The strict YAML reader of design points, the only file that knows the YAML library.
//
// A first pass over the parser's events bounds size, depth and documents and refuses anchors; the
// second walks the tree against the list of fields. The library accepts repeated keys silently, so
// they are looked for here.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "models/data_path.h"
#include "models/error.h"
#include "models/files.h"
#include "models/hash.h"
#include "sim/design_point.h"
#include "sim/design_schema.h"

namespace stoat::sim {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 20;
constexpr std::uint32_t kMaxDepth = 64;
constexpr std::uint32_t kMaxBases = 8;

Place place_of(const std::string& file, const YAML::Mark& mark) {
  if (mark.is_null()) return Place{file};
  return Place{file, static_cast<std::uint64_t>(mark.line) + 1,
               static_cast<std::uint64_t>(mark.column) + 1};
}

// Depth and anchors, before a tree is built.
class Guard final : public YAML::EventHandler {
 public:
  explicit Guard(const std::string& file) : file_(file) {}
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                const std::string&) override {
    if (anchor != 0) refuse_anchor(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    enter(mark, anchor);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    enter(mark, anchor);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void enter(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) refuse_anchor(mark);
    if (++depth_ > kMaxDepth) {
      throw usage_error(place_of(file_, mark), "nesting deeper than 64 levels",
                        "at most three levels of keys");
    }
  }
  [[noreturn]] void refuse_anchor(const YAML::Mark& mark) const {
    throw usage_error(place_of(file_, mark), "an anchor or alias", "plain keys and values",
                      "write the value out, or use base: NAME");
  }

  const std::string& file_;
  std::uint32_t depth_ = 0;
};

using FieldsSeen = std::set<std::string>;

class Reader {
 public:
  Reader(DesignPoint& point, FieldsSeen& seen, std::string file)
      : point_(point), seen_(seen), file_(std::move(file)) {}

  void read(std::string_view text, std::uint32_t bases) {
    if (text.size() > kMaxBytes) {
      throw usage_error(Place{file_}, "a file of " + std::to_string(text.size()) + " bytes",
                        "at most 1048576 bytes");
    }
    YAML::Node top;
    try {
      top = parse(std::string(text));
    } catch (const YAML::Exception& error) {
      throw usage_error(place_of(file_, error.mark), error.msg, "YAML");
    }
    if (!top.IsMap()) {
      throw usage_error(Place{file_, 1, 1}, "no keys",
                        "sections memory, energy, engine, mapping, kv");
    }
    read_base(top, bases);
    walk(top, "");
  }

 private:
  YAML::Node parse(const std::string& text) const {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    Guard guard(file_);
    if (!parser.HandleNextDocument(guard)) return {};
    Guard second(file_);
    if (parser.HandleNextDocument(second)) {
      throw usage_error(Place{file_}, "a second YAML document", "one document a file");
    }
    return YAML::Load(text);
  }

  void read_base(const YAML::Node& top, std::uint32_t bases);

  void walk(const YAML::Node& map, const std::string& section) {
    FieldsSeen keys;
    for (const auto& entry : map) {
      const Place at = place_of(file_, entry.first.Mark());
      if (!entry.first.IsScalar()) throw usage_error(at, "a key that is not a word", "a key");
      const std::string key = entry.first.Scalar();
      const std::string path = section.empty() ? key : section + "." + key;
      if (!keys.insert(key).second) {
        throw usage_error(at, "'" + path + "' stands twice", "each key once", "remove one of them");
      }
      if (path == "base") continue;
      if (is_section(path)) {
        if (!entry.second.IsMap()) {
          throw usage_error(place_of(file_, entry.second.Mark()),
                            "'" + path + "' has no keys of its own", "a section",
                            nearest_name_hint("", keys_of_section(path)));
        }
        walk(entry.second, path);
        continue;
      }
      const DesignField* field = find_field(path);
      if (field == nullptr) {
        throw usage_error(at, "unknown key '" + path + "'",
                          section.empty() ? "a section of the design" : "a key of " + section,
                          nearest_name_hint(key, keys_of_section(section)));
      }
      const Place value_at = place_of(file_, entry.second.Mark());
      if (!entry.second.IsScalar()) {
        throw usage_error(value_at, path + " is not a single value", field->expected);
      }
      field->set(point_, entry.second.Scalar(), *field, value_at);
      seen_.insert(path);
    }
  }

  DesignPoint& point_;
  FieldsSeen& seen_;
  std::string file_;
};

// `place`: where the name stands, if in a file.
std::string find_file(const std::string& name_or_path, const Place& place) {
  const bool is_path = name_or_path.find('/') != std::string::npos ||
                       std::filesystem::path(name_or_path).extension() == ".yaml";
  if (is_path) return name_or_path;
  std::string shipped;
  std::vector<std::string> known;
  const std::filesystem::path folder = data_path("arch");
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") known.push_back(entry.path().stem().string());
  }
  std::sort(known.begin(), known.end());
  if (std::find(known.begin(), known.end(), name_or_path) == known.end()) {
    throw usage_error(place, "no accelerator '" + name_or_path + "'",
                      "a shipped name or the path of a .yaml file",
                      nearest_name_hint(name_or_path, known));
  }
  return (folder / (name_or_path + ".yaml")).string();
}

void Reader::read_base(const YAML::Node& top, std::uint32_t bases) {
  const YAML::Node base = top["base"];
  if (!base) return;
  const Place at = place_of(file_, base.Mark());
  if (!base.IsScalar()) throw usage_error(at, "base is not a name", "a name or a path");
  if (bases >= kMaxBases) {
    throw usage_error(at, "more than 8 files based on each other", "a base without a circle");
  }
  std::string path = find_file(base.Scalar(), at);
  if (base.Scalar().find('/') == std::string::npos && path == base.Scalar()) {
    path = (std::filesystem::path(file_).parent_path() / path).string();
  }
  Reader(point_, seen_, path).read(read_file(path, kMaxBytes), bases + 1);
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
  point.name = std::filesystem::path(file).stem().string();
  point.hash = hash_text(canonical_text(point));
  return point;
}

DesignPoint read_design_point(const std::string& name_or_path,
                              const std::vector<std::string>& overrides) {
  const std::string path = find_file(name_or_path, {});
  return parse_design_point(read_file(path, kMaxBytes), path, overrides);
}

}  // namespace stoat::sim
