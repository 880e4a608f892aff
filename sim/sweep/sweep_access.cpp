// See sweep_access.h.
#include "sim/sweep/sweep_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "models/error.h"
#include "sim/sweep/point_source.h"
#include "sim/sweep/sweep_folder.h"
#include "sim/sweep/sweep_plan.h"

namespace stoat::sim {
namespace {

constexpr std::uint32_t kStepsThatShowTime = 4;  // fewer: a line a head says more

const SweepRow* shown_row(const SweepReport& report) {
  if (const SweepRow* best = sweep_champion(report, Champion::kSampled)) return best;
  if (const SweepRow* best = sweep_champion(report, Champion::kTopK)) return best;
  const auto first = std::find_if(report.rows.begin(), report.rows.end(),
                                  [](const SweepRow& row) { return row.datapath != "mac"; });
  return first == report.rows.end() ? nullptr : &*first;
}

}  // namespace

void add_access(const std::string& folder, SweepReport& report) {
  const SweepRow* row = shown_row(report);
  if (row == nullptr) {
    report.access.absent = "no point of this sweep selects rows.";
    return;
  }
  const auto at = static_cast<std::size_t>(row - report.rows.data());
  if (!SweepFolder::is_one(folder)) {
    report.access.absent =
        "the folder holds results without the sweep that made them (sweep.json).";
    return;
  }
  try {
    const SweepPlan plan(SweepFolder::open(folder).spec());
    const std::string& cell = report.cell(at, "index");
    std::size_t index = plan.points().size();
    std::from_chars(cell.data(), cell.data() + cell.size(), index);
    if (index >= plan.points().size() || plan.points()[index].source == nullptr ||
        plan.points()[index].id != report.cell(at, "point")) {
      report.access.absent = "the sweep or a table that it reads was changed since these results.";
      return;
    }
    const PointRecords records = make_records(*plan.points()[index].source);
    report.access.map = access_map(records.steps, records.steps.size() < kStepsThatShowTime);
    report.access.label =
        fmt::format("{}, {} tokens", row->label, static_cast<std::uint64_t>(row->context));
    if (report.access.map.empty()) report.access.absent = "its records hold no selected rows.";
  } catch (const Error& error) {
    report.access.absent = error.code() == ExitCode::kUsage
                               ? std::string("the point's records cannot be made here.")
                               : std::string("its trace cannot be read here.");
  }
}

}  // namespace stoat::sim
