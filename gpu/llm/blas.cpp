// The part of cuBLASLt's C interface that is used, declared here so that its header need not be
// installed. Handles are opaque; the numbers are those of library_types.h and cublasLt.h (stable
// since CUDA 11).
#include "gpu/llm/blas.h"

#include <dlfcn.h>
#include <glob.h>

#include <array>
#include <cstdlib>
#include <map>
#include <tuple>
#include <vector>

#include "models/error.h"

namespace stoat::gpu {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
constexpr int kBf16 = 14, kFp32 = 0, kCompute32F = 68;  // cudaDataType_t, cublasComputeType_t
constexpr int kTransposeA = 3, kMaxWorkspace = 1;       // cublasLt attributes
constexpr std::int32_t kTransposed = 1;                 // CUBLAS_OP_T
constexpr int kSuccess = 0;

struct Algorithm {
  std::uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  std::size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

using Handle = void*;
struct Functions {
  int (*create)(Handle*);
  int (*destroy)(Handle);
  int (*desc_create)(Handle*, int compute, int scale);
  int (*desc_destroy)(Handle);
  int (*desc_set)(Handle, int attribute, const void*, std::size_t);
  int (*layout_create)(Handle*, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t);
  int (*layout_destroy)(Handle);
  int (*preference_create)(Handle*);
  int (*preference_destroy)(Handle);
  int (*preference_set)(Handle, int attribute, const void*, std::size_t);
  int (*heuristic)(Handle, Handle desc, Handle a, Handle b, Handle c, Handle d, Handle preference,
                   int wanted, Heuristic*, int* found);
  int (*matmul)(Handle, Handle desc, const void* alpha, const void* a, Handle a_layout,
                const void* b, Handle b_layout, const void* beta, const void* c, Handle c_layout,
                void* d, Handle d_layout, const Algorithm*, void* workspace, std::size_t, Stream);
};

std::vector<std::string> candidates() {
  if (const char* given = std::getenv("STOAT_CUBLASLT"); given && *given) return {given};
  std::vector<std::string> files;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    files.emplace_back(name);
    const std::string file = name;
    for (const std::string folder :
         {"/usr/local/cuda/lib64", "/usr/local/cuda*/targets/*/lib", "/opt/cuda/lib64",
          "/usr/lib/x86_64-linux-gnu", "/opt/*/.venv/lib/python3*/site-packages/nvidia/*/lib",
          "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
          "/usr/lib/python3*/*-packages/nvidia/*/lib"}) {
      glob_t found{};
      if (::glob((folder + "/" + file).c_str(), 0, nullptr, &found) == 0) {
        for (std::size_t i = 0; i < found.gl_pathc; ++i) files.emplace_back(found.gl_pathv[i]);
      }
      ::globfree(&found);
    }
  }
  return files;
}

}  // namespace

struct Blas::State {
  // One product's shape, with its descriptors and the algorithm that the library prefers.
  struct Plan {
    Handle desc = nullptr, a = nullptr, b = nullptr, d = nullptr;
    Algorithm algorithm{};
  };

  void* library = nullptr;
  std::string file;
  Functions call{};
  Handle handle = nullptr;
  DeviceMemory workspace;
  std::map<std::tuple<std::size_t, std::size_t, std::size_t, bool>, Plan> plans;

  ~State() {
    for (auto& [key, plan] : plans) {
      call.layout_destroy(plan.a);
      call.layout_destroy(plan.b);
      call.layout_destroy(plan.d);
      call.desc_destroy(plan.desc);
    }
    if (handle) call.destroy(handle);  // the library stays loaded: its own threads may use it
  }

  void check(int status, const char* what) const {
    if (status == kSuccess) return;
    throw resource_error({"cuBLASLt"},
                         std::string(what) + " failed with status " + std::to_string(status), "",
                         "see " + file);
  }
  template <class F>
  void find(F& function, const char* name) {
    function = reinterpret_cast<F>(::dlsym(library, name));
    if (!function) throw resource_error({file}, std::string("has no ") + name, "cuBLASLt 12 or 13");
  }
  void open();
  Plan make_plan(std::size_t rows, std::size_t columns, std::size_t k);
};

void Blas::State::open() {
  std::string tried;
  for (const std::string& candidate : candidates()) {
    library = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library) {
      file = candidate;
      break;
    }
    const char* reason = ::dlerror();
    if (tried.size() < 600) tried += "\n  " + std::string(reason ? reason : candidate);
  }
  if (!library) {
    throw resource_error({"cuBLASLt"}, "libcublasLt.so.13 or .12 could not be loaded:" + tried,
                         "the cuBLAS library of CUDA 12 or 13",
                         "install it, or set STOAT_CUBLASLT to the file");
  }
  find(call.create, "cublasLtCreate");
  find(call.destroy, "cublasLtDestroy");
  find(call.desc_create, "cublasLtMatmulDescCreate");
  find(call.desc_destroy, "cublasLtMatmulDescDestroy");
  find(call.desc_set, "cublasLtMatmulDescSetAttribute");
  find(call.layout_create, "cublasLtMatrixLayoutCreate");
  find(call.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(call.preference_create, "cublasLtMatmulPreferenceCreate");
  find(call.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(call.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(call.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(call.matmul, "cublasLtMatmul");
  check(call.create(&handle), "cublasLtCreate");
  workspace = DeviceMemory(kWorkspaceBytes);
}

// cuBLAS counts columns first: y^T [columns, rows] = (w^T)^T x^T.
Blas::State::Plan Blas::State::make_plan(std::size_t rows, std::size_t columns, std::size_t k) {
  Plan plan;
  check(call.desc_create(&plan.desc, kCompute32F, kFp32), "descriptor");
  check(call.desc_set(plan.desc, kTransposeA, &kTransposed, sizeof(kTransposed)), "transpose");
  const auto wide = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  check(call.layout_create(&plan.a, kBf16, k, columns, wide(k)), "layout");
  check(call.layout_create(&plan.b, kBf16, k, rows, wide(k)), "layout");
  check(call.layout_create(&plan.d, kFp32, columns, rows, wide(columns)), "layout");
  Handle preference = nullptr;
  check(call.preference_create(&preference), "preference");
  check(call.preference_set(preference, kMaxWorkspace, &kWorkspaceBytes, sizeof(kWorkspaceBytes)),
        "preference");
  Heuristic best{};
  int found = 0;
  const int status = call.heuristic(handle, plan.desc, plan.a, plan.b, plan.d, plan.d, preference,
                                    1, &best, &found);
  call.preference_destroy(preference);
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  if (found == 0) check(-1, "no algorithm for this product;");
  plan.algorithm = best.algorithm;
  return plan;
}

Blas::Blas() : state_(std::make_unique<State>()) { state_->open(); }
Blas::~Blas() = default;
const std::string& Blas::library() const { return state_->file; }

void Blas::multiply(const void* x, const void* w, float* y, std::size_t rows, std::size_t columns,
                    std::size_t k, bool accumulate, Stream stream) {
  State& s = *state_;
  const auto key = std::make_tuple(rows, columns, k, accumulate);
  auto found = s.plans.find(key);
  if (found == s.plans.end()) found = s.plans.emplace(key, s.make_plan(rows, columns, k)).first;
  const State::Plan& plan = found->second;
  const float alpha = 1, beta = accumulate ? 1.0F : 0.0F;
  s.check(s.call.matmul(s.handle, plan.desc, &alpha, w, plan.a, x, plan.b, &beta, y, plan.d, y,
                        plan.d, &plan.algorithm, s.workspace.as<void>(), kWorkspaceBytes, stream),
          "cublasLtMatmul");
}

}  // namespace stoat::gpu
