// Planning: equal parts (designs, tables, sources) are made once and shared between points.
#include "sim/sweep/sweep_plan.h"

#include <algorithm>
#include <unordered_set>

#include "models/hash.h"
#include "models/version.h"
#include "sim/design_schema.h"
#include "sim/engine/placement.h"
#include "sim/engine/simulate.h"
#include "sim/memory/address_map.h"
#include "sim/sweep/sweep_value.h"

namespace stoat::sim {
namespace {

std::string without_prices(const DesignPoint& design) {
  std::string text = canonical_text(design);
  const std::size_t begin = text.find("energy.prices: ");
  if (begin != std::string::npos) text.erase(begin, text.find('\n', begin) + 1 - begin);
  return text;
}

DramStandard mapped_standard(const std::string& name, const std::string& order) {
  DramStandard dram = read_dram_standard(name);
  if (order.empty()) return dram;
  dram.address_order = order;
  dram.hash = hash_text(dram.hash + " " + order);
  check_dram_standard(dram, name);
  const AddressMap map(dram, order);  // throws for an order that makes no sense
  (void)map;
  return dram;
}

}  // namespace

const std::string& result_build() {
  static const std::string build = [] {
    std::string id(build_id());
    if (id == "unknown" || id.ends_with("-dirty")) id += " " + hash_file("/proc/self/exe");
    return id;
  }();
  return build;
}

template <class T, class Make>
const T& SweepPlan::once(std::map<std::string, Made<T>>& made, const std::string& key, Make make) {
  auto [found, fresh] = made.try_emplace(key);
  Made<T>& slot = found->second;
  if (fresh) {
    try {
      slot.value = std::make_unique<T>(make());
    } catch (const Error& error) {
      slot.error = error.what();
    }
  }
  if (!slot.value) throw Error(ExitCode::kUsage, slot.error);
  return *slot.value;
}

SweepPlan::SweepPlan(SweepSpec spec, std::shared_ptr<TraceLibrary> library)
    : spec_(std::move(spec)),
      library_(library ? std::move(library) : std::make_shared<TraceLibrary>()) {
  std::vector<std::vector<std::uint32_t>> choices = sweep_choices(spec_);
  for (const SweepAxis& axis : spec_.axes) columns_.push_back(axis.name);
  for (const std::string& key : spec_.keys()) {
    slot_.emplace(key, static_cast<int>(slot_.size()));
    if (std::find(columns_.begin(), columns_.end(), key) == columns_.end()) columns_.push_back(key);
  }
  points_.resize(choices.size());
  std::unordered_set<std::string> seen;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    PlannedPoint& point = points_[i];
    point.index = static_cast<std::uint32_t>(i);
    point.choice = std::move(choices[i]);
    plan_point(point);
    if (point.state == PlannedPoint::State::kRun && seen.insert(point.sim_key).second)
      simulations_.push_back(point.index);
  }
  if (simulations_.empty()) {
    throw usage_error(Place{spec_.file},
                      "a contradictory grid: none of its " + std::to_string(points_.size()) +
                          " points can run; the first one: " + points_.front().reason,
                      "at least one point that is not skipped and not invalid");
  }
}

const std::string* SweepPlan::find(const PlannedPoint& point, const std::string& name) const {
  const auto slot = slot_.find(name);
  if (slot != slot_.end()) return values_[static_cast<std::size_t>(slot->second)];
  for (std::size_t a = 0; a < spec_.axes.size(); ++a) {  // a case axis by its name
    if (spec_.axes[a].name == name) return &spec_.axes[a].values[point.choice[a]].label;
  }
  return nullptr;
}

KeyLookup SweepPlan::lookup(const PlannedPoint& point) const {
  values_.assign(slot_.size(), nullptr);
  const auto set = [this](const KeyValue& each) {
    values_[static_cast<std::size_t>(slot_.at(each.first))] = &each.second;
  };
  for (const KeyValue& each : spec_.constants) set(each);
  for (std::size_t a = 0; a < spec_.axes.size(); ++a) {
    for (const KeyValue& each : spec_.axes[a].values[point.choice[a]].sets) set(each);
  }
  return [this, &point](const std::string& name) { return find(point, name); };
}

const DesignPoint& SweepPlan::design(const PlannedPoint&, const KeyLookup& value) {
  const std::string* named = value("arch");
  const std::string arch = named != nullptr ? *named : spec_.base;
  std::vector<std::string> overrides;
  std::string key = arch;
  for (const auto& [name, slot] : slot_) {
    const std::string* text = values_[static_cast<std::size_t>(slot)];
    if (text == nullptr || is_sweep_key(name)) continue;
    overrides.push_back(name + "=" + *text);
    key += "\n" + overrides.back();
  }
  return once(designs_, key, [&] {
    return change_design_point(once(bases_, arch, [&] { return read_design_point(arch); }),
                               overrides);
  });
}

// A rule that has no answer is a mistake in the sweep, and not a property of the point.
bool SweepPlan::skips(const SkipRule& rule, const PlannedPoint& point,
                      const KeyLookup& value) const {
  try {
    return rule.condition.holds(value);
  } catch (const Error& error) {
    std::string where;
    for (std::size_t a = 0; a < spec_.axes.size(); ++a) {
      where += (where.empty() ? "" : ", ") + spec_.axes[a].name + " = " +
               spec_.axes[a].values[point.choice[a]].label;
    }
    throw Error(error.code(), std::string(error.what()) + "; in the condition '" +
                                  rule.condition.text() + "' at point " +
                                  std::to_string(point.index) +
                                  (where.empty() ? "" : " (" + where + ")"));
  }
}

void SweepPlan::plan_point(PlannedPoint& point) {
  const KeyLookup value = lookup(point);
  for (const SkipRule& rule : spec_.skip) {
    if (skips(rule, point, value)) {
      point.state = PlannedPoint::State::kSkipped;
      point.reason = rule.because;
      return;
    }
  }
  try {
    const std::string* datapath = value("datapath");
    if (datapath == nullptr) {
      throw usage_error(Place{spec_.file}, "no datapath", "which one computes",
                        "set it under set: or make it an axis");
    }
    point.datapath = &datapath_from_name(*datapath);
    point.design = &design(point, value);
    const std::string* order = value("address_order");
    const std::string map = order != nullptr ? *order : "";
    point.dram = &once(drams_, point.design->dram + "\n" + map,
                       [&] { return mapped_standard(point.design->dram, map); });
    point.prices =
        &once(prices_, point.design->prices, [&] { return PriceList::read(point.design->prices); });
    check_prices(*point.design, *point.prices);
    std::string source_key = *datapath;
    for (const SweepKey& key : sweep_keys()) {
      if (std::string_view(key.name) == "address_order") continue;
      const std::string* text = value(key.name);
      source_key += text == nullptr ? "\n" : "\n=" + *text;
    }
    point.source = &once(sources_, source_key,
                         [&] { return plan_source(value, *point.datapath, spec_, *library_); });
    engine_shape(*point.design, *point.dram, point.source->header);
  } catch (const Error& error) {
    point.state = PlannedPoint::State::kInvalid;
    point.reason = error.what();
    return;
  }
  const std::string counts = without_prices(*point.design) + "dram " + point.dram->hash +
                             "\ndatapath " + std::string(point.datapath->name) + "\n" +
                             point.source->text + "\n";
  point.sim_key = hash_text(counts + "build " + result_build());
  point.id = hash_text(counts + "prices " + point.prices->hash()).substr(0, 16);
}

std::string SweepPlan::cell(const PlannedPoint& point, std::size_t column) const {
  const std::string& name = columns_[column];
  for (std::size_t a = 0; a < spec_.axes.size(); ++a) {
    const AxisValue& value = spec_.axes[a].values[point.choice[a]];
    if (spec_.axes[a].name == name) return value.label;
    for (const KeyValue& each : value.sets) {
      if (each.first == name) return each.second;
    }
  }
  for (const KeyValue& each : spec_.constants) {
    if (each.first == name) return each.second;
  }
  return {};
}

std::size_t SweepPlan::count(PlannedPoint::State state) const {
  return static_cast<std::size_t>(
      std::count_if(points_.begin(), points_.end(),
                    [state](const PlannedPoint& point) { return point.state == state; }));
}

}  // namespace stoat::sim
