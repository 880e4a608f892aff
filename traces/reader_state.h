// What a TraceReader knows of its open file. Private to reader.cpp and the files that open and
// check.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "traces/file_hdf5.h"
#include "traces/hdf5_input.h"
#include "traces/payload.h"
#include "traces/reader.h"

namespace stoat {

constexpr std::uint64_t kScanRows = 8 * kChunkElements;

// One distinct step: where it begins on the axes that are counted while scanning.
struct StepStart {
  std::uint64_t record = 0;
  std::uint64_t token = 0;
  std::uint64_t score = 0;
};

// Refuses what is not a trace of ours, in the order in which it can be told. Throws Error.
void refuse_other_files(const std::string& path);
// The attributes as a header. Names and values are checked as strictly as a user's input.
TraceHeader read_header(const Hdf5Input& file);

struct TraceReader::State {
  explicit State(const std::string& p) : path(p), file(path) {}
  std::string path;
  Hdf5Input file;
  TraceHeader header;
  std::string content_hash, tool_version, build_id;
  std::vector<OpenDataset> datasets;  // [kColumnCount], not valid where absent
  std::vector<DatasetCheck> checks;
  std::vector<StepStart> starts;  // [steps + 1]

  void open_datasets();
  void check_sizes();
  void scan_steps();
  const OpenDataset& dataset(std::string_view path_of) const;

  template <class T>
  void read(const OpenDataset& d, std::string_view name, std::uint64_t from, std::uint64_t rows,
            std::vector<T>& out) const {
    if (from > d.rows || rows > d.rows - from) {
      file.fail(fmt::format("{}: rows {} to {} of {}", name, from, from + rows, d.rows));
    }
    out.resize(rows * d.width);
    if (out.empty()) return;
    const hsize_t start[2] = {from, 0};
    const hsize_t count[2] = {rows, d.width};
    const Handle space(H5Dget_space(d.id.get()), H5Sclose);
    const hsize_t flat = rows * d.width;
    const Handle memory(H5Screate_simple(1, &flat, nullptr), H5Sclose);
    if (H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start, nullptr, count, nullptr) < 0 ||
        H5Dread(d.id.get(), file_type<T>(), memory.get(), space.get(), H5P_DEFAULT, out.data()) <
            0) {
      file.fail(fmt::format("{}: rows {} to {} cannot be read (checksum or compression)", name,
                            from, from + rows));
    }
  }

  std::uint64_t pointer(std::string_view indptr, std::uint64_t at) const {
    const OpenDataset& d = dataset(indptr);
    if (!d.id.valid()) return 0;
    std::vector<std::uint64_t> one;
    read(d, indptr, at, 1, one);
    return one[0];
  }
  Positions positions(const StepStart& at) const;
};

}  // namespace stoat
