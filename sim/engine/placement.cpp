// See placement.h.
#include "sim/engine/placement.h"

#include <string>
#include <vector>

#include "models/data_path.h"
#include "models/error.h"
#include "models/table.h"
#include "sim/datapath/stage.h"
#include "sim/engine/memory_model.h"
#include "sim/memory/address_map.h"

namespace stoat::sim {

std::uint32_t internal_bandwidth(Placement placement) {
  const NamedValues table = NamedValues::read(data_path("arch/placement.csv"));
  return static_cast<std::uint32_t>(table.integer(placement_name(placement), "x"));
}

DramStandard placed_standard(const DramStandard& standard, Placement placement) {
  const std::uint32_t factor = internal_bandwidth(placement);
  if (factor == 1) return standard;
  DramStandard placed = standard;
  placed.command_clock = Hertz(standard.command_clock.count() * factor);
  // All but the columns' own spacing: as many times the cycles, so the same nanoseconds.
  for (std::uint32_t DramStandard::*cycles : {&DramStandard::read_latency,
                                              &DramStandard::write_latency,
                                              &DramStandard::rcd_read,
                                              &DramStandard::rcd_write,
                                              &DramStandard::rp,
                                              &DramStandard::ras,
                                              &DramStandard::rc,
                                              &DramStandard::rrd_short,
                                              &DramStandard::rrd_long,
                                              &DramStandard::faw,
                                              &DramStandard::rtp,
                                              &DramStandard::wr,
                                              &DramStandard::wtr_short,
                                              &DramStandard::wtr_long,
                                              &DramStandard::rtw,
                                              &DramStandard::refresh_interval,
                                              &DramStandard::refresh_cycles,
                                              &DramStandard::ppd,
                                              &DramStandard::refresh_bank_cycles,
                                              &DramStandard::refresh_bank_spacing,
                                              &DramStandard::refresh_bank_activate,
                                              &DramStandard::power_down_exit,
                                              &DramStandard::power_down_min,
                                              &DramStandard::activate_bus_cycles,
                                              &DramStandard::precharge_bus_cycles}) {
    placed.*cycles *= factor;
  }
  check_dram_standard(placed,
                      standard.name + " with engines at " + std::string(placement_name(placement)));
  return placed;
}

DramStandard designed_standard(const DramStandard& standard, const DesignPoint& point) {
  DramStandard dram = standard;
  if (point.map != "standard") dram.address_order = point.map;
  try {
    (void)AddressMap(dram);
  } catch (const Error& error) {
    if (point.map == "standard") throw;
    throw usage_error({},
                      "memory.map is '" + point.map + "' on " + dram.name + ": " + error.what());
  }
  dram = placed_standard(dram, point.placement);
  if (!point.refresh) dram.refresh_interval = 0;
  if (point.memory == MemoryKind::kFirstReady) (void)controller_options(point, dram);
  return dram;
}

void check_prices(const DesignPoint& point, const PriceList& prices) {
  std::vector<Event> needed = {
      multiply_event(point.dense_accumulator), accumulate_event(point.dense_accumulator),
      accumulate_event(point.gather_add_accumulator), ternary_add_event(point.ternary_accumulator)};
  if (point.repeats == Repeats::kShiftAdds) {
    needed.push_back(shift_add_event(point.gather_add_accumulator));
  }
  if (point.ternary_draws == TernaryDraws::kMergedShiftAdds) {
    needed.push_back(shift_add_event(point.ternary_accumulator));
  }
  std::string missing;
  for (const Event event : needed) {
    if (prices.has(event)) continue;
    missing += (missing.empty() ? "" : ", ") + std::string(event_name(event));
  }
  if (!missing.empty()) {
    throw usage_error(
        {},
        "price list " + prices.name() + " (" + prices.node() +
            " nm) lacks rows that this design needs: " + missing,
        "a price for every operation of engine.accumulator",
        "--set energy.prices=rtl_asap7 (7 nm) or rtl_nangate45 (45 nm), or add the rows");
  }
  const std::string wanted(placement_name(point.placement));
  if (prices.placement() == wanted) return;
  throw usage_error({},
                    "engine.placement is " + wanted + " and the price list " + prices.name() +
                        " prices DRAM bits for engines " + prices.placement(),
                    "prices of the same place",
                    point.placement == Placement::kBeside
                        ? "--set energy.prices=jouppi_7nm_hbm3"
                        : "--set energy.prices=jouppi_7nm_hbm3_" + wanted);
}

}  // namespace stoat::sim
