// Slicing a trace at rest (reader.h). Opening and checking: reader_header.cpp, reader_open.cpp; the
// distrust of what a file claims: hdf5_input.h.
#include "traces/reader.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "traces/columns.h"
#include "traces/reader_state.h"
#include "traces/validate.h"

namespace stoat {

TraceReader::TraceReader(const std::string& path) {
  refuse_other_files(path);
  const auto lock = hdf5_lock();
  state_ = std::make_unique<State>(path);
  State& s = *state_;
  const std::string format = s.file.text("format");
  if (format != kTraceFormat)
    s.file.fail("attribute format: '" + format + "'", std::string(kTraceFormat));
  const auto version = s.file.number<std::uint32_t>("version");
  if (version != kTraceVersion) {
    throw usage_error({path}, fmt::format("a trace of version {}", version),
                      fmt::format("version {}", kTraceVersion),
                      fmt::format("it was made by stoat {}: use that or a later one",
                                  s.file.text("tool_version")));
  }
  if (s.file.number<std::uint8_t>("complete") != 1) s.file.fail("attribute complete: not 1");
  s.tool_version = s.file.text("tool_version");
  s.build_id = s.file.text("build_id");
  s.header = read_header(s.file);
  s.open_datasets();
  s.content_hash = s.file.text("content_hash");
  const std::string expected = stoat::content_hash(s.header, s.checks);
  if (s.content_hash != expected)
    s.file.fail("attribute content_hash: '" + s.content_hash + "'", expected);
  s.check_sizes();
  s.scan_steps();
}

TraceReader::~TraceReader() {
  const auto lock = hdf5_lock();
  state_.reset();
}

const TraceHeader& TraceReader::header() const { return state_->header; }
const std::string& TraceReader::content_hash() const { return state_->content_hash; }
const std::string& TraceReader::path() const { return state_->path; }
std::uint64_t TraceReader::records() const { return state_->starts.back().record; }
std::uint32_t TraceReader::steps() const {
  return static_cast<std::uint32_t>(state_->starts.size() - 1);
}
std::uint64_t TraceReader::selected_rows() const { return state_->dataset("/value/row").rows; }
std::uint64_t TraceReader::score_records() const { return state_->dataset("/scores/record").rows; }
const std::string& TraceReader::tool_version() const { return state_->tool_version; }
const std::string& TraceReader::build_id() const { return state_->build_id; }
const std::vector<DatasetCheck>& TraceReader::datasets() const { return state_->checks; }

std::uint64_t TraceReader::first_record(std::uint32_t step_index) const {
  STOAT_ENSURE(step_index < state_->starts.size(), "step index beyond the trace");
  return state_->starts[step_index].record;
}

TraceRecords TraceReader::read_steps_unchecked(std::uint32_t first, std::uint32_t count) const {
  const State& s = *state_;
  STOAT_ENSURE(first <= steps() && count <= steps() - first, "steps beyond the trace");
  const auto lock = hdf5_lock();
  const Positions begin = s.positions(s.starts[first]);
  const Positions end = s.positions(s.starts[first + count]);
  TraceRecords out;
  std::size_t number = 0;
  visit_columns(out, [&](const Column& column, auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    const OpenDataset& d = s.datasets[number++];
    if (!d.id.valid()) return;
    if (column.axis == Axis::kProbe) return s.read(d, column.path, 0, d.rows, values);
    const std::uint64_t from = position_on(column.axis, begin);
    const std::uint64_t to = position_on(column.axis, end);
    if (to < from)
      s.file.fail(fmt::format("{}: an indptr into it falls from {} to {}", column.path, from, to));
    s.read(d, column.path, from, to - from + (is_indptr(column.axis) ? 1 : 0), values);
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      std::uint64_t base = 0;
      if (is_indptr(column.axis)) base = position_on(pointed_axis(column.axis), begin);
      if (column.path == "/scores/record") base = begin.records;
      for (auto& value : values) value -= base;
    }
  });
  const auto violations = shape_violations(out, s.header);
  if (!violations.empty()) s.file.fail(violations.front().sentence());
  return out;
}

TraceRecords TraceReader::read_steps(std::uint32_t first, std::uint32_t count) const {
  TraceRecords records = read_steps_unchecked(first, count);
  const auto violations = find_violations(records, state_->header, 1, first_record(first));
  if (!violations.empty()) state_->file.fail(violations.front().sentence());
  return records;
}

void TraceReader::verify_checksums() const {
  const State& s = *state_;
  const auto lock = hdf5_lock();
  std::size_t number = 0;
  std::size_t check = 0;
  const TraceRecords none;
  visit_columns(none, [&](const Column& column, const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    const OpenDataset& d = s.datasets[number++];
    if (!d.id.valid()) return;
    const std::unique_ptr<XXH64_state_t, XXH_errorcode (*)(XXH64_state_t*)> hash(
        XXH64_createState(), XXH64_freeState);
    XXH64_reset(hash.get(), 0);
    const std::uint64_t piece = std::max<std::uint64_t>(1, kScanRows / d.width);
    std::vector<T> data;
    for (std::uint64_t at = 0; at < d.rows; at += piece) {
      s.read(d, column.path, at, std::min(piece, d.rows - at), data);
      XXH64_update(hash.get(), data.data(), data.size() * sizeof(T));
    }
    const std::uint64_t found = XXH64_digest(hash.get());
    if (found != s.checks[check].hash) {
      s.file.fail(fmt::format("{}: checksum {:016x}", column.path, found),
                  fmt::format("{:016x} as /checks says", s.checks[check].hash));
    }
    ++check;
  });
}

}  // namespace stoat
