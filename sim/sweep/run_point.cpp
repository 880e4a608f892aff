// The worker's part, and its answer as JSON.
#include "sim/sweep/run_point.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "sim/engine/simulate.h"
#include "sim/sweep/results.h"

namespace stoat::sim {

std::string run_point(const PlannedPoint& point) {
  const PointSource& source = *point.source;
  const PointRecords records = make_records(source);
  SimulationInput input;
  input.point = *point.design;
  input.dram = *point.dram;
  input.header = source.header;
  input.datapath = point.datapath;
  input.end_step = static_cast<std::uint32_t>(records.steps.size());
  input.end_layer = source.layers;
  input.context_max = records.context_max;
  input.sequences = records.sequences;
  input.read_steps = [&records](std::uint32_t first, std::uint32_t count) {
    TraceRecords all;
    for (std::uint32_t i = first; i < first + count; ++i) append_steps(all, records.steps.at(i));
    return all;
  };
  nlohmann::json json;
  json["counts"] = to_json(simulate(input));
  json["error"] = {{"kind", records.error.kind},
                   {"records", records.error.records},
                   {"mean_square", records.error.mean_square},
                   {"standard_error", records.error.standard_error}};
  json["participation"] = records.participation;
  return json.dump();
}

PointResult read_point_result(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    PointResult result;
    result.counts = result_from_json(json.at("counts"));
    const auto& error = json.at("error");
    result.error.kind = error.at("kind").get<std::string>();
    result.error.records = error.at("records").get<std::uint64_t>();
    result.error.mean_square = error.at("mean_square").get<double>();
    result.error.standard_error = error.at("standard_error").get<double>();
    result.participation = json.at("participation").get<double>();
    return result;
  } catch (const nlohmann::json::exception& error) {
    throw damaged_error({}, std::string("a stored result that cannot be read: ") + error.what());
  }
}

}  // namespace stoat::sim
