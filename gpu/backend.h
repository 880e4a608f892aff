// Which backend decodes: the CPU, or a CUDA device for what its kernels can do.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace stoat {

enum class Backend { kAuto, kCpu, kCuda };

Backend backend_from_name(
    std::string_view name);  // auto cpu cuda; throws Error with the nearest name
const std::vector<std::string>& backend_names();

struct BackendChoice {
  std::string name;  // "cpu"
  std::string why;   // one line for auto; empty when it was asked for
};

// `refusal`: what of this capture the device cannot do, empty when all. kAuto falls back to the CPU
// and says why; kCuda throws Error: resource where there is no device, usage for the refusal.
BackendChoice choose_backend(Backend wanted, const std::string& refusal = {});

// Why CUDA cannot decode on this machine; empty when it can.
std::string cuda_obstacle();

}  // namespace stoat
