// Kernels of select_check.h. A block walks the tiles of its head, leaves every row's ruler boundary
// in global memory, and then lets each thread look up where its points land.
#include <cuda_runtime.h>

#include <algorithm>

#include "gpu/attention/select_check.h"
#include "models/error.h"
#include "models/sampling/points.h"
#include "models/sampling/ruler.h"
#include "models/sampling/ternary.h"

namespace stoat::gpu {
namespace {

constexpr int kThreads = static_cast<int>(kTileRows);  // a thread is a row of the tile

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw resource_error({"CUDA"}, std::string(what) + ": " + cudaGetErrorString(status),
                       "a working device", "use the CPU backend");
}

// Device memory of n elements; [n].
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n) : size_(n) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(1, n) * sizeof(T)),
          "cudaMalloc");
  }
  explicit DeviceArray(std::span<const T> host) : DeviceArray(host.size()) {
    check(cudaMemcpy(data_, host.data(), host.size_bytes(), cudaMemcpyHostToDevice),
          "copy to the device");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() { return data_; }
  void clear() { check(cudaMemset(data_, 0, size_ * sizeof(T)), "cudaMemset"); }
  std::vector<T> to_host() const {
    std::vector<T> host(size_);
    check(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
          "copy from the device");
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

// Inclusive prefix sum over the block; every thread calls it.
__device__ std::uint64_t block_prefix_sum(std::uint64_t value, std::uint64_t* shared) {
  const int i = static_cast<int>(threadIdx.x);
  shared[i] = value;
  __syncthreads();
  for (int distance = 1; distance < kThreads; distance *= 2) {
    const std::uint64_t before = i >= distance ? shared[i - distance] : 0;
    __syncthreads();
    shared[i] += before;
    __syncthreads();
  }
  const std::uint64_t sum = shared[i];
  __syncthreads();
  return sum;
}

// Row boundaries of one head: row_end[i] = B of row i, inclusive. code, row_end: [context_len];
// exponent: [tiles]. Returns Z to every thread.
__device__ std::uint64_t build_ruler(const std::uint16_t* code, const std::int32_t* exponent,
                                     std::uint32_t context_len, const std::uint32_t* lut,
                                     std::uint64_t* row_end, std::uint64_t* shared) {
  const std::uint32_t tiles = (context_len + kTileRows - 1) / kTileRows;
  std::int32_t max_exponent = exponent[0];
  for (std::uint32_t t = 1; t < tiles; ++t) max_exponent = max(max_exponent, exponent[t]);
  std::uint64_t begin = 0;
  for (std::uint32_t t = 0; t < tiles; ++t) {
    const std::uint32_t row = t * kTileRows + threadIdx.x;
    const bool live = row < context_len && exponent[t] != kMaskedTile;
    const std::uint64_t sum = block_prefix_sum(live ? weight_of_code(code[row], lut) : 0, shared);
    const std::uint64_t boundary = begin + scaled_mass(sum, tile_shift(exponent[t], max_exponent));
    if (row < context_len) row_end[row] = boundary;
    if (threadIdx.x == kTileRows - 1) shared[0] = boundary;
    __syncthreads();
    begin = shared[0];
    __syncthreads();
  }
  return begin;
}

// The row that owns `point` of the ruler of length budget * Z: the first with point < budget *
// row_end.
__device__ std::uint32_t row_of_point(std::uint64_t point, std::uint32_t budget,
                                      const std::uint64_t* row_end, std::uint32_t context_len) {
  std::uint32_t low = 0, high = context_len - 1;
  while (low < high) {
    const std::uint32_t middle = (low + high) / 2;
    if (point < budget * row_end[middle]) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

struct SystematicSampler {
  __device__ SystematicPoints points(const DrawSite& site, std::uint64_t total,
                                     std::uint32_t) const {
    return systematic_points(site, total);
  }
};
struct StratifiedSampler {
  __device__ StratifiedPoints points(const DrawSite& site, std::uint64_t total,
                                     std::uint32_t) const {
    return StratifiedPoints{site, total};
  }
};
struct IidSampler {
  __device__ IidPoints points(const DrawSite& site, std::uint64_t total,
                              std::uint32_t budget) const {
    return IidPoints{site, total, budget};
  }
};

struct CountArguments {
  const std::uint16_t* code;     // [heads, context_len]
  const std::int32_t* exponent;  // [heads, tiles]
  const DrawSite* site;          // [heads]
  const std::uint32_t* lut;      // [kWeightLutSize]
  std::uint64_t* row_end;        // [heads, context_len]
  std::uint32_t* count;          // [heads, context_len], zero before
  std::uint32_t context_len;
  std::uint32_t budget;
};

// Grid: one block a head.
template <class Sampler>
__global__ void count_kernel(CountArguments a, Sampler sampler) {
  __shared__ std::uint64_t shared[kThreads];
  const std::size_t head = blockIdx.x;
  const std::size_t tiles = (a.context_len + kTileRows - 1) / kTileRows;
  std::uint64_t* row_end = a.row_end + head * a.context_len;
  const std::uint64_t total = build_ruler(a.code + head * a.context_len, a.exponent + head * tiles,
                                          a.context_len, a.lut, row_end, shared);
  const auto points = sampler.points(a.site[head], total, a.budget);
  for (std::uint32_t s = threadIdx.x; s < a.budget; s += kThreads) {
    const std::uint32_t row = row_of_point(points.point(s), a.budget, row_end, a.context_len);
    atomicAdd(a.count + head * a.context_len + row, 1U);
  }
}

// Grid: one block a (head, draw); a thread makes bytes of the mask.
__global__ void mask_kernel(const float* magnitude, const float* normaliser, const DrawSite* site,
                            std::uint32_t head_dim, std::uint32_t draws, std::uint8_t* mask) {
  const std::uint32_t head = blockIdx.x / draws;
  const std::uint32_t draw = blockIdx.x % draws;
  const std::uint32_t bytes = head_dim / 8;
  for (std::uint32_t byte = threadIdx.x; byte < bytes; byte += blockDim.x) {
    std::uint32_t bits = 0;
    for (std::uint32_t bit = 0; bit < 8; ++bit) {
      const std::uint32_t feature = byte * 8 + bit;
      const std::uint64_t threshold = ternary_threshold(
          magnitude[static_cast<std::size_t>(head) * head_dim + feature], normaliser[head]);
      if (ternary_uniform(site[head], draw, feature, head_dim) < threshold) bits |= 1U << bit;
    }
    mask[static_cast<std::size_t>(blockIdx.x) * bytes + byte] = static_cast<std::uint8_t>(bits);
  }
}

void finish_kernel(const char* what) {
  check(cudaGetLastError(), what);
  check(cudaDeviceSynchronize(), what);
}

}  // namespace

std::string device_obstacle() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess)
    return std::string("no CUDA device was found (") + cudaGetErrorString(status) + ")";
  return devices > 0 ? "" : "no CUDA device was found";
}

std::vector<std::uint32_t> device_counts(Method method, const DeviceScores& scores,
                                         std::uint32_t budget, std::span<const DrawSite> sites) {
  const std::size_t heads = sites.size();
  const std::size_t tiles = (scores.context_len + kTileRows - 1) / kTileRows;
  STOAT_ENSURE(heads > 0 && scores.context_len > 0 && budget > 0 && budget <= kMaxBudget,
               "something to draw");
  STOAT_ENSURE(
      scores.code.size() == heads * scores.context_len && scores.exponent.size() == heads * tiles,
      "codes of [heads, context_len], exponents of [heads, tiles]");
  DeviceArray<std::uint16_t> code(scores.code);
  DeviceArray<std::int32_t> exponent(scores.exponent);
  DeviceArray<DrawSite> site(sites);
  DeviceArray<std::uint32_t> lut(std::span<const std::uint32_t>(weight_lut(), kWeightLutSize));
  DeviceArray<std::uint64_t> row_end(scores.code.size());
  DeviceArray<std::uint32_t> count(scores.code.size());
  count.clear();
  const CountArguments arguments{code.get(),    exponent.get(), site.get(),         lut.get(),
                                 row_end.get(), count.get(),    scores.context_len, budget};
  const auto blocks = static_cast<unsigned>(heads);
  switch (method) {
    case Method::kSystematic:
    case Method::kProp:  // the same counts by definition
      count_kernel<<<blocks, kThreads>>>(arguments, SystematicSampler{});
      break;
    case Method::kStratified:
      count_kernel<<<blocks, kThreads>>>(arguments, StratifiedSampler{});
      break;
    case Method::kIid:
      count_kernel<<<blocks, kThreads>>>(arguments, IidSampler{});
      break;
    default:
      throw Bug("device_counts knows iid, strat, sys and prop");
  }
  finish_kernel("count_kernel");
  return count.to_host();
}

std::vector<std::uint8_t> device_ternary_masks(std::span<const float> magnitude,
                                               std::span<const float> normaliser,
                                               std::span<const DrawSite> sites,
                                               std::uint32_t head_dim, std::uint32_t draws) {
  const std::size_t heads = sites.size();
  STOAT_ENSURE(heads > 0 && head_dim % 8 == 0 && draws > 0 &&
                   magnitude.size() == heads * head_dim && normaliser.size() == heads,
               "magnitudes of [heads, head_dim], a normaliser a head");
  DeviceArray<float> device_magnitude(magnitude);
  DeviceArray<float> device_normaliser(normaliser);
  DeviceArray<DrawSite> site(sites);
  DeviceArray<std::uint8_t> mask(heads * draws * (head_dim / 8));
  mask_kernel<<<static_cast<unsigned>(heads * draws), 32>>>(
      device_magnitude.get(), device_normaliser.get(), site.get(), head_dim, draws, mask.get());
  finish_kernel("mask_kernel");
  return mask.to_host();
}

}  // namespace stoat::gpu
