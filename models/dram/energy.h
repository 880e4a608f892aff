// What DRAM commands and standby cost, by the boundary around what is counted: the die alone, with
// its I/O, with the host's PHY and controller. Pricing happens after counting, in whole attojoules.
//
// A set is one CSV in models/dram/energy/: either prices (`event,boundary,value,unit,source`) or
// the currents of a datasheet (`name,value,unit,source`), from which prices are derived as
//   activation  (IDD0 tRC - IDD3N tRAS - IDD2N (tRC - tRAS)) VDD
//   read, write (IDD4 - IDD3N) VDD / rate        refresh  (IDD5 - IDD3N) VDD tRFC
//   standby     IDD3N VDD (a row open), IDD2N VDD, IDD3P VDD, IDD2P VDD
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "models/units.h"

namespace stoat {

enum class DramEvent : std::uint8_t {
  kActivate,  // with its precharge
  kReadBit,
  kWriteBit,
  kRefresh,          // all banks of a pseudo-channel
  kBankRefresh,      // one per-bank refresh command
  kActiveStandbyNs,  // of a pseudo-channel, by state
  kPrechargeStandbyNs,
  kActiveDownNs,
  kPrechargeDownNs
};
inline constexpr std::size_t kDramEvents = 9;
std::string_view dram_event_name(DramEvent event);  // activate read_bit ... precharge_down_ns

// Each boundary contains those before it.
enum class EnergyBoundary : std::uint8_t { kDie, kIo, kSystem };
inline constexpr std::size_t kEnergyBoundaries = 3;
std::string_view energy_boundary_name(EnergyBoundary boundary);   // die io system
std::string_view energy_boundary_words(EnergyBoundary boundary);  // "die", "die + I/O", ...

struct DramActivity {
  std::array<std::uint64_t, kDramEvents> count{};
  std::uint64_t& at(DramEvent event) { return count[static_cast<std::size_t>(event)]; }
  std::uint64_t at(DramEvent event) const { return count[static_cast<std::size_t>(event)]; }
};

class DramPrices {
 public:
  // A path or the name of a shipped set. Throws Error for unknown, repeated and sourceless rows,
  // for prices below 0 (currents that contradict each other) or finer than an attojoule.
  static DramPrices read(const std::string& name_or_path);

  const std::string& name() const { return name_; }
  // What the layer `boundary` adds to the one inside it; empty where nothing is known.
  std::optional<Energy> price(DramEvent event, EnergyBoundary boundary) const {
    return price_[static_cast<std::size_t>(event)][static_cast<std::size_t>(boundary)];
  }

 private:
  friend class DramPriceReader;
  std::string name_;
  std::array<std::array<std::optional<Energy>, kEnergyBoundaries>, kDramEvents> price_{};
};

struct DramEnergy {
  EnergyBoundary boundary = EnergyBoundary::kDie;
  std::array<std::array<Energy, kEnergyBoundaries>, kDramEvents> part{};
  Energy of(DramEvent event) const;  // within the boundary
  Energy total() const;
};

// Throws Error (usage) naming every row that is missing: a die price of an event that happened, or
// the whole layer of a boundary.
DramEnergy price_dram(const DramActivity& activity, const DramPrices& prices,
                      EnergyBoundary boundary);

}  // namespace stoat
