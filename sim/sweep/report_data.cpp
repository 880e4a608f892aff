// Reading result directories for the report. See report_data.h.
#include "sim/sweep/report_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "models/error.h"
#include "models/table.h"
#include "sim/sweep/report_manifest.h"

namespace stoat::sim {
namespace {

namespace fs = std::filesystem;

constexpr double kAttojoule = 1e-18;
constexpr double kPicosecond = 1e-12;

std::string last_part(const fs::path& path) {
  fs::path whole = path.lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  if (whole.empty() || whole == "." || whole.filename() == "..")
    whole = fs::absolute(path).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  return whole.filename().string();
}

bool there_is(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// DIR itself when it holds a summary.csv, else its folders that do, by name.
std::vector<fs::path> result_folders(const std::string& path) {
  std::error_code failure;
  if (!fs::is_directory(path, failure)) {
    throw usage_error({path}, there_is(path) ? "not a folder" : "no such folder",
                      "a result directory of `stoat sim`");
  }
  if (there_is(fs::path(path) / "summary.csv")) return {path};
  // Folders in it, and those of its folder results/ (where the demo puts them).
  std::vector<fs::path> found;
  for (const fs::path& place : {fs::path(path), fs::path(path) / "results"}) {
    if (!fs::is_directory(place, failure)) continue;
    for (const auto& entry : fs::directory_iterator(place, failure)) {
      if (entry.is_directory(failure) && there_is(entry.path() / "summary.csv"))
        found.push_back(entry.path());
    }
  }
  if (found.empty()) {
    throw usage_error({path}, "no summary.csv in it, in its folders or in those of results/",
                      "a result directory of `stoat sim`",
                      "run `stoat sim ARCH TRACE -o " + path + "` first");
  }
  std::sort(found.begin(), found.end());
  return found;
}

Uint128 whole_number(const Table& table, std::size_t row, const char* column) {
  const std::string& text = table.text(row, column);
  Uint128 value = 0;
  bool good = !text.empty() && text.size() <= 38;
  for (const char c : text) {
    good = good && c >= '0' && c <= '9';
    if (good) value = value * 10 + static_cast<Uint128>(c - '0');
  }
  if (!good) {
    throw damaged_error(table.place(row), "'" + text + "' in column " + column, "a whole number",
                        "run `stoat sim` again");
  }
  return value;
}

double number_or_zero(const Table& table, std::size_t row, const char* column) {
  return table.text(row, column).empty() ? 0.0 : table.number(row, column);
}

const std::vector<std::string>& summary_columns() {
  static const std::vector<std::string> columns = {"datapath",
                                                   "method",
                                                   "budget",
                                                   "score_kind",
                                                   "model",
                                                   "dram",
                                                   "price_list",
                                                   "steps",
                                                   "context_max",
                                                   "time_ps",
                                                   "energy_aJ",
                                                   "row_hit_percent",
                                                   "activates",
                                                   "read_bursts",
                                                   "write_bursts",
                                                   "logical_bytes",
                                                   "requested_bytes",
                                                   "moved_bytes",
                                                   "dense_kv_bytes",
                                                   "weight_bytes_per_token",
                                                   "achieved_bytes_per_second",
                                                   "peak_bytes_per_second",
                                                   "dram_energy_boundary"};
  return columns;
}

ReportDatapath read_summary_row(const Table& table, std::size_t row) {
  ReportDatapath d;
  d.datapath = d.label = table.text(row, "datapath");
  d.method = table.text(row, "method");
  d.budget = table.text(row, "budget");
  d.score_kind = table.text(row, "score_kind");
  d.model = table.text(row, "model");
  d.dram = table.text(row, "dram");
  d.price_list = table.text(row, "price_list");
  d.dram_boundary = table.text(row, "dram_energy_boundary");
  d.steps = static_cast<double>(table.integer(row, "steps"));
  if (d.steps == 0) {
    throw damaged_error(table.place(row), "0 steps", "at least one decode step",
                        "simulate a trace with records");
  }
  d.context_max = table.number(row, "context_max");
  d.time_per_step = table.number(row, "time_ps") * kPicosecond / d.steps;
  d.energy_per_step =
      static_cast<double>(whole_number(table, row, "energy_aJ")) * kAttojoule / d.steps;
  d.achieved_bandwidth = number_or_zero(table, row, "achieved_bytes_per_second");
  d.peak_bandwidth = number_or_zero(table, row, "peak_bytes_per_second");
  d.row_hit_share = number_or_zero(table, row, "row_hit_percent") / 100;
  d.activates = table.number(row, "activates");
  d.bursts = table.number(row, "read_bursts") + table.number(row, "write_bursts");
  d.dense_kv_bytes = number_or_zero(table, row, "dense_kv_bytes");
  d.weight_bytes = number_or_zero(table, row, "weight_bytes_per_token");
  const std::pair<const char*, const char*> remarks[] = {
      {"touched_features_per_head", "key features touched, a head"},
      {"touched_features_per_group", "key features touched, a KV group"},
      {"multiplications_per_key", "multiplications a key"},
      {"key_rows_distinct", ""}};
  for (const auto& [column, text] : remarks) {
    if (*text == '\0' || !table.has_column(column) || table.text(row, column).empty()) continue;
    d.remarks.emplace_back(text, table.text(row, column));
  }
  return d;
}

ReportDatapath& find_datapath(std::vector<ReportDatapath>& all, const Table& table,
                              std::size_t row) {
  const std::string& name = table.text(row, "datapath");
  for (ReportDatapath& d : all) {
    if (d.datapath == name) return d;
  }
  throw damaged_error(table.place(row), "datapath '" + name + "' is not in summary.csv",
                      "files of one and the same run", "run `stoat sim` again");
}

void read_energy(const std::string& folder, std::vector<ReportDatapath>& all,
                 const Table& summary) {
  const Table table =
      Table::read(folder + "/energy.csv",
                  {"datapath", "stage", "component", "event", "count", "price_aJ", "energy_aJ"});
  for (std::size_t r = 0; r < table.size(); ++r) {
    EnergyRow row;
    row.stage = table.text(r, "stage");
    row.component = table.text(r, "component");
    row.event = table.text(r, "event");
    row.count = whole_number(table, r, "count");
    row.price = whole_number(table, r, "price_aJ");
    row.energy = whole_number(table, r, "energy_aJ");
    find_datapath(all, table, r).energy.push_back(std::move(row));
  }
  for (std::size_t r = 0; r < summary.size(); ++r) {
    Uint128 sum = 0;
    for (const EnergyRow& row : all[r].energy) sum += row.energy;
    const Uint128 stated = whole_number(summary, r, "energy_aJ");
    if (sum != stated) {
      throw damaged_error(
          summary.place(r),
          fmt::format("energy_aJ is {} but the parts in energy.csv sum to {}",
                      to_string(static_cast<Int128>(stated)), to_string(static_cast<Int128>(sum))),
          "parts that sum to the total", "run `stoat sim` again");
    }
  }
}

void read_traffic(const std::string& folder, std::vector<ReportDatapath>& all) {
  const Table table = Table::read(folder + "/traffic.csv",
                                  {"datapath", "part", "logical_rows", "distinct_rows",
                                   "logical_bytes", "requested_bytes", "moved_bytes", "bursts"});
  for (std::size_t r = 0; r < table.size(); ++r) {
    TrafficRow row;
    row.part = table.text(r, "part");
    row.logical_rows = table.number(r, "logical_rows");
    row.distinct_rows = table.number(r, "distinct_rows");
    row.logical_bytes = table.number(r, "logical_bytes");
    row.requested_bytes = table.number(r, "requested_bytes");
    row.moved_bytes = table.number(r, "moved_bytes");
    row.bursts = table.number(r, "bursts");
    find_datapath(all, table, r).traffic.push_back(std::move(row));
  }
}

bool manifest_names(const ReportRun& run, const std::string& hash) {
  return std::any_of(run.manifest.entries.begin(), run.manifest.entries.end(),
                     [&](const auto& entry) { return entry.second == hash; });
}

void read_run(const fs::path& folder, ReportData& data) {
  const std::string path = folder.string();
  ReportRun run;
  run.name = last_part(folder);
  run.manifest = read_manifest(path + "/manifest.json");
  const Table summary = Table::read(path + "/summary.csv", summary_columns());
  if (summary.size() == 0) {
    throw damaged_error({path + "/summary.csv"}, "no rows", "one row a datapath",
                        "run `stoat sim` again");
  }
  std::vector<ReportDatapath> all;
  for (std::size_t r = 0; r < summary.size(); ++r) all.push_back(read_summary_row(summary, r));
  read_energy(path, all, summary);
  read_traffic(path, all);
  for (ReportDatapath& d : all) {
    d.run = data.runs.size();
    data.datapaths.push_back(std::move(d));
  }
  data.runs.push_back(std::move(run));
}

void make_labels_unique(ReportData& data) {
  std::map<std::string, int> seen;
  for (const ReportDatapath& d : data.datapaths) ++seen[d.datapath];
  std::map<std::string, int> taken;
  for (ReportDatapath& d : data.datapaths) {
    if (seen[d.datapath] > 1) d.label += " (" + data.runs[d.run].name + ")";
    const int n = ++taken[d.label];
    if (n > 1) d.label += fmt::format(" #{}", n);
  }
}

// *.h5 in the result directory and beside it, by name; each once.
std::vector<fs::path> nearby_traces(const std::vector<fs::path>& folders) {
  std::set<fs::path> found;
  for (const fs::path& folder : folders) {
    for (const fs::path& place : {folder, folder / "..", folder / "../.."}) {
      std::error_code failure;
      for (const auto& entry : fs::directory_iterator(place, failure)) {
        if (entry.path().extension() == ".h5")
          found.insert(fs::weakly_canonical(entry.path(), failure));
      }
    }
  }
  return {found.begin(), found.end()};
}

bool named_by_some_run(const ReportData& data, const TraceView& view) {
  return std::any_of(data.runs.begin(), data.runs.end(),
                     [&](const ReportRun& run) { return manifest_names(run, view.content_hash); });
}

void read_traces(const std::vector<fs::path>& folders, const std::vector<std::string>& given,
                 ReportData& data) {
  for (const std::string& path : given) data.traces.push_back(read_trace_view(path));
  if (given.empty()) {
    for (const fs::path& path : nearby_traces(folders)) {
      try {
        TraceView view = read_trace_view(path.string());
        if (named_by_some_run(data, view)) data.traces.push_back(std::move(view));
      } catch (const Error&) {
        data.notes.push_back(
            "A file beside the results, " + path.filename().string() +
            ", is not a whole trace and was left out (`stoat trace check` says why).");
      }
    }
  }
  for (ReportDatapath& d : data.datapaths) {
    for (std::size_t t = 0; t < data.traces.size() && !d.trace; ++t) {
      if (manifest_names(data.runs[d.run], data.traces[t].content_hash)) d.trace = t;
    }
  }
  const bool any_named = std::any_of(data.datapaths.begin(), data.datapaths.end(),
                                     [](const auto& d) { return d.trace.has_value(); });
  if (!any_named) {
    data.notes.push_back(
        "No trace of these results was found, so answers, access map and error are left out. "
        "Name it with --trace FILE.");
  }
}

}  // namespace

double ReportDatapath::logical_bytes() const {
  double sum = 0;
  for (const TrafficRow& row : traffic) sum += row.logical_bytes;
  return sum / steps;
}

double ReportDatapath::requested_bytes() const {
  double sum = 0;
  for (const TrafficRow& row : traffic) sum += row.requested_bytes;
  return sum / steps;
}

double ReportDatapath::moved_bytes() const {
  double sum = 0;
  for (const TrafficRow& row : traffic) sum += row.moved_bytes;
  return sum / steps;
}

double ReportDatapath::requested_bytes(const std::string& part) const {
  double sum = 0;
  for (const TrafficRow& row : traffic) sum += row.part == part ? row.requested_bytes : 0.0;
  return sum / steps;
}

const ReportDatapath* ReportData::baseline() const {
  for (const ReportDatapath& d : datapaths) {
    if (d.datapath == "mac") return &d;
  }
  return nullptr;
}

const TraceView* ReportData::trace_of(const ReportDatapath& datapath) const {
  return datapath.trace ? &traces[*datapath.trace] : nullptr;
}

ReportData read_report_data(const std::vector<std::string>& paths,
                            const std::vector<std::string>& traces) {
  ReportData data;
  std::vector<fs::path> folders;
  for (const std::string& path : paths) {
    for (fs::path& folder : result_folders(path)) {
      if (std::find(folders.begin(), folders.end(), folder) == folders.end())
        folders.push_back(std::move(folder));
    }
  }
  for (const fs::path& folder : folders) read_run(folder, data);
  make_labels_unique(data);
  read_traces(folders, traces, data);
  return data;
}

}  // namespace stoat::sim
