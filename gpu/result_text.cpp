// Text and JSON of a capture's result.
#include "gpu/result_text.h"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "models/progress.h"
#include "models/version.h"

namespace stoat {
namespace {

using Json = nlohmann::ordered_json;

// Decoded text is any bytes; what is not UTF-8 becomes the replacement character.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// One line without control characters; at most `limit` bytes.
std::string one_line(const std::string& text, std::size_t limit) {
  std::string line;
  for (const char c : text) {
    if (line.size() >= limit) return line + "...";
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      line += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  return line;
}

std::string budget_text(const std::vector<std::uint32_t>& budgets) {
  return budgets.empty() ? "all rows" : fmt::format("budget {}", fmt::join(budgets, ","));
}

const char* score_name(ScoreKind kind) { return kind == ScoreKind::kExact ? "exact" : "ternary"; }

std::string per_layer(const std::vector<LayerSummary>& layers, double LayerSummary::*value) {
  std::string text;
  for (const LayerSummary& layer : layers)
    text += fmt::format("{}{:.1f}", text.empty() ? "" : " ", layer.*value);
  return text;
}

Json summary_json(const CaptureResult& result) {
  const CaptureSummary& summary = result.summary;
  Json layers = Json::array();
  for (const LayerSummary& layer : summary.layers) {
    Json entry{{"participation", layer.participation},
               {"rows_per_head", layer.rows_per_head},
               {"rows_per_kv_group", layer.rows_per_group}};
    if (summary.has_output_error) entry["output_error"] = layer.output_error;
    layers.push_back(std::move(entry));
  }
  Json json{{"steps", summary.steps},
            {"rows_per_head", summary.rows_per_head},
            {"rows_per_kv_group", summary.rows_per_group},
            {"value_rows_read", summary.value_rows_read},
            {"layers", std::move(layers)}};
  if (summary.has_output_error) json["output_error"] = summary.output_error;
  if (summary.has_twin) {
    json["twin_total_variation"] = summary.twin_total_variation;
    json["twin_top1_agreement"] = summary.twin_top1_agreement;
  }
  for (std::size_t i = 0; i < summary.probe_budgets.size(); ++i) {
    json["probes"].push_back(
        {{"budget", summary.probe_budgets[i]}, {"output_error", summary.probe_error[i]}});
  }
  for (const AccumulatorError& each : result.accumulator_errors) {
    json["accumulators"].push_back({{"format", accumulator_name(each.format)},
                                    {"mean_error", each.mean},
                                    {"worst_error", each.worst}});
  }
  if (result.touched.heads > 0) {
    json["touched_features_per_head"] =
        static_cast<double>(result.touched.by_heads) / static_cast<double>(result.touched.heads);
    json["touched_features_per_kv_group"] =
        static_cast<double>(result.touched.by_groups) / static_cast<double>(result.touched.groups);
  }
  return json;
}

Json answers_json(const CaptureResult& result) {
  Json answers = Json::array();
  for (const Answer& answer : result.answers) {
    Json entry{{"kind", answer.question.kind},
               {"question", answer.question.text},
               {"answer", answer.text}};
    if (answer.judged) {
      entry["expect"] = answer.question.expect;
      entry["correct"] = answer.correct;
    }
    answers.push_back(std::move(entry));
  }
  return answers;
}

void add_generated(Json& json, const CaptureResult& result, const SequenceResult& sequence) {
  json["generated_tokens"] = sequence.generated;
  if (result.has_text) json["generated_text"] = sequence.text;
}

Json result_object(const CaptureResult& result) {
  const TraceHeader& header = result.header;
  Json json{{"file", result.path},
            {"content_hash", result.content_hash},
            {"interrupted", result.interrupted},
            {"model", header.model_name},
            {"method", method_name(header.method)},
            {"budgets", header.budgets},
            {"score", score_name(header.score_kind)},
            {"seed", header.seed},
            {"prompt_tokens", result.prompt_tokens},
            {"decoded_tokens", result.steps.size()}};
  if (header.score_kind == ScoreKind::kTernary) {
    json["ternary"] = {{"draws", header.ternary.draws},
                       {"coupling", coupling_name(header.ternary.coupling)},
                       {"normaliser", normaliser_name(header.ternary.normaliser)}};
  }
  json["answers"] = answers_json(result);
  if (result.sequences.size() == 1) {
    add_generated(json, result, result.sequences.front());
  } else {
    for (const SequenceResult& sequence : result.sequences) {
      json["sequences"].push_back({{"prompt_tokens", sequence.prompt_tokens}});
      add_generated(json["sequences"].back(), result, sequence);
    }
  }
  json["summary"] = summary_json(result);
  return json;
}

std::string answers_table(const CaptureResult& result) {
  std::string text;
  for (const KindScore& score : scores_by_kind(result.answers)) {
    if (score.judged > 0) {
      text += fmt::format("{:<13} {} of {} correct\n", one_line(score.kind, 12), score.correct,
                          score.judged);
    }
  }
  for (const Answer& answer : result.answers) {
    const char* verdict = !answer.judged ? "-" : answer.correct ? "right" : "wrong";
    text += fmt::format("  {:<5} {:<32} {}", verdict, one_line(answer.question.text, 32),
                        one_line(answer.text, 40));
    if (answer.judged && !answer.correct)
      text += fmt::format("  (expected {})", one_line(answer.question.expect, 40));
    text += "\n";
  }
  return text;
}

// One file as text, several as a list.
Json files_json(const std::vector<std::string>& files) {
  if (files.size() < 2) return files.empty() ? "" : files.front();
  return files;
}

}  // namespace

std::string result_table(const CaptureResult& result) {
  const TraceHeader& header = result.header;
  const CaptureSummary& summary = result.summary;
  std::string text = fmt::format(
      "{:<13} {} in the prompt{}, {} decoded{}\n", "tokens", result.prompt_tokens,
      result.sequences.size() > 1 ? "s" : "", result.steps.size(),
      result.sequences.size() > 1 ? fmt::format(" in each of {}", result.sequences.size()) : "");
  text += fmt::format("{:<13} {}, {}, {} scores, seed {}\n", "method", method_name(header.method),
                      budget_text(header.budgets), score_name(header.score_kind), header.seed);
  text += answers_table(result);
  for (const SequenceResult& sequence : result.sequences) {
    if (!sequence.generated.empty() && result.has_text)
      text += fmt::format("{:<13} {}\n", "text", one_line(sequence.text, 200));
  }
  text += fmt::format("{:<13} {:.1f} a head, {:.1f} a KV group (union), {:.2f} % of the V rows\n",
                      "rows read", summary.rows_per_head, summary.rows_per_group,
                      100 * summary.value_rows_read);
  if (result.touched.heads > 0) {
    text += fmt::format(
        "{:<13} {:.1f} a head, {:.1f} a KV group, of {}\n", "features",
        static_cast<double>(result.touched.by_heads) / static_cast<double>(result.touched.heads),
        static_cast<double>(result.touched.by_groups) / static_cast<double>(result.touched.groups),
        header.head_dim);
  }
  text += fmt::format("{:<13} {} (mean 1/sum p^2 by layer)\n", "participation",
                      per_layer(summary.layers, &LayerSummary::participation));
  if (summary.has_output_error)
    text += fmt::format("{:<13} {:.4f} relative, mean\n", "output error", summary.output_error);
  if (summary.has_twin) {
    text += fmt::format(
        "{:<13} total variation {:.4f} mean, top-1 agreement {:.1f} % (against the dense twin)\n",
        "next token", summary.twin_total_variation, 100 * summary.twin_top1_agreement);
  }
  for (std::size_t i = 0; i < summary.probe_budgets.size(); ++i) {
    text += fmt::format("{:<13} output error {:.4f} at budget {}\n", i == 0 ? "probes" : "",
                        summary.probe_error[i], summary.probe_budgets[i]);
  }
  for (std::size_t i = 0; i < result.accumulator_errors.size(); ++i) {
    const AccumulatorError& each = result.accumulator_errors[i];
    text +=
        fmt::format("{:<13} {} {:.2e} relative, mean; worst {:.2e}\n", i == 0 ? "accumulator" : "",
                    accumulator_name(each.format), each.mean, each.worst);
  }
  text += fmt::format("{:<13} {} ({})\n", "trace", result.path, result.content_hash);
  return text;
}

std::string result_json(const CaptureResult& result) { return dump(result_object(result)); }

std::string run_file_json(const CaptureResult& result, const CaptureOptions& options) {
  Json json{{"format", "stoat-capture-run"},
            {"tool_version", tool_version()},
            {"build_id", build_id()},
            {"result", result_object(result)}};
  json["options"] = {{"model", options.model},
                     {"prompt", files_json(options.prompt_files)},
                     {"tokens", files_json(options.tokens_files)},
                     {"batch", result.sequences.size()},
                     {"page_size", options.page_size},
                     {"questions", options.questions_file},
                     {"budget", options.budget},
                     {"stats", options.full_stats ? "full" : "fast"},
                     {"scores", options.score_layers},
                     {"probe_budgets", options.probe_budgets},
                     {"ignore_eos", options.ignore_eos},
                     {"temperature", options.choice.temperature},
                     {"top_p", options.choice.top_p},
                     {"random_weights", options.random_weights}};
  char host[256] = "";
  if (::gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  json["run"] = {{"host", host},
                 {"backend", result.backend},
                 {"threads", result.threads},
                 {"load_s", result.times.load},
                 {"prefill_s", result.times.prefill},
                 {"decode_s", result.times.decode},
                 {"finish_s", result.times.finish}};
  Json steps = Json::array();
  for (const StepSummary& step : result.steps) {
    Json entry{{"step", step.step},
               {"token", step.token},
               {"context", step.context},
               {"rows_per_head", step.rows_per_head},
               {"rows_per_kv_group", step.rows_per_group}};
    if (result.summary.has_output_error) entry["output_error"] = step.output_error;
    if (result.summary.has_twin) {
      entry["twin_total_variation"] = step.twin_total_variation;
      entry["twin_top1_agrees"] = step.twin_top1_agrees;
    }
    steps.push_back(std::move(entry));
  }
  json["steps"] = std::move(steps);
  return dump(json);
}

}  // namespace stoat
