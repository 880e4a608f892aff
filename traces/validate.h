// What must hold for every trace, whoever wrote it: sizes, order, ranges, counts that sum to the
// budget. The writer refuses to write anything else (Bug), the reader to read it (Error); `check`
// lists the violations.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "traces/trace.h"

namespace stoat {

struct Violation {
  std::string dataset;       // "/value/count"
  std::uint64_t record = 0;  // absolute index
  std::string text;          // found, expected

  std::string sentence() const;  // "/value/count, record 7 (step 0, ...): ..."
};

// Empty when the header makes sense, else what is wrong with it: "attribute n_kv_heads: ...".
std::string header_problem(const TraceHeader& header);

// Column sizes and indptr only: after this, indexing is safe. Empty when they fit.
std::vector<Violation> shape_violations(const TraceRecords& records, const TraceHeader& header,
                                        std::size_t limit = 1);

// Everything: shapes first (nothing further when they do not fit), then order, ranges, counts,
// scores, finite statistics. first_record is added to the record numbers of the messages.
std::vector<Violation> find_violations(const TraceRecords& records, const TraceHeader& header,
                                       std::size_t limit = 1, std::uint64_t first_record = 0);

}  // namespace stoat
