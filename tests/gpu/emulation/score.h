// The score pass of gpu/attention, run on the CPU as it is written.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/attention/params.h"
#include "tests/gpu/emulation/warps.h"

namespace stoat::emulation {

// What the launch leaves in its workspace, by places as handover.cuh gives them.
struct ScoreResults {
  std::vector<std::uint16_t> code;     // [batch, q_heads, tiles, 256]
  std::vector<std::int32_t> exponent;  // [batch, q_heads, tiles]
  std::vector<std::uint64_t> mass;     // [batch, q_heads, tiles]
  std::vector<std::uint32_t> part;     // [batch, q_heads, tiles, kTileParts]
  std::vector<std::uint32_t> ready;    // [batch]
  std::uint32_t next_tile = 0;
  Report report;
};

// params: q, k, the lengths and the page table on the host, all other pointers unused. code_places:
// LaunchArguments.
ScoreResults run_score(const gpu::DecodeParams& params, std::uint32_t code_places,
                       const Launch& launch);

}  // namespace stoat::emulation
