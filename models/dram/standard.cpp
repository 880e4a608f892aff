// Reads a DRAM standard and refuses sets that contradict themselves. See models/dram/README.md.
#include "models/dram/standard.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "models/data_path.h"
#include "models/error.h"
#include "models/hash.h"
#include "models/table.h"

namespace stoat {
namespace {

struct CyclesRow {
  const char* name;
  std::uint32_t DramStandard::*member;
};

constexpr CyclesRow kCycles[] = {
    {"burst_cycles", &DramStandard::burst_cycles},
    {"read_latency", &DramStandard::read_latency},
    {"write_latency", &DramStandard::write_latency},
    {"rcd_read", &DramStandard::rcd_read},
    {"rcd_write", &DramStandard::rcd_write},
    {"rp", &DramStandard::rp},
    {"ras", &DramStandard::ras},
    {"rc", &DramStandard::rc},
    {"rrd_short", &DramStandard::rrd_short},
    {"rrd_long", &DramStandard::rrd_long},
    {"faw", &DramStandard::faw},
    {"ccd_short", &DramStandard::ccd_short},
    {"ccd_long", &DramStandard::ccd_long},
    {"ccd_stack", &DramStandard::ccd_stack},
    {"rtp", &DramStandard::rtp},
    {"wr", &DramStandard::wr},
    {"wtr_short", &DramStandard::wtr_short},
    {"wtr_long", &DramStandard::wtr_long},
    {"rtw", &DramStandard::rtw},
    {"refresh_interval", &DramStandard::refresh_interval},
    {"refresh_cycles", &DramStandard::refresh_cycles},
    {"ccd_write_long", &DramStandard::ccd_write_long},
    {"ppd", &DramStandard::ppd},
    {"refresh_bank_cycles", &DramStandard::refresh_bank_cycles},
    {"refresh_bank_spacing", &DramStandard::refresh_bank_spacing},
    {"refresh_bank_activate", &DramStandard::refresh_bank_activate},
    {"power_down_exit", &DramStandard::power_down_exit},
    {"power_down_min", &DramStandard::power_down_min},
};

constexpr CyclesRow kNumbers[] = {
    {"channels", &DramStandard::channels},
    {"pseudo_channels", &DramStandard::pseudo_channels},
    {"stack_ids", &DramStandard::stack_ids},
    {"bank_groups", &DramStandard::bank_groups},
    {"banks_per_group", &DramStandard::banks_per_group},
    {"rows_per_bank", &DramStandard::rows_per_bank},
    {"command_buses", &DramStandard::command_buses},
    {"refresh_bank_set", &DramStandard::refresh_bank_set},
    {"masked_write", &DramStandard::masked_write},
};

constexpr CyclesRow kHalfCycles[] = {
    {"activate_bus_cycles", &DramStandard::activate_bus_cycles},
    {"precharge_bus_cycles", &DramStandard::precharge_bus_cycles},
    {"column_bus_cycles", &DramStandard::column_bus_cycles},
};

std::uint32_t small_integer(const NamedValues& values, const std::string& name,
                            const std::string& unit) {
  const std::uint64_t value = values.integer(name, unit);
  if (value > 100'000'000) {
    throw usage_error({values.table().path()}, name + " = " + std::to_string(value),
                      "at most 100000000");
  }
  return static_cast<std::uint32_t>(value);
}

// 1.5 tCK -> 3 half cycles; anything finer is refused.
std::uint32_t half_cycles(const NamedValues& values, const std::string& name) {
  const double doubled = 2 * values.number(name, "tCK");
  if (!(doubled >= 0 && doubled <= 1000) || doubled != std::floor(doubled)) {
    throw usage_error({values.table().path()}, name + " = " + values.text(name) + " tCK",
                      "a multiple of half a cycle from 0 to 500");
  }
  return static_cast<std::uint32_t>(doubled);
}

void check_rows(const NamedValues& values) {
  std::vector<std::string> known = {"command_clock", "row_size", "access_size", "address_order"};
  for (const CyclesRow& row : kCycles) known.emplace_back(row.name);
  for (const CyclesRow& row : kNumbers) known.emplace_back(row.name);
  for (const CyclesRow& row : kHalfCycles) known.emplace_back(row.name);
  const std::set<std::string> names(known.begin(), known.end());
  for (std::size_t i = 0; i < values.table().size(); ++i) {
    const std::string& name = values.table().text(i, "name");
    if (!names.contains(name)) {
      throw usage_error(values.table().place(i), "unknown row '" + name + "'",
                        "rows of a DRAM standard", nearest_name_hint(name, known));
    }
    if (values.table().text(i, "source").empty()) {
      throw usage_error(values.table().place(i), "row '" + name + "' without a source",
                        "where the value comes from", "write it into the column source");
    }
  }
  std::string missing;
  for (const std::string& name : known) {
    if (!values.has(name)) missing += (missing.empty() ? "" : ", ") + name;
  }
  if (!missing.empty()) {
    throw usage_error({values.table().path()}, "rows are missing: " + missing,
                      "every row of a DRAM standard");
  }
}

}  // namespace

std::uint64_t DramStandard::peak_bytes_per_second() const {
  return access_size.count() * command_clock.count() / burst_cycles;
}

std::uint64_t DramStandard::stack_peak_bytes_per_second() const {
  return peak_bytes_per_second() * pseudo_channels_total();
}

namespace {

// Collects what every rule needs: where the table stands and how to say what is broken.
class Rules {
 public:
  explicit Rules(const std::string& place) : place_(place) {}
  void rule(bool holds, const std::string& broken, const std::string& expected) const {
    if (!holds) throw usage_error({place_}, broken, expected, "correct the table");
  }
  void power(const char* name, std::uint64_t value) const {
    rule(std::has_single_bit(value), std::string(name) + " = " + std::to_string(value),
         "a power of two, at least 1 (fields of an address)");
  }
  // a >= b, both by the name of their parameter.
  void at_least(const char* name_a, std::uint64_t a, const char* name_b, std::uint64_t b) const {
    rule(a >= b,
         std::string(name_a) + " " + std::to_string(a) + " < " + name_b + " " + std::to_string(b),
         std::string(name_a) + " >= " + name_b);
  }

 private:
  const std::string& place_;
};

std::string text(std::uint64_t value) { return std::to_string(value); }

void check_organisation(const DramStandard& s, const Rules& rules) {
  rules.rule(s.command_clock.count() > 0, "command_clock = 0", "more than 0 Hz");
  rules.rule(s.command_clock.count() <= 100'000'000'000, "command_clock above 100 GHz",
             "a memory's command clock");
  rules.rule(s.channels > 0, "channels = 0", "at least 1");
  rules.rule(s.pseudo_channels > 0, "pseudo_channels = 0", "at least 1");
  rules.power("stack_ids", s.stack_ids);
  rules.power("bank_groups", s.bank_groups);
  rules.power("banks_per_group", s.banks_per_group);
  rules.power("rows_per_bank", s.rows_per_bank);
  rules.power("row_size", s.row_size.count());
  rules.power("access_size", s.access_size.count());
  rules.rule(std::uint64_t{s.stack_ids} * s.bank_groups * s.banks_per_group <= 64,
             text(std::uint64_t{s.stack_ids} * s.bank_groups * s.banks_per_group) +
                 " banks in a pseudo-channel",
             "at most 64");
  rules.rule(s.row_size >= s.access_size && s.row_size.count() % s.access_size.count() == 0,
             "row_size " + text(s.row_size.count()) + " B, access_size " +
                 text(s.access_size.count()) + " B",
             "row size a multiple of the burst");
  rules.rule(s.command_buses == 1 || s.command_buses == 2,
             "command_buses = " + text(s.command_buses), "1 (one for all) or 2 (rows, columns)");
  rules.rule(s.masked_write <= 1, "masked_write = " + text(s.masked_write), "0 or 1");
  rules.rule(s.refresh_bank_set > 0 && s.banks() % s.refresh_bank_set == 0,
             "refresh_bank_set = " + text(s.refresh_bank_set) + " of " + text(s.banks()) + " banks",
             "a divisor of the banks");
}

void check_commands(const DramStandard& s, const Rules& rules) {
  rules.rule(s.burst_cycles > 0, "burst_cycles = 0", "at least 1");
  rules.rule(s.rc >= s.ras + s.rp,
             "tRC " + text(s.rc) + " < tRAS " + text(s.ras) + " + tRP " + text(s.rp),
             "tRC >= tRAS + tRP");
  rules.at_least("tRAS", s.ras, "tRCD", s.rcd_read);
  rules.at_least("tRAS", s.ras, "tRCDWR", s.rcd_write);
  rules.rule(s.rrd_short > 0, "tRRD_S = 0", "at least 1");
  rules.at_least("tRRD_L", s.rrd_long, "tRRD_S", s.rrd_short);
  rules.at_least("tFAW", s.faw, "tRRD_S", s.rrd_short);
  rules.rule(s.ccd_short >= s.burst_cycles,
             "tCCD_S " + text(s.ccd_short) + " < burst of " + text(s.burst_cycles),
             "tCCD_S >= burst_cycles (the data bus holds one burst)");
  rules.at_least("tCCD_L", s.ccd_long, "tCCD_S", s.ccd_short);
  rules.at_least("tCCD_R", s.ccd_stack, "tCCD_S", s.ccd_short);
  rules.at_least("tCCD_L_WR", s.ccd_write_long, "tCCD_L", s.ccd_long);
  rules.at_least("tWTR_L", s.wtr_long, "tWTR_S", s.wtr_short);
  rules.rule(s.rtw + s.write_latency >= s.read_latency + s.burst_cycles,
             "tRTW " + text(s.rtw) + " lets write data meet read data", "tRTW >= RL + burst - WL");
  rules.rule(s.activate_bus_cycles > 0, "activate_bus_cycles = 0", "at least half a cycle");
  rules.rule(s.activate_bus_cycles <= 2 * s.rrd_short, "ACT longer than tRRD_S", "ACT <= tRRD_S");
  rules.rule(s.precharge_bus_cycles <= 2 * s.rp, "PRE longer than tRP", "PRE <= tRP");
  rules.rule(s.column_bus_cycles > 0, "column_bus_cycles = 0", "at least half a cycle");
  rules.rule(s.column_bus_cycles <= 2 * s.ccd_short, "RD longer than tCCD_S", "RD <= tCCD_S");
}

void check_refresh(const DramStandard& s, const Rules& rules) {
  rules.rule((s.refresh_interval == 0) == (s.refresh_cycles == 0),
             "tREFI " + text(s.refresh_interval) + ", tRFC " + text(s.refresh_cycles),
             "both 0 (no refresh) or both given");
  if (s.refresh_interval == 0) return;
  rules.rule(s.refresh_interval > s.refresh_cycles + s.rc,
             "tREFI " + text(s.refresh_interval) + " <= tRFC " + text(s.refresh_cycles) + " + tRC",
             "time left between refreshes");
  if (s.refresh_bank_cycles == 0) return;  // no per-bank refresh
  rules.at_least("tRFC", s.refresh_cycles, "tRFCpb", s.refresh_bank_cycles);
  rules.rule(s.refresh_bank_interval() > s.refresh_bank_spacing,
             "tREFI / " + text(s.refresh_bank_sets()) + " = " + text(s.refresh_bank_interval()) +
                 " <= spacing " + text(s.refresh_bank_spacing) + " of per-bank refreshes",
             "a per-bank refresh in time for the next");
  rules.at_least("tRFCpb", s.refresh_bank_cycles, "refresh_bank_activate", s.refresh_bank_activate);
}

}  // namespace

void check_dram_standard(const DramStandard& s, const std::string& place) {
  const Rules rules(place);
  check_organisation(s, rules);
  check_commands(s, rules);
  check_refresh(s, rules);
}

std::vector<std::string> shipped_dram_standards() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(data_path("dram"))) {
    if (entry.path().extension() == ".csv") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

DramStandard read_dram_standard(const std::string& name_or_path) {
  const bool is_path =
      name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".csv");
  if (!is_path) {
    const std::vector<std::string> known = shipped_dram_standards();
    if (std::find(known.begin(), known.end(), name_or_path) == known.end()) {
      throw usage_error({}, "no DRAM standard '" + name_or_path + "'",
                        "a name of models/dram or the path of a .csv file",
                        nearest_name_hint(name_or_path, known));
    }
  }
  const std::string path = is_path ? name_or_path : data_path("dram/" + name_or_path + ".csv");
  const NamedValues values = NamedValues::read(path);
  check_rows(values);
  DramStandard standard;
  standard.name = std::filesystem::path(path).stem().string();
  standard.source = path;
  standard.hash = hash_file(path);
  (void)values.number("command_clock", "GHz");
  standard.command_clock = parse_frequency(values.text("command_clock") + " GHz", "command_clock");
  for (const CyclesRow& row : kCycles) {
    standard.*row.member = small_integer(values, row.name, "tCK");
  }
  for (const CyclesRow& row : kNumbers) standard.*row.member = small_integer(values, row.name, "-");
  for (const CyclesRow& row : kHalfCycles) standard.*row.member = half_cycles(values, row.name);
  standard.row_size = Bytes(small_integer(values, "row_size", "B"));
  standard.access_size = Bytes(small_integer(values, "access_size", "B"));
  standard.address_order = values.text("address_order");
  check_dram_standard(standard, path);
  return standard;
}

}  // namespace stoat
