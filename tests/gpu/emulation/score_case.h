// Random batches for the emulated score pass, and what its results must be. Not a test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/gpu/emulation/score.h"

namespace stoat::emulation {

enum class Damage : std::uint8_t {
  kNone,
  kNan,     // in some rows of K
  kMasked,  // a score of minus infinity for some rows, and for a whole tile of KV head 0
  kHuge     // a finite score below -2^30
};

struct ScoreCase {
  gpu::ElementType element = gpu::ElementType::kBf16;
  std::uint32_t head_dim = 128, group = 4, kv_heads = 2;
  std::uint32_t page_size = 0;
  gpu::KvLayout layout = gpu::KvLayout::kHnd;
  std::vector<std::uint32_t> contexts;
  std::uint32_t blocks = 2;
  bool kv_is_stable = true;
  Damage damage = Damage::kNone;
  std::uint32_t code_places = 1U << 31;
};

// The first thing that is wrong with the results of `launch` (its blocks are the case's), or "":
// codes within 1 of those of scores in double and nearly all equal, exponents theirs, masses
// exactly those of the codes, signals and the counter of tiles as the gather and the next launch
// need them, no bank conflict.
std::string what_is_wrong(const ScoreCase& of, Launch launch);

}  // namespace stoat::emulation
