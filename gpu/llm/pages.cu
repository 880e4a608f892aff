// Paged caches: the lists of gpu/attention from fixed page tables and the lengths of now, and a
// sequence's rows side by side for the prefill's attention.
#include <cstdint>

#include "gpu/llm/kernels.h"
#include "gpu/llm/launch.cuh"

namespace stoat::gpu {
namespace {

// Grid: [chunks, batch]. Lists follow each other without gaps: each block adds up the lengths of
// the sequences before its own.
__global__ __launch_bounds__(kThreads) void page_lists(const __grid_constant__ PageListParams p) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::uint32_t sequence = blockIdx.y, page_size = 1U << p.page_shift;
  std::uint32_t first = 0;
  for (std::uint32_t s = 0; s < sequence; ++s)
    first += (p.context_len[s] + page_size - 1) >> p.page_shift;
  const std::uint32_t context = p.context_len[sequence];
  const std::uint32_t pages = (context + page_size - 1) >> p.page_shift;
  const std::int32_t* from =
      p.pages + static_cast<std::size_t>(sequence) * (p.capacity >> p.page_shift);
  for (std::uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < pages; i += gridDim.x * kThreads)
    p.indices[first + i] = from[i];
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  p.indptr[sequence] = static_cast<std::int32_t>(first);
  if (sequence + 1 == p.batch) p.indptr[p.batch] = static_cast<std::int32_t>(first + pages);
  p.last_page_len[sequence] =
      static_cast<std::int32_t>(context - (pages == 0 ? 0 : (pages - 1) << p.page_shift));
}

// Grid: [blocks, kv_heads]; a thread copies 8 elements.
__global__ __launch_bounds__(kThreads) void gather_pages(const uint4* from, uint4* to,
                                                         const std::int32_t* pages,
                                                         std::uint32_t page_shift,
                                                         std::uint32_t rows, std::uint32_t pieces,
                                                         std::uint32_t to_capacity) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::uint32_t head = blockIdx.y, page_size = 1U << page_shift;
  for (std::uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < rows * pieces;
       i += gridDim.x * kThreads) {
    const std::uint32_t row = i / pieces, piece = i % pieces;
    const auto page = static_cast<std::size_t>(pages[row >> page_shift]);
    to[(static_cast<std::size_t>(head) * to_capacity + row) * pieces + piece] =
        from[((page * gridDim.y + head) * page_size + (row & (page_size - 1))) * pieces + piece];
  }
}

}  // namespace

void launch_page_lists(const PageListParams& params, Stream stream) {
  const std::uint32_t pages = params.capacity >> params.page_shift;
  const std::uint32_t blocks = std::min((pages + kThreads - 1) / kThreads, 32U);
  launch_overlapped(page_lists, dim3(blocks, params.batch), dim3(kThreads), 0, stream, params);
}

void launch_gather_pages(const void* from, void* to, const std::int32_t* pages,
                         std::uint32_t page_shift, std::uint32_t rows, std::uint32_t kv_heads,
                         std::uint32_t head_dim, std::uint32_t to_capacity, Stream stream) {
  const std::uint32_t pieces = head_dim / 8;
  const std::uint32_t blocks = std::min((rows * pieces + kThreads - 1) / kThreads, 1024U);
  launch_overlapped(gather_pages, dim3(blocks, kv_heads), dim3(kThreads), 0, stream,
                    static_cast<const uint4*>(from), static_cast<uint4*>(to), pages, page_shift,
                    rows, pieces, to_capacity);
}

}  // namespace stoat::gpu
