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

#include "models/units.h"

namespace stoat::sim {

enum class Repeats : std::uint8_t { kAdds, kShiftAdds, kMultiply };  // a row drawn n times
enum class KLayout : std::uint8_t { kTokenMajor, kFeatureMajor };    // of K in DRAM
enum class Dealing : std::uint8_t { kRoundRobin, kContiguous };      // tiles to a KV head's engines
enum class KvElement : std::uint8_t { kBf16, kFp8, kInt8 };

std::string_view repeats_name(Repeats value);    // adds shift_adds multiply
std::string_view layout_name(KLayout value);     // token_major feature_major
std::string_view dealing_name(Dealing value);    // round_robin contiguous
std::string_view element_name(KvElement value);  // bf16 fp8 int8
Bytes element_bytes(KvElement value);

struct DesignPoint {
  std::string name;    // file name without folder and ending
  std::string hash;    // of the canonical text: equal designs, equal hashes
  std::string dram;    // name or path for read_dram_standard
  std::string prices;  // name or path for PriceList::read
  bool refresh = false;
  Hertz clock{0};
  std::uint32_t dense_lanes = 0, gather_add_lanes = 0, ternary_lanes = 0, exp_lanes = 0,
                comparators = 0;
  Bytes stash{0}, row_buffer{0}, query_buffer{0};
  std::uint32_t outstanding_bursts = 0;
  Picoseconds exchange_latency{0};
  Repeats repeats = Repeats::kAdds;
  Dealing dealing = Dealing::kRoundRobin;
  KLayout k_layout = KLayout::kTokenMajor;
  KvElement element = KvElement::kBf16;
};

// name_or_path: "hbm3" (models/arch/hbm3.yaml) or a path to a .yaml. overrides:
// "engine.lanes.dense=128".
DesignPoint read_design_point(const std::string& name_or_path,
                              const std::vector<std::string>& overrides = {});
// The same from text; `file` names the place in messages.
DesignPoint parse_design_point(std::string_view text, const std::string& file,
                               const std::vector<std::string>& overrides = {});

// Every field as "path: value" lines in a fixed order: what the hash is taken over and what a
// manifest records.
std::string canonical_text(const DesignPoint& point);

// Engines (pseudo-channels) that serve one KV head. Throws Error when the division leaves a rest.
std::uint32_t engines_per_kv_head(std::uint32_t pseudo_channels, std::uint32_t kv_heads);

}  // namespace stoat::sim
