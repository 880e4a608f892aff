// Opening, checking and slicing a trace at rest (reader.h). Sizes are compared with what the file
// really stores before anything is allocated, so a file that claims petabytes is refused, not
// believed.
#include "traces/reader.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "traces/columns.h"
#include "traces/file_hdf5.h"
#include "traces/hdf5_handle.h"
#include "traces/spool.h"
#include "traces/validate.h"

namespace stoat {

namespace {

constexpr std::size_t kMaxAttributeBytes = std::size_t{1} << 18;
constexpr std::uint64_t kMaxChunkBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kScanRows = 8 * kChunkElements;

struct OpenDataset {
  Handle id;
  std::uint64_t rows = 0;
  std::uint64_t width = 1;
};

// One distinct step: where it begins on the axes that are counted while scanning.
struct StepStart {
  std::uint64_t record = 0;
  std::uint64_t token = 0;
  std::uint64_t score = 0;
};

class File {
 public:
  File(const std::string& path) : path_(path) {
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access.get(), false, true);  // read-only folders and NFS
#endif
    id_ = Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
    if (!id_.valid()) fail("not readable as HDF5");
  }
  hid_t get() const { return id_.get(); }

  [[noreturn]] void fail(const std::string& found, const std::string& expected = {}) const {
    throw damaged_error({path_}, found, expected,
                        "record the trace again, or restore it from a copy");
  }

  std::string text(const char* name) const {
    const Handle at = attribute(name);
    const Handle type(H5Aget_type(at.get()), H5Tclose);
    const std::size_t size = H5Tget_size(type.get());
    if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 ||
        elements(at.get()) != 1 || size > kMaxAttributeBytes) {
      fail(fmt::format("attribute {}: not a fixed-length text", name));
    }
    std::string value(size, '\0');
    if (H5Aread(at.get(), type.get(), value.data()) < 0) fail(fmt::format("attribute {}", name));
    value.resize(strnlen(value.data(), size));
    return value;
  }

  template <class T>
  std::vector<T> numbers(hid_t at, std::uint64_t limit, const std::string& name) const {
    const Handle type(H5Aget_type(at), H5Tclose);
    const std::uint64_t count = elements(at);
    if (H5Tequal(type.get(), file_type<T>()) <= 0 || count == 0 || count > limit) {
      fail(fmt::format("attribute {}: another type or size", name));
    }
    std::vector<T> values(count);
    if (H5Aread(at, file_type<T>(), values.data()) < 0) fail(fmt::format("attribute {}", name));
    return values;
  }
  template <class T>
  T number(const char* name) const {
    return numbers<T>(attribute(name).get(), 1, name)[0];
  }
  bool has_attribute(const char* name) const { return H5Aexists(id_.get(), name) > 0; }
  Handle attribute(const char* name) const {
    if (!has_attribute(name)) fail(fmt::format("attribute {} is missing", name));
    Handle at(H5Aopen(id_.get(), name, H5P_DEFAULT), H5Aclose);
    if (!at.valid()) fail(fmt::format("attribute {} cannot be read", name));
    return at;
  }

  template <class T>
  OpenDataset dataset(const Column& column) const {
    const std::string path(column.path);
    OpenDataset out;
    out.id = Handle(H5Dopen2(id_.get(), path.c_str(), H5P_DEFAULT), H5Dclose);
    if (!out.id.valid()) fail(path + ": missing or not a dataset");
    const Handle type(H5Dget_type(out.id.get()), H5Tclose);
    const Handle space(H5Dget_space(out.id.get()), H5Sclose);
    const int rank = column.width == Width::kOne ? 1 : 2;
    if (H5Tequal(type.get(), file_type<T>()) <= 0) fail(path + ": another element type");
    if (H5Sget_simple_extent_ndims(space.get()) != rank) {
      fail(fmt::format("{}: {} dimensions", path, H5Sget_simple_extent_ndims(space.get())),
           std::to_string(rank));
    }
    hsize_t size[2] = {0, 1};
    H5Sget_simple_extent_dims(space.get(), size, nullptr);
    out.rows = size[0];
    out.width = size[1];
    stored(path, out, rank, space.get(), sizeof(T));
    return out;
  }

 private:
  static std::uint64_t elements(hid_t at) {
    const Handle space(H5Aget_space(at), H5Sclose);
    const hssize_t count = H5Sget_simple_extent_npoints(space.get());
    return count < 0 ? 0 : static_cast<std::uint64_t>(count);
  }

  // Every chunk that the extent claims must be there: unwritten chunks would read as zeros, and
  // cost nothing to claim.
  void stored(const std::string& path, const OpenDataset& d, int rank, hid_t space,
              std::size_t element) const {
    const Handle create(H5Dget_create_plist(d.id.get()), H5Pclose);
    hsize_t chunk[2] = {0, 1};
    if (H5Pget_layout(create.get()) != H5D_CHUNKED ||
        H5Pget_chunk(create.get(), rank, chunk) != rank || chunk[0] == 0 || chunk[1] != d.width ||
        d.width > kMaxChunkBytes / element ||
        chunk[0] > kMaxChunkBytes / element / std::max<hsize_t>(1, d.width)) {
      fail(path + ": stored in another way", "chunks of whole rows");
    }
    const int filters = H5Pget_nfilters(create.get());
    for (int i = 0; i < filters; ++i) {
      unsigned flags = 0;
      std::size_t none = 0;
      const H5Z_filter_t filter = H5Pget_filter2(create.get(), static_cast<unsigned>(i), &flags,
                                                 &none, nullptr, 0, nullptr, nullptr);
      if (filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_DEFLATE &&
          filter != H5Z_FILTER_FLETCHER32) {
        fail(fmt::format("{}: filter {}", path, filter), "shuffle, deflate, fletcher32");
      }
    }
    hsize_t chunks = 0;
    const std::uint64_t wanted = d.rows == 0 ? 0 : (d.rows - 1) / chunk[0] + 1;
    if (H5Dget_num_chunks(d.id.get(), space, &chunks) < 0 || chunks != wanted) {
      fail(fmt::format("{}: claims {} rows, but {} of {} chunks are stored", path, d.rows, chunks,
                       wanted));
    }
  }

  const std::string& path_;
  Handle id_;
};

// The attributes as a header. Names and values are checked as strictly as a user's input.
TraceHeader read_header(const File& file) {
  TraceHeader h;
  if (file.text("rng") != "philox4x32-10")
    file.fail("attribute rng: '" + file.text("rng") + "'", "philox4x32-10");
  h.origin = file.text("origin");
  h.model_name = file.text("model_name");
  h.model_config_hash = file.text("model_config_hash");
  h.model_weights_hash = file.text("model_weights_hash");
  h.tokenizer = file.text("tokenizer");
  h.prompt_hash = file.text("prompt_hash");
  h.seed = file.number<std::uint64_t>("seed");
  const std::string score_kind = file.text("score_kind");
  if (score_kind != "exact" && score_kind != "ternary") {
    file.fail("attribute score_kind: '" + score_kind + "'", "exact or ternary");
  }
  h.score_kind = score_kind == "ternary" ? ScoreKind::kTernary : ScoreKind::kExact;
  try {
    h.method = method_from_name(file.text("method"));
    if (h.score_kind == ScoreKind::kTernary) {
      h.ternary.draws = file.number<std::uint32_t>("ternary_draws");
      h.ternary.coupling = coupling_from_name(file.text("ternary_coupling"));
      h.ternary.normaliser = normaliser_from_name(file.text("ternary_normaliser"));
    }
  } catch (const Error& e) {
    if (e.code() == ExitCode::kDamaged) throw;
    file.fail(std::string("an attribute: ") + e.what());
  }
  if (file.has_attribute("S")) {
    h.budgets = file.numbers<std::uint32_t>(file.attribute("S").get(), 65536, "S");
  }
  h.kv_dtype = file.text("kv_dtype");
  h.row_bytes = file.number<std::uint32_t>("row_bytes");
  h.n_layers = file.number<std::uint32_t>("n_layers");
  h.n_q_heads = file.number<std::uint32_t>("n_q_heads");
  h.n_kv_heads = file.number<std::uint32_t>("n_kv_heads");
  h.head_dim = file.number<std::uint32_t>("head_dim");
  h.weight_bytes_per_token = file.number<std::uint64_t>("weight_bytes_per_token");
  const std::string problem = header_problem(h);
  if (!problem.empty()) file.fail("attribute " + problem);
  return h;
}

// Refuses what is not a trace of ours, in the order in which it can be told.
void refuse_other_files(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw usage_error({path}, std::string("cannot be opened: ") + std::strerror(errno), "a trace");
  char head[8] = {};
  in.read(head, sizeof(head));
  const std::string_view first(head, static_cast<std::size_t>(in.gcount()));
  if (first == kSpoolMagic) {
    throw damaged_error(
        {path}, "this is the spool of a recording that was not finished", "a trace",
        fmt::format("turn it into one with 'stoat trace recover {} -o FILE'", path));
  }
  if (first == "\x89HDF\r\n\x1a\n") {
    throw usage_error({path}, "an HDF5 file without the user block of a trace",
                      "a trace made by stoat");
  }
  const std::string problem = seal_problem(path);
  if (problem.empty()) return;
  if (first != "stoat-tr")
    throw usage_error({path}, "not a trace", "a file made by 'stoat capture' or 'stoat trace'");
  throw damaged_error({path}, problem, "a file as it was written",
                      "it was altered or cut; record the trace again, or restore it from a copy");
}

}  // namespace

struct TraceReader::State {
  explicit State(const std::string& p) : path(p), file(path) {}
  std::string path;
  File file;
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
