#include "sim/verb_doctor.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "models/data_path.h"
#include "models/streams.h"
#include "models/version.h"
#include "sim/engine/simulate.h"
#include "sim/sweep/report_style.h"

namespace stoat::sim {

namespace {

// The first characters of what a command prints; empty when it fails.
std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return text;
  char buffer[512];
  while (text.size() < 65536 && std::fgets(buffer, sizeof(buffer), pipe) != nullptr) text += buffer;
  const bool good = ::pclose(pipe) == 0;
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return good ? text : std::string();
}

// The rest of the first line of a file that begins with `key`, after a colon.
std::string line_value(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const std::size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

Finding processor() {
  const std::string flags = " " + line_value("/proc/cpuinfo", "flags") + " ";
  const char* kernels = flags.find(" avx512f ") != std::string::npos ? "AVX-512"
                        : flags.find(" avx2 ") != std::string::npos  ? "AVX2"
                                                                     : "baseline";
  const std::string name = line_value("/proc/cpuinfo", "model name");
  return {"processor", true,
          fmt::format("{} threads, {}, {} kernels", std::thread::hardware_concurrency(),
                      name.empty() ? "unknown" : name, kernels)};
}

Finding memory() {
  const auto gibibytes = [](const std::string& text) {
    return std::strtod(text.c_str(), nullptr) / (1024.0 * 1024.0);
  };
  return {"memory", true,
          fmt::format("{:.1f} GiB, {:.1f} GiB of it free",
                      gibibytes(line_value("/proc/meminfo", "MemTotal")),
                      gibibytes(line_value("/proc/meminfo", "MemAvailable")))};
}

Finding disk() {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(".", error);
  if (error) return {"disk", false, "this folder: " + error.message()};
  const bool writable = ::access(".", W_OK) == 0;
  return {"disk", writable,
          fmt::format("{:.1f} GiB free here{}",
                      static_cast<double>(space.available) / (1024.0 * 1024.0 * 1024.0),
                      writable ? "" : "; this folder is not writable: give -o another one")};
}

Finding program(const std::string& name, const std::string& needed_for) {
  const std::string path = program_folder() + "/" + name;
  if (::access(path.c_str(), X_OK) != 0)
    return {name, false,
            "not beside stoat; without it no " + needed_for + ". Build target " + name};
  const std::string version = output_of("'" + path + "' --version");
  const bool same = version.find(std::string(build_id())) != std::string::npos;
  return {name, true, version + (same ? "" : "; of another build than stoat")};
}

Finding shipped_model() {
  try {
    return {"model", true, data_path("llm/needle/model.safetensors")};
  } catch (const Error& error) {
    return {"model", false, std::string(error.what()) + "; without it no demo"};
  }
}

Finding command(const char* what, const char* query, const char* without) {
  const std::string text = output_of(query);
  return {what, !text.empty(), text.empty() ? without : text.substr(0, text.find('\n'))};
}

Finding plotly() {
  try {
    return {
        "plotly.js", true,
        fmt::format("{:.1f} MB, for reports", static_cast<double>(plotly_source().size()) / 1e6)};
  } catch (const Error& error) {
    return {"plotly.js", false, std::string(error.what()) + "; without it no report"};
  }
}

std::string table_text(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings)
    text +=
        fmt::format("{:<3} {:<14} {}\n", finding.there ? "ok" : "-", finding.what, finding.text);
  return text;
}

std::string table_json(const std::vector<Finding>& findings) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Finding& finding : findings)
    rows.push_back({{"what", finding.what}, {"there", finding.there}, {"text", finding.text}});
  return nlohmann::json{{"findings", rows}}.dump(2) + "\n";
}

}  // namespace

std::vector<Finding> gpus_of(const std::string& nvidia_smi) {
  std::vector<Finding> gpus;
  std::istringstream lines(nvidia_smi);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    std::vector<std::string> cells;
    std::istringstream in(line);
    for (std::string cell; std::getline(in, cell, ',');) {
      const std::size_t begin = cell.find_first_not_of(' ');
      cells.push_back(begin == std::string::npos ? "" : cell.substr(begin));
    }
    if (cells.size() < 4) {
      gpus.push_back({"GPU", false, "nvidia-smi said: " + line});
    } else {
      gpus.push_back({"GPU", true,
                      fmt::format("{}, driver {}, {}, {} of it free", cells[0], cells[1], cells[2],
                                  cells[3])});
    }
  }
  if (gpus.empty())
    gpus.push_back(
        {"GPU", false,
         "no nvidia-smi answered; stoat capture uses the CPU, --backend cuda is refused"});
  return gpus;
}

std::vector<Finding> examine_machine() {
  utsname system{};
  ::uname(&system);
  std::vector<Finding> findings{
      {"stoat", true, fmt::format("{} ({})", tool_version(), build_id())},
      {"system", true, fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
      processor(),
      memory(),
      disk(),
      {"SystemC", true, simulation_kernel()},
      program("stoat-capture", "stoat capture and demo"),
      program("stoat-trace", "stoat trace"),
      shipped_model(),
      plotly(),
      // The interpreter that the package is for, as report --static chooses it.
      command("matplotlib",
              "p=/usr/bin/python3; [ -x $p ] || p=python3; "
              "$p -c 'import matplotlib; print(matplotlib.__version__)'",
              "python3 has none; without it no stoat report --static. apt-get install "
              "python3-matplotlib"),
      command("Slurm", "sbatch --version",
              "no sbatch; sweeps run on this machine, or by hand with --shard I/N")};
  for (Finding& gpu :
       gpus_of(output_of("nvidia-smi --query-gpu=name,driver_version,memory.total,memory.free "
                         "--format=csv,noheader")))
    findings.push_back(std::move(gpu));
  return findings;
}

void add_doctor_verb(CLI::App& app, VerbResult& result) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("doctor", "What this machine can do, and what is missing");
  verb->add_flag("--json", *json, "Print it as JSON");
  verb->callback([json, &result] {
    const std::vector<Finding> findings = examine_machine();
    print_result(*json ? table_json(findings) : table_text(findings));
    result.code = ExitCode::kOk;
  });
}

}  // namespace stoat::sim
