// Building records in memory, and the promise that what our own code built fits together.
#include "traces/trace.h"

#include "models/error.h"
#include "traces/columns.h"
#include "traces/validate.h"

namespace stoat {

std::uint32_t TraceHeader::budget_of_layer(std::uint32_t layer) const {
  if (budgets.empty()) return 0;
  if (budgets.size() == 1) return budgets[0];
  STOAT_ENSURE(layer < budgets.size(), "layer beyond the header's budgets");
  return budgets[layer];
}

void append_record(TraceRecords& records, std::uint32_t seq, std::uint32_t step,
                   std::uint16_t layer, std::uint16_t q_head, std::uint16_t kv_head,
                   std::uint32_t context, RecordKind kind, std::uint32_t budget,
                   const Selection& selection) {
  records.seq.push_back(seq);
  records.step.push_back(step);
  records.layer.push_back(layer);
  records.q_head.push_back(q_head);
  records.kv_head.push_back(kv_head);
  records.context.push_back(context);
  records.kind.push_back(kind);
  records.budget.push_back(budget);
  for (const RowCount& selected : selection.rows) {
    records.row.push_back(selected.row);
    records.count.push_back(selected.count);
  }
  records.value_indptr.push_back(records.row.size());
  // A flash trace has an indptr entry for every record, dense ones too: started by the first record
  // that holds tiles.
  if (!selection.tiles.empty() || records.tile_indptr.size() > 1) {
    records.tile_indptr.resize(records.step.size(), records.tile.size());
    for (const TileMass& tile : selection.tiles) {
      records.tile.push_back(tile.tile);
      records.tile_mass.push_back(tile.mass);
    }
    records.tile_indptr.push_back(records.tile.size());
  }
}

void append_steps(TraceRecords& records, const TraceRecords& later) {
  if (records.empty()) {
    records = later;
    return;
  }
  std::vector<const void*> sources;
  visit_columns(later, [&](const Column&, const auto& values) { sources.push_back(&values); });
  const std::uint64_t shift = records.size();
  std::size_t number = 0;
  visit_columns(records, [&](const Column& column, auto& values) {
    const auto& source = *static_cast<const std::decay_t<decltype(values)>*>(sources[number++]);
    using T = typename std::decay_t<decltype(values)>::value_type;
    if (column.axis == Axis::kProbe) return;
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      if (is_indptr(column.axis)) {
        const std::uint64_t base = values.back();
        for (std::size_t i = 1; i < source.size(); ++i) values.push_back(base + source[i]);
        return;
      }
      if (column.path == "/scores/record") {
        for (const std::uint64_t record : source) values.push_back(shift + record);
        return;
      }
    }
    values.insert(values.end(), source.begin(), source.end());
  });
}

void ensure_consistent(const TraceRecords& records, const TraceHeader& header) {
  const std::string problem = header_problem(header);
  if (!problem.empty()) throw Bug("trace header: " + problem);
  const auto violations = find_violations(records, header);
  if (!violations.empty()) throw Bug("trace records: " + violations.front().sentence());
}

}  // namespace stoat
