// Reading a trace at rest. Every value is checked on the way in: a file that lies throws Error
// (damaged) naming file, dataset and record; nothing is trusted because it is in the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "traces/trace.h"

namespace stoat {

struct DatasetCheck;

class TraceReader {
 public:
  // Opens and checks structure, attributes, dataset checksums (/checks) and the complete mark.
  // Throws Error: usage when the file is missing or not a trace, damaged otherwise (a spool is
  // recognised and `stoat trace recover` named).
  explicit TraceReader(const std::string& path);
  ~TraceReader();
  TraceReader(const TraceReader&) = delete;
  TraceReader& operator=(const TraceReader&) = delete;

  const TraceHeader& header() const;
  const std::string& content_hash() const;  // XXH3-128 over all datasets: the trace's identity
  const std::string& path() const;
  std::uint64_t records() const;
  std::uint32_t steps() const;          // distinct steps
  std::uint64_t selected_rows() const;  // entries of /value/row
  std::uint64_t score_records() const;  // records that carry scores
  const std::string& tool_version() const;
  const std::string& build_id() const;
  // Datasets in file order with their rows, elements a row, and checksums from /checks.
  const std::vector<DatasetCheck>& datasets() const;

  // All records of the steps with index [first, first + count), counting the distinct steps from 0;
  // score_record is relative to the slice. Reads only what belongs to these steps. Throws Error
  // (damaged) for values that cannot be.
  TraceRecords read_steps(std::uint32_t first, std::uint32_t count) const;
  TraceRecords read_all() const { return read_steps(0, steps()); }
  // Index of the first record of a step (by index; steps() gives the end).
  std::uint64_t first_record(std::uint32_t step_index) const;

  // Recomputes every checksum of /checks from the data. Throws Error (damaged) naming the dataset.
  void verify_checksums() const;
  // The same slice without the rules of validate.h (sizes are still checked): for `check`, which
  // lists all violations.
  TraceRecords read_steps_unchecked(std::uint32_t first, std::uint32_t count) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoat
