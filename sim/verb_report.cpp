// The verb: reads, makes the page, writes it whole.
#include "sim/verb_report.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>

#include "models/files.h"
#include "sim/sweep/report.h"
#include "sim/sweep/report_style.h"
#include "sim/sweep/static_figures.h"
#include "sim/sweep/sweep_access.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {
namespace {

// A page of ours may be replaced; anything else of that name is somebody's.
void ensure_replaceable(const std::string& path) {
  ensure_output_file(path, true);
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) return;
  std::ifstream file(path, std::ios::binary);
  std::string start(4096, '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  if (start.find(kReportMark) == std::string::npos) {
    throw usage_error({path}, "this file exists and is no report of stoat", "a new name",
                      "choose another with -o FILE");
  }
}

std::string page_line(const ReportOptions& options) {
  return fmt::format("report: {}\n", options.out);
}

// The figures as files where they are asked for; says so in a line.
std::string write_files(const ReportOptions& options,
                        const std::function<std::vector<Figure>()>& figures) {
  if (options.static_folder.empty()) return {};
  return fmt::format("figures: {}, {} as CSV, SVG and PNG\n", options.static_folder,
                     write_static_figures(figures(), options.static_folder));
}

}  // namespace

std::string run_report(const ReportOptions& options) {
  ensure_replaceable(options.out);
  if (!options.static_folder.empty()) ensure_output_folder(options.static_folder);
  const std::string plotly = plotly_source(options.plotly);
  if (options.folders.size() == 1 && holds_sweep(options.folders[0])) {
    SweepReport sweep = read_sweep_report(options.folders[0]);
    add_access(options.folders[0], sweep);
    if (!options.measured.empty()) sweep.measured = read_measurements(options.measured);
    write_file_whole(options.out, sweep_report_html(sweep, plotly));
    const std::string files = write_files(options, [&] { return sweep_figures(sweep); });
    return options.json ? sweep_answer_json(sweep, options.out)
                        : sweep_answer_text(sweep) + page_line(options) + files;
  }
  const ReportData data = read_report_data(options.folders, options.traces);
  write_file_whole(options.out, report_html(data, plotly));
  const std::string files = write_files(options, [&] { return report_figures(data); });
  if (options.json) return answer_table_json(data, options.out);
  std::string text = answer_table_text(data);
  for (const std::string& note : data.notes) text += "note: " + note + "\n";
  return text + page_line(options) + files;
}

void add_report_verb(CLI::App& app, VerbResult& result) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* verb = app.add_subcommand(
      "report", "Write one HTML page about simulated datapaths; it opens offline");
  verb->add_option("DIR", options->folders,
                   "Result directories of stoat sim, folders that hold some, or one of stoat sweep")
      ->required();
  verb->add_option("--trace", options->traces,
                   "Trace file (default: *.h5 in and beside DIR that a manifest names)")
      ->allow_extra_args(false);
  verb->add_option("-o,--out", options->out, "File to write")->capture_default_str();
  verb->add_option("--static", options->static_folder,
                   "Folder for every figure as CSV, SVG and PNG too (needs python3-matplotlib)");
  verb->add_option("--measured", options->measured,
                   "Kernels measured on a GPU beside a sweep's points (gpu/results/decode_*.json)");
  verb->add_option("--plotly", options->plotly,
                   "plotly.js to include (default: the package python3-plotly)");
  verb->add_flag("--json", options->json, "Print the answer as JSON instead of the table");
  verb->callback([options, &result] {
    print_answer(run_report(*options), options->out);
    result.code = ExitCode::kOk;
  });
}

}  // namespace stoat::sim
