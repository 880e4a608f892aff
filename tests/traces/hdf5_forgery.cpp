// The forger's tools (hdf5_forgery.h). Failures of the library are failures of the test: they
// throw.
#include "tests/traces/hdf5_forgery.h"

#include <stdexcept>
#include <vector>

#include "models/hash.h"
#include "traces/columns.h"
#include "traces/file_hdf5.h"

namespace stoat::forgery {

namespace {

hid_t good(hid_t id) {
  if (id < 0) throw std::runtime_error("the forger failed");
  return id;
}

struct Open {
  hid_t file;
  explicit Open(const std::string& path)
      : file(good(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT))) {}
  ~Open() { H5Fclose(file); }
};

void set(const std::string& path, const std::string& dataset, std::uint64_t at, hid_t type,
         const void* value) {
  const Open open(path);
  const hid_t set = good(H5Dopen2(open.file, dataset.c_str(), H5P_DEFAULT));
  const hid_t space = good(H5Dget_space(set));
  const hsize_t start = at, one = 1;
  const hid_t memory = good(H5Screate_simple(1, &one, nullptr));
  good(H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, nullptr, &one, nullptr));
  good(H5Dwrite(set, type, memory, space, H5P_DEFAULT, value));
  H5Sclose(memory);
  H5Sclose(space);
  H5Dclose(set);
}

}  // namespace

void set_u8(const std::string& f, const std::string& d, std::uint64_t at, std::uint8_t v) {
  set(f, d, at, H5T_NATIVE_UINT8, &v);
}
void set_u16(const std::string& f, const std::string& d, std::uint64_t at, std::uint16_t v) {
  set(f, d, at, H5T_NATIVE_UINT16, &v);
}
void set_u64(const std::string& f, const std::string& d, std::uint64_t at, std::uint64_t v) {
  set(f, d, at, H5T_NATIVE_UINT64, &v);
}

void set_u32(const std::string& f, const std::string& d, std::uint64_t at, std::uint32_t v) {
  const bool number = d.starts_with("/stats/");
  set(f, d, at, number ? H5T_NATIVE_FLOAT : H5T_NATIVE_UINT32, &v);
}

void resize(const std::string& path, const std::string& dataset, std::uint64_t rows) {
  const Open open(path);
  const hid_t set = good(H5Dopen2(open.file, dataset.c_str(), H5P_DEFAULT));
  const hsize_t size = rows;
  good(H5Dset_extent(set, &size));
  H5Dclose(set);
}

void remove_link(const std::string& path, const std::string& link) {
  const Open open(path);
  good(H5Ldelete(open.file, link.c_str(), H5P_DEFAULT));
}

void remove_attribute(const std::string& path, const std::string& name) {
  const Open open(path);
  good(H5Adelete(open.file, name.c_str()));
}

void set_attribute(const std::string& path, const std::string& name, std::uint32_t value) {
  const Open open(path);
  const hid_t at = good(H5Aopen(open.file, name.c_str(), H5P_DEFAULT));
  good(H5Awrite(at, H5T_NATIVE_UINT32, &value));
  H5Aclose(at);
}

void recompute_hashes(const std::string& path, const TraceHeader& header) {
  const Open open(path);
  std::vector<DatasetCheck> checks;
  TraceHeader claimed = header;
  for (auto [name, field] : {std::pair{"n_kv_heads", &claimed.n_kv_heads},
                             std::pair{"ternary_draws", &claimed.ternary.draws}}) {
    const hid_t at = good(H5Aopen(open.file, name, H5P_DEFAULT));
    good(H5Aread(at, H5T_NATIVE_UINT32, field));
    H5Aclose(at);
  }
  const TraceRecords none;
  visit_columns(none, [&](const Column& column, const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    const std::string name(column.path);
    if (H5Lexists(open.file, name.substr(0, name.rfind('/')).c_str(), H5P_DEFAULT) <= 0 ||
        H5Lexists(open.file, name.c_str(), H5P_DEFAULT) <= 0) {
      return;
    }
    const hid_t set = good(H5Dopen2(open.file, name.c_str(), H5P_DEFAULT));
    const hid_t space = good(H5Dget_space(set));
    hsize_t size[2] = {0, 1};
    H5Sget_simple_extent_dims(space, size, nullptr);
    std::uint64_t hash = 0;
    if (size[0] < (1U << 20)) {
      std::vector<T> data(size[0] * size[1]);
      const hid_t type = good(H5Dget_type(set));
      good(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data()));
      H5Tclose(type);
      hash = xxh64(data.data(), data.size() * sizeof(T));
    }
    checks.push_back({name, size[0], size[1], hash});
    H5Sclose(space);
    H5Dclose(set);
    const hid_t group = good(H5Gopen2(open.file, "/checks", H5P_DEFAULT));
    const hid_t at = good(H5Aopen(group, name.c_str() + 1, H5P_DEFAULT));
    good(H5Awrite(at, H5T_NATIVE_UINT64, &hash));
    H5Aclose(at);
    H5Gclose(group);
  });
  const std::string text = content_hash(claimed, checks);
  const hid_t at = good(H5Aopen(open.file, "content_hash", H5P_DEFAULT));
  const hid_t type = good(H5Aget_type(at));
  good(H5Awrite(at, type, text.c_str()));
  H5Tclose(type);
  H5Aclose(at);
}

}  // namespace stoat::forgery
