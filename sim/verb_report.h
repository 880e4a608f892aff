// `stoat report DIR... -o report.html`: one self-contained page from result directories and their
// traces.
#pragma once

#include <string>
#include <vector>

#include "models/error.h"
#include "sim/verb.h"

namespace CLI {
class App;
}

namespace stoat::sim {

struct ReportOptions {
  std::vector<std::string> folders;  // result directories of `stoat sim`, or folders that hold some
  std::vector<std::string> traces;   // --trace FILE, repeatable
  std::string out = "report.html";
  std::string static_folder;  // every figure as CSV, SVG and PNG; empty: not wanted
  std::string measured;       // kernels measured on a GPU, as JSON; empty: none
  std::string plotly;         // plotly.js; empty: the installed package
  bool json = false;          // the answer as JSON on stdout instead of the table
};

void add_report_verb(CLI::App& app, VerbResult& result);
// Throws Error. Returns the answer table for people, or JSON.
std::string run_report(const ReportOptions& options);

}  // namespace stoat::sim
