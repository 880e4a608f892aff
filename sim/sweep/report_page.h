// What both report pages share: a figure's section, its CSV, the table behind a click, the scripts.
//
// Nothing here is drawn while the page is read: figures are JSON until they come into sight, and
// plotly.js is text until the first of them does. CSV of many rows share columns (the
// configuration of 10,000 points is written once) and become files when somebody asks for one.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sim/sweep/figure.h"

namespace stoat::sim {

class ReportPage {
 public:
  // <section> with title, caption, plot, data and CSV; `after` stands below the CSV's link.
  void add(const Figure& figure, const std::string& after = {});
  // Configuration of every row for a click: names, and their cells of all rows.
  void set_rows(std::vector<std::string> names, const std::vector<std::vector<std::string>>& cells);

  int figures() const { return figures_; }
  const std::string& body() const { return body_; }
  std::string& body() { return body_; }
  // Shared columns and scripts, to stand at the page's end.
  std::string scripts(std::string_view plotly) const;

 private:
  int column(std::string cells);
  std::string csv_link(const Figure& figure);

  int figures_ = 0;
  std::string body_;
  std::map<std::string, int> columns_;  // cells of a column, a line each -> its number
  std::string csv_;                     // JSON members: "id": {"head": "...", "columns": [...]}
  std::string rows_;                    // JSON: {"names": [...], "columns": [...]}
};

}  // namespace stoat::sim
