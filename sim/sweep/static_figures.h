// `stoat report DIR --static OUT`: the figures as files for papers. Each figure's CSV and its
// description (ID.csv, figures.json) are written here; scripts/report_figures.py draws them as
// ID.svg and ID.png with matplotlib.
#pragma once

#include <string>
#include <vector>

#include "sim/sweep/figure.h"
#include "sim/sweep/report_data.h"

namespace stoat::sim {

// All figures of a report of single simulations, in reading order.
std::vector<Figure> report_figures(const ReportData& data);

// Text of figures.json: style sheet and, for each figure with data, id, title, caption, plot.
std::string static_figures_json(const std::vector<Figure>& figures);

// Writes into `folder` (made when it is missing) and returns how many figures it drew. Throws Error
// naming the package when matplotlib is missing. `python`: the interpreter; empty: Debian's, else
// the one on the path.
std::size_t write_static_figures(const std::vector<Figure>& figures, const std::string& folder,
                                 const std::string& python = {});

}  // namespace stoat::sim
