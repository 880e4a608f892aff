// Putting the report's page together. See report.h.
#include "sim/sweep/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/sweep/figures.h"
#include "sim/sweep/html.h"
#include "sim/sweep/report_page.h"
#include "sim/sweep/report_sections.h"
#include "sim/sweep/report_style.h"

namespace stoat::sim {
namespace {

// Figures in reading order; those without data are left out.
struct Page {
  ReportPage page;
  std::string links;

  void link(const std::string& id, const std::string& text) {
    links += fmt::format("<a href=\"#{}\">{}</a>\n", id, escape_html(text));
  }
  void add(const Figure& figure, const std::string& after = {}) { page.add(figure, after); }
  void section(const std::string& id, const std::string& title, const std::string& content) {
    if (content.empty()) return;
    link(id, title);
    page.body() += fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n", id,
                               escape_html(title), content);
  }
};

void add_trace_figures(const ReportData& data, Page& page) {
  bool first_map = true, first_error = true;
  int n = 0;
  for (const TraceView& view : data.traces) {
    const std::string id = fmt::format("access-{}", ++n);
    const Figure figure = access_figure(view, id);
    if (figure.empty()) continue;
    if (first_map) page.link(id, "Access map");
    first_map = false;
    page.add(figure);
  }
  n = 0;
  for (const TraceView& view : data.traces) {
    const std::string id = fmt::format("error-{}", ++n);
    const Figure figure = error_figure(view, id);
    if (figure.empty()) continue;
    if (first_error) page.link(id, "Error");
    first_error = false;
    page.add(figure);
  }
}

std::string notes_html(const std::vector<std::string>& notes) {
  std::string out;
  for (const std::string& note : notes)
    out += fmt::format("<p class=\"note\">{}</p>\n", escape_html(note));
  return out;
}

// Each once: runs of one accelerator say the same things.
std::vector<std::string> simulator_notes(const ReportData& data) {
  std::vector<std::string> notes;
  for (const ReportRun& run : data.runs) {
    for (const std::string& note : run.manifest.notes) {
      if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
    }
  }
  return notes;
}

std::vector<std::string> all_notes(const ReportData& data) {
  std::vector<std::string> notes = data.notes;
  if (!data.traces.empty() && std::all_of(data.traces.begin(), data.traces.end(),
                                          [](const TraceView& v) { return v.probes.empty(); })) {
    notes.push_back(
        "Error against budget is left out: no trace has probe columns. Record one with "
        "`stoat capture --probe-budgets 4,16,64,256`.");
  }
  if (!data.traces.empty() && std::all_of(data.traces.begin(), data.traces.end(),
                                          [](const TraceView& v) { return v.answers.empty(); })) {
    notes.push_back(
        "Answers are left out: no side file FILE.run.json with questions lies beside a trace. "
        "Record one with "
        "`stoat capture --questions FILE`.");
  }
  if (std::any_of(data.datapaths.begin(), data.datapaths.end(),
                  [](const ReportDatapath& d) { return d.weight_bytes == 0; })) {
    notes.push_back(
        "Attention beside the whole token is left out: the trace does not say how many bytes of "
        "weights a token reads.");
  }
  return notes;
}

}  // namespace

std::string report_html(const ReportData& data, std::string_view plotly) {
  Page page;
  page.link("energy", "Energy");
  page.add(energy_figure(data));
  page.add(on_chip_figure(data));
  const Figure traffic = traffic_figure(data);
  if (!traffic.empty()) page.link(traffic.id, "Traffic");
  page.add(traffic, traffic_table(data));
  add_trace_figures(data, page);
  page.section("fidelity", "Fidelity", fidelity_section(data));
  const Figure token = token_figure(data);
  if (!token.empty()) page.link(token.id, "Whole token");
  page.add(token, token_table(data));
  page.section("answers", "Answers", answers_section(data));
  page.section("remarks", "Remarks of the simulator", notes_html(simulator_notes(data)));
  page.section("provenance", "Provenance", provenance_section(data));

  const std::string sentence = answer_sentence(data);
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out +=
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<link "
      "rel=\"icon\" href=\"data:,\">\n";
  out += std::string(kReportMark) + "\n";
  out += fmt::format("<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n",
                     escape_html("stoat report"), report_style());
  out += fmt::format(
      "<header>\n<p class=\"kind\">stoat report</p>\n<h1>{}</h1>\n<p class=\"lede\">{}</p>\n",
      escape_html(sentence), escape_html(lede(data)));
  out += cards(data) + answer_table(data) + notes_html(all_notes(data));
  out += fmt::format("<nav aria-label=\"Contents\">\n{}</nav>\n</header>\n<main>\n", page.links);
  out +=
      "<noscript><p class=\"note\">The figures need JavaScript; the tables and the CSV of each "
      "figure do not.</p></noscript>\n";
  out += page.page.body() +
         "</main>\n<footer>Written by stoat. Opens without a network; figures by plotly.js (MIT "
         "licence), included.</footer>\n";
  out += page.page.scripts(plotly) + "</body>\n</html>\n";
  return out;
}

}  // namespace stoat::sim
