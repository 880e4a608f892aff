// See verb_sim_dram.h.
#include "sim/verb_sim_dram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "models/error.h"

namespace stoat::sim {
namespace {

EnergyBoundary boundary_from(const std::string& text) {
  std::vector<std::string> known;
  for (std::size_t i = 0; i < kEnergyBoundaries; ++i) {
    known.emplace_back(energy_boundary_name(static_cast<EnergyBoundary>(i)));
    if (known.back() == text) return static_cast<EnergyBoundary>(i);
  }
  throw usage_error({}, "--boundary '" + text + "'", "die, io or system",
                    nearest_name_hint(text, known));
}

// One of everything that a run of this design may count.
DramActivity possible(const DesignPoint& point) {
  DramActivity a;
  const bool refresh = point.refresh;
  a.at(DramEvent::kActivate) = a.at(DramEvent::kReadBit) = a.at(DramEvent::kWriteBit) = 1;
  a.at(DramEvent::kRefresh) = refresh && !point.refresh_per_bank ? 1 : 0;
  a.at(DramEvent::kBankRefresh) = refresh && point.refresh_per_bank ? 1 : 0;
  a.at(DramEvent::kActiveStandbyNs) = a.at(DramEvent::kPrechargeStandbyNs) = 1;
  const std::uint64_t down = point.power_down_after.count() > 0 ? 1 : 0;
  a.at(DramEvent::kActiveDownNs) = a.at(DramEvent::kPrechargeDownNs) = down;
  return a;
}

}  // namespace

DramPricing::DramPricing(const std::string& set, const std::string& boundary,
                         const DesignPoint& point, const DramStandard& dram)
    : wanted_(!set.empty()), burst_bits_(8 * dram.access_size.count()) {
  boundary_ = boundary_from(boundary);
  if (!wanted_) return;
  if (point.memory != MemoryKind::kFirstReady) {
    throw usage_error({}, "--dram-prices with memory.model=reserved",
                      "the model that counts background states", "--set memory.model=first_ready");
  }
  prices_ = DramPrices::read(set);
  (void)price_dram(possible(point), prices_, boundary_);
}

DramEnergy DramPricing::priced(const DatapathResult& r) const {
  DramActivity a;
  a.at(DramEvent::kActivate) = r.activates;
  a.at(DramEvent::kReadBit) = burst_bits_ * r.read_bursts;
  a.at(DramEvent::kWriteBit) = burst_bits_ * r.write_bursts;
  a.at(DramEvent::kRefresh) = r.refreshes;
  a.at(DramEvent::kBankRefresh) = r.bank_refreshes;
  a.at(DramEvent::kActiveStandbyNs) = r.active_standby.count() / 1000;
  a.at(DramEvent::kPrechargeStandbyNs) = r.precharge_standby.count() / 1000;
  a.at(DramEvent::kActiveDownNs) = r.active_down.count() / 1000;
  a.at(DramEvent::kPrechargeDownNs) = r.precharge_down.count() / 1000;
  return price_dram(a, prices_, boundary_);
}

std::string DramPricing::text(const std::vector<DatapathResult>& results) const {
  if (!wanted_) return {};
  std::string text = fmt::format("  DRAM by command, uJ a step ({}; boundary: {})\n",
                                 prices_.name(), energy_boundary_words(boundary_));
  std::vector<DramEnergy> energies;
  for (const DatapathResult& r : results) energies.push_back(priced(r));
  const auto line = [&](const std::string& name, auto value) {
    text += fmt::format("    {:<22}", name);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto steps = static_cast<double>(std::max<std::uint64_t>(1, results[i].steps));
      text += fmt::format("  {:>12.4g}", value(i) * 1e-12 / steps);
    }
    text += "\n";
  };
  for (std::size_t e = 0; e < kDramEvents; ++e) {
    const auto event = static_cast<DramEvent>(e);
    const bool any = std::any_of(energies.begin(), energies.end(), [&](const DramEnergy& each) {
      return each.of(event).count() != 0;
    });
    if (!any) continue;
    line(std::string(dram_event_name(event)),
         [&](std::size_t i) { return static_cast<double>(energies[i].of(event).count()); });
  }
  line("all", [&](std::size_t i) { return static_cast<double>(energies[i].total().count()); });
  text += fmt::format("    {:<22}", "pJ a bit");
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto bits =
        static_cast<double>(burst_bits_ * (results[i].read_bursts + results[i].write_bursts));
    text += fmt::format("  {:>12.3f}", static_cast<double>(energies[i].total().count()) * 1e-6 /
                                           std::max(1.0, bits));
  }
  return text + "\n";
}

nlohmann::ordered_json DramPricing::json(const std::vector<DatapathResult>& results) const {
  nlohmann::ordered_json json = {{"prices", prices_.name()},
                                 {"boundary", std::string(energy_boundary_words(boundary_))}};
  for (const DatapathResult& r : results) {
    const DramEnergy energy = priced(r);
    nlohmann::ordered_json one = {{"datapath", r.datapath},
                                  {"energy_aJ", to_string(energy.total().count())}};
    for (std::size_t e = 0; e < kDramEvents; ++e) {
      const auto event = static_cast<DramEvent>(e);
      one["parts_aJ"][std::string(dram_event_name(event))] = to_string(energy.of(event).count());
    }
    json["datapaths"].push_back(std::move(one));
  }
  return json;
}

}  // namespace stoat::sim
