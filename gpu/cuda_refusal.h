// What the CUDA backend cannot do of a capture, known without a device; and models of any shape
// with random weights.
#pragma once

#include <cstdint>
#include <string>

#include "gpu/cpu_attention.h"
#include "models/llm/config.h"
#include "traces/shapes.h"

namespace stoat {

struct CudaWork {
  std::uint32_t largest_context = 0, sequences = 1;
  std::uint32_t page_size = 0;  // 0: contiguous
};
// One line with the reason; empty when the device can do all of it.
std::string cuda_refusal(const ModelConfig& config, const RecordingOptions& recording,
                         const CudaWork& work);

// A name of models/llm/shapes.csv, or a table of that form with one row. Throws Error.
ModelShape shape_from(const std::string& name_or_file);
// A configuration with that shape: llama, qwen2 with biases, qwen3 with norms of q and k.
ModelConfig config_of_shape(const ModelShape& shape);

}  // namespace stoat
