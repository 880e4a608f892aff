// Reading with the HDF5 library what may lie: attributes and datasets are checked for type, shape
// and storage before anything is allocated. What a trace consists of stands in reader.cpp.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/error.h"
#include "traces/columns.h"
#include "traces/hdf5_handle.h"

namespace stoat {

struct OpenDataset {
  Handle id;
  std::uint64_t rows = 0;
  std::uint64_t width = 1;
};

class Hdf5Input {
 public:
  explicit Hdf5Input(const std::string& path);
  hid_t get() const { return id_.get(); }

  // Throws Error (damaged) that names the file.
  [[noreturn]] void fail(const std::string& found, const std::string& expected = {}) const;

  std::string text(const char* name) const;  // an attribute of the root

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
  Handle attribute(const char* name) const;

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
  static std::uint64_t elements(hid_t at);

  // Every chunk that the extent claims must be there: unwritten chunks would read as zeros, and
  // cost nothing to claim.
  void stored(const std::string& path, const OpenDataset& d, int rank, hid_t space,
              std::size_t element) const;

  std::string path_;
  Handle id_;
};

}  // namespace stoat
