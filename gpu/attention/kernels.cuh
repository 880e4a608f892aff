// Shared by the kernels of gpu/attention: where rows are, 16-byte loads, one tensor core
// instruction, programmatic dependent launch, and the table of instances. Device only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "gpu/attention/params.h"
#include "models/sampling/ruler.h"

namespace stoat::gpu {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr std::uint32_t kPartRows = kTileRows / kTileParts;
constexpr unsigned kAllLanes = 0xffffffffU;
constexpr std::int32_t kDamagedTile = 0x7fffffff;  // exponent of a tile with a NaN or infinity
constexpr float kScoreLimit = 1073741824.0F;       // 2^30, as encode_scores
constexpr float kInfinity = __builtin_huge_valf();

// The parts of the workspace; shapes: WorkspaceLayout.
struct Workspace {
  std::uint32_t* lut;
  std::uint32_t* counter;
  std::uint32_t* ready;
  std::uint32_t* seen;
  std::uint16_t* code;
  std::int32_t* exponent;
  std::uint64_t* mass;
  std::uint32_t* part;
  std::uint32_t* next_tile;
  float* partial;
  float* partial_max;
  float* partial_sum;
};

// What a kernel gets. What the score kernels need at once stands together: the first read of each
// 64 bytes takes long.
struct LaunchArguments {
  DecodeParams params;
  Workspace workspace;
  // Strides of K and V in elements; a contiguous sequence is one page.
  std::size_t row_stride;
  std::size_t page_stride;
  std::uint32_t page_shift;
  std::uint32_t tiles_capacity;  // tiles of max_context
  // Sequences whose codes have a place of their own (code_place()), a power of two; all of them in
  // a decode.
  std::uint32_t code_places;
  // The score kernel counts finished tiles in workspace.ready, and the gather waits for those: so
  // many sequences share a count (SignalGroup), a power of two; 0: it waits for the score kernel.
  std::uint32_t signal_group;
  // Node 2 has rows of splits.gather blocks. The first rows take a head a block, the others share
  // one head.
  std::uint32_t whole_heads;  // of the first rows; a multiple of splits.gather
  Splits splits;
};

using Kernel = void (*)(LaunchArguments);
// Instances for an element type and head_dim (64 or 128). several_tiles: the launch has more tiles
// than blocks.
Kernel score_kernel(ElementType element, std::uint32_t head_dim, bool several_tiles);
Kernel dense_kernel(ElementType element, std::uint32_t head_dim);
Kernel select_gather_kernel(const DecodeParams& params);
// Dynamic shared memory of the score and dense kernels (ring.cuh), and of select-gather.
std::size_t ring_bytes(std::uint32_t head_dim);
std::size_t key_ring_bytes(std::uint32_t head_dim);
std::size_t select_gather_shared_bytes(const DecodeParams& params, const Splits& splits);

template <template <class, int> class Instance>
Kernel instance(ElementType element, std::uint32_t head_dim) {
  if (element == ElementType::kBf16)
    return head_dim == 64 ? Instance<__nv_bfloat16, 64>::kernel()
                          : Instance<__nv_bfloat16, 128>::kernel();
  return head_dim == 64 ? Instance<__half, 64>::kernel() : Instance<__half, 128>::kernel();
}

#if defined(__CUDACC__)

// 0 for a length that is refused (status kBadContext).
__device__ inline std::uint32_t context_of(const DecodeParams& p, std::uint32_t sequence) {
  std::uint32_t context;
  if (p.page_size == 0) {
    context = p.context_len[sequence];
  } else {
    const std::int32_t pages = p.indptr[sequence + 1] - p.indptr[sequence];
    const std::int32_t last = p.last_page_len[sequence];
    if (pages <= 0 || last <= 0 || last > static_cast<std::int32_t>(p.page_size)) return 0;
    context =
        (static_cast<std::uint32_t>(pages) - 1) * p.page_size + static_cast<std::uint32_t>(last);
  }
  return context <= p.max_context ? context : 0;
}

// Rows of K or V of one KV head of one sequence. The strides stay in the kernel's arguments.
template <class Element>
struct RowAddress {
  const LaunchArguments& a;
  const Element* base;
  const std::int32_t* indices;  // null: contiguous

  __device__ RowAddress(const LaunchArguments& arguments, const void* tensor,
                        std::uint32_t sequence, std::uint32_t kv_head)
      : a(arguments) {
    move_to(tensor, sequence, kv_head);
  }
  __device__ __forceinline__ void move_to(const void* tensor, std::uint32_t sequence,
                                          std::uint32_t kv_head) {
    const DecodeParams& p = a.params;
    const std::size_t head_stride =
        p.kv_layout == KvLayout::kNhd
            ? p.head_dim
            : static_cast<std::size_t>(p.page_size == 0 ? p.kv_capacity : p.page_size) * p.head_dim;
    base = static_cast<const Element*>(tensor) + kv_head * head_stride;
    indices = nullptr;
    if (p.page_size == 0) {
      base += sequence * a.page_stride;
    } else {
      indices = p.indices + p.indptr[sequence];
    }
  }

  __device__ __forceinline__ const Element* row(std::uint32_t index) const {
    if (a.params.page_size == 0) return base + index * a.row_stride;
    const auto page = static_cast<std::size_t>(indices[index >> a.page_shift]);
    return base + page * a.page_stride + (index & (a.params.page_size - 1)) * a.row_stride;
  }
};

__device__ __forceinline__ std::uint32_t word(const uint4& value, int i) {
  return i == 0 ? value.x : i == 1 ? value.y : i == 2 ? value.z : value.w;
}

// c += a * b, m16n8k16, row-major a, column-major b, fp32 sums.
template <class Element>
__device__ __forceinline__ void mma(float (&c)[4], std::uint32_t a0, std::uint32_t a1,
                                    std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                                    std::uint32_t b1) {
  if constexpr (sizeof(Element) == 2 && std::is_same_v<Element, __nv_bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

template <class Element>
__device__ __forceinline__ float2 unpack(std::uint32_t pair) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U));
  } else {
    const auto low = static_cast<std::uint16_t>(pair),
               high = static_cast<std::uint16_t>(pair >> 16);
    return make_float2(__half2float(__ushort_as_half(low)), __half2float(__ushort_as_half(high)));
  }
}

template <class Element>
__device__ __forceinline__ Element narrow(float value) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>) {
    return __float2bfloat16(value);
  } else {
    return __float2half(value);
  }
}

template <class Element>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  const Element pair[2] = {narrow<Element>(low), narrow<Element>(high)};
  std::uint32_t bits;
  memcpy(&bits, pair, sizeof(bits));
  return bits;
}

template <class Element>
__device__ __forceinline__ void store_out(const DecodeParams& p, std::size_t index, float value) {
  if (p.out_is_float) {
    static_cast<float*>(p.out)[index] = value;
  } else {
    static_cast<Element*>(p.out)[index] = narrow<Element>(value);
  }
}

// A group's query as tensor core operand. A thread holds head lane/4, and of it the 16-byte pieces
// lane%4 + 4j. The sum over head_dim may run in any order, so K rows are loaded in the same pieces
// and no data is rearranged: step 2j + h multiplies elements 4h to 4h + 3 of the pieces.
template <class Element, int kHeadDim>
__device__ __forceinline__ void load_query(const DecodeParams& p, std::uint32_t sequence,
                                           std::uint32_t kv_head, uint4 (&q)[kHeadDim / 32]) {
  const std::uint32_t lane = threadIdx.x % 32, group = p.q_heads / p.kv_heads;
  const std::uint32_t head = lane / 4;
  const Element* row =
      static_cast<const Element*>(p.q) +
      (static_cast<std::size_t>(sequence) * p.q_heads + kv_head * group + head) * kHeadDim;
#pragma unroll
  for (int j = 0; j < kHeadDim / 32; ++j) {
    q[j] = head < group ? *reinterpret_cast<const uint4*>(row + 8 * (lane % 4 + 4 * j))
                        : make_uint4(0, 0, 0, 0);
  }
}

// The weight table to shared memory (aligned to 16 bytes). It never changes, so it may be read
// before the kernel before has finished.
__device__ __forceinline__ void load_lut(const Workspace& w, std::uint32_t* lut) {
#pragma unroll
  for (std::uint32_t i = threadIdx.x; i < kWeightLutSize / 4; i += kThreads)
    reinterpret_cast<uint4*>(lut)[i] = reinterpret_cast<const uint4*>(w.lut)[i];
}

// Policies of the L2: K and V are read once and leave first, so that what the kernels hand to each
// other stays.
__device__ __forceinline__ std::uint64_t evict_first() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ std::uint64_t evict_last() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Wait until the kernel before has finished and its writes are seen; let the next one start. Before
// Hopper kernels follow each other anyway.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// True in the last of `blocks` blocks that come here for this counter; it sees what the others
// wrote before. The counter returns to 0 by itself.
__device__ inline bool last_block(std::uint32_t* counter, std::uint32_t blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
  __syncthreads();
  __threadfence();
  return last;
}

#endif

}  // namespace stoat::gpu
