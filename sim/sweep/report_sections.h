// The parts of the report that are words and tables. HTML out, everything escaped.
#pragma once

#include <string>

#include "sim/sweep/report_data.h"

namespace stoat::sim {

std::string lede(const ReportData& data);   // plain text: the paragraph below the first sentence
std::string cards(const ReportData& data);  // one a datapath: energy, time, ratio, questions
std::string answer_table(const ReportData& data);
std::string traffic_table(const ReportData& data);  // rows, bursts, row hits
std::string token_table(const ReportData& data);    // what the whole token saves, by batch
std::string fidelity_section(
    const ReportData& data);  // total variation and top-1 against dense; "" without
std::string answers_section(
    const ReportData& data);  // every question with every trace's answer; "" without
std::string provenance_section(
    const ReportData& data);  // traces, manifests, prices and their sources

}  // namespace stoat::sim
