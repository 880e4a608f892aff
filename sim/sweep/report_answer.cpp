// What the report answers: the sentence, the cards, the table; for the page, a terminal and
// programs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "sim/sweep/figure.h"
#include "sim/sweep/html.h"
#include "sim/sweep/report.h"
#include "sim/sweep/report_sections.h"

namespace stoat::sim {
namespace {

struct Scales {
  Scale energy, time, bytes;
};

Scales common_scales(const ReportData& data) {
  double energy = 0, time = 0, bytes = 0;
  for (const ReportDatapath& d : data.datapaths) {
    energy = std::max(energy, d.energy_per_step);
    time = std::max(time, d.time_per_step);
    bytes = std::max(bytes, d.logical_bytes());
  }
  return {energy_scale(energy), time_scale(time), bytes_scale(bytes)};
}

const ReportDatapath* cheapest_rival(const ReportData& data) {
  const ReportDatapath* best = nullptr;
  for (const ReportDatapath& d : data.datapaths) {
    if (&d == data.baseline()) continue;
    if (best == nullptr || d.energy_per_step < best->energy_per_step) best = &d;
  }
  return best;
}

std::string ratio_text(double ratio) { return ratio > 0 ? significant(ratio, 3) + "×" : "n/a"; }

// "all rows", "prop, S = 128", "prop, S = 128, ternary scores"
std::string method_text(const ReportDatapath& d) {
  if (d.datapath == "mac") return "all rows";
  std::string text = d.method;
  if (!d.budget.empty()) text += ", S\u00a0=\u00a0" + d.budget;
  if (d.score_kind == "ternary") text += ", ternary scores";
  return text;
}

// Whether the trace was decoded the way this datapath works: only then are its answers the
// datapath's. (mac can replay a sampled trace, and gather_add one with ternary scores: same steps,
// other decode.)
bool decoded_this_way(const ReportDatapath& d, const TraceView& view) {
  const bool ternary = view.score_kind == "ternary";
  if (d.datapath == "mac") return view.method == "dense" && !ternary;
  if (d.datapath == "gather_add")
    return view.method != "dense" && view.method != "topk" && !ternary;
  if (d.datapath == "topk") return view.method == "topk" && !ternary;
  return d.datapath != "ternary" || ternary;
}

// True when the datapaths replay steps of different number or context.
bool unequal_work(const ReportData& data) {
  return std::any_of(data.datapaths.begin(), data.datapaths.end(), [&](const ReportDatapath& d) {
    const ReportDatapath& first = data.datapaths.front();
    return d.steps != first.steps || d.context_max != first.context_max;
  });
}

std::string per_mille_change(double share) {
  const double percent = 100 * std::abs(share);
  return significant(percent, percent < 1 ? 2 : 3) + " %";
}

}  // namespace

double energy_ratio(const ReportData& data, const ReportDatapath& datapath) {
  const ReportDatapath* mac = data.baseline();
  return mac == nullptr || mac->energy_per_step == 0
             ? 0
             : datapath.energy_per_step / mac->energy_per_step;
}

double time_ratio(const ReportData& data, const ReportDatapath& datapath) {
  const ReportDatapath* mac = data.baseline();
  return mac == nullptr || mac->time_per_step == 0 ? 0
                                                   : datapath.time_per_step / mac->time_per_step;
}

std::string questions_right(const ReportData& data, const ReportDatapath& datapath) {
  const TraceView* view = data.trace_of(datapath);
  if (view == nullptr || view->asked() == 0 || !decoded_this_way(datapath, *view)) return {};
  return fmt::format("{} of {}", view->right(), view->asked());
}

std::string answer_sentence(const ReportData& data) {
  const ReportDatapath* mac = data.baseline();
  const ReportDatapath* rival = cheapest_rival(data);
  const Scales scales = common_scales(data);
  const auto energy = [&](const ReportDatapath& d) {
    return fmt::format("{}\u00a0{}", significant(d.energy_per_step * scales.energy.factor, 3),
                       scales.energy.unit);
  };
  if (mac == nullptr || rival == nullptr) {
    const ReportDatapath& d = data.datapaths.front();
    return fmt::format("{} spends {} on attention for each token", d.label, energy(d));
  }
  const double share = energy_ratio(data, *rival);
  std::string sentence =
      fmt::format("{} takes {} the attention energy of {}: {} against {} a token", rival->label,
                  ratio_text(share), mac->label, energy(*rival), energy(*mac));
  const std::string right = questions_right(data, *rival), right_mac = questions_right(data, *mac);
  if (!right.empty() && right == right_mac) {
    sentence += fmt::format("; both answer {} questions right", right);
  } else if (!right.empty()) {
    sentence += fmt::format("; it answers {} questions right", right);
    if (!right_mac.empty()) sentence += fmt::format(", {} {}", mac->label, right_mac);
  }
  return sentence;
}

std::string lede(const ReportData& data) {
  std::string text;
  const ReportDatapath& first = data.datapaths.front();
  text += fmt::format("Attention of {}{} replayed on {}, priced with {}{}. ",
                      first.model.empty() ? "a trace" : first.model,
                      first.context_max > 0
                          ? fmt::format(" at up to {} rows of context",
                                        grouped(static_cast<std::uint64_t>(first.context_max)))
                          : "",
                      first.dram, first.price_list,
                      first.dram_boundary.empty()
                          ? ""
                          : fmt::format(" (boundary of the DRAM prices: {})", first.dram_boundary));
  const ReportDatapath* mac = data.baseline();
  const ReportDatapath* rival = cheapest_rival(data);
  if (mac != nullptr && rival != nullptr && mac->weight_bytes > 0) {
    const double dense = mac->weight_bytes + mac->dense_kv_bytes / mac->steps;
    const double saved = (mac->requested_bytes() - rival->requested_bytes()) / dense;
    text += fmt::format(
        "Keys and values are {} of the bytes that a token reads at batch 1, so the whole token {} "
        "{} of its bytes with {}. ",
        per_mille_change(1 - mac->weight_bytes / dense), saved >= 0 ? "saves" : "costs",
        per_mille_change(saved), rival->label);
  }
  std::string agreement;
  for (const TraceView& view : data.traces) {
    if (!view.twin) continue;
    agreement += fmt::format("{}{} % ({})", agreement.empty() ? "" : ", ",
                             significant(100 * view.twin->top1_agreement, 3), view.name);
  }
  if (!agreement.empty()) {
    text += fmt::format(
        "The most likely next token is that of dense attention in {} of the steps. ", agreement);
  }
  if (unequal_work(data)) {
    text +=
        "The datapaths replay different traces, with different numbers of steps or rows of "
        "context; figures are a token. ";
  }
  return text;
}

std::string cards(const ReportData& data) {
  const Scales scales = common_scales(data);
  std::string out = "<div class=\"cards\">\n";
  for (const ReportDatapath& d : data.datapaths) {
    std::string rest = fmt::format(
        "{} {} a token", significant(d.time_per_step * scales.time.factor, 3), scales.time.unit);
    const double ratio = energy_ratio(data, d);
    if (ratio > 0 && &d != data.baseline())
      rest += fmt::format(" · {} energy of mac", ratio_text(ratio));
    const std::string right = questions_right(data, d);
    if (!right.empty()) rest += fmt::format(" · {} questions right", right);
    out += fmt::format(
        "<div class=\"card {}\"><div class=\"name\">{}</div><div class=\"big\">{} <small>{} a "
        "token</small></div>"
        "<div class=\"rest\">{}</div></div>\n",
        datapath_color(d.datapath), escape_html(d.label + " · " + method_text(d)),
        escape_html(significant(d.energy_per_step * scales.energy.factor, 3)),
        escape_html(scales.energy.unit), escape_html(rest));
  }
  return out + "</div>\n";
}

std::string answer_table(const ReportData& data) {
  const Scales scales = common_scales(data);
  HtmlTable table({{"Datapath", ""},
                   {"Selection", ""},
                   {"Energy", scales.energy.unit + " a token", true},
                   {"of mac", "", true},
                   {"Time", scales.time.unit + " a token", true},
                   {"of mac", "", true},
                   {"Bandwidth", "GB/s", true},
                   {"Logical", scales.bytes.unit + " a token", true},
                   {"Moved", scales.bytes.unit + " a token", true},
                   {"Row hits", "%", true},
                   {"Questions", "right", true}});
  for (const ReportDatapath& d : data.datapaths) {
    const std::string right = questions_right(data, d);
    table.add_row(
        {d.label, method_text(d), significant(d.energy_per_step * scales.energy.factor, 4),
         ratio_text(energy_ratio(data, d)), significant(d.time_per_step * scales.time.factor, 4),
         ratio_text(time_ratio(data, d)), significant(d.achieved_bandwidth * 1e-9, 3),
         significant(d.logical_bytes() * scales.bytes.factor, 3),
         significant(d.moved_bytes() * scales.bytes.factor, 3),
         significant(100 * d.row_hit_share, 3), right.empty() ? "–" : right},
        datapath_color(d.datapath));
  }
  return table.html("");
}

std::string answer_table_text(const ReportData& data) {
  const Scales scales = common_scales(data);
  std::size_t width = 8;
  for (const ReportDatapath& d : data.datapaths) width = std::max(width, d.label.size());
  std::string out =
      fmt::format("{:<{}}  {:>14}  {:>7}  {:>12}  {:>7}  {:>12}  {:>9}\n", "datapath", width,
                  "energy a token", "of mac", "time a token", "of mac", "moved bytes", "questions");
  for (const ReportDatapath& d : data.datapaths) {
    const auto with_unit = [](double value, const Scale& scale) {
      return significant(value * scale.factor, 4) + " " + scale.unit;
    };
    const std::string right = questions_right(data, d);
    out +=
        fmt::format("{:<{}}  {:>14}  {:>7}  {:>12}  {:>7}  {:>12}  {:>9}\n", d.label, width,
                    with_unit(d.energy_per_step, scales.energy), ratio_text(energy_ratio(data, d)),
                    with_unit(d.time_per_step, scales.time), ratio_text(time_ratio(data, d)),
                    with_unit(d.moved_bytes(), scales.bytes), right.empty() ? "-" : right);
  }
  return out;
}

std::string answer_table_json(const ReportData& data, const std::string& report_path) {
  nlohmann::ordered_json out;
  out["report"] = report_path;
  out["answer"] = answer_sentence(data);
  out["datapaths"] = nlohmann::ordered_json::array();
  for (const ReportDatapath& d : data.datapaths) {
    nlohmann::ordered_json row = {{"datapath", d.label},
                                  {"method", d.method},
                                  {"budget", d.budget},
                                  {"score_kind", d.score_kind},
                                  {"steps", d.steps},
                                  {"energy_per_token_J", d.energy_per_step},
                                  {"time_per_token_s", d.time_per_step},
                                  {"achieved_bytes_per_second", d.achieved_bandwidth},
                                  {"logical_bytes_per_token", d.logical_bytes()},
                                  {"requested_bytes_per_token", d.requested_bytes()},
                                  {"moved_bytes_per_token", d.moved_bytes()},
                                  {"row_hit_share", d.row_hit_share}};
    const double energy = energy_ratio(data, d), time = time_ratio(data, d);
    row["energy_of_mac"] =
        energy > 0 ? nlohmann::ordered_json(energy) : nlohmann::ordered_json(nullptr);
    row["time_of_mac"] = time > 0 ? nlohmann::ordered_json(time) : nlohmann::ordered_json(nullptr);
    if (const TraceView* view = data.trace_of(d)) {
      row["trace"] = view->content_hash;
      if (decoded_this_way(d, *view)) {
        row["questions_asked"] = view->asked();
        row["questions_right"] = view->right();
      }
    }
    out["datapaths"].push_back(std::move(row));
  }
  out["notes"] = data.notes;
  return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace stoat::sim
