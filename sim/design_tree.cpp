// The tree is built from the parser's events, so a bomb is refused before it exists.
#include "sim/design_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

namespace stoat::sim {
namespace {

constexpr std::size_t kMaxDepth = 64;

class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(const std::string& file) : file_(file) {}

  ConfigNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    ConfigNode node;
    node.place = place(mark);
    add(std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark, 1); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    ConfigNode node;
    node.kind = ConfigNode::Kind::kScalar;
    node.text = value;
    node.plain = tag == "?";  // quoted and block scalars carry "!"
    node.place = place(mark);
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, ConfigNode::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, ConfigNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    ConfigNode node;
    bool key_read = false;  // of a map: the next node is the value of this key
    std::string key;
    Place key_place;
  };

  Place place(const YAML::Mark& mark) const {
    if (mark.is_null()) return Place{file_};
    return Place{file_, static_cast<std::uint64_t>(mark.line) + 1,
                 static_cast<std::uint64_t>(mark.column) + 1};
  }

  // "engine.lanes.dense" for a key that is being read.
  std::string path_to(const std::string& key) const {
    std::string path;
    for (std::size_t i = 0; i + 1 < levels_.size(); ++i) {
      if (levels_[i].node.kind == ConfigNode::Kind::kMap) path += levels_[i].key + ".";
    }
    return path + key;
  }

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor == 0) return;
    throw usage_error(place(mark), "an anchor or alias", "plain keys and values",
                      "write the value out, or use base: NAME");
  }

  void open(const YAML::Mark& mark, YAML::anchor_t anchor, ConfigNode::Kind kind) {
    refuse_anchor(mark, anchor);
    if (!levels_.empty() && levels_.back().node.kind == ConfigNode::Kind::kMap &&
        !levels_.back().key_read) {
      throw usage_error(place(mark), "a key that is not a word", "a key");
    }
    if (levels_.size() >= kMaxDepth) {
      throw usage_error(place(mark), "nesting deeper than 64 levels", "a few levels of keys");
    }
    levels_.emplace_back();
    levels_.back().node.kind = kind;
    levels_.back().node.place = place(mark);
  }

  void close() {
    ConfigNode node = std::move(levels_.back().node);
    levels_.pop_back();
    add(std::move(node));
  }

  void add(ConfigNode node) {
    if (levels_.empty()) {
      root_ = std::move(node);
      return;
    }
    Level& level = levels_.back();
    if (level.node.kind == ConfigNode::Kind::kList) {
      level.node.items.push_back(std::move(node));
      return;
    }
    if (!level.key_read) {
      if (node.kind != ConfigNode::Kind::kScalar) {
        throw usage_error(node.place, "a key that is not a word", "a key");
      }
      if (level.node.find(node.text) != nullptr) {
        throw usage_error(node.place, "'" + path_to(node.text) + "' stands twice", "each key once",
                          "remove one of them");
      }
      level.key = node.text;
      level.key_place = node.place;
    } else {
      level.node.entries.push_back({level.key, level.key_place, std::move(node)});
    }
    level.key_read = !level.key_read;
  }

  std::string file_;
  std::vector<Level> levels_;
  ConfigNode root_;
};

}  // namespace

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

ConfigNode parse_config(std::string_view text, const std::string& file) {
  if (text.size() > kMaxConfigBytes) {
    throw usage_error(Place{file}, "a file of " + std::to_string(text.size()) + " bytes",
                      "at most 1048576 bytes");
  }
  std::istringstream stream{std::string(text)};
  Builder first(file);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(first)) return {};
    Builder second(file);
    if (parser.HandleNextDocument(second)) {
      throw usage_error(Place{file}, "a second YAML document", "one document a file");
    }
  } catch (const YAML::Exception& error) {
    const YAML::Mark& mark = error.mark;
    throw usage_error(mark.is_null() ? Place{file}
                                     : Place{file, static_cast<std::uint64_t>(mark.line) + 1,
                                             static_cast<std::uint64_t>(mark.column) + 1},
                      error.msg, "YAML");
  }
  return first.take();
}

}  // namespace stoat::sim
