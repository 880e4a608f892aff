// What was measured on. NVML is opened at run time: a program that links it would not start where
// it is missing.
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>

#include "gpu/bench/measure.h"

namespace stoat::gpu {

namespace {

using NvmlDevice = void*;
constexpr int kSmClock = 1, kMemoryClock = 2;  // nvmlClockType_t

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

void ask_nvml(Machine& machine) {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  if (!library) return;
  auto* init = symbol<int()>(library, "nvmlInit_v2");
  auto* driver = symbol<int(char*, unsigned)>(library, "nvmlSystemGetDriverVersion");
  auto* device_of = symbol<int(unsigned, NvmlDevice*)>(library, "nvmlDeviceGetHandleByIndex_v2");
  auto* clock = symbol<int(NvmlDevice, int, unsigned*)>(library, "nvmlDeviceGetClockInfo");
  if (!init || !driver || !device_of || !clock || init() != 0) return;
  char text[96] = {};
  if (driver(text, sizeof(text)) == 0) machine.driver = text;
  NvmlDevice device = nullptr;
  if (device_of(0, &device) != 0) return;
  unsigned mhz = 0;
  if (clock(device, kSmClock, &mhz) == 0) machine.sm_clock_mhz = mhz;
  if (clock(device, kMemoryClock, &mhz) == 0) machine.memory_clock_mhz = mhz;
}

}  // namespace

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
  ask_nvml(machine);
  return machine;
}

double quantile(std::vector<double> samples, double p) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<std::size_t>(p * static_cast<double>(samples.size() - 1))];
}

}  // namespace stoat::gpu
