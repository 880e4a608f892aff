// NVML by dlopen: every function by its name, every refusal with what is missing.
#include "gpu/bench/energy_counter.h"

#include <dlfcn.h>

#include <cstdlib>

#include "models/error.h"

namespace stoat::gpu {

namespace {

using NvmlDevice = void*;
constexpr int kNotSupported = 3;  // NVML_ERROR_NOT_SUPPORTED
constexpr const char* kWhere = "--energy";

std::string library_name(const std::string& given) {
  if (!given.empty()) return given;
  const char* named = std::getenv("STOAT_NVML");
  return named != nullptr && *named != '\0' ? named : "libnvidia-ml.so.1";
}

}  // namespace

struct EnergyCounter::Library {
  std::string name;
  void* handle = nullptr;
  NvmlDevice gpu = nullptr;
  int (*shutdown)() = nullptr;
  int (*energy)(NvmlDevice, unsigned long long*) = nullptr;
  const char* (*words)(int) = nullptr;
  std::string device, driver;

  ~Library() {
    if (shutdown != nullptr) shutdown();
    if (handle != nullptr) dlclose(handle);
  }
  template <class Function>
  Function* symbol(const char* function) const {
    auto* found = reinterpret_cast<Function*>(dlsym(handle, function));
    if (found == nullptr)
      throw resource_error({kWhere}, name + " has no " + function, "NVML of a driver from 410 on");
    return found;
  }
  void check(int status, const std::string& what) const {
    if (status == 0) return;
    const char* text = words != nullptr ? words(status) : nullptr;
    throw resource_error({kWhere},
                         what + ": " + (text != nullptr ? text : "unknown error") + " (NVML " +
                             std::to_string(status) + ")",
                         "a working NVIDIA GPU and driver");
  }
  std::uint64_t read() const {
    unsigned long long value = 0;
    const int status = energy(gpu, &value);
    if (status == kNotSupported)
      throw resource_error({kWhere}, device + " has no energy counter",
                           "a GPU of the Volta generation or later, not a virtual share of one");
    check(status, "reading the energy counter");
    return value;
  }
};

EnergyCounter::EnergyCounter(const std::string& library) : library_(new Library) {
  Library& l = *library_;
  l.name = library_name(library);
  l.handle = dlopen(l.name.c_str(), RTLD_NOW);
  if (l.handle == nullptr)  // not there, or no library: the loader says which
    throw resource_error({kWhere}, std::string(dlerror()) + "; no energy can be read",
                         "the NVIDIA driver's management library",
                         "install the driver, or name the file with STOAT_NVML");
  l.words = l.symbol<const char*(int)>("nvmlErrorString");
  auto* init = l.symbol<int()>("nvmlInit_v2");
  auto* device_of = l.symbol<int(unsigned, NvmlDevice*)>("nvmlDeviceGetHandleByIndex_v2");
  auto* name_of = l.symbol<int(NvmlDevice, char*, unsigned)>("nvmlDeviceGetName");
  auto* driver_of = l.symbol<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  l.energy = l.symbol<int(NvmlDevice, unsigned long long*)>("nvmlDeviceGetTotalEnergyConsumption");
  l.check(init(), "starting NVML");
  l.shutdown = l.symbol<int()>("nvmlShutdown");
  l.check(device_of(0, &l.gpu), "finding the first GPU");
  char text[96] = {};
  if (name_of(l.gpu, text, sizeof(text)) == 0) l.device = text;
  char version[96] = {};
  if (driver_of(version, sizeof(version)) == 0) l.driver = version;
  l.read();
}

EnergyCounter::~EnergyCounter() = default;

std::uint64_t EnergyCounter::millijoules() const { return library_->read(); }
std::string EnergyCounter::device() const { return library_->device; }
std::string EnergyCounter::driver() const { return library_->driver; }

}  // namespace stoat::gpu
