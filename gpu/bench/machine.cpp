// What was measured on. NVML is opened at run time: a program that links it would not start where
// it is missing.
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <cstdint>

#include "gpu/bench/measure.h"

namespace stoat::gpu {

namespace {

using NvmlDevice = void*;
constexpr int kSmClock = 1, kMemoryClock = 2;  // nvmlClockType_t

struct Nvml {
  std::string driver;
  NvmlDevice device = nullptr;
  int (*clock)(NvmlDevice, int, unsigned*) = nullptr;

  std::uint32_t mhz(int type) const {
    unsigned value = 0;
    return clock && device && clock(device, type, &value) == 0 ? value : 0;
  }
};

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

Nvml open_nvml() {
  Nvml nvml;
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  if (!library) return nvml;
  auto* init = symbol<int()>(library, "nvmlInit_v2");
  auto* driver = symbol<int(char*, unsigned)>(library, "nvmlSystemGetDriverVersion");
  auto* device_of = symbol<int(unsigned, NvmlDevice*)>(library, "nvmlDeviceGetHandleByIndex_v2");
  auto* clock = symbol<int(NvmlDevice, int, unsigned*)>(library, "nvmlDeviceGetClockInfo");
  if (!init || !driver || !device_of || !clock || init() != 0) return nvml;
  char text[96] = {};
  if (driver(text, sizeof(text)) == 0) nvml.driver = text;
  if (device_of(0, &nvml.device) != 0) return nvml;
  nvml.clock = clock;
  return nvml;
}

const Nvml& nvml() {
  static const Nvml opened = open_nvml();
  return opened;
}

}  // namespace

std::uint32_t sm_clock_mhz() { return nvml().mhz(kSmClock); }

Machine this_machine() {
  Machine machine;
  int runtime = 0;
  if (cudaRuntimeGetVersion(&runtime) == cudaSuccess)
    machine.cuda_runtime =
        std::to_string(runtime / 1000) + "." + std::to_string(runtime % 100 / 10);
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, 0) == cudaSuccess) {
    machine.gpu = properties.name;
    machine.multiprocessors = static_cast<std::uint32_t>(properties.multiProcessorCount);
  }
  machine.driver = nvml().driver;
  machine.sm_clock_mhz = nvml().mhz(kSmClock);
  machine.memory_clock_mhz = nvml().mhz(kMemoryClock);
  return machine;
}

}  // namespace stoat::gpu
