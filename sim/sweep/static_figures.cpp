// Figures as files. See static_figures.h.
#include "sim/sweep/static_figures.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/data_path.h"
#include "models/error.h"
#include "models/files.h"
#include "sim/sweep/figures.h"
#include "sim/sweep/report_style.h"

namespace stoat::sim {
namespace {

constexpr int kNoMatplotlib = 4;  // exit code of the script

// Beside the shipped tables: the source tree and an installed one have the same shape.
std::string script_path() {
  const std::filesystem::path models =
      std::filesystem::path(data_path("arch/area_proxy.csv")).parent_path().parent_path();
  const std::string path =
      (models.parent_path() / "scripts" / "report_figures.py").lexically_normal().string();
  std::error_code failure;
  if (!std::filesystem::is_regular_file(path, failure)) {
    throw usage_error({path}, "the script that draws figures as files is missing",
                      "scripts/report_figures.py beside models/", "take the whole source tree");
  }
  return path;
}

std::string python_path() {
  const char* const debian = "/usr/bin/python3";  // the one that python3-matplotlib installs for
  return ::access(debian, X_OK) == 0 ? debian : "python3";
}

int run(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int failure =
      ::posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ);
  if (failure != 0) {
    throw usage_error({}, fmt::format("{} cannot be started: {}", words[0], std::strerror(failure)),
                      "Python 3 for figures as files", "apt-get install python3-matplotlib");
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

std::vector<Figure> report_figures(const ReportData& data) {
  std::vector<Figure> figures{energy_figure(data), on_chip_figure(data), traffic_figure(data)};
  int n = 0;
  for (const TraceView& view : data.traces)
    figures.push_back(access_figure(view, fmt::format("access-{}", ++n)));
  n = 0;
  for (const TraceView& view : data.traces)
    figures.push_back(error_figure(view, fmt::format("error-{}", ++n)));
  figures.push_back(token_figure(data));
  return figures;
}

std::string static_figures_json(const std::vector<Figure>& figures) {
  nlohmann::ordered_json json;
  json["format"] = "stoat-figures";
  json["version"] = 1;
  json["style"] = std::string(report_style());
  json["figures"] = nlohmann::ordered_json::array();
  for (const Figure& figure : figures) {
    if (figure.empty()) continue;
    json["figures"].push_back({{"id", figure.id},
                               {"title", figure.title},
                               {"caption", figure.caption},
                               {"plot", nlohmann::ordered_json::parse(figure_json(figure))}});
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::size_t write_static_figures(const std::vector<Figure>& figures, const std::string& folder,
                                 const std::string& python) {
  const std::string script = script_path();
  const std::string spec = folder + "/figures.json";
  make_folders(folder);
  std::size_t drawn = 0;
  for (const Figure& figure : figures) {
    if (figure.empty()) continue;
    write_file_whole(folder + "/" + figure.id + ".csv", figure.csv);
    ++drawn;
  }
  write_file_whole(spec, static_figures_json(figures));
  const int code = run({python.empty() ? python_path() : python, script, spec, folder});
  if (code == kNoMatplotlib) {
    throw usage_error({}, "matplotlib is missing, so no figure was drawn",
                      "the package python3-matplotlib for --static",
                      "apt-get install python3-matplotlib; the CSV files are written");
  }
  if (code != 0) {
    throw resource_error({script}, fmt::format("drawing the figures ended with code {}", code),
                         "SVG and PNG files in " + folder);
  }
  return drawn;
}

}  // namespace stoat::sim
