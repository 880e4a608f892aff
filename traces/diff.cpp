// Comparison of diff.h: step by step, record by record, column by column.
#include "traces/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "traces/columns.h"
#include "traces/file_hdf5.h"
#include "traces/payload.h"

namespace stoat {

namespace {

class Comparer {
 public:
  Comparer(DiffReport& report, std::size_t limit) : report_(report), limit_(limit) {}

  void header(const TraceReader& a, const TraceReader& b) {
    const auto left = nlohmann::json::parse(header_json(a.header()));
    const auto right = nlohmann::json::parse(header_json(b.header()));
    auto all = left;
    all.update(right);
    for (const auto& [name, value] : all.items()) {
      const std::string l = left.contains(name) ? left[name].dump() : "absent";
      const std::string r = right.contains(name) ? right[name].dump() : "absent";
      if (l != r) add("header " + name, l, r);
    }
    const auto paths = [](const TraceReader& reader) {
      std::vector<std::string> out;
      for (const DatasetCheck& check : reader.datasets()) out.push_back(check.path);
      return out;
    };
    const auto in_a = paths(a);
    const auto in_b = paths(b);
    for (const auto& path : in_a) {
      if (std::find(in_b.begin(), in_b.end(), path) == in_b.end())
        add("dataset " + path, "present", "absent");
    }
    for (const auto& path : in_b) {
      if (std::find(in_a.begin(), in_a.end(), path) == in_a.end())
        add("dataset " + path, "absent", "present");
    }
  }

  void step(const TraceRecords& a, const TraceRecords& b, const TraceHeader& header,
            std::uint64_t first) {
    if (a.size() != b.size()) {
      add(fmt::format("records of step {}", a.step[0]), std::to_string(a.size()),
          std::to_string(b.size()));
    }
    const std::size_t records = std::min(a.size(), b.size());
    for (std::size_t i = 0; i < records; ++i) {
      ++report_.records_compared;
      if (!record(a, b, header, i, first + i)) ++report_.records_different;
    }
    if (a.token_id != b.token_id)
      add(fmt::format("/tokens/id of step {}", a.step[0]), list(a.token_id), list(b.token_id));
  }

  void add(const std::string& place, const std::string& left, const std::string& right) {
    if (report_.differences.size() < limit_) report_.differences.push_back({place, left, right});
  }

 private:
  static std::string list(const std::vector<std::int32_t>& values) {
    return nlohmann::json(values).dump();
  }

  // The elements of one column that belong to record i.
  template <class T>
  static std::pair<std::uint64_t, std::uint64_t> range(const TraceRecords& r, const Column& column,
                                                       const std::vector<T>& values, std::size_t i,
                                                       const TraceHeader& header) {
    const std::uint64_t width = width_of(column.width, header, r.probe_budget.size());
    if (values.empty()) return {0, 0};
    switch (column.axis) {
      case Axis::kRecord:
        return {i * width, (i + 1) * width};
      case Axis::kValue:
        return {r.value_indptr[i], r.value_indptr[i + 1]};
      case Axis::kTile:
        return {r.tile_indptr[i], r.tile_indptr[i + 1]};
      case Axis::kDraw:
        return {r.draw_indptr[i] * width, r.draw_indptr[i + 1] * width};
      case Axis::kCode:
      case Axis::kExponent: {
        const auto at = std::lower_bound(r.score_record.begin(), r.score_record.end(), i);
        if (at == r.score_record.end() || *at != i) return {0, 0};
        const auto m = static_cast<std::size_t>(at - r.score_record.begin());
        const auto& indptr = column.axis == Axis::kCode ? r.score_indptr : r.score_tile_indptr;
        return {indptr[m], indptr[m + 1]};
      }
      default:
        return {0, 0};
    }
  }

  bool record(const TraceRecords& a, const TraceRecords& b, const TraceHeader& header,
              std::size_t i, std::uint64_t absolute) {
    std::vector<const void*> others;
    visit_columns(b, [&](const Column&, const auto& values) { others.push_back(&values); });
    std::size_t number = 0;
    bool same = true;
    visit_columns(a, [&](const Column& column, const auto& values) {
      const auto& other = *static_cast<const std::decay_t<decltype(values)>*>(others[number++]);
      const auto [a0, a1] = range(a, column, values, i, header);
      const auto [b0, b1] = range(b, column, other, i, header);
      const std::uint64_t shared = std::min(a1 - a0, b1 - b0);
      std::uint64_t k = 0;
      while (k < shared && values[a0 + k] == other[b0 + k]) ++k;
      if (k == shared && a1 - a0 == b1 - b0) return;
      same = false;
      const auto text = [](const auto& from, std::uint64_t at, std::uint64_t end) {
        return at < end
                   ? fmt::format(
                         "{}",
                         +static_cast<
                             std::conditional_t<std::is_enum_v<std::decay_t<decltype(from[at])>>,
                                                int, std::decay_t<decltype(from[at])>>>(from[at]))
                   : std::string("nothing");
      };
      add(fmt::format("{}, record {} (step {}, sequence {}, layer {}, query head {}), entry {}",
                      column.path, absolute, a.step[i], a.seq[i], a.layer[i], a.q_head[i], k),
          text(values, a0 + k, a1), text(other, b0 + k, b1));
    });
    return same;
  }

  DiffReport& report_;
  std::size_t limit_;
};

}  // namespace

DiffReport diff_traces(const TraceReader& left, const TraceReader& right,
                       std::size_t max_differences) {
  DiffReport report;
  Comparer comparer(report, max_differences);
  if (left.content_hash() == right.content_hash()) {
    report.records_compared = left.records();
    return report;
  }
  comparer.header(left, right);
  if (left.steps() != right.steps()) {
    comparer.add("steps", std::to_string(left.steps()), std::to_string(right.steps()));
  }
  const bool same_widths = left.header().head_dim == right.header().head_dim;
  for (std::uint32_t step = 0; same_widths && step < std::min(left.steps(), right.steps());
       ++step) {
    comparer.step(left.read_steps(step, 1), right.read_steps(step, 1), left.header(),
                  left.first_record(step));
  }
  if (report.differences.empty())
    comparer.add("content hash", left.content_hash(), right.content_hash());
  return report;
}

}  // namespace stoat
