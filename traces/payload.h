// Trace records and headers as bytes: what a spool frame holds. Little-endian; the parser takes any
// bytes.
//
// Records: u32 number of columns, then for each: u8 column number (order of columns.h), u64
// elements, and the elements by bytes: the lowest byte of all, then the next. /value/row as
// differences to the row before. So arranged they take a tenth of the time to compress. Empty
// columns are left out. Header: JSON text, the same that `info --json` prints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "traces/trace.h"

namespace stoat {

// Who recorded. Kept in the spool so that recovering it later gives the bytes a normal end gives.
struct ToolStamp {
  std::string version;
  std::string build_id;
};
ToolStamp this_tool();

std::vector<std::uint8_t> encode_records(const TraceRecords& records);
// The same in pieces of at most `memory`, one after the other; their sum is encoded_bytes().
inline constexpr std::size_t kPayloadPiece = std::size_t{1} << 18;
void encode_records(const TraceRecords& records, std::span<std::uint8_t, kPayloadPiece> memory,
                    const std::function<void(std::span<const std::uint8_t>)>& take);
std::uint64_t encoded_bytes(const TraceRecords& records);
// Throws Error (damaged) with `what` as the place. The records are shape-checked only by the
// caller.
TraceRecords parse_records(std::span<const std::uint8_t> bytes, const std::string& what);

// One JSON object, keys sorted, no spaces: part of the content hash.
std::string header_json(const TraceHeader& header);
std::string encode_header(const TraceHeader& header, const ToolStamp& tool);
TraceHeader parse_header(std::string_view text, const std::string& what, ToolStamp* tool);

// A run of records of one step, and its tokens.
struct StepRange {
  std::size_t first = 0, last = 0;              // records
  std::size_t first_token = 0, last_token = 0;  // tokens, one a (step, sequence)
};
std::vector<StepRange> step_ranges(const TraceRecords& records);

// Records [first.first, last.last) as records of their own: indptr and score_record start at 0
// again.
TraceRecords slice_records(const TraceRecords& records, const TraceHeader& header,
                           const StepRange& first, const StepRange& last);

// Positions on every axis where a step begins (end = false) or ends.
struct Positions positions_at(const TraceRecords& records, const StepRange& step, bool end);

std::uint64_t payload_bytes(const TraceRecords& records);

}  // namespace stoat
