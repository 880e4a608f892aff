// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011), and how stoat keys them.
//
// Part of the trace format (design decision 4): key = seed; counter = {sequence, position, layer |
// query head, purpose | draw}. The same draw comes out whatever the batch, the block size, the
// machine.
#pragma once

#include <cstdint>

#include "models/host_device.h"

namespace stoat {

struct PhiloxBlock {
  std::uint32_t word[4];
};

// Ten rounds. counter and key are the published test vectors' order.
STOAT_HD PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter.word[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter.word[2];
    counter = PhiloxBlock{{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                           static_cast<std::uint32_t>(product1),
                           static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                           static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

// What a draw is for: four bits of the counter.
enum class Purpose : std::uint32_t {
  kValue = 0,
  kTernaryFeature = 1,
  kTileRemainder = 2,
  kToken = 3
};

// Where in a decode a draw belongs.
struct DrawSite {
  std::uint64_t seed = 0;
  std::uint32_t sequence = 0;  // of the batch's requests, not the slot
  std::uint32_t position = 0;  // of the query token = context length - 1
  std::uint16_t layer = 0;
  std::uint16_t query_head = 0;  // for draws shared by a group: its first query head
};

// Four words for (site, purpose, draw); draw < 2^28.
STOAT_HD PhiloxBlock draw_block(const DrawSite& site, Purpose purpose, std::uint32_t draw) {
  const PhiloxBlock counter{{site.sequence, site.position,
                             (static_cast<std::uint32_t>(site.layer) << 16) | site.query_head,
                             (static_cast<std::uint32_t>(purpose) << 28) | (draw & 0x0fffffffU)}};
  return philox4x32_10(counter, static_cast<std::uint32_t>(site.seed),
                       static_cast<std::uint32_t>(site.seed >> 32));
}

// 64 uniform bits: words 0 (low) and 1 (high).
STOAT_HD std::uint64_t draw_u64(const DrawSite& site, Purpose purpose, std::uint32_t draw) {
  const PhiloxBlock block = draw_block(site, purpose, draw);
  return block.word[0] | (static_cast<std::uint64_t>(block.word[1]) << 32);
}

// floor(a * b / 2^64): maps 64 uniform bits a to [0, b).
STOAT_HD std::uint64_t mulhi64(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64);
}

}  // namespace stoat
