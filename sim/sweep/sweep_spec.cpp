// The strict reader of sweep files.
#include "sim/sweep/sweep_spec.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "sim/design_schema.h"
#include "sim/design_tree.h"
#include "sim/sweep/sweep_value.h"

namespace stoat::sim {
namespace {

using Kind = ConfigNode::Kind;

void known_keys_only(const ConfigNode& map, const std::vector<std::string>& known,
                     const std::string& what) {
  for (const auto& entry : map.entries) {
    if (std::find(known.begin(), known.end(), entry.key) != known.end()) continue;
    throw usage_error(entry.place, "unknown key '" + entry.key + "'", "a key of " + what,
                      nearest_name_hint(entry.key, known));
  }
}

std::string scalar(const ConfigNode& node, const std::string& what) {
  if (node.kind != Kind::kScalar || node.text.empty()) {
    throw usage_error(node.place, what + " is not a single value", "one value");
  }
  return node.text;
}

std::uint64_t whole(const ConfigNode& node, const std::string& what, std::uint64_t low,
                    std::uint64_t high) {
  const std::string text = scalar(node, what);
  const auto number = split_number(text);
  if (!number || !number->unit.empty() || std::floor(number->number) != number->number ||
      number->number < static_cast<double>(low) || number->number > static_cast<double>(high)) {
    throw usage_error(node.place, what + " is '" + text + "'",
                      "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return static_cast<std::uint64_t>(number->number);
}

void ensure_key(const std::string& key, const Place& place) {
  const std::vector<std::string> known = all_sweep_keys();
  if (std::find(known.begin(), known.end(), key) != known.end()) return;
  throw usage_error(place, "unknown axis or key '" + key + "'",
                    "a key of the sweep or of the accelerator", nearest_name_hint(key, known));
}

AxisValue single(const std::string& key, std::string text) {
  return {text, {{key, std::move(text)}}};
}

class AxisReader {
 public:
  explicit AxisReader(SweepAxis& axis) : axis_(axis) {}

  void read(const ConfigNode& node) {
    switch (node.kind) {
      case Kind::kList:
        ensure_key(axis_.name, axis_.place);
        for (const ConfigNode& item : node.items) add(item);
        if (node.items.empty()) empty(node.place);
        return;
      case Kind::kMap:
        read_map(node);
        return;
      case Kind::kNone:
      case Kind::kScalar:
        throw usage_error(node.kind == Kind::kNone ? axis_.place : node.place,
                          "axis '" + axis_.name + "' has no list and no range",
                          "[a, b, c], {range: ...}, {log_range: ...} or {cases: ...}",
                          node.kind == Kind::kScalar ? "a single value belongs under set:" : "");
    }
  }

 private:
  [[noreturn]] void empty(const Place& place) const {
    throw usage_error(place, "axis '" + axis_.name + "' is empty", "at least one value");
  }

  void add(const ConfigNode& item) {
    const std::string text = scalar(item, "a value of axis '" + axis_.name + "'");
    for (const AxisValue& each : axis_.values) {
      if (each.label == text) {
        throw usage_error(item.place, "'" + text + "' stands twice on axis '" + axis_.name + "'",
                          "each value once", "remove one of them");
      }
    }
    axis_.values.push_back(single(axis_.name, text));
  }

  void read_map(const ConfigNode& node) {
    known_keys_only(node, {"list", "range", "log_range", "step", "factor", "points", "cases"},
                    "axis '" + axis_.name + "'");
    int kinds = 0;
    for (const char* kind : {"list", "range", "log_range", "cases"})
      kinds += node.find(kind) ? 1 : 0;
    if (kinds != 1) {
      throw usage_error(node.place,
                        "axis '" + axis_.name + "' has " + std::to_string(kinds) +
                            " of list, range, log_range, cases",
                        "exactly one");
    }
    if (const ConfigNode* list = node.find("list")) {
      only(node, {"list"});
      if (list->kind != Kind::kList) {
        throw usage_error(list->place, "list is not a list", "[a, b, c]");
      }
      read(*list);
    } else if (const ConfigNode* cases = node.find("cases")) {
      only(node, {"cases"});
      read_cases(*cases);
    } else {
      ensure_key(axis_.name, axis_.place);
      read_range(node, node.find("log_range") != nullptr);
    }
  }

  void only(const ConfigNode& node, const std::vector<std::string>& known) const {
    known_keys_only(node, known, "this kind of axis ('" + axis_.name + "')");
  }

  void read_cases(const ConfigNode& cases) {
    if (cases.kind != Kind::kMap || cases.entries.empty()) {
      throw usage_error(cases.place, "axis '" + axis_.name + "' has no cases",
                        "{cases: {NAME: {key: value, ...}, ...}}");
    }
    for (const auto& entry : cases.entries) {
      AxisValue value;
      value.label = entry.key;
      if (entry.value.kind != Kind::kMap) {
        throw usage_error(entry.value.place, "case '" + entry.key + "' sets no keys",
                          "{key: value, ...}");
      }
      for (const auto& key : entry.value.entries) {
        ensure_key(key.key, key.place);
        value.sets.emplace_back(key.key, scalar(key.value, key.key));
      }
      axis_.values.push_back(std::move(value));
    }
  }

  void read_range(const ConfigNode& node, bool logarithmic) {
    const char* name = logarithmic ? "log_range" : "range";
    only(node, {name, logarithmic ? "factor" : "step", "points"});
    const ConfigNode& ends = *node.find(name);
    if (ends.kind != Kind::kList || ends.items.size() != 2) {
      throw usage_error(ends.place, std::string(name) + " has not two ends", "[low, high]");
    }
    Axis1D line;
    const NumberWithUnit low = end(ends.items[0]), high = end(ends.items[1]);
    if (low.unit != high.unit) {
      throw usage_error(ends.items[1].place, "the ends have different units", "one unit");
    }
    line = {low.number, high.number, logarithmic,
            std::floor(low.number) == low.number && std::floor(high.number) == high.number,
            low.unit};
    if (line.low > line.high || (logarithmic && line.low <= 0)) {
      throw usage_error(ends.place,
                        "a range from " + ends.items[0].text + " to " + ends.items[1].text,
                        logarithmic ? "0 < low <= high" : "low <= high", "exchange the ends");
    }
    const ConfigNode* step = node.find(logarithmic ? "factor" : "step");
    const ConfigNode* points = node.find("points");
    if (step != nullptr && points != nullptr) {
      throw usage_error(points->place,
                        "points beside " + std::string(logarithmic ? "factor" : "step"),
                        "one of them");
    }
    if (points != nullptr) {
      spread(line, whole(*points, "points", 1, kMaxSweepPoints));
    } else if (step != nullptr) {
      walk(line, *step);
    } else {
      axis_.continuous = line;
    }
  }

  static NumberWithUnit end(const ConfigNode& node) {
    const auto number = split_number(scalar(node, "an end of the range"));
    if (!number) throw usage_error(node.place, "'" + node.text + "' is no number", "a number");
    return *number;
  }

  void add(const Axis1D& line, double value) {
    std::string text = number_text(line.whole ? std::round(value) : value);
    if (!line.unit.empty()) text += " " + line.unit;
    if (axis_.values.empty() || axis_.values.back().label != text)
      axis_.values.push_back(single(axis_.name, text));
  }

  void spread(const Axis1D& line, std::uint64_t points) {
    for (std::uint64_t i = 0; i < points; ++i) {
      const double u = points == 1 ? 0 : static_cast<double>(i) / static_cast<double>(points - 1);
      add(line, at(line, u));
    }
  }

  void walk(const Axis1D& line, const ConfigNode& node) {
    const std::string text = scalar(node, "step");
    const auto step = split_number(text);
    const bool good = step && (line.logarithmic ? step->number > 1 && step->unit.empty()
                                                : step->number > 0 && step->unit == line.unit);
    if (!good) {
      throw usage_error(
          node.place, "'" + text + "'",
          line.logarithmic ? "a factor above 1" : "a step above 0 in the unit of the ends");
    }
    const double count = line.logarithmic ? std::log(line.high / line.low) / std::log(step->number)
                                          : (line.high - line.low) / step->number;
    if (count > static_cast<double>(kMaxSweepPoints)) {
      throw usage_error(
          node.place,
          "about " + number_text(std::floor(count)) + " values on axis '" + axis_.name + "'",
          "at most " + std::to_string(kMaxSweepPoints));
    }
    const auto last = static_cast<std::uint64_t>(std::floor(count + 1e-9));
    for (std::uint64_t i = 0; i <= last; ++i) {
      const auto n = static_cast<double>(i);
      add(line,
          line.logarithmic ? line.low * std::pow(step->number, n) : line.low + n * step->number);
    }
  }

  SweepAxis& axis_;

 public:
  // u in [0, 1].
  static double at(const Axis1D& line, double u) {
    if (u <= 0) return line.low;
    if (u >= 1) return line.high;
    return line.logarithmic ? line.low * std::pow(line.high / line.low, u)
                            : line.low + u * (line.high - line.low);
  }
};

// No key may be set from two sides: the point would say one thing and do another.
void refuse_contradictions(const SweepSpec& spec) {
  std::set<std::string> taken;
  for (const KeyValue& each : spec.constants) taken.insert(each.first);
  for (const SweepAxis& axis : spec.axes) {
    std::set<std::string> own;
    if (axis.continuous) own.insert(axis.name);
    for (const AxisValue& value : axis.values) {
      for (const KeyValue& each : value.sets) own.insert(each.first);
    }
    for (const std::string& key : own) {
      if (!taken.insert(key).second) {
        throw usage_error(
            axis.place,
            "a contradictory grid: '" + key + "' is set twice, here by axis '" + axis.name + "'",
            "each key under set: or on one axis", "remove one of them");
      }
    }
  }
}

SweepSample read_sample(const ConfigNode& node) {
  if (node.kind != Kind::kMap) {
    throw usage_error(node.place, "sample has no keys", "{kind: ..., points: ..., seed: ...}");
  }
  known_keys_only(node, {"kind", "points", "seed"}, "sample");
  SweepSample sample;
  const ConfigNode* kind = node.find("kind");
  const ConfigNode* points = node.find("points");
  if (kind == nullptr || points == nullptr) {
    throw usage_error(node.place, "sample without kind or points", "both of them");
  }
  const std::vector<std::string> kinds{"latin_hypercube", "random"};
  const std::string name = scalar(*kind, "kind");
  if (std::find(kinds.begin(), kinds.end(), name) == kinds.end()) {
    throw usage_error(kind->place, "kind is '" + name + "'", "latin_hypercube or random",
                      nearest_name_hint(name, kinds));
  }
  sample.latin_hypercube = name == kinds[0];
  sample.points = static_cast<std::uint32_t>(whole(*points, "points", 1, kMaxSweepPoints));
  if (const ConfigNode* seed = node.find("seed"))
    sample.seed = whole(*seed, "seed", 0, std::uint64_t{1} << 53);
  return sample;
}

void read_skip(const ConfigNode& node, SweepSpec& spec) {
  if (node.kind != Kind::kList) {
    throw usage_error(node.place, "skip_when is not a list", "- CONDITION");
  }
  std::vector<std::string> known = all_sweep_keys();
  for (const SweepAxis& axis : spec.axes) known.push_back(axis.name);
  for (const ConfigNode& item : node.items) {
    const ConfigNode* when = &item;
    std::string because;
    if (item.kind == Kind::kMap) {
      known_keys_only(item, {"when", "because"}, "a rule of skip_when");
      when = item.find("when");
      if (when == nullptr) throw usage_error(item.place, "a rule without when", "when: CONDITION");
      if (const ConfigNode* reason = item.find("because")) because = scalar(*reason, "because");
    }
    const std::string text = scalar(*when, "a condition");
    Place place = when->place;
    if (!when->plain) ++place.column;
    SkipRule rule{Condition::parse(text, place, known), because};
    rule.because = because.empty() ? text : because + " (" + text + ")";
    spec.skip.push_back(std::move(rule));
  }
}

}  // namespace

const std::vector<SweepKey>& sweep_keys() {
  static const std::vector<SweepKey> keys{
      {"arch", "the name of an accelerator or a .yaml file, instead of base"},
      {"trace", "'synth', or a trace file"},
      {"datapath", "a datapath"},
      {"model", "a name of models/llm/shapes.csv"},
      {"query_heads", "a whole number"},
      {"kv_heads", "a whole number"},
      {"head_dim", "a whole number"},
      {"layers", "a whole number"},
      {"steps", "a whole number"},
      {"batch", "a whole number"},
      {"context", "a whole number"},
      {"method", "iid, strat, sys, prop or flash"},
      {"budget", "a whole number"},
      {"participation", "a number, or flat"},
      {"sinks", "a whole number"},
      {"recency", "a number of tokens"},
      {"group_correlation", "a number from 0 to 1"},
      {"ternary.draws", "a whole number from 1 to 64"},
      {"ternary.coupling", "independent, coupled or group-mean"},
      {"ternary.normaliser", "max or pow2"},
      {"address_order", "an address map (sim/memory), instead of the standard's own"},
      {"seed", "a whole number"},
  };
  return keys;
}

bool is_sweep_key(std::string_view name) {
  const auto& keys = sweep_keys();
  return std::any_of(keys.begin(), keys.end(),
                     [&](const SweepKey& key) { return name == key.name; });
}

std::vector<std::string> all_sweep_keys() {
  std::vector<std::string> names;
  for (const SweepKey& key : sweep_keys()) names.emplace_back(key.name);
  for (const DesignField& field : design_fields()) names.emplace_back(field.path);
  return names;
}

std::vector<std::string> SweepSpec::keys() const {
  std::vector<std::string> names;
  const auto add = [&](const std::string& key) {
    if (std::find(names.begin(), names.end(), key) == names.end()) names.push_back(key);
  };
  for (const SweepAxis& axis : axes) {
    if (axis.continuous) add(axis.name);
    for (const AxisValue& value : axis.values) {
      for (const KeyValue& each : value.sets) add(each.first);
    }
  }
  for (const KeyValue& each : constants) add(each.first);
  return names;
}

SweepSpec parse_sweep(std::string_view text, const std::string& file) {
  const ConfigNode top = parse_config(text, file);
  if (top.kind != Kind::kMap) {
    throw usage_error(Place{file, 1, 1}, "no keys", "a sweep: base, set, axes, skip_when");
  }
  known_keys_only(top, {"base", "seed", "set", "axes", "sample", "skip_when"}, "a sweep");
  SweepSpec spec;
  spec.file = file;
  spec.name = std::filesystem::path(file).stem().string();
  spec.folder = std::filesystem::path(file).parent_path().string();
  if (spec.folder.empty()) spec.folder = ".";
  const ConfigNode* base = top.find("base");
  if (base == nullptr) {
    throw usage_error(Place{file}, "no base", "base: hbm3 (an accelerator)");
  }
  spec.base = scalar(*base, "base");
  if (const ConfigNode* seed = top.find("seed"))
    spec.seed = whole(*seed, "seed", 0, std::uint64_t{1} << 53);
  if (const ConfigNode* set = top.find("set")) {
    if (set->kind != Kind::kMap) throw usage_error(set->place, "set has no keys", "key: value");
    for (const auto& entry : set->entries) {
      ensure_key(entry.key, entry.place);
      spec.constants.emplace_back(entry.key, scalar(entry.value, entry.key));
    }
  }
  const ConfigNode* axes = top.find("axes");
  if (axes == nullptr || axes->kind != Kind::kMap || axes->entries.empty()) {
    throw usage_error(axes != nullptr ? axes->place : Place{file}, "an empty grid: no axes",
                      "axes with at least one");
  }
  for (const auto& entry : axes->entries) {
    SweepAxis axis;
    axis.name = entry.key;
    axis.place = entry.place;
    AxisReader(axis).read(entry.value);
    spec.axes.push_back(std::move(axis));
  }
  refuse_contradictions(spec);
  if (const ConfigNode* sample = top.find("sample")) spec.sample = read_sample(*sample);
  for (const SweepAxis& axis : spec.axes) {
    if (axis.continuous && !spec.sample) {
      throw usage_error(axis.place,
                        "axis '" + axis.name + "' is a range without " +
                            (axis.continuous->logarithmic ? "factor" : "step") + " or points",
                        "how many values a grid takes", "add points: N, or sample:");
    }
  }
  if (const ConfigNode* skip = top.find("skip_when")) read_skip(*skip, spec);
  return spec;
}

}  // namespace stoat::sim
