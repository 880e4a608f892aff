#include "gpu/attention/kv_append.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>

#include "models/error.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kThreads = 256;
constexpr std::uint32_t kChunk = 64;  // rows that a block transposes
constexpr std::uint32_t kMaxHeadDim = 256;

// Length of a sequence; 0 when the table of pages contradicts itself.
__device__ std::uint32_t length_of(const KvAppendParams& p, std::uint32_t sequence) {
  if (p.page_size == 0) return p.context_len[sequence];
  const std::int32_t pages = p.indptr[sequence + 1] - p.indptr[sequence];
  const std::int32_t last = p.last_page_len[sequence];
  if (pages <= 0 || last <= 0 || last > static_cast<std::int32_t>(p.page_size)) return 0;
  return (static_cast<std::uint32_t>(pages) - 1) * p.page_size + static_cast<std::uint32_t>(last);
}

// Where a row lies: its page (a contiguous sequence is one) and its place there.
struct Place {
  std::size_t page;
  std::uint32_t row;
};
__device__ Place place_of(const KvAppendParams& p, std::uint32_t sequence, std::uint32_t row) {
  if (p.page_size == 0) return {sequence, row};
  const std::int32_t page =
      p.indices[p.indptr[sequence] + static_cast<std::int32_t>(row / p.page_size)];
  return {static_cast<std::size_t>(page), row % p.page_size};
}

// Element 0 of a row in k or v.
__device__ std::size_t row_offset(const KvAppendParams& p, const Place& place, std::uint32_t head) {
  const std::size_t rows = p.page_size == 0 ? p.kv_capacity : p.page_size;
  const std::size_t slot = p.kv_layout == KvLayout::kNhd
                               ? (place.page * rows + place.row) * p.kv_heads + head
                               : (place.page * p.kv_heads + head) * rows + place.row;
  return slot * p.head_dim;
}

// Feature d of a row in k_features.
__device__ std::size_t feature_offset(const KvAppendParams& p, const Place& place,
                                      std::uint32_t head, std::uint32_t d) {
  const std::size_t rows = p.page_size == 0 ? p.feature_capacity : p.page_size;
  return ((place.page * p.kv_heads + head) * p.head_dim + d) * rows + place.row;
}

// Grid: [ceil(kv_heads * head_dim / 8 / threads), batch * tokens]; a thread takes 8 features.
__global__ void append(const __grid_constant__ KvAppendParams p) {
  const std::uint32_t piece = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t sequence = blockIdx.y / p.tokens, token = blockIdx.y % p.tokens;
  const std::uint32_t context = length_of(p, sequence);
  if (8 * piece >= p.kv_heads * p.head_dim || context < p.tokens) return;
  const std::uint32_t head = 8 * piece / p.head_dim, d = 8 * piece % p.head_dim;
  const std::uint32_t row = context - p.tokens + token;
  if (p.page_size == 0 && row >= p.kv_capacity) return;
  const Place place = place_of(p, sequence, row);
  const std::size_t from = blockIdx.y * p.new_stride + 8 * std::size_t{piece};
  const std::size_t to = row_offset(p, place, head) + d;
  const uint4 k =
      *reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(p.k_new) + from);
  const uint4 v =
      *reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(p.v_new) + from);
  *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(p.k) + to) = k;
  *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(p.v) + to) = v;
  if (!p.k_features || (p.page_size == 0 && row >= p.feature_capacity)) return;
  const std::uint32_t words[4] = {k.x, k.y, k.z, k.w};
  auto* features = static_cast<std::uint16_t*>(p.k_features);
#pragma unroll
  for (std::uint32_t i = 0; i < 8; ++i) {
    features[feature_offset(p, place, head, d + i)] =
        static_cast<std::uint16_t>(words[i / 2] >> (16 * (i % 2)));
  }
}

// Grid: [chunks, batch * kv_heads]; a block takes 64 rows of a KV head through shared memory.
__global__ void transpose(const __grid_constant__ KvAppendParams p) {
  __shared__ std::uint16_t tile[kChunk][kMaxHeadDim + 2];  // without bank conflicts along a column
  const std::uint32_t sequence = blockIdx.y / p.kv_heads, head = blockIdx.y % p.kv_heads;
  const std::uint32_t context = length_of(p, sequence);
  if (p.page_size == 0 && (context > p.kv_capacity || context > p.feature_capacity)) return;
  const std::uint32_t fresh = min(p.tokens, context);
  const std::uint32_t first = ((context - fresh) / kChunk + blockIdx.x) * kChunk;
  if (first >= context) return;
  const std::uint32_t rows = min(kChunk, context - first);
  const std::uint32_t pieces = p.head_dim / 8;
  for (std::uint32_t i = threadIdx.x; i < kChunk * pieces; i += kThreads) {
    const std::uint32_t row = i / pieces, d = i % pieces * 8;
    uint4 k = make_uint4(0, 0, 0, 0);
    if (row < rows) {
      const std::size_t from = row_offset(p, place_of(p, sequence, first + row), head) + d;
      k = *reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(p.k) + from);
    }
    const std::uint32_t words[4] = {k.x, k.y, k.z, k.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) *reinterpret_cast<std::uint32_t*>(&tile[row][d + 2 * w]) = words[w];
  }
  __syncthreads();
  for (std::uint32_t i = threadIdx.x; i < kChunk / 8 * p.head_dim; i += kThreads) {
    const std::uint32_t d = i / (kChunk / 8), row = i % (kChunk / 8) * 8;
    if (row >= rows) continue;
    std::uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w)
      words[w] = tile[row + 2 * w][d] | static_cast<std::uint32_t>(tile[row + 2 * w + 1][d]) << 16;
    const Place place = place_of(p, sequence, first + row);
    *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(p.k_features) +
                              feature_offset(p, place, head, d)) =
        make_uint4(words[0], words[1], words[2], words[3]);
  }
}

std::string cache_refusal(const KvAppendParams& p) {
  if (p.batch < 1 || p.batch > kMaxBatch || p.kv_heads == 0 || p.tokens == 0)
    return "expected a batch of 1 to 256, and at least one KV head and token";
  if (p.head_dim == 0 || p.head_dim % 8 != 0 || p.head_dim > kMaxHeadDim)
    return "head_dim is " + std::to_string(p.head_dim) + "; expected a multiple of 8 up to 256";
  if (p.page_size == 0 ? !p.context_len : !p.indptr || !p.indices || !p.last_page_len)
    return "expected context_len, or with pages indptr, indices and last_page_len";
  if (p.page_size != 0 && !std::has_single_bit(p.page_size))
    return "page_size is " + std::to_string(p.page_size) + "; expected a power of two";
  if (p.k_features && p.page_size != 0 && p.page_size < kMinFeaturePage)
    return "pages of " + std::to_string(p.page_size) +
           " rows; the feature-major copy of K needs pages of at least 64";
  if (p.k_features && p.page_size == 0 && (p.feature_capacity == 0 || p.feature_capacity % 8 != 0))
    return "feature_capacity is " + std::to_string(p.feature_capacity) +
           "; expected a multiple of 8";
  for (const void* pointer :
       {p.k_new, p.v_new, const_cast<const void*>(p.k), const_cast<const void*>(p.v),
        const_cast<const void*>(p.k_features)}) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0)
      return "k_new, v_new, k, v and k_features must be aligned to 16 bytes";
  }
  return "";
}

void check_launch(const char* what) {
  const cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess) return;
  throw resource_error({"CUDA"}, std::string(what) + ": " + cudaGetErrorString(status),
                       "a working device", "use the CPU backend");
}

}  // namespace

std::string append_refusal(const KvAppendParams& p) {
  if (std::string why = cache_refusal(p); !why.empty()) return why;
  if (!p.k_new || !p.v_new || !p.k || !p.v) return "k_new, v_new, k and v must not be null";
  if (p.new_stride % 8 != 0) return "new_stride must be a multiple of 8 elements";
  if (p.batch * p.tokens > 65535) return "batch * tokens of at most 65535 a launch";
  return "";
}

std::string transpose_refusal(const KvAppendParams& p) {
  if (std::string why = cache_refusal(p); !why.empty()) return why;
  if (!p.k || !p.k_features) return "k and k_features must not be null";
  if (p.batch * p.kv_heads > 65535) return "batch * kv_heads of at most 65535";
  return "";
}

void launch_append(const KvAppendParams& params, Stream stream) {
  if (std::string why = append_refusal(params); !why.empty())
    throw usage_error({"GPU cache append"}, why);
  KvAppendParams p = params;
  if (p.new_stride == 0) p.new_stride = std::size_t{p.kv_heads} * p.head_dim;
  const std::uint32_t pieces = p.kv_heads * p.head_dim / 8;
  const std::uint32_t threads = std::min(kThreads, (pieces + 31) / 32 * 32);
  append<<<dim3((pieces + threads - 1) / threads, p.batch * p.tokens), threads, 0,
           static_cast<cudaStream_t>(stream)>>>(p);
  check_launch("append");
}

void launch_transpose(const KvAppendParams& params, Stream stream) {
  if (std::string why = transpose_refusal(params); !why.empty())
    throw usage_error({"GPU cache transposition"}, why);
  transpose<<<dim3(params.tokens / kChunk + 2, params.batch * params.kv_heads), kThreads, 0,
              static_cast<cudaStream_t>(stream)>>>(params);
  check_launch("transpose");
}

}  // namespace stoat::gpu
