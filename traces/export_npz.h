// Records for numpy: every dataset as DATASET.npy in a zip without compression.
#pragma once

#include <cstdint>

#include "traces/output_file.h"
#include "traces/reader.h"

namespace stoat {

// The chosen steps are read at once. Throws Error (resource) beyond the 4 GiB of a plain zip.
void write_npz(const TraceReader& reader, std::uint32_t first, std::uint32_t steps,
               OutputFile& out);

}  // namespace stoat
