// Pricing: a pure function of event counts and a price list. Re-pricing never re-simulates; parts
// sum exactly.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "models/energy/events.h"
#include "models/units.h"

namespace stoat {

// models/energy/*.csv: event,width,value,unit,source. `width` says for which number format or array
// size the price holds (for readers). Every event needs exactly one row, and the row `boundary`
// says what the DRAM prices contain; a missing row is an Error naming all rows that are missing.
// Operations in formats that only some designs use may be left out; pricing them is an Error then.
// The row `placement` says for engines in which place the DRAM bits are priced (beside the stack
// when it is left out), the row `node` in which technology the operations are (7 nm when left out).
class PriceList {
 public:
  // File path, or the name of a shipped list ("jouppi_7nm_hbm3").
  static PriceList read(const std::string& path);

  bool has(Event event) const;      // a price for it; false only for optional events
  Energy price(Event event) const;  // 0 for an event without a price
  const std::string& placement() const { return placement_; }  // beside logic_die bank_group bank
  const std::string& source(Event event) const;
  const std::string& width(Event event) const;
  const std::string& boundary() const { return boundary_; }  // in words
  const std::string& node() const { return node_; }          // nm, as text
  const std::string& name() const { return name_; }
  const std::string& hash() const { return hash_; }

 private:
  std::string name_, hash_, boundary_, placement_ = "beside", node_ = "7";
  std::array<Energy, kEvents> price_{};
  std::array<std::string, kEvents> source_, width_;
};

struct EnergyTable {
  std::array<std::array<Energy, kEvents>, kStages> energy{};
  Energy total() const;
  Energy of_stage(Stage stage) const;
  Energy of_event(Event event) const;
};
// Throws Error (usage) naming the rows that the list lacks for what was counted.
EnergyTable price(const EventCounts& counts, const PriceList& prices);

}  // namespace stoat
