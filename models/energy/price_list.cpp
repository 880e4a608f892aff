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

// Rows that are words, before those of the events.
constexpr std::size_t kWordRows = 3;

std::vector<std::string> known_rows() {
  std::vector<std::string> names = {"boundary", "placement", "node"};
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
  const std::vector<std::string> known = known_rows();
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
    if (index < kWordRows) {
      std::string* const words[kWordRows] = {&list.boundary_, &list.placement_, &list.node_};
      *words[index] = table.text(row, "value");
      continue;
    }
    const std::size_t event = index - kWordRows;
    list.price_[event] = energy_from(table.text(row, "value"), table.text(row, "unit"),
                                     table.place(row).text() + ": " + name);
    list.source_[event] = table.text(row, "source");
    list.width_[event] = table.text(row, "width");
  }
  std::string missing;
  for (std::size_t index = 0; index < known.size(); ++index) {
    const bool optional =
        index == 1 || index == 2 ||
        (index >= kWordRows && event_is_optional(static_cast<Event>(index - kWordRows)));
    if (!seen[index] && !optional) missing += (missing.empty() ? "" : ", ") + known[index];
  }
  if (!missing.empty()) {
    throw usage_error({file}, "rows are missing: " + missing, "a price for every event",
                      "add them (0 with a source is a price)");
  }
  return list;
}

bool PriceList::has(Event event) const { return !source_[static_cast<std::size_t>(event)].empty(); }

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
  std::string missing;
  for (std::size_t index = 0; index < kEvents; ++index) {
    const auto event = static_cast<Event>(index);
    if (counts.total(event) == 0 || prices.has(event)) continue;
    missing += (missing.empty() ? "" : ", ") + std::string(event_name(event));
  }
  if (!missing.empty()) {
    throw usage_error(
        {}, "price list " + prices.name() + " lacks rows that this design needs: " + missing,
        "a price for every operation that was counted",
        "another list (rtl_asap7 and rtl_nangate45 have all), or add the rows");
  }
  EnergyTable table;
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    for (std::size_t event = 0; event < kEvents; ++event) {
      const Int128 one = prices.price(static_cast<Event>(event)).count();
      const Int128 count = counts.count[stage][event];
      // 256 parts of at most 2^118 still add up below 2^127.
      STOAT_ENSURE(one == 0 || count <= (Int128{1} << 118) / one, "energies fit 128 bits");
      table.energy[stage][event] = Energy(one * count);
    }
  }
  return table;
}

}  // namespace stoat
