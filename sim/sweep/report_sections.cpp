// Tables of the report below the answer: traffic, whole token, fidelity, answers, provenance.
#include "sim/sweep/report_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "models/energy/price_list.h"
#include "models/error.h"
#include "sim/sweep/figure.h"
#include "sim/sweep/html.h"
#include "sim/sweep/report.h"

namespace stoat::sim {
namespace {

const TrafficRow* part_of(const ReportDatapath& d, const char* part) {
  for (const TrafficRow& row : d.traffic) {
    if (row.part == part) return &row;
  }
  return nullptr;
}

// White space of a text made visible and at most `limit` characters of it.
std::string one_line(const std::string& text, std::size_t limit) {
  std::string out;
  for (const char c : text) out += c == '\n' || c == '\r' || c == '\t' ? ' ' : c;
  const std::size_t first = out.find_first_not_of(' ');
  out.erase(0, first == std::string::npos ? out.size() : first);
  const std::size_t last = out.find_last_not_of(' ');
  out.resize(last == std::string::npos ? 0 : last + 1);
  if (out.size() <= limit) return out;
  while (limit > 0 && (static_cast<unsigned char>(out[limit]) & 0xC0) == 0x80) --limit;
  return out.substr(0, limit) + "…";
}

std::string trace_label(const TraceView& view) {
  std::string text = view.name + " · " + view.method;
  if (!view.budget.empty()) text += ", S = " + view.budget;
  if (view.score_kind == "ternary") text += ", ternary scores";
  return text;
}

// How well a price is known, from the marks in its source: "[quoted]", "[recalled]", "[assumption]"
// ...
std::string standing_of(const std::string& source) {
  std::string marks;
  for (const char* mark : {"assumption", "recalled", "derived", "read", "quoted"}) {
    if (source.find(fmt::format("[{}]", mark)) == std::string::npos) continue;
    marks += (marks.empty() ? "" : ", ") + std::string(mark);
  }
  return marks.empty() ? "sourced" : marks;
}

std::string price_table(const std::string& name, const std::string& hash) {
  try {
    const PriceList list = PriceList::read(name);
    if (!hash.empty() && list.hash() != hash) {
      return "<p class=\"note\">The list of this name has changed since the simulation; energy.csv "
             "holds the prices used.</p>\n";
    }
    HtmlTable table({{"Event", ""},
                     {"Component", ""},
                     {"Price", "fJ", true},
                     {"Standing", ""},
                     {"Source", ""}});
    for (std::size_t e = 0; e < kEvents; ++e) {
      const auto event = static_cast<Event>(e);
      table.add_row({std::string(event_name(event)), std::string(event_component(event)),
                     significant(static_cast<double>(list.price(event).count()) * 1e-3, 4),
                     standing_of(list.source(event)), list.source(event)});
    }
    return table.html(fmt::format("Price list {} (boundary of the DRAM prices: {}; hash {})",
                                  list.name(), list.boundary(), list.hash()));
  } catch (const Error&) {
    return fmt::format("<p class=\"note\">{}</p>\n",
                       escape_html("The price list " + name +
                                   " was not found here; energy.csv holds the prices used."));
  }
}

std::string traces_table(const ReportData& data) {
  HtmlTable table({{"Trace", ""},
                   {"Method", ""},
                   {"Origin", ""},
                   {"Steps", "", true},
                   {"Records", "", true},
                   {"Seed", "", true},
                   {"Content hash", ""}});
  for (const TraceView& view : data.traces) {
    std::string method = view.method;
    if (!view.budget.empty()) method += ", S = " + view.budget;
    if (view.score_kind == "ternary") method += ", ternary scores";
    table.add_row({view.name, method, view.origin, grouped(view.steps), grouped(view.records),
                   std::to_string(view.seed), view.content_hash});
  }
  return table.empty() ? std::string() : table.html("Traces");
}

}  // namespace

std::string traffic_table(const ReportData& data) {
  HtmlTable table({{"Datapath", ""},
                   {"Value rows asked for", "a token", true},
                   {"distinct", "a token", true},
                   {"Bursts moved", "a token", true},
                   {"Activations", "a token", true},
                   {"Row hits", "%", true},
                   {"Bandwidth", "GB/s", true},
                   {"of peak", "%", true}});
  for (const ReportDatapath& d : data.datapaths) {
    const TrafficRow* value = part_of(d, "value");
    const auto a_token = [&](double count) { return significant(count / d.steps, 4); };
    table.add_row(
        {d.label, value == nullptr ? "–" : a_token(value->logical_rows),
         value == nullptr ? "–" : a_token(value->distinct_rows), a_token(d.bursts),
         a_token(d.activates), significant(100 * d.row_hit_share, 3),
         significant(d.achieved_bandwidth * 1e-9, 3),
         d.peak_bandwidth > 0 ? significant(100 * d.achieved_bandwidth / d.peak_bandwidth, 3)
                              : "–"},
        datapath_color(d.datapath));
  }
  return table.html("");
}

std::string token_table(const ReportData& data) {
  constexpr int kBatches[] = {1, 4, 16};
  std::vector<HtmlColumn> columns = {{"Datapath", ""}};
  for (const int batch : kBatches) {
    columns.push_back({fmt::format("Batch {}", batch), "attention, dense, % of bytes", true});
    columns.push_back({fmt::format("Batch {}", batch), "saved, % of bytes", true});
  }
  HtmlTable table(std::move(columns));
  for (const ReportDatapath& d : data.datapaths) {
    std::vector<std::string> cells = {d.label};
    const double dense_kv = d.dense_kv_bytes / d.steps;
    for (const int batch : kBatches) {
      const double dense = d.weight_bytes / batch + dense_kv;
      cells.push_back(significant(100 * dense_kv / dense, 3));
      cells.push_back(significant(100 * (dense_kv - d.requested_bytes()) / dense, 3));
    }
    table.add_row(std::move(cells), datapath_color(d.datapath));
  }
  return table.html("");
}

std::string fidelity_section(const ReportData& data) {
  HtmlTable table({{"Trace", ""},
                   {"Steps compared", "", true},
                   {"Total variation", "mean", true},
                   {"Same top-1 token", "%", true},
                   {"Attention output error", "relative, mean", true}});
  for (const TraceView& view : data.traces) {
    if (!view.twin && !view.output_error) continue;
    table.add_row({trace_label(view), view.twin ? grouped(view.twin->steps) : "–",
                   view.twin ? significant(view.twin->total_variation, 3) : "–",
                   view.twin ? significant(100 * view.twin->top1_agreement, 4) : "–",
                   view.output_error ? significant(*view.output_error, 3) : "–"});
  }
  std::string out;
  if (!table.empty()) {
    out +=
        "<p class=\"caption\">The next token's distribution against a dense twin that is fed the "
        "same tokens and keeps its own "
        "cache; and the attention output against exact attention on the same queries, keys and "
        "values.</p>\n";
    out += table.html("");
  }
  HtmlTable layers({{"Trace", ""},
                    {"Layer", "", true},
                    {"Participation", "rows, mean of 1/Σp²", true},
                    {"Mass on token 0", "%, mean", true}});
  for (const TraceView& view : data.traces) {
    if (view.layer_stats.size() > 64) continue;
    for (const LayerStats& s : view.layer_stats) {
      layers.add_row({view.name, std::to_string(s.layer), significant(s.participation, 3),
                      significant(100 * s.mass_first, 3)});
    }
  }
  if (!layers.empty()) {
    out += "<details><summary>How diffuse each layer's attention is</summary>\n" + layers.html("") +
           "</details>\n";
  }
  return out;
}

std::string answers_section(const ReportData& data) {
  const TraceView* longest = nullptr;
  std::vector<const TraceView*> answered;
  for (const TraceView& view : data.traces) {
    if (view.answers.empty()) continue;
    answered.push_back(&view);
    if (longest == nullptr || view.answers.size() > longest->answers.size()) longest = &view;
  }
  if (longest == nullptr) return {};
  std::vector<HtmlColumn> columns = {{"Question", ""}, {"Expected", ""}};
  for (const TraceView* view : answered) {
    columns.push_back(
        {view->name, fmt::format("{} of {} right", view->right(), view->asked()), false});
  }
  HtmlTable table(std::move(columns));
  for (const AnsweredQuestion& asked : longest->answers) {
    std::vector<std::string> cells = {one_line(asked.question, 60), one_line(asked.expected, 40)};
    for (const TraceView* view : answered) {
      const auto same =
          std::find_if(view->answers.begin(), view->answers.end(), [&](const AnsweredQuestion& a) {
            return a.question == asked.question && a.kind == asked.kind;
          });
      if (same == view->answers.end()) {
        cells.push_back("not asked");
      } else {
        cells.push_back((!same->judged   ? ""
                         : same->correct ? "✓ "
                                         : "✗ ") +
                        one_line(same->answer, 40));
      }
    }
    table.add_row(std::move(cells));
  }
  return "<p class=\"caption\">Questions asked after the prompt, and what was decoded. Right: the "
         "text starts with what was "
         "expected.</p>\n" +
         table.html("");
}

std::string provenance_section(const ReportData& data) {
  std::string out =
      "<p class=\"caption\">What these numbers were made from. Simulated time and energy only: "
      "nothing here was "
      "measured on the machine that wrote the page.</p>\n";
  out += traces_table(data);
  for (const ReportRun& run : data.runs) {
    HtmlTable table({{"Entry", ""}, {"Value", ""}});
    for (const auto& [name, value] : run.manifest.entries) table.add_row({name, value});
    out += fmt::format("<details><summary>Manifest of {}</summary>\n{}</details>\n",
                       escape_html(run.name), table.html(""));
  }
  std::set<std::pair<std::string, std::string>> lists;  // name, hash
  for (const ReportDatapath& d : data.datapaths) {
    std::string hash;
    for (const auto& [name, value] : data.runs[d.run].manifest.entries) {
      if (name == "price_list.hash") hash = value;
    }
    lists.emplace(d.price_list, hash);
  }
  for (const auto& [name, hash] : lists) {
    out += fmt::format("<details><summary>Prices of {} and their sources</summary>\n{}</details>\n",
                       escape_html(name), price_table(name, hash));
  }
  return out;
}

}  // namespace stoat::sim
