// See report_page.h.
#include "sim/sweep/report_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "sim/sweep/html.h"
#include "sim/sweep/report_style.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kInlineCsv = 20000;  // bytes; shorter ones are a link that needs no script

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

struct SplitCsv {
  std::string head;
  std::vector<std::string> columns;  // cells as they stand in the file, a line each
};

// Nothing when rows differ in length or a cell holds a line break: such a file stays whole.
std::optional<SplitCsv> split_csv(std::string_view csv) {
  SplitCsv split;
  std::size_t at = csv.find('\n');
  if (at == std::string_view::npos || csv.back() != '\n') return std::nullopt;
  split.head = csv.substr(0, at++);
  while (at < csv.size()) {
    std::size_t column = 0;
    bool quoted = false;
    const bool first = split.columns.empty() || split.columns.front().empty();
    for (std::size_t begin = at;; ++at) {
      if (csv[at] == '"') quoted = !quoted;
      if (quoted && csv[at] == '\n') return std::nullopt;
      if (quoted || (csv[at] != ',' && csv[at] != '\n')) continue;
      if (first) split.columns.emplace_back();
      if (column == split.columns.size()) return std::nullopt;
      split.columns[column++].append(csv.substr(begin, at - begin)) += '\n';
      begin = at + 1;
      if (csv[at] == '\n') break;
    }
    ++at;
    if (column != split.columns.size()) return std::nullopt;
  }
  return split;
}

}  // namespace

int ReportPage::column(std::string cells) {
  return columns_.try_emplace(std::move(cells), static_cast<int>(columns_.size())).first->second;
}

std::string ReportPage::csv_link(const Figure& figure) {
  const auto split =
      figure.csv.size() > kInlineCsv ? split_csv(figure.csv) : std::optional<SplitCsv>();
  if (!split) {
    return fmt::format("<a download=\"{0}.csv\" href=\"{1}\">Data as CSV</a>", figure.id,
                       csv_data_uri(figure.csv));
  }
  Json about{{"head", split->head}, {"columns", Json::array()}};
  for (const std::string& cells : split->columns) about["columns"].push_back(column(cells));
  csv_ += (csv_.empty() ? "" : ",") + dump(figure.id) + ":" + dump(about);
  return fmt::format("<a download=\"{0}.csv\" href=\"#{0}\" data-csv=\"{0}\">Data as CSV</a>",
                     figure.id);
}

void ReportPage::add(const Figure& figure, const std::string& after) {
  if (figure.empty()) return;
  body_ += fmt::format(
      "<section class=\"figure\" id=\"{0}\">\n<h2>Figure {1}. {2}</h2>\n<p "
      "class=\"caption\">{3}</p>\n",
      figure.id, ++figures_, escape_html(figure.title), escape_html(figure.caption));
  body_ += fmt::format(
      "<div class=\"plot\" id=\"plot-{0}\" role=\"img\" aria-label=\"{1}\" "
      "style=\"min-height:{2}px\"></div>\n",
      figure.id, escape_html(figure.title), figure.height);
  body_ += fmt::format("<div class=\"picked\" id=\"picked-{}\" hidden></div>\n", figure.id);
  body_ += fmt::format("<script type=\"application/json\" id=\"plot-{}-data\">{}</script>\n",
                       figure.id, escape_json_for_script(figure_json(figure)));
  body_ += "<p class=\"get\">" + csv_link(figure) + "</p>\n" + after + "</section>\n";
}

void ReportPage::set_rows(std::vector<std::string> names,
                          const std::vector<std::vector<std::string>>& cells) {
  Json rows{{"names", std::move(names)}, {"columns", Json::array()}};
  for (const std::vector<std::string>& each : cells) {
    std::string text;
    for (const std::string& cell : each) text += csv_cell(cell) + "\n";
    // A line break inside a cell would end it: such a column is not shown.
    const bool whole =
        std::count(text.begin(), text.end(), '\n') == static_cast<std::ptrdiff_t>(each.size());
    rows["columns"].push_back(column(whole ? std::move(text) : std::string()));
  }
  rows_ = dump(rows);
}

std::string ReportPage::scripts(std::string_view plotly) const {
  std::vector<const std::string*> sorted(columns_.size());
  for (const auto& [cells, number] : columns_) sorted[static_cast<std::size_t>(number)] = &cells;
  std::string shared = "{\"columns\":[";
  for (std::size_t i = 0; i < sorted.size(); ++i) shared += (i == 0 ? "" : ",") + dump(*sorted[i]);
  shared += "],\"csv\":{" + csv_ + "},\"rows\":" + (rows_.empty() ? "null" : rows_) + "}";
  std::string out;
  if (!columns_.empty()) {
    out += "<script type=\"application/json\" id=\"shared\">" + escape_json_for_script(shared) +
           "</script>\n";
  }
  // Text and no program, until the page's script makes it one.
  out +=
      "<script type=\"text/plain\" id=\"plotly\">" + escape_script_source(plotly) + "</script>\n";
  return out + "<script>" + escape_script_source(report_script()) + "</script>\n";
}

}  // namespace stoat::sim
