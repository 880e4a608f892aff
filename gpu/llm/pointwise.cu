// What stands between the products: embedding, norms, rotary embedding with the write into the KV
// cache, activation; and the numbers of a random model.
#include <cmath>
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"
#include "gpu/llm/rotated_row.cuh"
#include "models/sampling/philox.h"

namespace stoat::gpu {
namespace {

using Bf16 = __nv_bfloat16;

dim3 blocks_for(std::uint64_t n) {
  return dim3(static_cast<unsigned>(std::min<std::uint64_t>((n + kThreads - 1) / kThreads, 4096)));
}

// Grid: [ceil(hidden / 256), rows]. Half a warp makes one sum of squares.
__global__ __launch_bounds__(kThreads) void embed(const std::int32_t* token, const Bf16* embedding,
                                                  const float* norm, float* x, Bf16* next,
                                                  float* square_sums, std::uint32_t hidden) {
  // Not before the wait: attention, two kernels on, reads lengths and page lists before its own.
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::uint32_t column = blockIdx.x * kThreads + threadIdx.x, row = blockIdx.y;
  float value = 0;
  if (column < hidden) {
    const std::size_t at = static_cast<std::size_t>(row) * hidden + column;
    value = __bfloat162float(embedding[static_cast<std::size_t>(token[row]) * hidden + column]);
    x[at] = value;
    if (next) next[at] = __float2bfloat16(value * norm[column]);
  }
  if (!square_sums) return;
  float square = value * value;
  for (int distance = 8; distance > 0; distance /= 2)
    square += __shfl_xor_sync(kAllLanes, square, distance);
  const std::uint32_t tiles = (hidden + kTileColumns - 1) / kTileColumns;
  if (threadIdx.x % kTileColumns == 0 && column < hidden)
    square_sums[row * tiles + column / kTileColumns] = square;
}

// A block is a row.
__global__ __launch_bounds__(kThreads) void rms_norm(const float* x, const float* norm, Bf16* next,
                                                     std::uint32_t width, float eps) {
  __shared__ float scratch[32];
  wait_for_previous_kernel();
  let_next_kernel_start();
  const float* row = x + static_cast<std::size_t>(blockIdx.x) * width;
  float square = 0;
  for (std::uint32_t c = threadIdx.x; c < width; c += kThreads) square += row[c] * row[c];
  const float scale = 1.0F / sqrtf(block_sum(square, scratch) / static_cast<float>(width) + eps);
  for (std::uint32_t c = threadIdx.x; c < width; c += kThreads)
    next[static_cast<std::size_t>(blockIdx.x) * width + c] =
        __float2bfloat16(row[c] * scale * norm[c]);
}

__global__ __launch_bounds__(kThreads) void add_bias(float* x, const float* bias, std::uint64_t n,
                                                     std::uint32_t columns) {
  wait_for_previous_kernel();
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < n;
       i += std::uint64_t{gridDim.x} * kThreads)
    x[i] += bias[i % columns];
}

// One thread makes 8 numbers of one row: 8 gates and 8 ups lie side by side.
__global__ __launch_bounds__(kThreads) void swiglu(const float4* gate_up, uint4* next,
                                                   std::uint64_t n) {
  wait_for_previous_kernel();
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < n;
       i += std::uint64_t{gridDim.x} * kThreads) {
    const float4 g[2] = {gate_up[4 * i], gate_up[4 * i + 1]};
    const float4 u[2] = {gate_up[4 * i + 2], gate_up[4 * i + 3]};
    const auto act = [](float gate, float up) { return gate / (1.0F + __expf(-gate)) * up; };
    next[i] = make_uint4(pack<Bf16>(act(g[0].x, u[0].x), act(g[0].y, u[0].y)),
                         pack<Bf16>(act(g[0].z, u[0].z), act(g[0].w, u[0].w)),
                         pack<Bf16>(act(g[1].x, u[1].x), act(g[1].y, u[1].y)),
                         pack<Bf16>(act(g[1].z, u[1].z), act(g[1].w, u[1].w)));
  }
}

// A warp is one head (of q, then of K, then of V) of one row. Lane j holds the pairs
// (j + 32 i, j + 32 i + half). Lengths, pages and tables are older than the kernel before, so all
// but the product is there when that one ends. The next kernel may start at once, since this one
// ends only after the one before: what it writes is waited for.
__global__ __launch_bounds__(kThreads) void rotate(const __grid_constant__ RotateParams p) {
  constexpr std::uint32_t kMostPairs = 4;  // head_dim up to 256
  let_next_kernel_start();
  const std::uint32_t lane = threadIdx.x % 32, half = p.head_dim / 2;
  const std::uint32_t heads = p.q_heads + 2 * p.kv_heads;
  const std::uint32_t head = blockIdx.x * kWarps + threadIdx.x / 32, row = blockIdx.y;
  if (head >= heads) return;
  const bool is_q = head < p.q_heads, is_v = head >= p.q_heads + p.kv_heads;
  const std::uint32_t position = p.context_len ? p.context_len[row] - 1 : p.start + row;
  const std::uint32_t sequence = p.context_len ? row : p.sequence;
  if (position >= p.capacity) {  // the host refuses it; never write past the cache
    wait_for_previous_kernel();
    return;
  }
  const RotatedRow to(p, row, head, sequence, position);
  const float2* table =
      reinterpret_cast<const float2*>(p.cos_sin) + static_cast<std::size_t>(position) * half;
  const float* norm = is_v ? nullptr : is_q ? p.q_norm : p.k_norm;
  float low[kMostPairs], high[kMostPairs], square = 0;
  float2 turn[kMostPairs], bias[kMostPairs], factor[kMostPairs];
#pragma unroll
  for (std::uint32_t i = 0; i < kMostPairs; ++i) {
    const std::uint32_t j = lane + 32 * i;
    turn[i] = make_float2(1, 0);
    bias[i] = make_float2(0, 0);
    factor[i] = make_float2(1, 1);
    if (j >= half) continue;
    if (!is_v) turn[i] = table[j];
    if (p.bias)
      bias[i] = make_float2(p.bias[head * p.head_dim + j], p.bias[head * p.head_dim + half + j]);
    if (norm) factor[i] = make_float2(norm[j], norm[half + j]);
  }
  wait_for_previous_kernel();
  const float* from = p.qkv + (static_cast<std::size_t>(row) * heads + head) * p.head_dim;
#pragma unroll
  for (std::uint32_t i = 0; i < kMostPairs; ++i) {
    const std::uint32_t j = lane + 32 * i;
    low[i] = high[i] = 0;
    if (j >= half) continue;
    low[i] = from[j] + bias[i].x;
    high[i] = from[half + j] + bias[i].y;
    square += low[i] * low[i] + high[i] * high[i];
  }
  if (norm) {
    for (int distance = 16; distance > 0; distance /= 2)
      square += __shfl_xor_sync(kAllLanes, square, distance);
    const float scale = 1.0F / sqrtf(square / static_cast<float>(p.head_dim) + p.norm_eps);
#pragma unroll
    for (std::uint32_t i = 0; i < kMostPairs; ++i) {
      low[i] *= scale * factor[i].x;
      high[i] *= scale * factor[i].y;
    }
  }
#pragma unroll
  for (std::uint32_t i = 0; i < kMostPairs; ++i) {
    const std::uint32_t j = lane + 32 * i;
    if (j >= half) continue;
    to.store(j, rotated(low[i], -high[i], turn[i]));
    to.store(half + j, rotated(high[i], low[i], turn[i]));
  }
}

// As models/llm/rope: the angle is the fp32 product, its sine is taken in double.
__global__ __launch_bounds__(kThreads) void rotary_table(const float* frequencies, float2* cos_sin,
                                                         std::uint64_t n, std::uint32_t half,
                                                         float scale) {
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < n;
       i += std::uint64_t{gridDim.x} * kThreads) {
    const float angle = __fmul_rn(static_cast<float>(i / half), frequencies[i % half]);
    double sine = 0, cosine = 0;
    sincos(static_cast<double>(angle), &sine, &cosine);
    cos_sin[i] = make_float2(__fmul_rn(static_cast<float>(cosine), scale),
                             __fmul_rn(static_cast<float>(sine), scale));
  }
}

// Box-Muller of Philox words; a pair a thread.
__global__ __launch_bounds__(kThreads) void fill_normal(Bf16* data, std::uint64_t pairs,
                                                        float spread, std::uint64_t key) {
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < pairs;
       i += std::uint64_t{gridDim.x} * kThreads) {
    const PhiloxBlock block =
        philox4x32_10({{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), 0, 0}},
                      static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32));
    const float u = (static_cast<float>(block.word[0] >> 8) + 1) / 16777216.0F;
    const float angle = static_cast<float>(block.word[1]) * (6.2831853F / 4294967296.0F);
    const float radius = spread * sqrtf(-2 * logf(u));
    data[2 * i] = __float2bfloat16(radius * cosf(angle));
    data[2 * i + 1] = __float2bfloat16(radius * sinf(angle));
  }
}

__global__ __launch_bounds__(kThreads) void fill(float* data, std::uint64_t n, float value) {
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < n;
       i += std::uint64_t{gridDim.x} * kThreads)
    data[i] = value;
}

__global__ __launch_bounds__(kThreads) void find_not_finite(const std::uint16_t* data,
                                                            std::uint64_t n, std::uint32_t* flag) {
  for (std::uint64_t i = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x; i < n;
       i += std::uint64_t{gridDim.x} * kThreads) {
    if ((data[i] & 0x7f80U) == 0x7f80U) *flag = 1;
  }
}

template <class T>
T* typed(void* pointer) {
  return static_cast<T*>(pointer);
}
template <class T>
const T* typed(const void* pointer) {
  return static_cast<const T*>(pointer);
}
cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }
void check_launch(const char* what) { check_cuda(cudaGetLastError(), what); }

}  // namespace

void launch_embed(const std::int32_t* token, const void* embedding, const float* norm, float* x,
                  void* next, float* square_sums, std::uint32_t rows, std::uint32_t hidden,
                  Stream stream) {
  launch_overlapped(embed, dim3((hidden + kThreads - 1) / kThreads, rows), dim3(kThreads), 0,
                    stream, token, typed<Bf16>(embedding), norm, x, typed<Bf16>(next), square_sums,
                    hidden);
}

void launch_rms_norm(const float* x, const float* norm, void* next, std::uint32_t rows,
                     std::uint32_t width, float eps, Stream stream) {
  launch_overlapped(rms_norm, dim3(rows), dim3(kThreads), 0, stream, x, norm, typed<Bf16>(next),
                    width, eps);
}

void launch_add_bias(float* x, const float* bias, std::uint32_t rows, std::uint32_t columns,
                     Stream stream) {
  const std::uint64_t n = std::uint64_t{rows} * columns;
  launch_overlapped(add_bias, blocks_for(n), dim3(kThreads), 0, stream, x, bias, n, columns);
}

void launch_swiglu(const float* gate_up, void* next, std::uint32_t rows, std::uint32_t width,
                   Stream stream) {
  const std::uint64_t n = std::uint64_t{rows} * width / 8;
  launch_overlapped(swiglu, blocks_for(n), dim3(kThreads), 0, stream,
                    reinterpret_cast<const float4*>(gate_up), typed<uint4>(next), n);
}

void launch_rotate(const RotateParams& params, Stream stream) {
  const std::uint32_t heads = params.q_heads + 2 * params.kv_heads;
  launch_overlapped(rotate, dim3((heads + kWarps - 1) / kWarps, params.rows), dim3(kThreads), 0,
                    stream, params);
}

void launch_rotary_table(const float* frequencies, float* cos_sin, std::uint32_t positions,
                         std::uint32_t half, float scale, Stream stream) {
  const std::uint64_t n = std::uint64_t{positions} * half;
  rotary_table<<<blocks_for(n), kThreads, 0, native(stream)>>>(
      frequencies, reinterpret_cast<float2*>(cos_sin), n, half, scale);
  check_launch("rotary table");
}

void launch_fill_normal(void* data, std::uint64_t n, float spread, std::uint64_t key,
                        Stream stream) {
  fill_normal<<<blocks_for(n / 2), kThreads, 0, native(stream)>>>(typed<Bf16>(data), n / 2, spread,
                                                                  key);
  check_launch("random weights");
}

void launch_fill(float* data, std::uint64_t n, float value, Stream stream) {
  fill<<<blocks_for(n), kThreads, 0, native(stream)>>>(data, n, value);
  check_launch("fill");
}

void launch_find_not_finite(const void* data, std::uint64_t n, std::uint32_t* flag, Stream stream) {
  find_not_finite<<<blocks_for(n), kThreads, 0, native(stream)>>>(typed<std::uint16_t>(data), n,
                                                                  flag);
  check_launch("check of the weights");
}

}  // namespace stoat::gpu
