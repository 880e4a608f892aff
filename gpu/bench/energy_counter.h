// The GPU's own energy counter, through NVML (opened at run time: a program that links it would not
// start where it is missing).
//
// The counter holds millijoules of the whole board since the driver was loaded: GPU, memory and
// voltage converters, busy or not. It moves in steps of some tens of milliseconds, so intervals are
// of seconds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace stoat::gpu {

class EnergyCounter {
 public:
  // library: the file to open; empty: $STOAT_NVML, else libnvidia-ml.so.1. Throws Error (resource)
  // that says what is missing: the library, a device, or the counter itself.
  explicit EnergyCounter(const std::string& library = {});
  ~EnergyCounter();
  EnergyCounter(const EnergyCounter&) = delete;
  EnergyCounter& operator=(const EnergyCounter&) = delete;

  std::uint64_t millijoules() const;  // throws Error (resource) when the device is lost
  std::string device() const;         // its name
  std::string driver() const;

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace stoat::gpu
