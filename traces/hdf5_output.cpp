// Chunks are written whole, in the order in which steps fill them, through a chunk cache of size
// zero: the library decides nothing about the order, so equal records give equal bytes.
#include "traces/hdf5_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "models/error.h"

namespace stoat {

void fail_to_write(const std::string& path, const std::string& what) {
  const int error = errno;
  throw resource_error({path},
                       fmt::format("{} could not be written{}{}", what, error != 0 ? ": " : "",
                                   error != 0 ? std::strerror(error) : ""));
}

Handle property_list(hid_t kind) { return {H5Pcreate(kind), H5Pclose}; }

Dataset::Dataset(const std::string& file, hid_t parent, const Column& column, hid_t type,
                 std::size_t size, std::uint64_t width)
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
  id_ = Handle(
      H5Dcreate2(parent, name.c_str(), type, space.get(), H5P_DEFAULT, create.get(), access.get()),
      H5Dclose);
  if (!ok || !id_.valid()) fail_to_write(file_, path_);
  buffer_.reserve(chunk_rows_ * width_ * size_);
  XXH64_reset(hash_, 0);
}

void Dataset::append(const void* data, std::uint64_t rows) {
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

DatasetCheck Dataset::finish() {
  if (!buffer_.empty()) flush();
  id_.reset();
  return {path_, rows_, width_, XXH64_digest(hash_)};
}

void Dataset::flush() {
  const hsize_t rows = buffer_.size() / (width_ * size_);
  const hsize_t start[2] = {rows_, 0};
  const hsize_t count[2] = {rows, width_};
  const hsize_t extent[2] = {rows_ + rows, width_};
  errno = 0;
  if (H5Dset_extent(id_.get(), extent) < 0) fail_to_write(file_, path_);
  const Handle file_space(H5Dget_space(id_.get()), H5Sclose);
  const Handle memory_space(H5Screate_simple(rank_, count, nullptr), H5Sclose);
  if (H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start, nullptr, count, nullptr) < 0 ||
      H5Dwrite(id_.get(), type_, memory_space.get(), file_space.get(), H5P_DEFAULT,
               buffer_.data()) < 0) {
    fail_to_write(file_, path_);
  }
  rows_ += rows;
  buffer_.clear();
}

void write_attribute(const std::string& file, hid_t at, const char* name, hid_t type, hid_t space,
                     const void* value) {
  const Handle id(H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!id.valid() || H5Awrite(id.get(), type, value) < 0)
    fail_to_write(file, std::string("attribute ") + name);
}

void write_text(const std::string& file, hid_t at, const char* name, const std::string& text) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), std::max<std::size_t>(1, text.size()));
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  write_attribute(file, at, name, type.get(), space.get(), text.c_str());
}

}  // namespace stoat
