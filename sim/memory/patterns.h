// The five reference patterns and the two reference maps, generated (splitmix64, fixed seed): what
// a model of a memory is compared with others on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "models/dram/standard.h"
#include "models/units.h"
#include "sim/memory/controller.h"

namespace stoat::sim {

struct ByteRange {
  std::uint64_t address = 0, size = 0;
};

struct Pattern {
  std::string name;
  std::vector<ByteRange> ranges;  // all wanted at time 0, in order
};

class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

inline constexpr std::uint64_t kPatternSeed = 0x9E3779B97F4A7C15U;
inline constexpr std::uint64_t kMiB = 1 << 20;

inline Pattern a_stream() {
  std::vector<ByteRange> out;
  for (std::uint64_t i = 0; i < 16 * kMiB / 64; ++i) out.push_back({64 * i, 64});
  return {"a_stream", std::move(out)};
}

inline Pattern b_gather256() {
  SplitMix64 random(kPatternSeed ^ 0xB);
  std::vector<ByteRange> out;
  for (int i = 0; i < 8192; ++i) {
    const std::uint64_t base = (random.next() & (64 * kMiB / 256 - 1)) * 256;
    for (std::uint64_t k = 0; k < 4; ++k) out.push_back({base + 64 * k, 64});
  }
  return {"b_gather256", std::move(out)};
}

inline Pattern c_gather64() {
  SplitMix64 random(kPatternSeed ^ 0xC);
  std::vector<ByteRange> out;
  for (int i = 0; i < 8192; ++i) out.push_back({(random.next() & (64 * kMiB / 64 - 1)) * 64, 64});
  return {"c_gather64", std::move(out)};
}

inline Pattern d_stride256() {
  std::vector<ByteRange> out;
  for (std::uint64_t i = 0; i < 16 * kMiB / 256; ++i) out.push_back({256 * i, 32});
  return {"d_stride256", std::move(out)};
}

inline Pattern e_mixed() {
  SplitMix64 random(kPatternSeed ^ 0xE);
  const std::uint64_t n = 65536;
  std::uint64_t quota = 16384, sequential = 0;
  std::vector<ByteRange> out;
  for (std::uint64_t i = 0; i < n; ++i) {
    std::uint64_t base = 0;
    // Knuth S: exactly `quota` of n.
    if (Uint128{random.next() >> 11} * (n - i) < Uint128{quota} << 53) {
      --quota;
      base = 64 * kMiB + (random.next() & (64 * kMiB / 256 - 1)) * 256;
    } else {
      base = 256 * sequential++;
    }
    for (std::uint64_t k = 0; k < 4; ++k) out.push_back({base + 64 * k, 64});
  }
  return {"e_mixed", std::move(out)};
}

inline std::vector<Pattern> all_patterns() {
  return {a_stream(), b_gather256(), c_gather64(), d_stride256(), e_mixed()};
}

enum class ReferenceMap { kFine, kChunk };

// A pattern as requests of each channel. fine: bursts over channels, pseudo-channels, bank groups;
// chunk: 256 bytes side by side. The rest of the map is the standard's address_order.
inline std::vector<std::vector<MemoryRequest>> requests_of(const Pattern& pattern,
                                                           const DramStandard& standard,
                                                           ReferenceMap map) {
  std::vector<std::vector<MemoryRequest>> channels(standard.channels);
  const std::uint64_t burst = standard.access_size.count();
  const std::uint64_t grain =
      map == ReferenceMap::kFine ? burst : std::max<std::uint64_t>(256, burst);
  std::uint64_t last = ~std::uint64_t{0};
  for (const ByteRange& range : pattern.ranges) {
    // Whole bursts; a request that falls in the burst just emitted is merged into it.
    for (std::uint64_t index = range.address / burst;
         index <= (range.address + range.size - 1) / burst; ++index) {
      if (index == last) continue;
      last = index;
      const std::uint64_t address = index * burst;
      const std::uint64_t piece = address / grain;
      const std::uint64_t rest = piece / standard.channels;
      MemoryRequest request;
      request.pseudo_channel = static_cast<std::uint32_t>(rest % standard.pseudo_channels);
      request.address = rest / standard.pseudo_channels * grain + address % grain;
      request.size = standard.access_size;
      std::vector<MemoryRequest>& list = channels[piece % standard.channels];
      if (!list.empty() && list.back().pseudo_channel == request.pseudo_channel &&
          list.back().address + list.back().size.count() == request.address) {
        list.back().size += request.size;
      } else {
        list.push_back(request);
      }
    }
  }
  return channels;
}

// The channels that the reference patterns are spread over.
inline std::uint32_t reference_channels(const DramStandard& standard) {
  if (standard.name.starts_with("lpddr")) return 4;
  if (standard.name.starts_with("gddr") || standard.name.starts_with("ddr")) return 2;
  return standard.channels;
}

inline std::string address_order(ReferenceMap map) {
  return map == ReferenceMap::kFine ? "bank_group column bank stack row"
                                    : "column:256 bank_group column bank stack row";
}

}  // namespace stoat::sim
