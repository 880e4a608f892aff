// Reads a price list and multiplies. See price_list.h and models/energy/README.md.
#include "models/energy/price_list.h"

#include <filesystem>
#include <limits>

#include "models/data_path.h"
#include "models/error.h"
#include "models/hash.h"
#include "models/table.h"

namespace stoat {
namespace {

constexpr std::string_view kBoundaryRow = "boundary";

std::vector<std::string> known_events() {
  std::vector<std::string> names = {std::string(kBoundaryRow)};
  for (std::size_t i = 0; i < kEvents; ++i) {
    names.emplace_back(event_name(static_cast<Event>(i)));
  }
  return names;
}

}  // namespace

PriceList PriceList::read(const std::string& path) {
  const bool is_path = path.find('/') != std::string::npos || path.ends_with(".csv");
  const std::string file = is_path ? path : data_path("energy/" + path + ".csv");
  const Table table = Table::read(file, {"event", "width", "value", "unit", "source"});
  const std::vector<std::string> known = known_events();
  std::vector<bool> seen(known.size());
  PriceList list;
  list.name_ = std::filesystem::path(file).stem().string();
  list.hash_ = hash_file(file);
  for (std::size_t row = 0; row < table.size(); ++row) {
    const std::string& name = table.text(row, "event");
    std::size_t index = 0;
    while (index < known.size() && known[index] != name) ++index;
    if (index == known.size()) {
      throw usage_error(table.place(row), "unknown event '" + name + "'", "an event of the list",
                        nearest_name_hint(name, known));
    }
    if (seen[index]) {
      throw usage_error(table.place(row), "'" + name + "' stands twice", "each event once",
                        "remove one of them");
    }
    seen[index] = true;
    if (table.text(row, "source").empty()) {
      throw usage_error(table.place(row), "'" + name + "' without a source",
                        "where the price comes from", "write it into the column source");
    }
    if (index == 0) {
      list.boundary_ = table.text(row, "value");
      continue;
    }
    list.price_[index - 1] = energy_from(table.text(row, "value"), table.text(row, "unit"),
                                         table.place(row).text() + ": " + name);
    list.source_[index - 1] = table.text(row, "source");
    list.width_[index - 1] = table.text(row, "width");
  }
  std::string missing;
  for (std::size_t index = 0; index < known.size(); ++index) {
    if (!seen[index]) missing += (missing.empty() ? "" : ", ") + known[index];
  }
  if (!missing.empty()) {
    throw usage_error({file}, "rows are missing: " + missing, "a price for every event",
                      "add them (0 with a source is a price)");
  }
  return list;
}

Energy PriceList::price(Event event) const { return price_[static_cast<std::size_t>(event)]; }

const std::string& PriceList::source(Event event) const {
  return source_[static_cast<std::size_t>(event)];
}

const std::string& PriceList::width(Event event) const {
  return width_[static_cast<std::size_t>(event)];
}

Energy EnergyTable::total() const {
  Energy sum{0};
  for (std::size_t stage = 0; stage < kStages; ++stage) sum += of_stage(static_cast<Stage>(stage));
  return sum;
}

Energy EnergyTable::of_stage(Stage stage) const {
  Energy sum{0};
  for (const Energy& part : energy[static_cast<std::size_t>(stage)]) sum += part;
  return sum;
}

Energy EnergyTable::of_event(Event event) const {
  Energy sum{0};
  for (const auto& stage : energy) sum += stage[static_cast<std::size_t>(event)];
  return sum;
}

EnergyTable price(const EventCounts& counts, const PriceList& prices) {
  EnergyTable table;
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    for (std::size_t event = 0; event < kEvents; ++event) {
      const Int128 one = prices.price(static_cast<Event>(event)).count();
      const Int128 count = counts.count[stage][event];
      // 60 parts of at most 2^120 still add up below 2^127.
      STOAT_ENSURE(one == 0 || count <= (Int128{1} << 120) / one, "energies fit 128 bits");
      table.energy[stage][event] = Energy(one * count);
    }
  }
  return table;
}

}  // namespace stoat
