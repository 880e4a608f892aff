// The sweep's page: sentence, table, figures, failed points, provenance.
#include "sim/sweep/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "models/energy/price_list.h"
#include "models/error.h"
#include "sim/sweep/html.h"
#include "sim/sweep/report.h"
#include "sim/sweep/report_page.h"
#include "sim/sweep/report_style.h"
#include "sim/sweep/sweep_figure_parts.h"

namespace stoat::sim {
namespace {

constexpr std::size_t kTableRows = 40;

std::string percent_of(double ratio) { return fmt::format("{}×", significant(ratio, 3)); }

double energy_ratio_of(const SweepReport& report, const SweepRow& row) {
  return row.dense < 0 ? std::nan("")
                       : row.energy / report.rows[static_cast<std::size_t>(row.dense)].energy;
}
double time_ratio_of(const SweepReport& report, const SweepRow& row) {
  return row.dense < 0 ? std::nan("")
                       : row.time / report.rows[static_cast<std::size_t>(row.dense)].time;
}

std::string error_text(const SweepRow& row) {
  if (!std::isfinite(row.error)) return "";
  if (row.error == 0) return "0";
  if (!(row.error_high > row.error_low)) return significant(row.error, 3);
  return fmt::format("{} ({} to {})", significant(row.error, 3), significant(row.error_low, 3),
                     significant(row.error_high, 3));
}

// Rows worth a line: rivals and the front at the widest context.
std::vector<std::size_t> table_rows(const SweepReport& report) {
  double context = 0;
  for (const SweepRow& row : report.rows) context = std::max(context, row.context);
  const auto here = static_cast<std::size_t>(
      std::count_if(report.rows.begin(), report.rows.end(),
                    [context](const SweepRow& row) { return row.context == context; }));
  const SweepRow* best = answer_row(report);
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const SweepRow& row = report.rows[i];
    // Of many designs: the one of the answer, and the front.
    const bool rival = best != nullptr ? row.design == best->design
                                       : row.datapath == "mac" || row.datapath == "topk";
    if (row.context == context && (row.front || rival || here <= kTableRows)) rows.push_back(i);
  }
  std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
    return report.rows[a].energy > report.rows[b].energy;
  });
  if (rows.size() > kTableRows) rows.resize(kTableRows);
  return rows;
}

std::string answer_table_html(const SweepReport& report) {
  double energy = 0, time = 0;
  const std::vector<std::size_t> rows = table_rows(report);
  for (const std::size_t i : rows) {
    energy = std::max(energy, report.rows[i].energy);
    time = std::max(time, report.rows[i].time);
  }
  const Scale e = energy_scale(energy), t = time_scale(time);
  HtmlTable table({{"point", "", false},
                   {"context", "tokens", true},
                   {"energy", e.unit + " a token", true},
                   {"of dense", "", true},
                   {"time", t.unit + " a token", true},
                   {"of dense", "", true},
                   {"bandwidth", "% of peak", true},
                   {"error", "± one standard error", true},
                   {"front", "", false}});
  for (const std::size_t i : rows) {
    const SweepRow& row = report.rows[i];
    const auto ratio = [](double value) {
      return std::isfinite(value) ? percent_of(value) : std::string();
    };
    table.add_row({row.label, grouped(static_cast<std::uint64_t>(row.context)),
                   significant(row.energy * e.factor, 4), ratio(energy_ratio_of(report, row)),
                   significant(row.time * t.factor, 4), ratio(time_ratio_of(report, row)),
                   significant(row.bandwidth, 3), error_text(row), row.front ? "yes" : ""},
                  row.datapath);
  }
  return table.html(fmt::format(
      "{} of {} points: those of the widest context{}.", rows.size(), report.rows.size(),
      rows.size() < report.rows.size() ? ", as far as they are on the front or of one design"
                                       : ""));
}

std::string failed_html(const SweepReport& report) {
  if (report.failed.size() < 2) return {};
  std::vector<HtmlColumn> columns;
  for (const std::string& name : report.failed.front()) columns.push_back({name, "", false});
  HtmlTable table(std::move(columns));
  for (std::size_t i = 1; i < report.failed.size() && i <= 50; ++i) table.add_row(report.failed[i]);
  return fmt::format(
             "<p class=\"note\">{} points failed. They are in no figure and in no mean.</p>\n",
             report.failed.size() - 1) +
         table.html("Failed points and why");
}

std::string prices_html(const SweepReport& report) {
  std::string html;
  for (const auto& [name, hash] : report.price_lists) {
    std::string inside;
    try {
      const PriceList list = PriceList::read(name);
      if (list.hash() == hash) {
        HtmlTable table({{"event", "", false},
                         {"price", "pJ", true},
                         {"for", "", false},
                         {"source", "", false}});
        for (std::size_t e = 0; e < kEvents; ++e) {
          const auto event = static_cast<Event>(e);
          if (!list.has(event)) continue;
          table.add_row({std::string(event_name(event)), decimal(list.price(event).count(), 6),
                         list.width(event), list.source(event)});
        }
        inside = table.html("Price list " + name + ": where every number comes from");
      }
    } catch (const Error&) {
      inside.clear();
    }
    if (inside.empty()) {
      inside =
          fmt::format("<p class=\"note\">The price list {} is not the one installed here.</p>\n",
                      escape_html(name));
    }
    html += fmt::format("<details><summary>Sources of {}</summary>\n{}</details>\n",
                        escape_html(name), inside);
  }
  return html;
}

std::string provenance_html(const SweepReport& report) {
  HtmlTable table({{"what", "", false}, {"value", "", false}});
  table.add_row(
      {"points", fmt::format("{} in the grid: {} done, {} failed, {} not run, {} skipped by "
                             "rules, {} invalid",
                             report.points, report.rows.size(),
                             report.failed.empty() ? 0 : report.failed.size() - 1, report.missing,
                             report.skipped, report.invalid)});
  std::vector<std::pair<std::string, std::size_t>> sources;
  for (std::size_t i = 0; i < report.cells.size(); ++i) {
    const std::string& source = report.cell(i, "source");
    const auto found = std::find_if(sources.begin(), sources.end(),
                                    [&](const auto& each) { return each.first == source; });
    if (found == sources.end()) {
      sources.emplace_back(source, 1);
    } else {
      ++found->second;
    }
  }
  std::string text;
  for (const auto& [source, count] : sources)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, source);
  table.add_row({"records from", text});
  for (const auto& [name, value] : report.provenance) table.add_row({name, value});
  return table.html("What made these numbers") + prices_html(report);
}

// Configuration and answer of every point, for a click.
void set_rows(const SweepReport& report, ReportPage& page) {
  std::vector<std::string> names{"index", "point"};
  names.insert(names.end(), report.varying.begin(), report.varying.end());
  for (const char* more : {"energy_per_step_aJ", "ps_per_step", "total_error", "row_hit_percent",
                           "bandwidth_percent"}) {
    if (std::find(names.begin(), names.end(), more) == names.end()) names.emplace_back(more);
  }
  std::vector<std::vector<std::string>> cells;
  for (const std::string& name : names) {
    cells.emplace_back();
    for (std::size_t i = 0; i < report.cells.size(); ++i)
      cells.back().push_back(report.cell(i, name));
  }
  page.set_rows(std::move(names), cells);
}

// What a figure would have needed, a sentence each.
std::string absent_html(const std::vector<Figure>& figures) {
  std::string html;
  for (const Figure& figure : figures) {
    if (!figure.empty() || figure.title.empty()) continue;
    html += fmt::format("<p class=\"note\">{}: {}</p>\n", escape_html(figure.title),
                        escape_html(figure.caption));
  }
  return html;
}

std::string lede_of(const SweepReport& report) {
  std::string columns;
  for (const std::string& name : report.varying) columns += (columns.empty() ? "" : ", ") + name;
  return fmt::format("Sweep {}: {} points{}. They differ in {}.", report.name, report.rows.size(),
                     report.failed.size() > 1
                         ? fmt::format(", {} more failed", report.failed.size() - 1)
                         : std::string(),
                     columns.empty() ? "nothing" : columns);
}

}  // namespace

std::string sweep_sentence(const SweepReport& report) {
  const double context = compared_context(report);
  const SweepRow* best = sweep_champion(report, Champion::kSampled);
  if (best == nullptr) {
    const auto least =
        std::min_element(report.rows.begin(), report.rows.end(),
                         [](const SweepRow& a, const SweepRow& b) { return a.energy < b.energy; });
    const Scale e = energy_scale(least->energy);
    return fmt::format("The least energy a token is {} {}: {}",
                       significant(least->energy * e.factor, 3), e.unit, least->label);
  }
  std::string text = fmt::format(
      "At {} tokens, {} takes {} of dense attention's energy and {} of its time",
      grouped(static_cast<std::uint64_t>(context)), best->label,
      percent_of(energy_ratio_of(report, *best)), percent_of(time_ratio_of(report, *best)));
  if (std::isfinite(best->error))
    text += fmt::format(", at an error of {}", significant(best->error, 2));
  const SweepRow* narrow = sweep_champion(report, Champion::kNarrowDense);
  if (narrow != nullptr) {
    text += fmt::format("; dense in {} takes {} and {}", narrow->element,
                        percent_of(energy_ratio_of(report, *narrow)),
                        percent_of(time_ratio_of(report, *narrow)));
    if (std::isfinite(narrow->error)) text += fmt::format(" at {}", significant(narrow->error, 2));
  }
  const SweepRow* topk = sweep_champion(report, Champion::kTopK);
  if (topk != nullptr) {
    text += fmt::format("; top-k ({}) {} and {}", topk->label,
                        percent_of(energy_ratio_of(report, *topk)),
                        percent_of(time_ratio_of(report, *topk)));
    if (std::isfinite(topk->error)) text += fmt::format(" at {}", significant(topk->error, 2));
  }
  return text;
}

std::string sweep_report_html(const SweepReport& report, std::string_view plotly) {
  ReportPage page;
  std::string links;
  const std::vector<Figure> figures = sweep_figures(report);
  for (const Figure& figure : figures) {
    if (figure.empty()) continue;
    page.add(figure);
    links += fmt::format("<a href=\"#{}\">{}</a>\n", figure.id,
                         escape_html(figure.title.substr(0, figure.title.find_first_of(",:"))));
  }
  const std::string absent = absent_html(figures);
  if (!absent.empty()) {
    page.body() += "<section id=\"absent\">\n<h2>Not shown</h2>\n" + absent + "</section>\n";
    links += "<a href=\"#absent\">Not shown</a>\n";
  }
  const std::string failed = failed_html(report);
  if (!failed.empty()) {
    page.body() += "<section id=\"failed\">\n<h2>Failed points</h2>\n" + failed + "</section>\n";
    links += "<a href=\"#failed\">Failed points</a>\n";
  }
  page.body() += "<section id=\"provenance\">\n<h2>Provenance</h2>\n" + provenance_html(report) +
                 "</section>\n";
  links += "<a href=\"#provenance\">Provenance</a>\n";

  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out +=
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n";
  out += std::string(kReportMark) + "\n";
  out += fmt::format("<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n",
                     escape_html("stoat sweep " + report.name), report_style());
  out += fmt::format(
      "<header>\n<p class=\"kind\">stoat sweep</p>\n<h1>{}</h1>\n<p class=\"lede\">{}</p>\n",
      escape_html(sweep_sentence(report)), escape_html(lede_of(report)));
  out += answer_table_html(report);
  out += fmt::format("<nav aria-label=\"Contents\">\n{}</nav>\n</header>\n<main>\n", links);
  out +=
      "<noscript><p class=\"note\">The figures and long CSV files need JavaScript; the tables do "
      "not.</p></noscript>\n";
  set_rows(report, page);
  out += page.body() +
         "</main>\n<footer>Written by stoat. Opens without a network; figures by plotly.js (MIT "
         "licence), included.</footer>\n";
  out += page.scripts(plotly) + "</body>\n</html>\n";
  return out;
}

std::string sweep_answer_text(const SweepReport& report) {
  std::string text = sweep_sentence(report) + "\n";
  text += fmt::format("{} points", report.rows.size());
  if (report.failed.size() > 1) text += fmt::format(", {} failed", report.failed.size() - 1);
  return text + "\n";
}

std::string sweep_answer_json(const SweepReport& report, const std::string& path) {
  nlohmann::ordered_json json;
  json["answer"] = sweep_sentence(report);
  json["points"] = report.rows.size();
  json["failed"] = report.failed.empty() ? 0 : report.failed.size() - 1;
  json["report"] = path;
  json["front"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    if (report.rows[i].front) json["front"].push_back(report.cell(i, "point"));
  }
  return json.dump(2) + "\n";
}

}  // namespace stoat::sim
