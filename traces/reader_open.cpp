// Opening the datasets of a trace and checking that their sizes agree (reader_state.h).
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "traces/columns.h"
#include "traces/reader_state.h"

namespace stoat {

const OpenDataset& TraceReader::State::dataset(std::string_view path_of) const {
  std::size_t number = 0;
  std::size_t found = kColumnCount;
  const TraceRecords none;
  visit_columns(none, [&](const Column& column, const auto&) {
    if (column.path == path_of) found = number;
    ++number;
  });
  STOAT_ENSURE(found < kColumnCount, "unknown column");
  return datasets[found];
}

void TraceReader::State::open_datasets() {
  datasets.resize(kColumnCount);
  const Handle group(H5Gopen2(file.get(), "/checks", H5P_DEFAULT), H5Gclose);
  if (!group.valid()) file.fail("/checks: missing");
  std::size_t number = 0;
  const TraceRecords none;
  visit_columns(none, [&](const Column& column, const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    OpenDataset& slot = datasets[number++];
    const std::string path_of(column.path);
    const std::string parent = path_of.substr(0, path_of.rfind('/'));
    const bool always = parent == "/records" || parent == "/value" ||
                        (parent == "/tile" && header.method == Method::kFlash) ||
                        (parent == "/key" && header.score_kind == ScoreKind::kTernary);
    if (!always && (H5Lexists(file.get(), parent.c_str(), H5P_DEFAULT) <= 0 ||
                    H5Lexists(file.get(), path_of.c_str(), H5P_DEFAULT) <= 0)) {
      return;
    }
    slot = file.dataset<T>(column);
    const char* check_name = path_of.c_str() + 1;
    if (H5Aexists(group.get(), check_name) <= 0)
      file.fail(fmt::format("/checks: no checksum of {}", path_of));
    const Handle at(H5Aopen(group.get(), check_name, H5P_DEFAULT), H5Aclose);
    const auto hash = file.numbers<std::uint64_t>(at.get(), 1, "/checks " + path_of)[0];
    checks.push_back({path_of, slot.rows, slot.width, hash});
  });
}

// Sizes that follow from the number of records alone; indptr contents are checked when they are
// read.
void TraceReader::State::check_sizes() {
  const std::uint64_t records = dataset("/records/step").rows;
  const OpenDataset& scores = dataset("/scores/record");
  const std::uint64_t probes = dataset("/probe/budget").rows;
  std::size_t number = 0;
  const TraceRecords none;
  visit_columns(none, [&](const Column& column, const auto&) {
    const OpenDataset& d = datasets[number++];
    if (column.path.starts_with("/scores/") && d.id.valid() != scores.id.valid()) {
      file.fail(
          fmt::format("{}: {}", column.path, d.id.valid() ? "without /scores/record" : "missing"));
    }
    if (!d.id.valid()) return;
    std::uint64_t rows = d.rows;
    if (column.axis == Axis::kRecord) rows = records;
    if (column.axis == Axis::kScoreIndptr || column.axis == Axis::kScoreTileIndptr)
      rows = scores.rows + 1;
    if (column.axis == Axis::kValueIndptr || column.axis == Axis::kTileIndptr ||
        column.axis == Axis::kDrawIndptr) {
      rows = records + 1;
    }
    if (column.axis == Axis::kProbe && (d.rows == 0 || d.rows > 4096)) rows = 1;
    const std::uint64_t width = width_of(column.width, header, probes);
    if (d.rows != rows || d.width != width) {
      file.fail(fmt::format("{}: {} x {} elements", column.path, d.rows, d.width),
                fmt::format("{} x {}", rows, width));
    }
  });
  const auto same = [&](const char* a, const char* b) {
    if (dataset(a).rows != dataset(b).rows) {
      file.fail(fmt::format("{}: {} rows", a, dataset(a).rows),
                fmt::format("{} as {}", dataset(b).rows, b));
    }
  };
  same("/value/count", "/value/row");
  same("/tile/mass", "/tile/tile");
  const auto ends = [&](const char* indptr, const char* pointed) {
    const OpenDataset& d = dataset(indptr);
    if (!d.id.valid()) return;
    const std::uint64_t last = pointer(indptr, d.rows - 1);
    if (pointer(indptr, 0) != 0) file.fail(fmt::format("{}: does not start with 0", indptr));
    if (last != dataset(pointed).rows) {
      file.fail(fmt::format("{}: ends at {}", indptr, last),
                fmt::format("{}, the rows of {}", dataset(pointed).rows, pointed));
    }
  };
  ends("/value/indptr", "/value/row");
  ends("/tile/indptr", "/tile/tile");
  ends("/key/draw_indptr", "/key/mask");
  ends("/scores/indptr", "/scores/code");
  ends("/scores/tile_indptr", "/scores/exponent");
}

void TraceReader::State::scan_steps() {
  const OpenDataset& step_set = dataset("/records/step");
  std::vector<std::uint32_t> step, seq;
  std::uint32_t last_step = 0, last_seq = 0;
  std::uint64_t tokens = 0;
  for (std::uint64_t at = 0; at < step_set.rows; at += kScanRows) {
    const std::uint64_t rows = std::min(kScanRows, step_set.rows - at);
    read(step_set, "/records/step", at, rows, step);
    read(dataset("/records/seq"), "/records/seq", at, rows, seq);
    for (std::uint64_t i = 0; i < rows; ++i) {
      const bool first = at + i == 0;
      if (!first && step[i] < last_step) {
        file.fail(fmt::format("/records/step, record {}: step {} after step {}", at + i, step[i],
                              last_step));
      }
      const bool new_step = first || step[i] != last_step;
      if (new_step) starts.push_back({at + i, tokens, 0});
      if (new_step || seq[i] != last_seq) ++tokens;
      last_step = step[i];
      last_seq = seq[i];
    }
  }
  starts.push_back({step_set.rows, tokens, 0});
  const OpenDataset& token_set = dataset("/tokens/id");
  if (token_set.id.valid() && token_set.rows != tokens) {
    file.fail(fmt::format("/tokens/id: {} tokens", token_set.rows),
              fmt::format("{}, one a (step, sequence)", tokens));
  }
  const OpenDataset& score_set = dataset("/scores/record");
  if (!score_set.id.valid()) return;
  std::vector<std::uint64_t> record;
  std::uint64_t last = 0;
  std::size_t step_index = 0;
  for (std::uint64_t at = 0; at < score_set.rows; at += kScanRows) {
    const std::uint64_t rows = std::min(kScanRows, score_set.rows - at);
    read(score_set, "/scores/record", at, rows, record);
    for (std::uint64_t i = 0; i < rows; ++i) {
      if (record[i] >= step_set.rows || (at + i > 0 && record[i] <= last)) {
        file.fail(fmt::format("/scores/record, entry {}: {}", at + i, record[i]),
                  "increasing record numbers");
      }
      last = record[i];
      while (step_index < starts.size() && starts[step_index].record <= last)
        starts[step_index++].score = at + i;
    }
  }
  while (step_index < starts.size()) starts[step_index++].score = score_set.rows;
}

Positions TraceReader::State::positions(const StepStart& at) const {
  Positions p;
  p.records = at.record;
  p.values = pointer("/value/indptr", at.record);
  p.tiles = pointer("/tile/indptr", at.record);
  p.draws = pointer("/key/draw_indptr", at.record);
  p.scores = at.score;
  p.codes = pointer("/scores/indptr", at.score);
  p.exponents = pointer("/scores/tile_indptr", at.score);
  p.tokens = at.token;
  return p;
}

}  // namespace stoat
