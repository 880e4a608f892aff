// Runs a DecodeParams on the current CUDA device. A stream is passed as an opaque pointer
// (cudaStream_t), so that callers need no CUDA header.
//
// Dense is one kernel; a sampled method is two (score; select and gather), joined by programmatic
// dependent launch. No host work between them, nothing allocated: a launch can be captured into a
// graph.
#pragma once

#include <cstdint>

#include "gpu/attention/params.h"

namespace stoat::gpu {

using Stream = void*;  // cudaStream_t; null: the default stream

// Multiprocessors of the current device. Throws Error (resource) without one.
std::uint32_t device_multiprocessors();

// Fills params.workspace: the weight table, and counters of zero. Once, before the first launch.
void prepare_workspace(const DecodeParams& params, Stream stream);

// Queues the launch. Throws Error (usage) with refusal(params), or when workspace_size is too
// small; Error (resource) when CUDA fails.
void launch_decode(const DecodeParams& params, Stream stream);

// The first node of a sampled method alone: exponents and masses into the workspace, and with
// params.keep_codes the codes, which are undefined otherwise.
void launch_score(const DecodeParams& params, Stream stream);

}  // namespace stoat::gpu
