// Text that is safe inside an HTML page: escaping, embedded JSON, CSV downloads, tables, numbers.
//
// Everything that goes into the report passes through here, so a name such as "</script>" is text
// and nothing else. Plain C++ without a library; knows nothing about what the report says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stoat::sim {

// & < > " ' become entities; control characters (but tab and line feed) and broken UTF-8 become
// U+FFFD.
std::string escape_html(std::string_view text);

// JSON text made fit for a <script> element: < > & and U+2028/U+2029 become \uXXXX escapes. The
// value stays the same.
std::string escape_json_for_script(std::string_view json);

// Text for plotly, which reads tags and entities in labels: & < > become entities.
std::string escape_plot_text(std::string_view text);

// JavaScript source for a <script> element: "</script" and "<!--" inside string literals are broken
// up.
std::string escape_script_source(std::string_view source);

// "data:text/csv;charset=utf-8,..." with everything but letters, digits and -_.~ percent-encoded.
std::string csv_data_uri(std::string_view csv);

// One CSV cell, quoted when it must be (comma, quote, line break, leading or trailing blank).
std::string csv_cell(std::string_view text);

// A number with `digits` significant digits and no exponent for 1e-4 <= |x| < 1e9; thousands apart
// by a narrow space. "n/a" for what is not finite.
std::string significant(double value, int digits = 4);
// The same, for a data file: shortest text that reads back as the same double, "" for what is not
// finite.
std::string exact_number(double value);
// A whole number, thousands apart by a narrow no-break space.
std::string grouped(std::uint64_t value);

// A unit and what to multiply by, so that the largest of the values reads between 1 and 1000.
struct Scale {
  double factor = 1;
  std::string unit;
};
Scale energy_scale(double largest_joules);  // pJ nJ µJ mJ J
Scale time_scale(double largest_seconds);   // ns µs ms s
Scale bytes_scale(double largest_bytes);    // B KiB MiB GiB

struct HtmlColumn {
  std::string title;
  std::string unit;      // shown below the title; empty: none
  bool numeric = false;  // right-aligned, tabular figures
};

// A table with a header row; cells are plain text (escaped on the way out). The first cell of a row
// is its header.
class HtmlTable {
 public:
  explicit HtmlTable(std::vector<HtmlColumn> columns) : columns_(std::move(columns)) {}
  // As many cells as columns (Bug otherwise). `accent` names the colour of a datapath, or is empty.
  void add_row(std::vector<std::string> cells, std::string accent = {});
  bool empty() const { return rows_.empty(); }
  std::string html(std::string_view caption) const;

 private:
  std::vector<HtmlColumn> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::string> accents_;
};

}  // namespace stoat::sim
