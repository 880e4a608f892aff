// What the figures of a sweep share.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sim/sweep/figure.h"
#include "sim/sweep/sweep_report.h"

namespace stoat::sim {

// Of finite values; 0 without any.
double largest(const SweepReport& report, double SweepRow::*member);
double widest_context(const SweepReport& report);
// Every point's configuration and these values.
std::string csv_of(const SweepReport& report,
                   const std::vector<std::pair<std::string, double SweepRow::*>>& values);

// No figure shows more lines than this.
inline constexpr std::size_t kMaxSeries = 16;
const std::vector<std::string>& markers();
const std::vector<std::string>& dashes();
// Of the n-th line: telling without colour.
const std::string& marker_of(std::size_t n);
const std::string& dash_of(std::size_t n);
std::string color_of(const SweepRow& row);
// Points by kind, one colour and one marker each (readable without colour).
void add_points(const SweepReport& report, double SweepRow::*x, double x_factor,
                double SweepRow::*y, double y_factor, const std::string& hover, Figure& figure);
// The lower left edge of a cloud of points.
void add_front(std::vector<std::pair<double, double>> points, Figure& figure);
// Every column of the label but the budget.
std::string label_without_budget(const SweepRow& row);

// Rows for bars: those of the widest context; when they are too many, dense ones and the front.
std::vector<std::size_t> bar_rows(const SweepReport& report);
// " 8 of 200 points at this context.", or nothing when all are shown.
std::string bar_note(const SweepReport& report, const std::vector<std::size_t>& rows);
std::vector<std::string> bar_labels(const SweepReport& report,
                                    const std::vector<std::size_t>& rows);
Axis bar_axis(const SweepReport& report, const std::vector<std::size_t>& rows);

// Labels "a, b 1, c 2" without the parts that all of them have.
std::vector<std::string> telling_labels(std::vector<std::string> labels);
// The row that the answer's sentence is about; null when no sampled point has a dense one.
const SweepRow* answer_row(const SweepReport& report);
// "Shown: ...", for figures that show one design of many.
std::string one_design_note(const SweepReport& report);

Figure context_figure(const SweepReport& report, bool energy);
Figure token_figure_of(const SweepReport& report);
Figure error_budget_figure(const SweepReport& report);
Figure breakdown_figure(const SweepReport& report);
Figure bytes_figure(const SweepReport& report);
Figure tornado_figure(const SweepReport& report);
Figure assumptions_figure(const SweepReport& report);
Figure parallel_figure(const SweepReport& report);
Figure roofline_figure(const SweepReport& report);
Figure rows_figure(const SweepReport& report);
Figure selection_figure(const SweepReport& report);
Figure area_figure(const SweepReport& report);
Figure sweep_access_figure(const SweepReport& report);
Figure measured_figure(const SweepReport& report);
// No figure: says which rivals the sweep lacks.
Figure rivals_note(const SweepReport& report);

}  // namespace stoat::sim
