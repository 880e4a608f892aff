// The channel's counts as what models/dram/energy.h prices.
#pragma once

#include <cstdint>

#include "models/dram/energy.h"
#include "sim/memory/channel.h"

namespace stoat::sim {

inline DramActivity activity_of(const ChannelCounts& counts, const DramStandard& standard) {
  const std::uint64_t bits = 8 * standard.access_size.count();
  DramActivity a;
  a.at(DramEvent::kActivate) = counts.activates;
  a.at(DramEvent::kReadBit) = bits * counts.read_bursts;
  a.at(DramEvent::kWriteBit) = bits * counts.write_bursts;
  a.at(DramEvent::kRefresh) = counts.refreshes;
  a.at(DramEvent::kBankRefresh) = counts.bank_refreshes;
  a.at(DramEvent::kActiveStandbyNs) = counts.active_standby.count() / 1000;
  a.at(DramEvent::kPrechargeStandbyNs) = counts.precharge_standby.count() / 1000;
  a.at(DramEvent::kActiveDownNs) = counts.active_down.count() / 1000;
  a.at(DramEvent::kPrechargeDownNs) = counts.precharge_down.count() / 1000;
  return a;
}

}  // namespace stoat::sim
