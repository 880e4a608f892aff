// The HDF5 side of file_hdf5.h. Chunks are written whole, in the order in which steps fill them,
// through a chunk cache of size zero: the library decides nothing about the order, so equal records
// give equal bytes.
#include "traces/file_hdf5.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "models/hash.h"
#include "traces/columns.h"
#include "traces/hdf5_handle.h"
#include "traces/validate.h"

namespace stoat {

namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  const int error = errno;
  throw resource_error({path},
                       fmt::format("{} could not be written{}{}", what, error != 0 ? ": " : "",
                                   error != 0 ? std::strerror(error) : ""));
}

Handle property_list(hid_t kind) { return {H5Pcreate(kind), H5Pclose}; }

// One dataset that grows: elements are buffered to whole chunks.
class Dataset {
 public:
  Dataset(const std::string& file, hid_t parent, const Column& column, hid_t type, std::size_t size,
          std::uint64_t width)
      : file_(file), path_(column.path), type_(type), size_(size), width_(width) {
    chunk_rows_ = std::max<std::uint64_t>(1, kChunkElements / width);
    const hsize_t none[2] = {0, width};
    const hsize_t limit[2] = {H5S_UNLIMITED, width};
    const hsize_t chunk[2] = {chunk_rows_, width};
    rank_ = column.width == Width::kOne ? 1 : 2;
    const Handle space(H5Screate_simple(rank_, none, limit), H5Sclose);
    const Handle create = property_list(H5P_DATASET_CREATE);
    const Handle access = property_list(H5P_DATASET_ACCESS);
    bool ok = H5Pset_chunk(create.get(), rank_, chunk) >= 0 && H5Pset_shuffle(create.get()) >= 0 &&
              H5Pset_deflate(create.get(), 4) >= 0 && H5Pset_fletcher32(create.get()) >= 0 &&
              H5Pset_obj_track_times(create.get(), false) >= 0 &&
              H5Pset_chunk_cache(access.get(), 0, 0, 1.0) >= 0;
    const std::string name = path_.substr(path_.rfind('/') + 1);
    id_ = Handle(H5Dcreate2(parent, name.c_str(), type, space.get(), H5P_DEFAULT, create.get(),
                            access.get()),
                 H5Dclose);
    if (!ok || !id_.valid()) fail(file_, path_);
    buffer_.reserve(chunk_rows_ * width_ * size_);
    XXH64_reset(hash_, 0);
  }
  ~Dataset() { XXH64_freeState(hash_); }
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  std::uint64_t width() const { return width_; }

  void append(const void* data, std::uint64_t rows) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    std::uint64_t left = rows * width_ * size_;
    if (left == 0) return;
    XXH64_update(hash_, bytes, left);
    const std::uint64_t full = chunk_rows_ * width_ * size_;
    while (left > 0) {
      const std::uint64_t take = std::min<std::uint64_t>(left, full - buffer_.size());
      buffer_.insert(buffer_.end(), bytes, bytes + take);
      bytes += take;
      left -= take;
      if (buffer_.size() == full) flush();
    }
  }

  DatasetCheck finish() {
    if (!buffer_.empty()) flush();
    id_.reset();
    return {path_, rows_, width_, XXH64_digest(hash_)};
  }

 private:
  void flush() {
    const hsize_t rows = buffer_.size() / (width_ * size_);
    const hsize_t start[2] = {rows_, 0};
    const hsize_t count[2] = {rows, width_};
    const hsize_t extent[2] = {rows_ + rows, width_};
    errno = 0;
    if (H5Dset_extent(id_.get(), extent) < 0) fail(file_, path_);
    const Handle file_space(H5Dget_space(id_.get()), H5Sclose);
    const Handle memory_space(H5Screate_simple(rank_, count, nullptr), H5Sclose);
    if (H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start, nullptr, count, nullptr) < 0 ||
        H5Dwrite(id_.get(), type_, memory_space.get(), file_space.get(), H5P_DEFAULT,
                 buffer_.data()) < 0) {
      fail(file_, path_);
    }
    rows_ += rows;
    buffer_.clear();
  }

  const std::string& file_;
  std::string path_;
  hid_t type_;
  std::size_t size_;
  std::uint64_t width_;
  std::uint64_t chunk_rows_ = 0;
  int rank_ = 1;
  std::uint64_t rows_ = 0;  // in the file
  std::vector<std::uint8_t> buffer_;
  XXH64_state_t* hash_ = XXH64_createState();
  Handle id_;
};

void write_attribute(const std::string& file, hid_t at, const char* name, hid_t type, hid_t space,
                     const void* value) {
  const Handle id(H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!id.valid() || H5Awrite(id.get(), type, value) < 0)
    fail(file, std::string("attribute ") + name);
}

void write_text(const std::string& file, hid_t at, const char* name, const std::string& text) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), std::max<std::size_t>(1, text.size()));
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  write_attribute(file, at, name, type.get(), space.get(), text.c_str());
}

template <class T>
void write_number(const std::string& file, hid_t at, const char* name, T value) {
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  write_attribute(file, at, name, file_type<T>(), space.get(), &value);
}

void write_header(const std::string& file, hid_t root, const TraceHeader& h,
                  const ToolStamp& tool) {
  write_text(file, root, "format", std::string(kTraceFormat));
  write_number(file, root, "version", kTraceVersion);
  write_text(file, root, "tool_version", tool.version);
  write_text(file, root, "build_id", tool.build_id);
  write_text(file, root, "rng", "philox4x32-10");
  write_text(file, root, "origin", h.origin);
  write_text(file, root, "model_name", h.model_name);
  write_text(file, root, "model_config_hash", h.model_config_hash);
  write_text(file, root, "model_weights_hash", h.model_weights_hash);
  write_text(file, root, "tokenizer", h.tokenizer);
  write_text(file, root, "prompt_hash", h.prompt_hash);
  write_number(file, root, "seed", h.seed);
  write_text(file, root, "method", std::string(method_name(h.method)));
  if (!h.budgets.empty()) {
    const hsize_t count = h.budgets.size();
    const Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
    write_attribute(file, root, "S", H5T_STD_U32LE, space.get(), h.budgets.data());
  }
  const bool ternary = h.score_kind == ScoreKind::kTernary;
  write_text(file, root, "score_kind", ternary ? "ternary" : "exact");
  if (ternary) {
    write_number(file, root, "ternary_draws", h.ternary.draws);
    write_text(file, root, "ternary_coupling", std::string(coupling_name(h.ternary.coupling)));
    write_text(file, root, "ternary_normaliser",
               std::string(normaliser_name(h.ternary.normaliser)));
  }
  write_text(file, root, "kv_dtype", h.kv_dtype);
  write_number(file, root, "row_bytes", h.row_bytes);
  write_number(file, root, "n_layers", h.n_layers);
  write_number(file, root, "n_q_heads", h.n_q_heads);
  write_number(file, root, "n_kv_heads", h.n_kv_heads);
  write_number(file, root, "head_dim", h.head_dim);
  write_number(file, root, "weight_bytes_per_token", h.weight_bytes_per_token);
}

}  // namespace

struct TraceFileWriter::State {
  std::string path;
  TraceHeader header;
  Handle file;
  std::map<std::string, Handle, std::less<>> groups;
  std::vector<std::unique_ptr<Dataset>> datasets =
      std::vector<std::unique_ptr<Dataset>>(kColumnCount);
  Positions written;
  std::vector<std::uint32_t> probe_budget;
  std::uint32_t last_step = 0;

  // The column's dataset, made when the first step that holds it arrives; an indptr starts with its
  // 0.
  Dataset& dataset(std::size_t number, const Column& column, hid_t type, std::size_t size,
                   std::uint64_t width) {
    auto& slot = datasets[number];
    if (slot) return *slot;
    const std::string group(column.path.substr(0, column.path.rfind('/')));
    auto found = groups.find(group);
    if (found == groups.end()) {
      const Handle create = property_list(H5P_GROUP_CREATE);
      H5Pset_obj_track_times(create.get(), false);
      Handle id(H5Gcreate2(file.get(), group.c_str(), H5P_DEFAULT, create.get(), H5P_DEFAULT),
                H5Gclose);
      if (!id.valid()) fail(path, group);
      found = groups.emplace(group, std::move(id)).first;
    }
    slot = std::make_unique<Dataset>(path, found->second.get(), column, type, size, width);
    const std::uint64_t zero = 0;
    if (is_indptr(column.axis)) slot->append(&zero, 1);
    return *slot;
  }

  // Is this column part of the file, judging by the header and one step?
  bool present(const Column& column, const TraceRecords& step) const {
    const std::string_view path_of = column.path;
    if (path_of.starts_with("/records/") || path_of.starts_with("/value/")) return true;
    if (path_of.starts_with("/tile/")) return header.method == Method::kFlash;
    if (path_of.starts_with("/key/")) return header.score_kind == ScoreKind::kTernary;
    if (path_of.starts_with("/scores/")) return !step.score_record.empty();
    bool any = false;
    visit_columns(step, [&](const Column& c, const auto& values) {
      if (c.path == path_of) any = !values.empty();
    });
    return any;
  }

  void append_step(const TraceRecords& r, const StepRange& range);
};

void TraceFileWriter::State::append_step(const TraceRecords& r, const StepRange& range) {
  const Positions begin = positions_at(r, range, false);
  const Positions end = positions_at(r, range, true);
  std::size_t number = 0;
  std::vector<std::uint64_t> shifted;
  visit_columns(r, [&](const Column& column, const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    const std::size_t mine = number++;
    const bool scores = column.path.starts_with("/scores/");
    if (scores ? begin.scores == end.scores : !present(column, r)) return;
    const std::uint64_t width = width_of(column.width, header, r.probe_budget.size());
    const bool fresh = !datasets[mine];
    Dataset& out = dataset(mine, column, file_type<T>(), sizeof(T), width);
    if (column.axis == Axis::kProbe) {
      if (fresh) {
        out.append(values.data(), values.size());
        if constexpr (std::is_same_v<T, std::uint32_t>) probe_budget = values;
      }
      return;
    }
    if (width != out.width()) throw Bug("the width of a column changes between steps");
    const std::uint64_t from = position_on(column.axis, begin);
    const std::uint64_t rows = position_on(column.axis, end) - from;
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      if (is_indptr(column.axis)) {
        const Axis axis = pointed_axis(column.axis);
        const std::uint64_t shift = position_on(axis, written) - position_on(axis, begin);
        shifted.assign(values.begin() + static_cast<std::ptrdiff_t>(from + 1),
                       values.begin() + static_cast<std::ptrdiff_t>(from + 1 + rows));
        for (auto& value : shifted) value += shift;
        out.append(shifted.data(), rows);
        return;
      }
      if (column.path == "/scores/record") {
        shifted.assign(values.begin() + static_cast<std::ptrdiff_t>(from),
                       values.begin() + static_cast<std::ptrdiff_t>(from + rows));
        for (auto& value : shifted) value += written.records - begin.records;
        out.append(shifted.data(), rows);
        return;
      }
    }
    out.append(values.data() + from * width, rows);
  });
  written.records += end.records - begin.records;
  written.values += end.values - begin.values;
  written.tiles += end.tiles - begin.tiles;
  written.draws += end.draws - begin.draws;
  written.scores += end.scores - begin.scores;
  written.codes += end.codes - begin.codes;
  written.exponents += end.exponents - begin.exponents;
  written.tokens += end.tokens - begin.tokens;
}

TraceFileWriter::TraceFileWriter(const std::string& path, const TraceHeader& header,
                                 const ToolStamp& tool)
    : state_(std::make_unique<State>()) {
  const auto lock = hdf5_lock();
  State& s = *state_;
  s.path = path;
  s.header = header;
  const Handle create = property_list(H5P_FILE_CREATE);
  H5Pset_userblock(create.get(), kUserBlockBytes);
  H5Pset_obj_track_times(create.get(), false);
  errno = 0;
  s.file = Handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, create.get(), H5P_DEFAULT), H5Fclose);
  if (!s.file.valid()) fail(path, "the file");
  write_header(path, s.file.get(), header, tool);
}

TraceFileWriter::~TraceFileWriter() {
  const auto lock = hdf5_lock();
  state_.reset();
}

void TraceFileWriter::append(const TraceRecords& records) {
  const auto lock = hdf5_lock();
  State& s = *state_;
  for (const StepRange& range : step_ranges(records)) {
    const std::uint32_t step = records.step[range.first];
    if (s.written.records > 0 && step <= s.last_step) {
      throw damaged_error({s.path}, fmt::format("step {} after step {}", step, s.last_step),
                          "steps that rise");
    }
    if (s.written.records > 0 && records.probe_budget != s.probe_budget) {
      throw damaged_error({s.path}, fmt::format("the probe budgets change at step {}", step),
                          "the same in every step");
    }
    s.append_step(records, range);
    s.last_step = step;
  }
}

std::string TraceFileWriter::finish() {
  const auto lock = hdf5_lock();
  State& s = *state_;
  const TraceRecords none;
  std::size_t number = 0;
  visit_columns(
      none, [&](const Column& column, const auto& values) {  // a trace of no steps has them too
        using T = typename std::decay_t<decltype(values)>::value_type;
        const std::size_t mine = number++;
        if (s.present(column, none)) {
          s.dataset(mine, column, file_type<T>(), sizeof(T), width_of(column.width, s.header, 0));
        }
      });
  std::vector<DatasetCheck> checks;
  for (auto& dataset : s.datasets) {
    if (dataset) checks.push_back(dataset->finish());
  }
  for (const DatasetCheck& check : checks) {
    if (check.path.starts_with("/stats/") && check.rows != s.written.records) {
      throw damaged_error({s.path}, check.path + " is missing in some steps", "all steps or none");
    }
  }
  const Handle create = property_list(H5P_GROUP_CREATE);
  H5Pset_obj_track_times(create.get(), false);
  Handle group(H5Gcreate2(s.file.get(), "/checks", H5P_DEFAULT, create.get(), H5P_DEFAULT),
               H5Gclose);
  if (!group.valid()) fail(s.path, "/checks");
  for (const DatasetCheck& check : checks) {
    write_number(s.path, group.get(), check.path.substr(1).c_str(), check.hash);
  }
  group.reset();
  s.groups.clear();
  const std::string hash = content_hash(s.header, checks);
  write_text(s.path, s.file.get(), "content_hash", hash);
  write_number(s.path, s.file.get(), "complete", std::uint8_t{1});
  errno = 0;
  if (H5Fflush(s.file.get(), H5F_SCOPE_GLOBAL) < 0) fail(s.path, "the last metadata");
  s.datasets.clear();
  s.file.reset();
  seal_file(s.path);
  return hash;
}

std::string content_hash(const TraceHeader& header, const std::vector<DatasetCheck>& checks) {
  std::string text = header_json(header) + "\n";
  for (const DatasetCheck& c : checks) {
    text += fmt::format("{} {} {} {:016x}\n", c.path, c.rows, c.width, c.hash);
  }
  return hash_text(text);
}

}  // namespace stoat
