// Lanes, clock and buffers of a sweep's points. See sweep_design.h.
#include "sim/sweep/sweep_design.h"

#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/data_path.h"
#include "models/error.h"
#include "models/table.h"
#include "sim/design_point.h"
#include "sim/design_schema.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// Square micrometres of one engine.
double engine_area(const DesignPoint& design, const std::string& datapath,
                   const NamedValues& areas) {
  const auto lanes = [&](const char* kind, std::uint32_t count, AccumulatorFormat format) {
    const std::string name =
        std::string("lane_") + kind + "_" + std::string(accumulator_name(format));
    return areas.has(name) ? areas.number(name, "um2") * count : kNone;
  };
  const Bytes memory = design.stash + design.row_buffer + design.query_buffer;
  double area = static_cast<double>(memory.count()) * 8 * areas.number("sram_bit", "um2");
  area += datapath == "ternary" ? lanes("ternary", design.ternary_lanes, design.ternary_accumulator)
                                : lanes("dense", design.dense_lanes, design.dense_accumulator);
  if (datapath == "gather_add" || datapath == "ternary")
    area += lanes("add", design.gather_add_lanes, design.gather_add_accumulator);
  return area;
}

class Designs {
 public:
  explicit Designs(const SweepReport& report) : report_(report) {
    for (const auto& [name, value] : report.constants) {
      if (find_field(name) != nullptr) constants_.push_back(name + "=" + value);
    }
    for (const std::string& name : report.columns) {
      if (find_field(name) != nullptr) columns_.push_back(name);
    }
  }

  // Null when the accelerator is not found here, or not with these values.
  const DesignPoint* of(std::size_t row) {
    std::vector<std::string> overrides = constants_;
    for (const std::string& name : columns_) {
      const std::string& value = report_.cell(row, name);
      if (!value.empty()) overrides.push_back(name + "=" + value);
    }
    const std::string& arch = report_.cell(row, "arch");
    const bool base = std::filesystem::path(report_.base).stem().string() == arch;
    std::string key = arch;
    for (const std::string& each : overrides) key += "\n" + each;
    const auto [found, fresh] = made_.try_emplace(key);
    if (fresh) {
      try {
        found->second =
            change_design_point(read_design_point(base ? report_.base : arch), overrides);
      } catch (const Error&) {
        found->second.reset();
      }
    }
    return found->second ? &*found->second : nullptr;
  }

 private:
  const SweepReport& report_;
  std::vector<std::string> constants_, columns_;
  std::map<std::string, std::optional<DesignPoint>> made_;
};

}  // namespace

void add_design_values(SweepReport& report) {
  for (SweepRow& row : report.rows) row.area = row.peak_rate = kNone;
  std::optional<NamedValues> areas;
  try {
    areas = NamedValues::read(data_path("arch/area_proxy.csv"));
  } catch (const Error&) {
    return;  // a report can be made where nothing of the simulator is installed
  }
  Designs designs(report);
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    SweepRow& row = report.rows[i];
    const DesignPoint* design = designs.of(i);
    if (design == nullptr || !(row.engines > 0)) continue;
    row.area = row.engines * engine_area(*design, row.datapath, *areas) * 1e-6;
    row.peak_rate =
        row.engines * design->dense_lanes * 2 * static_cast<double>(design->clock.count());
  }
}

}  // namespace stoat::sim
