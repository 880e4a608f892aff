// Reads prices or currents, multiplies. See energy.h.
#include "models/dram/energy.h"

#include <cmath>
#include <filesystem>
#include <set>
#include <vector>

#include "models/data_path.h"
#include "models/error.h"
#include "models/table.h"

namespace stoat {
namespace {

constexpr std::string_view kEvents[kDramEvents] = {"activate",
                                                   "read_bit",
                                                   "write_bit",
                                                   "refresh",
                                                   "bank_refresh",
                                                   "active_standby_ns",
                                                   "precharge_standby_ns",
                                                   "active_down_ns",
                                                   "precharge_down_ns"};
constexpr std::string_view kBoundaries[kEnergyBoundaries] = {"die", "io", "system"};
constexpr std::string_view kWords[kEnergyBoundaries] = {"die", "die + I/O",
                                                        "die + I/O + PHY and controller"};

template <std::size_t N>
std::size_t index_of(const std::string_view (&names)[N], const std::string& name,
                     const Place& place) {
  std::vector<std::string> known;
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) return i;
    known.emplace_back(names[i]);
  }
  throw usage_error(place, "unknown '" + name + "'", "a row of DRAM prices",
                    nearest_name_hint(name, known));
}

}  // namespace

std::string_view dram_event_name(DramEvent event) {
  return kEvents[static_cast<std::size_t>(event)];
}
std::string_view energy_boundary_name(EnergyBoundary boundary) {
  return kBoundaries[static_cast<std::size_t>(boundary)];
}
std::string_view energy_boundary_words(EnergyBoundary boundary) {
  return kWords[static_cast<std::size_t>(boundary)];
}

class DramPriceReader {
 public:
  explicit DramPriceReader(DramPrices& prices) : prices_(prices) {}

  void read_prices(const Table& table) {
    for (std::size_t row = 0; row < table.size(); ++row) {
      const Place place = table.place(row);
      const std::size_t event = index_of(kEvents, table.text(row, "event"), place);
      const std::size_t layer = index_of(kBoundaries, table.text(row, "boundary"), place);
      std::optional<Energy>& price = prices_.price_[event][layer];
      if (price) throw usage_error(place, "'" + table.text(row, "event") + "' stands twice");
      if (table.text(row, "source").empty()) {
        throw usage_error(place, "a price without a source", "where the value comes from");
      }
      price = energy_from(table.text(row, "value"), table.text(row, "unit"), place.text());
    }
  }

  void read_currents(const std::string& path) {
    const NamedValues v = NamedValues::read(path);
    static const std::set<std::string> kKnown = {
        "vdd",  "vddq", "idd0", "idd2n", "idd3n", "idd2p", "idd3p", "idd4r",   "idd4w",
        "idd5", "iddq", "rate", "t_rc",  "t_ras", "t_rfc", "share", "activate"};
    for (const std::string& name : v.names()) {
      if (!kKnown.contains(name)) {
        throw usage_error({path}, "unknown row '" + name + "'", "a current of a datasheet",
                          nearest_name_hint(name, {kKnown.begin(), kKnown.end()}));
      }
      if (v.source(name).empty()) throw usage_error({path}, "'" + name + "' without a source");
    }
    const auto milliamperes = [&](const char* name) {
      return v.has(name) ? std::optional(v.number(name, "mA")) : std::nullopt;
    };
    const double vdd = v.number("vdd", "V"), rate = v.number("rate", "Gb/s");
    const double share = v.has("share") ? v.number("share", "-") : 1.0;  // of the device
    const auto idd0 = milliamperes("idd0"), idd2n = milliamperes("idd2n"),
               idd3n = milliamperes("idd3n"), idd5 = milliamperes("idd5");
    if (v.has("activate")) {
      set(DramEvent::kActivate, EnergyBoundary::kDie, v.number("activate", "pJ"), path);
    } else if (idd0 && idd2n && idd3n) {
      const double rc = v.number("t_rc", "ns"), ras = v.number("t_ras", "ns");
      set(DramEvent::kActivate, EnergyBoundary::kDie,
          (*idd0 * rc - *idd3n * ras - *idd2n * (rc - ras)) * vdd, path);
    }
    // mA x V / (Gb/s) = pJ a bit; mA x V x ns = pJ; mA x V = pJ a ns.
    const auto bits = [&](DramEvent event, const char* name) {
      const auto current = milliamperes(name);
      if (current && idd3n) {
        set(event, EnergyBoundary::kDie, (*current - *idd3n) * vdd / rate, path);
      }
      if (!v.has("iddq")) return;
      set(event, EnergyBoundary::kIo, v.number("iddq", "mA") * v.number("vddq", "V") / rate, path);
    };
    bits(DramEvent::kReadBit, "idd4r");
    bits(DramEvent::kWriteBit, "idd4w");
    if (idd5 && idd3n) {
      set(DramEvent::kRefresh, EnergyBoundary::kDie,
          (*idd5 - *idd3n) * vdd * v.number("t_rfc", "ns") * share, path);
    }
    const auto standby = [&](DramEvent event, const char* name) {
      const auto current = milliamperes(name);
      if (current) set(event, EnergyBoundary::kDie, *current * vdd * share, path);
    };
    standby(DramEvent::kActiveStandbyNs, "idd3n");
    standby(DramEvent::kPrechargeStandbyNs, "idd2n");
    standby(DramEvent::kActiveDownNs, "idd3p");
    standby(DramEvent::kPrechargeDownNs, "idd2p");
  }

 private:
  void set(DramEvent event, EnergyBoundary layer, double picojoules, const std::string& path) {
    if (!(picojoules >= 0) || picojoules > 1e9) {
      throw usage_error(
          {path},
          std::string(dram_event_name(event)) + " would cost " + std::to_string(picojoules) + " pJ",
          "currents that do not contradict each other (IDD0 above IDD3N ...)");
    }
    prices_.price_[static_cast<std::size_t>(event)][static_cast<std::size_t>(layer)] =
        Energy(static_cast<Int128>(std::llround(picojoules * 1e6)));
  }

  DramPrices& prices_;
};

DramPrices DramPrices::read(const std::string& name_or_path) {
  const bool is_path =
      name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".csv");
  const std::string path =
      is_path ? name_or_path : data_path("dram/energy/" + name_or_path + ".csv");
  DramPrices prices;
  prices.name_ = std::filesystem::path(path).stem().string();
  DramPriceReader reader(prices);
  const Table table = Table::read(path, {"value", "unit", "source"});
  if (table.has_column("event")) {
    reader.read_prices(Table::read(path, {"event", "boundary", "value", "unit", "source"}));
  } else {
    reader.read_currents(path);
  }
  return prices;
}

Energy DramEnergy::of(DramEvent event) const {
  Energy sum{0};
  for (const Energy& layer : part[static_cast<std::size_t>(event)]) sum += layer;
  return sum;
}

Energy DramEnergy::total() const {
  Energy sum{0};
  for (std::size_t i = 0; i < kDramEvents; ++i) sum += of(static_cast<DramEvent>(i));
  return sum;
}

DramEnergy price_dram(const DramActivity& activity, const DramPrices& prices,
                      EnergyBoundary boundary) {
  DramEnergy energy;
  energy.boundary = boundary;
  std::string missing;
  for (std::size_t layer = 0; layer <= static_cast<std::size_t>(boundary); ++layer) {
    bool any = false;
    for (std::size_t i = 0; i < kDramEvents; ++i) {
      const auto event = static_cast<DramEvent>(i);
      const std::optional<Energy> price = prices.price(event, static_cast<EnergyBoundary>(layer));
      any = any || price.has_value();
      if (price) {
        energy.part[i][layer] = *price * static_cast<Int128>(activity.at(event));
      } else if (layer == 0 && activity.at(event) > 0) {
        missing += (missing.empty() ? "" : ", ") + std::string(kEvents[i]);
      }
    }
    if (!any) {
      missing += (missing.empty() ? "" : ", ") + std::string("every row of boundary ") +
                 std::string(kBoundaries[layer]);
    }
  }
  if (!missing.empty()) {
    throw usage_error(
        {prices.name()}, "no price for " + missing,
        "prices of all that happened, for " + std::string(energy_boundary_words(boundary)),
        "choose another set or boundary, or add the rows with their source");
  }
  return energy;
}

}  // namespace stoat
