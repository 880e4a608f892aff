// What stoat-bench writes: JSON with every sample, one row a line (the file is committed, and read
// by people too), and CSV with the percentiles.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "gpu/bench/measure.h"

namespace stoat::gpu {

// Format, command, program, machine, kernels: what stands above the rows.
nlohmann::json result_head(const std::string& command, const Machine& before, const Machine& after);

// One timed item: shape, samples to a nanosecond (finer than the timer is), percentiles of these.
nlohmann::json timing_row(const BenchShape& shape, const BenchItem& item, const Timing& timing);

// Throws Error (resource) when the file cannot be written.
void write_json(const std::string& path, const nlohmann::json& head, const nlohmann::json& rows);
// Columns as named, in every row.
void write_csv(const std::string& path, const nlohmann::json& rows,
               const std::vector<std::string>& columns);

}  // namespace stoat::gpu
