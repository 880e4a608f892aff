// A sweep as its file says it: axes, constants, conditions. Read from strict YAML.
//
//   base: hbm3                                   an accelerator: a name or a .yaml file
//   seed: 1
//   set: {model: llama-3.1-8b, participation: 64}    the same in every point
//   axes:
//     datapath: [mac, gather_add]                    a list
//     context: {log_range: [1024, 131072], factor: 2}     or points: 8
//     engine.lanes.dense: {range: [16, 128], step: 16}    or points: 8
//     rival: {cases: {dense: {datapath: mac}, s128: {datapath: gather_add, budget: 128}}}
//   sample: {kind: latin_hypercube, points: 100, seed: 1}   or random; without it the whole grid
//   skip_when:
//     - budget > context
//     - {when: datapath == 'mac' and budget > 1, because: mac reads every row}
// A key is one of sweep_keys() (what is read), or a path of the design point (what reads it).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/error.h"
#include "sim/sweep/condition.h"

namespace stoat::sim {

inline constexpr std::uint64_t kMaxSweepPoints = 1000000;

// A key that says what a decode step reads. The rest are keys of the design point.
struct SweepKey {
  const char* name;
  const char* expected;
};
const std::vector<SweepKey>& sweep_keys();
bool is_sweep_key(std::string_view name);
std::vector<std::string> all_sweep_keys();  // these and the design's

using KeyValue = std::pair<std::string, std::string>;

// One place on an axis: what the column says, and the keys it sets.
struct AxisValue {
  std::string label;
  std::vector<KeyValue> sets;
};

struct Axis1D {  // a range that is sampled continuously when the sweep is not a grid
  double low = 0, high = 0;
  bool logarithmic = false, whole = false;
  std::string unit;
};

struct SweepAxis {
  std::string name;
  Place place;
  std::vector<AxisValue> values;     // of the grid
  std::optional<Axis1D> continuous;  // of a range without step, factor or points
};

struct SweepSample {
  bool latin_hypercube = true;  // else random
  std::uint32_t points = 0;
  std::uint64_t seed = 0;
};

struct SkipRule {
  Condition condition;
  std::string because;  // what a skipped point says
};

struct SweepSpec {
  std::string name;    // file name without folder and ending
  std::string file;    // for messages
  std::string folder;  // relative traces are looked for here
  std::string base;    // accelerator
  std::uint64_t seed = 1;
  std::vector<KeyValue> constants;
  std::vector<SweepAxis> axes;
  std::optional<SweepSample> sample;
  std::vector<SkipRule> skip;

  std::vector<std::string> keys() const;  // of constants and axes, each once, in order
};

SweepSpec parse_sweep(std::string_view text, const std::string& file);

// Points before skipping; the choice on every axis of each. Refuses more than kMaxSweepPoints.
// For a sample, axes get one value a point.
std::vector<std::vector<std::uint32_t>> sweep_choices(SweepSpec& spec);

}  // namespace stoat::sim
