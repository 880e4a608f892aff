// `stoat trace diff`: what differs between two traces: header fields, steps, records, rows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "traces/reader.h"

namespace stoat {

struct Difference {
  std::string place;  // "header S", "/value/count, record 12 (step 0, ...)"
  std::string left, right;
};

struct DiffReport {
  std::vector<Difference> differences;  // the first ones
  std::uint64_t records_compared = 0;
  std::uint64_t records_different = 0;
  bool equal() const { return differences.empty(); }
};

DiffReport diff_traces(const TraceReader& left, const TraceReader& right,
                       std::size_t max_differences = 10);

}  // namespace stoat
