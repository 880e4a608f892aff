// The three words as interfaces: a stage answers what is fetched, which events happen, and how many
// lane cycles it takes.
//
// Stages own no clock. A plan is a list of items in order; an item is a few DRAM transactions (a
// row, a tile, or a run of features of a tile, never a burst) and the lane cycles that their data
// feed. The engine turns plans into time.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/energy/events.h"
#include "sim/datapath/work.h"

namespace stoat::sim {

enum class Part : std::uint8_t { kKey, kValue, kSpillWrite, kSpillRead, kAppend };
inline constexpr std::size_t kParts = 5;
std::string_view part_name(Part part);  // key value spill_write spill_read append
Stage stage_of(Part part);              // whose energy the transfer is

struct Fetch {
  Part part = Part::kKey;
  std::uint64_t address = 0;  // multiple of the burst
  Bytes size{0};              // whole bursts
  Bytes requested{0};         // of them asked for
};

struct WorkItem {
  std::uint32_t tile_index = 0;  // own tile it belongs to
  std::vector<Fetch> fetches;
  CoreCycles busy{0};              // of the stage's lanes
  CoreCycles tail{0};              // of them after the last burst arrived
  std::uint64_t rows = 0;          // distinct rows fetched (0 for spilled codes)
  std::uint64_t logical_rows = 0;  // summed over the heads that use them
};

using StageEvents = std::array<std::uint64_t, kEvents>;
inline std::uint64_t& at(StageEvents& events, Event event) {
  return events[static_cast<std::size_t>(event)];
}

struct StagePlan {
  std::vector<WorkItem> items;  // in order of their tiles
  StageEvents events{};
  CoreCycles merge{0};  // at the end: this engine's slice of all partial outputs
};

struct SelectPlan {
  bool streams = false;   // a tile's rows are known as soon as it is scored (no total mass needed)
  CoreCycles prelude{0};  // comparators, before any score is known (sorting thresholds)
  std::vector<CoreCycles> scored;  // [tiles] exponential unit, while scores come in
  std::vector<CoreCycles> ranked;  // [tiles] comparators, while scores come in; may be empty
  CoreCycles preamble{0};          // after the exchange, before the first tile is scanned
  std::vector<CoreCycles>
      scan;  // [tiles] comparators, after the exchange (streaming: after `scored`)
  std::vector<std::uint64_t>
      stashed;  // [tiles] bytes of codes in the stash until the scan; or empty
  std::vector<WorkItem> spill_writes;  // codes that do not fit the stash, by tile
  std::vector<WorkItem> spill_reads;
  StageEvents events{};
};

struct ScoreStage {
  std::string_view name;
  StagePlan (*plan)(const EngineWork&, const EngineShape&);
  std::uint32_t (*lanes)(const DesignPoint&);
};

struct SelectStage {
  std::string_view name;
  SelectPlan (*plan)(const EngineWork&, const EngineShape&);
};

struct GatherStage {
  std::string_view name;
  StagePlan (*plan)(const EngineWork&, const EngineShape&);
  std::uint32_t (*lanes)(const DesignPoint&);
  bool shares_score_lanes = false;  // the same multiply-accumulate lanes score and gather
  bool reads_selected_rows = true;  // false: every row of the context
};

extern const ScoreStage kScoreMac, kScoreTernary;
extern const SelectStage kSelectSoftmax, kSelectSampled, kSelectTopK;
extern const GatherStage kGatherMac, kGatherAdd, kGatherWeighted;

// --- shared by stages ---
constexpr std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }
// Transactions that fetch a tile of K. `touched` [head_dim]: with K feature-major only these
// features; null = all.
std::vector<Fetch> key_fetches(const EngineWork& work, const EngineShape& shape,
                               const OwnTile& tile, const std::vector<std::uint8_t>* touched);
// A tile's rows of K or V (`base`): one transaction, or one a page.
std::vector<Fetch> tile_fetches(Part part, std::uint64_t base, const EngineWork& work,
                                const EngineShape& shape, const OwnTile& tile);
// `bytes` at `address` as whole bursts.
Fetch fetch_of(Part part, std::uint64_t address, std::uint64_t bytes, const EngineShape& shape);
// Writes of the new token's K and V rows; empty unless this engine owns their tile.
std::vector<Fetch> append_fetches(const EngineWork& work, const EngineShape& shape);
// The events of one addition, product or shifted addition in a lane of this format.
Event multiply_event(AccumulatorFormat format);
Event accumulate_event(AccumulatorFormat format);
Event ternary_add_event(AccumulatorFormat format);
Event shift_add_event(AccumulatorFormat format);
// Additions of any format that a stage's lanes did.
std::uint64_t additions(const EventCounts& events, Stage stage);
inline constexpr std::uint64_t kCodeBits = 16;    // a stored score
inline constexpr std::uint64_t kQueryWidth = 16;  // bits

}  // namespace stoat::sim
