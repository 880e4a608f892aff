// Writing with the HDF5 library: datasets that grow by whole chunks, attributes, failures as
// Errors. What a trace consists of stands in file_hdf5.cpp.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <string>
#include <vector>

#include "traces/columns.h"
#include "traces/file_hdf5.h"
#include "traces/hdf5_handle.h"

namespace stoat {

// Throws Error (resource): the file, what could not be written, errno's reason.
[[noreturn]] void fail_to_write(const std::string& path, const std::string& what);

Handle property_list(hid_t kind);

// One dataset that grows: elements are buffered to whole chunks.
class Dataset {
 public:
  Dataset(const std::string& file, hid_t parent, const Column& column, hid_t type, std::size_t size,
          std::uint64_t width);
  ~Dataset() { XXH64_freeState(hash_); }
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  std::uint64_t width() const { return width_; }

  void append(const void* data, std::uint64_t rows);

  DatasetCheck finish();

 private:
  void flush();

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
                     const void* value);
void write_text(const std::string& file, hid_t at, const char* name, const std::string& text);

template <class T>
void write_number(const std::string& file, hid_t at, const char* name, T value) {
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  write_attribute(file, at, name, file_type<T>(), space.get(), &value);
}

}  // namespace stoat
