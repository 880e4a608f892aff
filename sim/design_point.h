// One accelerator as typed values: memory, prices, engine, mapping. Read from a strict YAML file
// plus `--set` overrides.
//
// Every value in the file has its unit; unknown, misspelt, repeated or missing keys are errors with
// file:line:column. No default lives in code: what a file does not say comes from its `base:` or is
// an error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/arithmetic/accumulator.h"
#include "models/units.h"

namespace stoat::sim {

enum class KLayout : std::uint8_t { kTokenMajor, kFeatureMajor };  // of K in DRAM
enum class Dealing : std::uint8_t { kRoundRobin, kContiguous };    // tiles to a KV head's engines
enum class KvElement : std::uint8_t { kBf16, kFp8, kInt8 };
// Where the engines sit: beside the stack, in its logic die, at the bank groups, in the banks.
enum class Placement : std::uint8_t { kBeside, kLogicDie, kBankGroup, kBank };
// How the top-k rival selects: radix passes over stored codes, a streaming heap, a bitonic network.
enum class TopKUnit : std::uint8_t { kRadix, kHeap, kBitonic };
// B draws of a ternary query: B passes over a row, or merged to one integer count a feature, which
// is then added bit by bit or multiplied.
enum class TernaryDraws : std::uint8_t { kPasses, kMergedShiftAdds, kMergedMultiply };

// The memory behind the engines: DramController or DramChannel (sim/memory/README.md).
enum class MemoryKind : std::uint8_t { kFirstReady, kReserved };
// When an open row is closed: sim/memory/controller.h, which says what memory.controller.* mean.
enum class PageRule : std::uint8_t { kOpen, kClosed, kTimeout };

std::string_view layout_name(KLayout value);       // token_major feature_major
std::string_view dealing_name(Dealing value);      // round_robin contiguous
std::string_view element_name(KvElement value);    // bf16 fp8 int8
std::string_view placement_name(Placement value);  // beside logic_die bank_group bank
std::string_view topk_name(TopKUnit value);        // radix heap bitonic
std::string_view ternary_draws_name(
    TernaryDraws value);  // passes merged_shift_adds merged_multiply
Bytes element_bytes(KvElement value);

struct DesignPoint {
  std::string name;    // file name without folder and ending
  std::string hash;    // of the canonical text: equal designs, equal hashes
  std::string dram;    // name or path for read_dram_standard
  std::string prices;  // name or path for PriceList::read
  bool refresh = false;
  std::uint32_t stacks = 1;  // as many times the standard's channels
  std::string map;           // address order, or "standard": the one of its table
  MemoryKind memory = MemoryKind::kFirstReady;
  // memory.controller.*: of the first-ready model.
  std::uint32_t queue_bursts = 1, row_hit_cap = 0, write_high = 1, write_low = 0;
  bool shared_queue = false;  // one queue a channel; else one a pseudo-channel
  PageRule page_rule = PageRule::kOpen;
  Picoseconds page_timeout{0}, power_down_after{0};  // rounded up to the memory's clock; 0: never
  bool refresh_per_bank = false, refresh_staggered = false;
  Placement placement = Placement::kBeside;
  Hertz clock{0};
  std::uint32_t dense_lanes = 0, gather_add_lanes = 0, ternary_lanes = 0, exp_lanes = 0,
                comparators = 0;
  AccumulatorFormat dense_accumulator = AccumulatorFormat::kFp32,
                    gather_add_accumulator = AccumulatorFormat::kFp32,
                    ternary_accumulator = AccumulatorFormat::kFp32;
  Bytes stash{0}, row_buffer{0}, query_buffer{0};
  bool double_buffer = true;          // the row buffer fills while lanes empty it
  std::uint32_t queue_tiles = 0;      // between score, select and gather
  std::uint32_t heads_in_flight = 1;  // KV heads (of sequences) that an engine works on at once
  std::uint32_t outstanding_bursts = 0;
  Picoseconds exchange_latency{0};
  Repeats repeats = Repeats::kAdds;
  TopKUnit topk = TopKUnit::kRadix;
  TernaryDraws ternary_draws = TernaryDraws::kPasses;
  std::uint32_t engines_per_head = 0;  // 0: all that the memory allows
  Dealing dealing = Dealing::kRoundRobin;
  KLayout k_layout = KLayout::kTokenMajor;
  std::uint32_t page_rows = 0;  // rows of a page of the KV cache; 0: contiguous
  KvElement element = KvElement::kBf16;
  bool append = false;  // write the new token's K and V
};

// name_or_path: "hbm3" (models/arch/hbm3.yaml) or a path to a .yaml. overrides:
// "engine.lanes.dense=128".
DesignPoint read_design_point(const std::string& name_or_path,
                              const std::vector<std::string>& overrides = {});
// The same from text; `file` names the place in messages.
DesignPoint parse_design_point(std::string_view text, const std::string& file,
                               const std::vector<std::string>& overrides = {});

// The same design with some keys changed: a sweep parses once and changes thousands of times.
DesignPoint change_design_point(DesignPoint base, const std::vector<std::string>& overrides);

// Every field as "path: value" lines in a fixed order: what the hash is taken over and what a
// manifest records.
std::string canonical_text(const DesignPoint& point);

// Engines (pseudo-channels) that can serve one KV head. Throws Error when the division leaves a
// rest.
std::uint32_t engines_per_kv_head(std::uint32_t pseudo_channels, std::uint32_t kv_heads);

// What contradicts itself inside the design: an int32 accumulator for elements that are no
// integers. Throws Error. read_design_point and change_design_point call it.
void check_design(const DesignPoint& point);

}  // namespace stoat::sim
