// The kernels of a sampled decode, run on the CPU as they are written.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/attention/params.h"
#include "tests/gpu/emulation/warps.h"

namespace stoat::emulation {

// What the score pass leaves in the workspace, by places as handover.cuh gives them.
struct ScoreResults {
  std::vector<std::uint16_t> code;     // [batch, q_heads, tiles, 256]
  std::vector<std::int32_t> exponent;  // [batch, q_heads, tiles]
  std::vector<std::uint64_t> mass;     // [batch, q_heads, tiles]
  std::vector<std::uint32_t> part;     // [batch, q_heads, tiles, kTileParts]
  std::vector<std::uint32_t> ready;    // [batch]
  std::uint32_t next_tile = 0;
  Report report;
};

// params: q, k, v, the lengths and the page table on the host, pointers to results unused.
// code_places: LaunchArguments.
ScoreResults run_score(const gpu::DecodeParams& params, std::uint32_t code_places,
                       const Launch& launch);

struct GatherResults {
  std::vector<float> out;            // [batch, q_heads, head_dim]
  std::vector<float> lse;            // [batch, q_heads]
  std::vector<std::uint32_t> row;    // [batch, q_heads, budget]
  std::vector<std::uint16_t> count;  // [batch, q_heads, budget]
  std::uint32_t status = 0, lost = 0;
};

// How node 2 is cut into blocks.
struct Cut {
  std::uint32_t blocks = 1;           // of a head
  std::uint32_t whole_sequences = 0;  // the first ones, of whose heads a block takes one
};

// Node 2 on what run_score() left. Of `launch`: seed, late copies and fault.
GatherResults run_gather(const gpu::DecodeParams& params, const ScoreResults& scores,
                         const Cut& cut, const Launch& launch);

// The same of the comparator: params.method is kTopK.
GatherResults run_topk(const gpu::DecodeParams& params, const ScoreResults& scores, const Cut& cut,
                       const Launch& launch);

// Dense attention, launch.blocks a (sequence, KV head). [batch, q_heads, head_dim]
std::vector<float> run_dense(const gpu::DecodeParams& params, Launch launch);

struct DecodeResults {
  ScoreResults scores;
  GatherResults gather;
  bool is_ready_again = false;  // every count of the workspace is 0, as the next launch needs it
};

// Both nodes at once, the gather waiting for the signals of the score pass, whose blocks are the
// launch's. Codes are kept.
DecodeResults run_decode(const gpu::DecodeParams& params, const Cut& cut, const Launch& launch);

}  // namespace stoat::emulation
