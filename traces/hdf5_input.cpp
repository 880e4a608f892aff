// Sizes are compared with what the file really stores, so a file that claims petabytes is refused,
// not believed.
#include "traces/hdf5_input.h"

#include <algorithm>
#include <cstring>

namespace stoat {

namespace {

constexpr std::size_t kMaxAttributeBytes = std::size_t{1} << 18;
constexpr std::uint64_t kMaxChunkBytes = std::uint64_t{16} << 20;

}  // namespace

Hdf5Input::Hdf5Input(const std::string& path) : path_(path) {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
#if H5_VERSION_GE(1, 10, 7)
  H5Pset_file_locking(access.get(), false, true);  // read-only folders and NFS
#endif
  id_ = Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!id_.valid()) fail("not readable as HDF5");
}

void Hdf5Input::fail(const std::string& found, const std::string& expected) const {
  throw damaged_error({path_}, found, expected,
                      "record the trace again, or restore it from a copy");
}

std::string Hdf5Input::text(const char* name) const {
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

Handle Hdf5Input::attribute(const char* name) const {
  if (!has_attribute(name)) fail(fmt::format("attribute {} is missing", name));
  Handle at(H5Aopen(id_.get(), name, H5P_DEFAULT), H5Aclose);
  if (!at.valid()) fail(fmt::format("attribute {} cannot be read", name));
  return at;
}

std::uint64_t Hdf5Input::elements(hid_t at) {
  const Handle space(H5Aget_space(at), H5Sclose);
  const hssize_t count = H5Sget_simple_extent_npoints(space.get());
  return count < 0 ? 0 : static_cast<std::uint64_t>(count);
}

void Hdf5Input::stored(const std::string& path, const OpenDataset& d, int rank, hid_t space,
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

}  // namespace stoat
