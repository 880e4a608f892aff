// Requested = distinct rows x row bytes, moved >= requested, bandwidth <= peak, time >= what the
// busiest resource needs.
#include "sim/engine/conservation.h"

#include <algorithm>

#include "models/error.h"
#include "models/sampling/ruler.h"

namespace stoat::sim {
namespace {

const Traffic& part(const DatapathResult& result, Part which) {
  return result.traffic[static_cast<std::size_t>(which)];
}

void check_rows(const DatapathResult& result, const Recount& recount, const EngineShape& shape) {
  const Traffic& key = part(result, Part::kKey);
  const Traffic& value = part(result, Part::kValue);
  STOAT_ENSURE(key.distinct_rows == recount.key_rows, "K rows fetched = rows of the contexts");
  STOAT_ENSURE(key.logical_rows == recount.key_rows_logical, "logical K rows");
  STOAT_ENSURE(key.requested == recount.key_requested, "K bytes = rows x features read");
  STOAT_ENSURE(value.distinct_rows == recount.value_rows,
               "V rows fetched = distinct rows of the groups");
  STOAT_ENSURE(value.logical_rows == recount.value_rows_logical, "logical V rows");
  STOAT_ENSURE(value.requested == shape.row_bytes() * recount.value_rows,
               "V bytes = distinct rows x row bytes");
  const Traffic& append = part(result, Part::kAppend);
  const std::uint64_t appended = shape.point.append ? recount.groups : 0;
  STOAT_ENSURE(append.requested == shape.row_bytes() * (2 * appended),
               "appended bytes = one row of K and V a KV head, sequence and layer");
}

void check_bytes(const DatapathResult& result, const DramStandard& dram) {
  std::uint64_t dram_bits = 0;
  for (const Traffic& traffic : result.traffic) {
    STOAT_ENSURE(traffic.moved >= traffic.requested, "moved >= requested");
    STOAT_ENSURE(traffic.moved == dram.access_size * traffic.bursts, "moved = bursts x burst size");
    dram_bits += traffic.moved.count() * 8;
  }
  STOAT_ENSURE(
      result.events.total(Event::kDramReadBits) + result.events.total(Event::kDramWriteBits) ==
          dram_bits,
      "DRAM bits by stage = bits moved by part");
  STOAT_ENSURE(result.total_traffic().bursts == result.read_bursts + result.write_bursts,
               "bursts of the engines = bursts of the channels");
  STOAT_ENSURE(result.row_hits + result.row_misses == result.read_bursts + result.write_bursts,
               "hits + misses = bursts");
  STOAT_ENSURE(result.events.total(Event::kDramActivate) == result.activates,
               "activations by stage = activations of the channels");
}

void check_time(const DatapathResult& result, const Datapath& datapath, const EngineShape& shape,
                const DramStandard& dram) {
  const Uint128 second = 1000000000000ULL;
  const Uint128 peak = Uint128{dram.peak_bytes_per_second()} * result.engines;
  const Uint128 moved = result.total_traffic().moved.count();
  STOAT_ENSURE(moved * second <= peak * result.time.count(), "achieved bandwidth <= peak");
  STOAT_ENSURE(result.data_bus_busy.count() <= Uint128{result.time.count()} * result.engines,
               "data bus busy <= time");
  STOAT_ENSURE(result.bus_bound <= result.time, "the bursts of an engine fit the time");
  STOAT_ENSURE(result.lane_bound <= result.time, "the work of an engine's lanes fits the time");
  // Nothing but the data of the last reads comes while all banks refresh.
  if (shape.point.memory == MemoryKind::kFirstReady) {
    const std::uint64_t latency = std::max(dram.read_latency, dram.write_latency) +
                                  std::uint64_t{dram.burst_cycles} + dram.column_bus_cycles;
    const std::uint64_t each =
        dram.refresh_cycles - std::min<std::uint64_t>(dram.refresh_cycles, latency);
    const std::uint64_t refreshes = result.refreshes / result.engines;
    STOAT_ENSURE(result.bus_bound + time_of_cycles(refreshes * each, dram.command_clock) <=
                     result.time + time_of_cycles(dram.refresh_cycles, dram.command_clock),
                 "bursts and refreshes of a pseudo-channel fit the time");
    const Picoseconds states = result.active_standby + result.precharge_standby +
                               result.active_down + result.precharge_down;
    STOAT_ENSURE(result.active_standby.count() == 0 || states >= result.time,
                 "background states fill the time");
  }
  for (const UnitUse& unit : result.units) {
    STOAT_ENSURE(unit.busy + unit.starved + unit.blocked <= result.time * result.engines,
                 "busy + starved + blocked <= time");
  }
  // Operations over lanes: the busiest possible use of all engines still needs this long.
  const auto events = [&](Stage stage, Event event) {
    return Uint128{result.events.at(stage, event)};
  };
  const Uint128 cycles = Uint128{result.cycles.count()} * result.engines;
  const Uint128 score = additions(result.events, Stage::kScore);
  STOAT_ENSURE(
      score <= cycles * std::max(datapath.score->lanes(shape.point), shape.point.dense_lanes),
      "cycles >= score operations / lanes");
  const Uint128 gather = additions(result.events, Stage::kGather);
  STOAT_ENSURE(gather <= cycles * datapath.gather->lanes(shape.point),
               "cycles >= gather operations / lanes");
  const Uint128 exponentials = events(Stage::kSelect, Event::kMaxCompare);
  STOAT_ENSURE(exponentials <= cycles * shape.point.exp_lanes, "cycles >= exponentials / lanes");
}

}  // namespace

void check_conservation(const DatapathResult& result, const Recount& recount,
                        const Datapath& datapath, const EngineShape& shape,
                        const DramStandard& dram) {
  check_rows(result, recount, shape);
  check_bytes(result, dram);
  check_time(result, datapath, shape, dram);
  Picoseconds steps{0};
  for (const StepResult& step : result.per_step) steps += step.time;
  STOAT_ENSURE(steps == result.time, "the steps' times sum to the total");
}

}  // namespace stoat::sim
