// What the simulation counts: events by stage. Counts are integers; pricing happens afterwards
// (design decision 2).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace stoat {

// kAppend: writing the new token's K and V into the cache; belongs to no datapath and is counted
// apart.
enum class Stage : std::uint8_t { kScore, kSelect, kGather, kAppend };
inline constexpr std::size_t kStages = 4;
std::string_view stage_name(Stage stage);  // score select gather append

// Operations are counted per lane and element, on-chip memory per bit moved, DRAM per command or
// bit.
enum class Event : std::uint8_t {
  kMultiply,    // element product feeding an accumulator
  kAccumulate,  // addition into an accumulator (of a multiply-accumulate, or of a gathered row)
  kTernaryAdd,  // sign-and-add of a touched feature
  kShiftAdd,    // shifted addition of a repeated row
  kScale,       // multiplications that are not per key: query folding, final 1/S or softmax
                // normalisation
  // The same operations in other formats than the list's own; a list may leave their prices out.
  kMultiplyInt8,
  kAccumulateBf16,
  kAccumulateShared24,
  kAccumulateInt32,
  kTernaryAddBf16,
  kTernaryAddShared24,
  kTernaryAddInt32,
  kShiftAddBf16,
  kShiftAddShared24,
  kShiftAddInt32,
  kExp,               // exponential (or LUT read + shift)
  kMaxCompare,        // running maximum
  kPrefixAdd,         // prefix sum of weights
  kThresholdCompare,  // sample threshold against boundary
  kRandomDraw,        // one LFSR word
  kStashWriteBits,
  kStashReadBits,
  kRowBufferWriteBits,
  kRowBufferReadBits,
  kAccumulatorBits,  // query and accumulator SRAM traffic, both directions
  kDramActivate,     // row activations (with their precharge)
  kDramReadBits,
  kDramWriteBits,
  kDramRefresh,       // all-bank refresh commands of a pseudo-channel
  kDramBackgroundNs,  // pseudo-channel nanoseconds powered
};
inline constexpr std::size_t kEvents = static_cast<std::size_t>(Event::kDramBackgroundNs) + 1;
std::string_view event_name(
    Event event);  // snake_case, as in price lists: multiply accumulate ternary_add ...
// A price list must price every event but these, which only some designs need.
bool event_is_optional(Event event);
std::string_view event_component(Event event);  // report component: arithmetic exponential sampler
                                                // stash buffer dram_activate ...

struct EventCounts {
  std::array<std::array<std::uint64_t, kEvents>, kStages> count{};

  std::uint64_t& at(Stage stage, Event event) {
    return count[static_cast<std::size_t>(stage)][static_cast<std::size_t>(event)];
  }
  std::uint64_t at(Stage stage, Event event) const {
    return count[static_cast<std::size_t>(stage)][static_cast<std::size_t>(event)];
  }
  std::uint64_t total(Event event) const;
  EventCounts& operator+=(const EventCounts& other);
  friend bool operator==(const EventCounts&, const EventCounts&) = default;
};

}  // namespace stoat
