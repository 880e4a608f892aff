// The zip and npy formats, as far as they are needed (export_npz.h).
//
// Formats: PKWARE's APPNOTE 4.3 (stored entries), NEP 1 (npy 1.0).
#include "traces/export_npz.h"

#include <fmt/format.h>
#include <zlib.h>

#include <string>
#include <type_traits>
#include <vector>

#include "models/error.h"
#include "traces/columns.h"
#include "traces/payload.h"

namespace stoat {

namespace {

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

}  // namespace

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

}  // namespace stoat
