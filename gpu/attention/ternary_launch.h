// Kernels that decode_launch.cu queues besides score, select-gather and dense: the ternary score
// and top-k. CUDA only.
#pragma once

#include <cstddef>

#include "gpu/attention/kernels.cuh"

namespace stoat::gpu {

// Grid [splits.score]; params.ternary.draws is not 0. beside: it leaves room for a block of
// select-gather beside two of its own.
Kernel ternary_score_kernel(const DecodeParams& params, bool beside);
std::size_t ternary_shared_bytes(const DecodeParams& params);

// Grid [splits.gather, batch * q_heads]; reads the codes as select-gather does.
Kernel select_topk_kernel(const DecodeParams& params);
std::size_t select_topk_shared_bytes(const DecodeParams& params);

}  // namespace stoat::gpu
