// Writers of export.h, step by step in bounded memory (npz: the chosen steps at once).
#include "traces/export.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

#include "models/error.h"
#include "traces/columns.h"
#include "traces/payload.h"

namespace stoat {

namespace {

// A file that appears whole or not at all.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path)
      : path_(path), temporary_(fmt::format("{}.tmp.{}", path, ::getpid())) {
    file_ = std::fopen(temporary_.c_str(), "wbx");
    if (file_ == nullptr) fail("cannot be created");
  }
  ~OutputFile() {
    if (file_ == nullptr) return;
    std::fclose(file_);
    ::unlink(temporary_.c_str());
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t bytes) {
    if (bytes > 0 && std::fwrite(data, 1, bytes, file_) != bytes) fail("could not be written");
    bytes_ += bytes;
  }
  void write(std::string_view text) { write(text.data(), text.size()); }
  void overwrite(std::uint64_t at, const void* data, std::size_t bytes) {
    if (std::fseek(file_, static_cast<long>(at), SEEK_SET) != 0 ||
        std::fwrite(data, 1, bytes, file_) != bytes || std::fseek(file_, 0, SEEK_END) != 0) {
      fail("could not be written");
    }
  }
  std::uint64_t bytes() const { return bytes_; }
  void commit() {
    if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) fail("could not be written");
    std::fclose(std::exchange(file_, nullptr));
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
      const int error = errno;
      ::unlink(temporary_.c_str());
      errno = error;
      fail("could not be renamed");
    }
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw resource_error({path_},
                         fmt::format("{} after {} bytes: {}", what, bytes_, std::strerror(errno)));
  }
  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
  std::uint64_t bytes_ = 0;
};

void write_csv(const TraceRecords& r, OutputFile& out, ExportSummary& summary) {
  std::string text;
  for (std::size_t i = 0; i < r.size(); ++i) {
    const bool dense = r.kind[i] == RecordKind::kDense;
    const std::string head =
        fmt::format("{},{},{},{},{},{},{},{}", r.seq[i], r.step[i], r.layer[i], r.q_head[i],
                    r.kv_head[i], r.context[i], dense ? "dense" : "sampled", r.budget[i]);
    text.clear();
    if (dense) {
      text = head + ",,\n";
      ++summary.lines;
    }
    for (std::uint64_t k = r.value_indptr[i]; k < r.value_indptr[i + 1]; ++k) {
      fmt::format_to(std::back_inserter(text), "{},{},{}\n", head, r.row[k], r.count[k]);
      ++summary.lines;
    }
    out.write(text);
  }
}

void write_stl(const TraceRecords& r, const TraceHeader& header, const ExportOptions& options,
               std::uint64_t region, std::uint64_t cycle, OutputFile& out, ExportSummary& summary) {
  std::vector<std::uint32_t> rows;
  std::string text;
  for (std::size_t i = 0; i < r.size();) {
    std::size_t end = i;
    rows.clear();
    bool dense = false;
    for (; end < r.size() && r.seq[end] == r.seq[i] && r.layer[end] == r.layer[i] &&
           r.kv_head[end] == r.kv_head[i];
         ++end) {
      dense = dense || r.kind[end] == RecordKind::kDense;
      rows.insert(rows.end(), r.row.begin() + static_cast<std::ptrdiff_t>(r.value_indptr[end]),
                  r.row.begin() + static_cast<std::ptrdiff_t>(r.value_indptr[end + 1]));
    }
    if (dense) {
      rows.resize(r.context[i]);
      for (std::uint32_t row = 0; row < r.context[i]; ++row) rows[row] = row;
    }
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    text.clear();
    for (const std::uint32_t row : rows) {
      const std::uint64_t at =
          stl_value_address(header, region, r.seq[i], r.layer[i], r.kv_head[i], row);
      for (std::uint64_t byte = 0; byte < header.row_bytes; byte += options.access_bytes) {
        fmt::format_to(std::back_inserter(text), "{}: read 0x{:x}\n", cycle, at + byte);
        ++summary.lines;
      }
    }
    out.write(text);
    i = end;
  }
}

// --- npz: a zip without compression
// ---------------------------------------------------------------------------------

template <class T>
const char* numpy_type() {
  if constexpr (sizeof(T) == 1) return "|u1";
  if constexpr (std::is_same_v<T, std::uint16_t>) return "<u2";
  if constexpr (std::is_same_v<T, std::uint32_t>) return "<u4";
  if constexpr (std::is_same_v<T, std::uint64_t>) return "<u8";
  if constexpr (std::is_same_v<T, std::int32_t>) return "<i4";
  return "<f4";
}

void put_number(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

class ZipWriter {
 public:
  explicit ZipWriter(OutputFile& out) : out_(out) {}

  void begin(const std::string& name) {
    entries_.push_back({name, out_.bytes(), 0, 0});
    out_.write(local_header(entries_.back()));
    crc_ = crc32(0, nullptr, 0);
  }
  void write(const void* data, std::size_t bytes) {
    crc_ = crc32_z(crc_, static_cast<const Bytef*>(data), bytes);
    entries_.back().bytes += bytes;
    out_.write(data, bytes);
    if (entries_.back().bytes > 0xfffffff0U || out_.bytes() > 0xfffffff0U) {
      throw resource_error({}, "an npz of more than 4 GiB", "at most 4 GiB",
                           "export fewer steps (--steps A:B)");
    }
  }
  void end() {
    entries_.back().crc = crc_;
    const std::string header = local_header(entries_.back());
    out_.overwrite(entries_.back().offset, header.data(), header.size());
  }
  void finish() {
    const std::uint64_t start = out_.bytes();
    for (const Entry& entry : entries_) {
      std::string text;
      put_number(text, 0x02014b50, 4);
      put_number(text, 20, 2);
      text += common(entry);
      put_number(text, 0, 6);  // comment length, disk, internal attributes
      put_number(text, 0, 4);  // external attributes
      put_number(text, entry.offset, 4);
      out_.write(text + entry.name);
    }
    std::string text;
    put_number(text, 0x06054b50, 4);
    put_number(text, 0, 4);
    put_number(text, entries_.size(), 2);
    put_number(text, entries_.size(), 2);
    put_number(text, out_.bytes() - start, 4);
    put_number(text, start, 4);
    put_number(text, 0, 2);
    out_.write(text);
  }

 private:
  struct Entry {
    std::string name;
    std::uint64_t offset, bytes, crc;
  };
  // Version needed to extra length: the fields that both headers share. Stored, dated 1980-01-01.
  static std::string common(const Entry& entry) {
    std::string text;
    put_number(text, 20, 2);
    put_number(text, 0, 2);
    put_number(text, 0, 2);
    put_number(text, 0, 2);
    put_number(text, 0x0021, 2);
    put_number(text, entry.crc, 4);
    put_number(text, entry.bytes, 4);
    put_number(text, entry.bytes, 4);
    put_number(text, entry.name.size(), 2);
    put_number(text, 0, 2);
    return text;
  }
  static std::string local_header(const Entry& entry) {
    std::string text;
    put_number(text, 0x04034b50, 4);
    return text + common(entry) + entry.name;
  }

  OutputFile& out_;
  std::vector<Entry> entries_;
  uLong crc_ = 0;
};

void write_npy_head(ZipWriter& zip, const char* type, std::uint64_t rows, std::uint64_t width,
                    bool two) {
  std::string head = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({},{}), }}",
                                 type, rows, two ? " " + std::to_string(width) : "");
  while ((10 + head.size() + 1) % 64 != 0) head.push_back(' ');
  head.push_back('\n');
  std::string text("\x93NUMPY\x01\x00", 8);
  put_number(text, head.size(), 2);
  text += head;
  zip.write(text.data(), text.size());
}

// The chosen steps are read at once.
void write_npz(const TraceReader& reader, std::uint32_t first, std::uint32_t steps,
               OutputFile& out) {
  ZipWriter zip(out);
  const TraceRecords all = reader.read_steps(first, steps);
  const std::string header = header_json(reader.header());
  zip.begin("header.json");
  zip.write(header.data(), header.size());
  zip.end();
  visit_columns(all, [&](const Column& column, const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    if (values.size() <= (is_indptr(column.axis) ? 1U : 0U) && column.path != "/value/indptr")
      return;
    const std::uint64_t width = width_of(column.width, reader.header(), all.probe_budget.size());
    zip.begin(std::string(column.path.substr(1)) + ".npy");
    write_npy_head(zip, numpy_type<T>(), values.size() / width, width, column.width != Width::kOne);
    zip.write(values.data(), values.size() * sizeof(T));
    zip.end();
  });
  zip.finish();
}

}  // namespace

ExportFormat export_format_from_name(std::string_view name) {
  if (name == "csv") return ExportFormat::kCsv;
  if (name == "stl") return ExportFormat::kStl;
  if (name == "npz") return ExportFormat::kNpz;
  throw usage_error({}, fmt::format("unknown format '{}'", name), "csv, stl or npz",
                    nearest_name_hint(name, {"csv", "stl", "npz"}));
}

std::uint64_t stl_region_bytes(std::uint32_t max_context, std::uint32_t row_bytes) {
  return std::bit_ceil(std::uint64_t{max_context} * row_bytes);
}

std::uint64_t stl_value_address(const TraceHeader& header, std::uint64_t region, std::uint32_t seq,
                                std::uint32_t layer, std::uint32_t kv_head, std::uint32_t row) {
  const std::uint64_t pair =
      (std::uint64_t{seq} * header.n_layers + layer) * header.n_kv_heads + kv_head;
  return (2 * pair + 1) * region + std::uint64_t{row} * header.row_bytes;
}

ExportSummary export_trace(const TraceReader& reader, const ExportOptions& options,
                           const std::string& out_path) {
  if (options.access_bytes == 0)
    throw usage_error({}, "accesses of 0 bytes", "at least 1 (--access-bytes)");
  if (options.first_step > reader.steps()) {
    throw usage_error({reader.path()}, fmt::format("step {}", options.first_step),
                      fmt::format("below {}", reader.steps()));
  }
  const std::uint32_t steps = std::min(options.steps, reader.steps() - options.first_step);
  OutputFile out(out_path);
  ExportSummary summary;
  if (options.format == ExportFormat::kNpz) {
    write_npz(reader, options.first_step, steps, out);
  } else {
    std::uint32_t max_context = 1;
    if (options.format == ExportFormat::kStl) {  // addresses must not depend on the chosen steps
      for (std::uint32_t s = 0; s < reader.steps(); ++s) {
        const TraceRecords r = reader.read_steps(s, 1);
        max_context = std::max(max_context, *std::max_element(r.context.begin(), r.context.end()));
      }
    } else {
      out.write("seq,step,layer,q_head,kv_head,context,kind,S,row,count\n");
      ++summary.lines;
    }
    const std::uint64_t region = stl_region_bytes(max_context, reader.header().row_bytes);
    for (std::uint32_t s = 0; s < steps; ++s) {
      const TraceRecords r = reader.read_steps(options.first_step + s, 1);
      if (options.format == ExportFormat::kCsv) {
        write_csv(r, out, summary);
      } else {
        write_stl(r, reader.header(), options, region, s * options.step_cycles, out, summary);
      }
    }
  }
  out.commit();
  summary.bytes = out.bytes();
  return summary;
}

}  // namespace stoat
