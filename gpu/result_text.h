// The result of a capture as a table for people and as JSON for programs; and the side file with
// times and host.
#pragma once

#include <string>

#include "gpu/capture.h"

namespace stoat {

std::string result_table(const CaptureResult& result);

// No times, no host: the same work gives the same bytes.
std::string result_json(const CaptureResult& result);

// FILE.run.json: the result, every step, options, times, host, threads.
std::string run_file_json(const CaptureResult& result, const CaptureOptions& options);

}  // namespace stoat
