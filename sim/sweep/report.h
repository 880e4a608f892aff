// The report: one HTML page from result directories and traces, readable offline.
//
// The same input gives the same bytes: no times, no names of machines, no absolute paths.
#pragma once

#include <string>
#include <string_view>

#include "sim/sweep/report_data.h"

namespace stoat::sim {

// Stands in the first lines of every report: a file with it may be replaced by a new one.
inline constexpr std::string_view kReportMark =
    "<meta name=\"generator\" content=\"stoat report\">";

// The page. `plotly` is the source of plotly.js, written into it.
std::string report_html(const ReportData& data, std::string_view plotly);

// The page's first sentence: what the sampled datapaths cost beside mac.
std::string answer_sentence(const ReportData& data);

// What a datapath costs in multiples of the mac datapath; 0 when there is none to compare with.
double energy_ratio(const ReportData& data, const ReportDatapath& datapath);
double time_ratio(const ReportData& data, const ReportDatapath& datapath);

// "7 of 8", or "" without judged questions.
std::string questions_right(const ReportData& data, const ReportDatapath& datapath);

// The answer table as text for a terminal, one line a datapath, and as JSON for programs.
std::string answer_table_text(const ReportData& data);
std::string answer_table_json(const ReportData& data, const std::string& report_path);

}  // namespace stoat::sim
