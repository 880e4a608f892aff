// A trace as an HDF5 file (file_hdf5.h): which groups, datasets and attributes it consists of. How
// they are written so that equal records give equal bytes: hdf5_output.h.
#include "traces/file_hdf5.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "models/hash.h"
#include "traces/columns.h"
#include "traces/hdf5_handle.h"
#include "traces/hdf5_output.h"
#include "traces/validate.h"

namespace stoat {

namespace {

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
      if (!id.valid()) fail_to_write(path, group);
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
  if (!s.file.valid()) fail_to_write(path, "the file");
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
  if (!group.valid()) fail_to_write(s.path, "/checks");
  for (const DatasetCheck& check : checks) {
    write_number(s.path, group.get(), check.path.substr(1).c_str(), check.hash);
  }
  group.reset();
  s.groups.clear();
  const std::string hash = content_hash(s.header, checks);
  write_text(s.path, s.file.get(), "content_hash", hash);
  write_number(s.path, s.file.get(), "complete", std::uint8_t{1});
  errno = 0;
  if (H5Fflush(s.file.get(), H5F_SCOPE_GLOBAL) < 0) fail_to_write(s.path, "the last metadata");
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
