// Names of stages, events and report components. See events.h.
#include "models/energy/events.h"

#include "models/error.h"

namespace stoat {
namespace {

struct EventRow {
  Event event;
  std::string_view name;
  std::string_view component;
};

constexpr std::array<EventRow, kEvents> kRows = {{
    {Event::kMultiply, "multiply", "arithmetic"},
    {Event::kAccumulate, "accumulate", "arithmetic"},
    {Event::kTernaryAdd, "ternary_add", "arithmetic"},
    {Event::kShiftAdd, "shift_add", "arithmetic"},
    {Event::kScale, "scale", "arithmetic"},
    {Event::kMultiplyInt8, "multiply_int8", "arithmetic"},
    {Event::kAccumulateBf16, "accumulate_bf16", "arithmetic"},
    {Event::kAccumulateShared24, "accumulate_shared24", "arithmetic"},
    {Event::kAccumulateInt32, "accumulate_int32", "arithmetic"},
    {Event::kTernaryAddBf16, "ternary_add_bf16", "arithmetic"},
    {Event::kTernaryAddShared24, "ternary_add_shared24", "arithmetic"},
    {Event::kTernaryAddInt32, "ternary_add_int32", "arithmetic"},
    {Event::kShiftAddBf16, "shift_add_bf16", "arithmetic"},
    {Event::kShiftAddShared24, "shift_add_shared24", "arithmetic"},
    {Event::kShiftAddInt32, "shift_add_int32", "arithmetic"},
    {Event::kExp, "exp", "exponential"},
    {Event::kMaxCompare, "max_compare", "exponential"},
    {Event::kPrefixAdd, "prefix_add", "sampler"},
    {Event::kThresholdCompare, "threshold_compare", "sampler"},
    {Event::kRandomDraw, "random_draw", "sampler"},
    {Event::kStashWriteBits, "stash_write_bits", "stash"},
    {Event::kStashReadBits, "stash_read_bits", "stash"},
    {Event::kRowBufferWriteBits, "row_buffer_write_bits", "buffer"},
    {Event::kRowBufferReadBits, "row_buffer_read_bits", "buffer"},
    {Event::kAccumulatorBits, "accumulator_bits", "buffer"},
    {Event::kDramActivate, "dram_activate", "dram_activate"},
    {Event::kDramReadBits, "dram_read_bits", "dram_data"},
    {Event::kDramWriteBits, "dram_write_bits", "dram_data"},
    {Event::kDramRefresh, "dram_refresh", "dram_background"},
    {Event::kDramBackgroundNs, "dram_background_ns", "dram_background"},
}};

constexpr bool rows_follow_the_enumeration() {
  for (std::size_t i = 0; i < kEvents; ++i) {
    if (static_cast<std::size_t>(kRows[i].event) != i || kRows[i].name.empty()) return false;
  }
  return true;
}
static_assert(rows_follow_the_enumeration());

const EventRow& row_of(Event event) {
  const auto index = static_cast<std::size_t>(event);
  STOAT_ENSURE(index < kEvents, "an event of the enumeration");
  return kRows[index];
}

}  // namespace

std::string_view stage_name(Stage stage) {
  switch (stage) {
    case Stage::kScore:
      return "score";
    case Stage::kSelect:
      return "select";
    case Stage::kGather:
      return "gather";
    case Stage::kAppend:
      return "append";
  }
  throw Bug("a stage of the enumeration");
}

std::string_view event_name(Event event) { return row_of(event).name; }
std::string_view event_component(Event event) { return row_of(event).component; }
bool event_is_optional(Event event) {
  return event >= Event::kMultiplyInt8 && event <= Event::kShiftAddInt32;
}

std::uint64_t EventCounts::total(Event event) const {
  std::uint64_t sum = 0;
  for (const auto& stage : count) sum += stage[static_cast<std::size_t>(event)];
  return sum;
}

EventCounts& EventCounts::operator+=(const EventCounts& other) {
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    for (std::size_t event = 0; event < kEvents; ++event) {
      count[stage][event] += other.count[stage][event];
    }
  }
  return *this;
}

}  // namespace stoat
