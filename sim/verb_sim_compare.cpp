// See verb_sim_compare.h. Reads what `stoat sim` wrote: summary.csv and manifest.json.
#include "sim/verb_sim_compare.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "models/error.h"
#include "models/files.h"
#include "models/table.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kMaxManifest = std::uint64_t{16} << 20;

struct Run {
  std::string folder, trace_hash;
  std::map<std::string, std::string> design;  // path -> value
  Table summary;
};

Run read_run(const std::string& folder) {
  const Place place{folder + "/manifest.json"};
  Run run{
      folder, {}, {}, Table::read(folder + "/summary.csv", {"datapath", "cycles", "energy_aJ"})};
  try {
    const Json manifest = Json::parse(read_file(place.file, kMaxManifest));
    run.trace_hash = manifest.at("trace").at("content_hash");
    std::istringstream lines(manifest.at("arch").at("text").get<std::string>());
    for (std::string line; std::getline(lines, line);) {
      const std::size_t colon = line.find(": ");
      if (colon != std::string::npos) run.design[line.substr(0, colon)] = line.substr(colon + 2);
    }
  } catch (const Json::exception&) {
    throw damaged_error(place, "not the manifest of a run", "a folder that stoat sim wrote",
                        "stoat sim ARCH TRACE -o " + folder);
  }
  return run;
}

struct Quantity {
  const char* column;
  const char* name;
  double scale;
  const char* unit;
};
constexpr Quantity kQuantities[] = {
    {"cycles", "cycles", 1, ""},
    {"ps_per_step", "time a step", 1e-6, "us"},
    {"energy_per_step_aJ", "energy a step", 1e-12, "uJ"},
    {"score_energy_aJ", "  score", 1e-12, "uJ"},
    {"select_energy_aJ", "  select", 1e-12, "uJ"},
    {"gather_energy_aJ", "  gather", 1e-12, "uJ"},
    {"append_energy_aJ", "  append", 1e-12, "uJ"},
    {"dram_energy_aJ", "  of it DRAM", 1e-12, "uJ"},
    {"requested_bytes", "bytes requested", 1, "B"},
    {"moved_bytes", "bytes moved", 1, "B"},
    {"activates", "row activations", 1, ""},
    {"row_hit_percent", "row-hit rate", 1, "%"},
    {"bandwidth_percent", "bandwidth", 1, "%"},
};

std::string ratio_text(double a, double b) {
  if (a == b) return "equal";
  return a == 0 ? "-" : fmt::format("{:.4f}", b / a);
}

}  // namespace

std::string compare_results(const std::string& folder_a, const std::string& folder_b, bool json) {
  const Run a = read_run(folder_a), b = read_run(folder_b);
  Json out = {{"a", folder_a}, {"b", folder_b}, {"same_trace", a.trace_hash == b.trace_hash}};
  std::string text =
      fmt::format("A = {}, B = {}{}\n", folder_a, folder_b,
                  a.trace_hash == b.trace_hash ? ", the same trace" : ": TWO DIFFERENT TRACES");
  out["design"] = Json::array();
  for (const auto& [path, value] : a.design) {
    const auto other = b.design.find(path);
    if (other == b.design.end() || other->second == value) continue;
    text += fmt::format("  {}: {} -> {}\n", path, value, other->second);
    out["design"].push_back({{"path", path}, {"a", value}, {"b", other->second}});
  }
  if (out["design"].empty()) text += "  The designs are equal.\n";
  for (std::size_t i = 0; i < a.summary.size(); ++i) {
    const std::string& name = a.summary.text(i, "datapath");
    std::size_t j = 0;
    while (j < b.summary.size() && b.summary.text(j, "datapath") != name) ++j;
    if (j == b.summary.size()) continue;
    text += fmt::format("{:<18}  {:>16}  {:>16}  {:>8}\n", name, "A", "B", "B / A");
    Json rows = Json::array();
    for (const Quantity& each : kQuantities) {
      if (!a.summary.has_column(each.column) || !b.summary.has_column(each.column)) continue;
      const double x = a.summary.number(i, each.column), y = b.summary.number(j, each.column);
      text += fmt::format("{:<18}  {:>16.6g}  {:>16.6g}  {:>8}  {}\n", each.name, x * each.scale,
                          y * each.scale, ratio_text(x, y), each.unit);
      rows.push_back({{"quantity", each.column},
                      {"a", a.summary.text(i, each.column)},
                      {"b", b.summary.text(j, each.column)}});
    }
    out["datapaths"].push_back({{"datapath", name}, {"quantities", std::move(rows)}});
  }
  if (!out.contains("datapaths")) {
    throw usage_error({}, folder_a + " and " + folder_b + " have no datapath in common",
                      "runs of the same datapaths", "stoat sim ARCH TRACE -d NAME");
  }
  return json ? out.dump(2) + "\n" : text;
}

}  // namespace stoat::sim
