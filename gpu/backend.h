// Which backend decodes. In this version the CPU does; the CUDA part of the build checks selection
// only.
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

// kAuto falls back to the CPU and says why; kCuda throws Error (resource) where it cannot be had.
BackendChoice choose_backend(Backend wanted);

}  // namespace stoat
