// See verb_sim_choice.h.
#include "sim/verb_sim_choice.h"

#include "models/error.h"

namespace stoat::sim {
namespace {

std::string ternary_command(const TraceHeader& header) {
  const std::string method = header.method == Method::kDense || header.method == Method::kTopK
                                 ? "prop"
                                 : std::string(method_name(header.method));
  const std::string budget = header.budgets.size() == 1 && header.method != Method::kDense
                                 ? std::to_string(header.budgets[0])
                                 : "128";
  const std::string tail =
      " --method " + method + " --budget " + budget + " --score ternary --ternary-draws 4 -o FILE";
  return header.origin == "synth" ? "stoat trace synth" + tail
                                  : "stoat capture --model DIR --prompt FILE" + tail;
}

// Why a datapath cannot run on this trace; empty when it can.
std::string obstacle(const Datapath& datapath, const TraceHeader& header) {
  const std::string name(datapath.name);
  if (datapath.gather == &kGatherAdd &&
      (header.method == Method::kDense || header.method == Method::kTopK)) {
    return name + " needs sampled rows and this trace was recorded with --method " +
           std::string(method_name(header.method)) + ": capture with --method prop --budget 128";
  }
  if (datapath.score == &kScoreTernary && header.score_kind != ScoreKind::kTernary) {
    return name +
           " needs a capture of its own, since ternary scores also change which rows are drawn: " +
           ternary_command(header);
  }
  if (datapath.select == &kSelectTopK && header.method != Method::kTopK) {
    return name + " needs a trace recorded with --method topk";
  }
  return {};
}

}  // namespace

std::vector<const Datapath*> choose(const std::string& wanted, const TraceHeader& header,
                                    std::vector<std::string>& notes) {
  std::vector<const Datapath*> chosen;
  if (wanted != "all") {
    const Datapath& one = datapath_from_name(wanted);
    const std::string why = obstacle(one, header);
    if (!why.empty()) throw usage_error({}, why);
    return {&one};
  }
  for (const Datapath& each : datapaths()) {
    const std::string why = obstacle(each, header);
    if (why.empty()) {
      chosen.push_back(&each);
    } else if (each.select != &kSelectTopK) {  // the rival is not missed in every table
      notes.push_back(why);
    }
  }
  return chosen;
}

void add_notes(const TraceHeader& header, const DesignPoint& point, SimReport& report) {
  const bool ternary = header.score_kind == ScoreKind::kTernary;
  if (ternary && point.k_layout == KLayout::kTokenMajor) {
    report.notes.emplace_back(
        "K is token-major: a burst holds neighbouring features of one token, so untouched features "
        "save no burst; "
        "--set mapping.k_layout=feature_major reads only touched ones.");
  }
  if (ternary && header.ternary.coupling == TernaryCoupling::kGroupMean) {
    report.notes.emplace_back(
        "Ternary, group-mean: every touched feature is reweighted, one multiplication a key.");
  } else if (ternary) {
    const bool shifts = header.ternary.normaliser == TernaryNormaliser::kPow2 &&
                        (header.ternary.draws & (header.ternary.draws - 1)) == 0;
    report.notes.emplace_back(
        shifts ? "Ternary scores: only folding log2(e)/sqrt(d) into the query multiplies (head_dim "
                 "a head and layer)."
               : "Ternary scores: folding log2(e)/sqrt(d) into the query, and one multiplication a "
                 "key and head "
                 "remain; --ternary-normaliser pow2 and draws a power of two leave shifts.");
  }
  if (ternary)
    report.notes.emplace_back(
        "mac and gather_add use the rows of this trace, drawn with ternary scores.");
  const std::string element(element_name(point.element));
  if (header.kv_dtype != element) {
    report.notes.push_back("KV elements are simulated as " + element +
                           ", the trace was recorded with " + header.kv_dtype + ".");
  }
}

}  // namespace stoat::sim
