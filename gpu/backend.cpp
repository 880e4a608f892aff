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

constexpr const char* kUseCpu = "use --backend cpu, which gives the same rows";

// Why CUDA cannot decode here.
std::string cuda_obstacle() {
#if STOAT_HAS_CUDA
  const std::string missing = gpu::device_obstacle();
  return missing.empty() ? "the CUDA part of this version checks selection and does not decode yet"
                         : missing;
#else
  return "this build has no CUDA (configure with -DSTOAT_CUDA=ON and nvcc)";
#endif
}

}  // namespace

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

BackendChoice choose_backend(Backend wanted) {
  if (wanted == Backend::kCpu) return {"cpu", ""};
  const std::string obstacle = cuda_obstacle();
  if (wanted == Backend::kCuda) throw resource_error({"--backend cuda"}, obstacle, "", kUseCpu);
  return {"cpu", "backend cpu: " + obstacle};
}

}  // namespace stoat
