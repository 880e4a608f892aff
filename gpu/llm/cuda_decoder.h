// The GPU as a Decoder, for measuring: every sequence holds random rows instead of a prompt.
// make_cuda_decoder() is in gpu/decoder.h.
#pragma once

#include <cstdint>
#include <memory>

#include "gpu/decoder.h"

namespace stoat {

std::unique_ptr<Decoder> make_pretending_decoder(const CapturePlan& plan, ThreadPool& pool,
                                                 std::uint32_t rows);

}  // namespace stoat
