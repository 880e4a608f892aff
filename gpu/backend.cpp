// The choice of a backend. STOAT_HAS_CUDA is set by CMake where nvcc compiled
// gpu/attention/select_check.cu.
#include "gpu/backend.h"

#include <algorithm>

#include "models/error.h"
#if STOAT_HAS_CUDA
#include "gpu/attention/select_check.h"
#endif

namespace stoat {
namespace {

constexpr const char* kUseCpu = "use --backend cpu";

}  // namespace

std::string cuda_obstacle() {
#if STOAT_HAS_CUDA
  return gpu::device_obstacle();
#else
  return "this build has no CUDA (configure with -DSTOAT_CUDA=ON and nvcc)";
#endif
}

const std::vector<std::string>& backend_names() {
  static const std::vector<std::string> names{"auto", "cpu", "cuda"};
  return names;
}

Backend backend_from_name(std::string_view name) {
  const auto& names = backend_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw usage_error({"--backend"}, "unknown backend '" + std::string(name) + "'",
                      "auto, cpu or cuda", nearest_name_hint(name, names));
  }
  return static_cast<Backend>(found - names.begin());
}

BackendChoice choose_backend(Backend wanted, const std::string& refusal) {
  if (wanted == Backend::kCpu) return {"cpu", ""};
  const std::string obstacle = cuda_obstacle();
  if (wanted == Backend::kCuda) {
    if (!obstacle.empty()) throw resource_error({"--backend cuda"}, obstacle, "", kUseCpu);
    if (!refusal.empty()) throw usage_error({"--backend cuda"}, refusal, "", kUseCpu);
    return {"cuda", ""};
  }
  if (obstacle.empty() && refusal.empty()) return {"cuda", "backend cuda"};
  return {"cpu", "backend cpu: " + (obstacle.empty() ? refusal : obstacle)};
}

}  // namespace stoat
