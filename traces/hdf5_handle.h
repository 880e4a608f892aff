// The little of HDF5's C interface that traces need, with handles that close themselves and
// failures that throw.
//
// Included only by file_hdf5.cpp and reader.cpp. The library is not thread-safe: every call happens
// under hdf5_lock().
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "models/error.h"

namespace stoat {

// One HDF5 identifier.
class Handle {
 public:
  Handle() = default;
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() { reset(); }
  void reset() {
    if (id_ >= 0) close_(id_);
    id_ = H5I_INVALID_HID;
  }
  bool valid() const { return id_ >= 0; }
  hid_t get() const { return id_; }

 private:
  hid_t id_ = H5I_INVALID_HID;
  herr_t (*close_)(hid_t) = nullptr;
};

inline std::unique_lock<std::mutex> hdf5_lock() {
  static std::mutex mutex;
  std::unique_lock<std::mutex> lock(mutex);
  static const bool quiet = [] {
    H5Eset_auto2(H5E_DEFAULT, nullptr,
                 nullptr);  // our errors name the dataset; the stack would only add noise
    return true;
  }();
  (void)quiet;
  return lock;
}

// The type in the file (little-endian) and in memory, by C++ type. Enums are their bytes.
template <class T>
hid_t file_type() {
  if constexpr (std::is_enum_v<T>) {
    return file_type<std::underlying_type_t<T>>();
  } else if constexpr (std::is_same_v<T, std::uint8_t>) {
    return H5T_STD_U8LE;
  } else if constexpr (std::is_same_v<T, std::uint16_t>) {
    return H5T_STD_U16LE;
  } else if constexpr (std::is_same_v<T, std::uint32_t>) {
    return H5T_STD_U32LE;
  } else if constexpr (std::is_same_v<T, std::uint64_t>) {
    return H5T_STD_U64LE;
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return H5T_STD_I32LE;
  } else {
    static_assert(std::is_same_v<T, float>);
    return H5T_IEEE_F32LE;
  }
}

}  // namespace stoat
