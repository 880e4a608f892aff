#include "gpu/bench/result_file.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/version.h"

namespace stoat::gpu {

namespace {

std::vector<double> rounded(std::vector<double> microseconds) {
  for (double& value : microseconds) value = std::round(value * 1000) / 1000;
  return microseconds;
}

nlohmann::json clocks(const Machine& machine) {
  return {{"sm_mhz", machine.sm_clock_mhz}, {"memory_mhz", machine.memory_clock_mhz}};
}

void close(std::ofstream& file, const std::string& path) {
  file.close();
  if (!file) throw resource_error({path}, "the file could not be written", "a writable place");
}

}  // namespace

nlohmann::json result_head(const std::string& command, const Machine& before,
                           const Machine& after) {
  return {{"format", "stoat-bench"},
          {"version", 2},
          {"tool_version", tool_version()},
          {"build_id", build_id()},
          {"kernel_hash", kernel_hash()},
          {"nvcc", STOAT_NVCC_VERSION},
          {"cuda_architectures", STOAT_CUDA_ARCHITECTURES},
          {"command", command},
          {"gpu", before.gpu},
          {"multiprocessors", before.multiprocessors},
          {"driver", before.driver},
          {"cuda_runtime", before.cuda_runtime},
          {"clocks_before", clocks(before)},
          {"clocks_after", clocks(after)}};
}

nlohmann::json timing_row(const BenchShape& shape, const BenchItem& item, const Timing& timing) {
  const std::vector<double> samples = rounded(timing.microseconds);
  return {{"kernel", item.name()},
          {"batch", shape.batch},
          {"context", shape.context},
          {"q_heads", shape.q_heads},
          {"kv_heads", shape.kv_heads},
          {"head_dim", shape.head_dim},
          {"element", "bf16"},
          {"score_splits", shape.score_splits},
          {"gather_splits", shape.gather_splits},
          {"kv_layout", shape.hnd ? "HND" : "NHD"},
          {"steps_per_graph", timing.steps},
          {"rotated_bytes", timing.rotated_bytes},
          {"must_read_bytes", must_read_bytes(shape, item)},
          {"sm_mhz", timing.sm_clock_mhz},
          {"p10_us", quantile(samples, 0.1)},
          {"median_us", quantile(samples, 0.5)},
          {"p90_us", quantile(samples, 0.9)},
          {"samples_us", samples}};
}

void write_json(const std::string& path, const nlohmann::json& head, const nlohmann::json& rows) {
  std::ofstream file(path);
  const std::string text = head.dump(1);
  file << text.substr(0, text.rfind('\n')) << ",\n \"rows\": [";
  for (std::size_t i = 0; i < rows.size(); ++i)
    file << (i == 0 ? "\n  " : ",\n  ") << rows[i].dump();
  file << "\n ]\n}\n";
  close(file, path);
}

void write_csv(const std::string& path, const nlohmann::json& rows,
               const std::vector<std::string>& columns) {
  std::ofstream file(path);
  for (std::size_t i = 0; i < columns.size(); ++i) file << (i == 0 ? "" : ",") << columns[i];
  file << '\n';
  for (const nlohmann::json& row : rows) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const nlohmann::json& cell = row.at(columns[i]);
      file << (i == 0 ? "" : ",") << (cell.is_string() ? cell.get<std::string>() : cell.dump());
    }
    file << '\n';
  }
  close(file, path);
}

}  // namespace stoat::gpu
