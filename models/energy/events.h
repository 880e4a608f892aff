// What the simulation counts: events by stage. Counts are integers; pricing happens afterwards
// (design decision 2).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace stoat {

enum class Stage : std::uint8_t { kScore, kSelect, kGather };
inline constexpr std::size_t kStages = 3;
std::string_view stage_name(Stage stage);  // score select gather

// Operations are counted per lane and element, on-chip memory per bit moved, DRAM per command or
// bit.
enum class Event : std::uint8_t {
  kMultiply,    // element product feeding an accumulator
  kAccumulate,  // addition into an accumulator (of a multiply-accumulate, or of a gathered row)
  kTernaryAdd,  // sign-and-add of a touched feature
  kShiftAdd,    // shifted addition of a repeated row
  kScale,       // multiplications that are not per key: query folding, final 1/S or softmax
                // normalisation
  kExp,         // exponential (or LUT read + shift)
  kMaxCompare,  // running maximum
  kPrefixAdd,   // prefix sum of weights
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
