// What one datapath did with one trace: integers only. No energy in it: counts are priced
// afterwards (design decision 2).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "models/energy/events.h"
#include "models/units.h"
#include "sim/datapath/stage.h"

namespace stoat::sim {

// logical = as if every query head read its own rows once; distinct = after the union over the KV
// group; requested = what the stages ask for; moved = whole DRAM bursts.
struct Traffic {
  std::uint64_t logical_rows = 0, distinct_rows = 0;
  Bytes logical{0}, requested{0}, moved{0};
  std::uint64_t bursts = 0;

  Traffic& operator+=(const Traffic& other) {
    logical_rows += other.logical_rows;
    distinct_rows += other.distinct_rows;
    logical += other.logical;
    requested += other.requested;
    moved += other.moved;
    bursts += other.bursts;
    return *this;
  }
  friend bool operator==(const Traffic&, const Traffic&) = default;
};
using PartTraffic = std::array<Traffic, kParts>;

// How a kind of lanes spent the run, summed over engines; the rest of the time it had no work.
struct UnitUse {
  Picoseconds busy{0}, starved{0}, blocked{0};
  UnitUse& operator+=(const UnitUse& other) {
    busy += other.busy;
    starved += other.starved;
    blocked += other.blocked;
    return *this;
  }
  friend bool operator==(const UnitUse&, const UnitUse&) = default;
};
enum class Unit : std::uint8_t { kScore, kExponential, kSelect, kGather };
inline constexpr std::size_t kUnits = 4;
inline constexpr std::array<const char*, kUnits> kUnitNames = {"score", "exponential", "select",
                                                               "gather"};

struct StepResult {
  std::uint32_t step = 0, context_len = 0;  // context of the longest sequence
  CoreCycles cycles{0};
  Picoseconds time{0};
  Bytes key{0}, value{0}, moved{0};  // key, value: requested
  std::uint64_t value_rows_logical = 0, value_rows_distinct = 0;

  friend bool operator==(const StepResult&, const StepResult&) = default;
};

struct DatapathResult {
  std::string datapath, score_stage, select_stage, gather_stage;
  std::uint64_t steps = 0, layer_steps = 0;
  std::uint32_t context_max = 0, engines = 0;
  CoreCycles cycles{0};
  Picoseconds time{0};
  EventCounts events;
  PartTraffic traffic{};
  std::uint64_t value_draws = 0;  // sum of counts
  Bytes dense_kv{0};              // K and V of the same steps, each row of each KV head once
  std::uint64_t activates = 0, row_hits = 0, row_misses = 0, refreshes = 0;
  std::uint64_t read_bursts = 0, write_bursts = 0;
  Picoseconds data_bus_busy{0};            // summed over pseudo-channels
  std::array<CoreCycles, kStages> busy{};  // summed over engines
  std::array<UnitUse, kUnits> units{};     // summed over engines
  // Summed over channels; the row commands' slots, and tRC an activation summed over banks.
  Picoseconds row_bus_busy{0}, bank_busy{0};
  std::uint64_t channels = 0, banks = 0;  // of all stacks
  // First-ready memory only: refreshes of single banks, and pseudo-channel time by state.
  std::uint64_t bank_refreshes = 0, power_downs = 0;
  Picoseconds active_standby{0}, precharge_standby{0}, active_down{0}, precharge_down{0};
  // What the run cannot go below, of the busiest engine: its bursts one after the other, its
  // busiest kind of lanes; and what refreshes of all banks take from a pseudo-channel.
  Picoseconds bus_bound{0}, lane_bound{0}, refresh_time{0};
  Unit lane_bound_unit = Unit::kScore;
  // Ternary: features touched, summed over (query head | KV group, layer step), and how many there
  // were.
  std::uint64_t touched_by_heads = 0, head_steps = 0, touched_by_groups = 0, group_steps = 0;
  std::vector<StepResult> per_step;

  Traffic total_traffic() const {
    Traffic sum;
    for (const Traffic& each : traffic) sum += each;
    return sum;
  }
  // Without the append of the new token, which is counted apart.
  Traffic attention_traffic() const {
    Traffic sum;
    for (std::size_t i = 0; i < kParts; ++i) {
      if (static_cast<Part>(i) != Part::kAppend) sum += traffic[i];
    }
    return sum;
  }
  friend bool operator==(const DatapathResult&, const DatapathResult&) = default;
};

}  // namespace stoat::sim
