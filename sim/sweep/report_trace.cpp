// One pass over a trace for the report. See report_trace.h.
#include "sim/sweep/report_trace.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/files.h"
#include "models/sampling/selection.h"
#include "traces/reader.h"

namespace stoat::sim {
namespace {

constexpr std::uint32_t kRowBins = 240, kStepBins = 120, kRecentRows = 64, kStepsAtOnce = 16;

// Sums of one pass; turned into the view's means at the end.
struct Sums {
  std::uint32_t step = 0;  // index of the step being read
  std::uint32_t steps_per_bin = 1;
  std::uint64_t draws = 0, first = 0, recent = 0, sampled_records = 0;
  double even_recent = 0, distinct_share = 0;
  std::uint32_t context = 0;
  std::vector<std::map<std::uint32_t, std::uint64_t>>
      heads_at;  // [step bin] context -> sampled records
  std::vector<std::map<std::uint32_t, std::uint64_t>> draws_at;  // [step bin] 16-row block -> draws
  std::vector<double> participation, mass_first;                 // [layers]
  std::vector<std::uint64_t> layer_records;                      // [layers]
  std::vector<std::uint32_t> budgets;
  std::vector<std::vector<float>> errors;  // [layer * budgets + budget]
  double twin_variation = 0, twin_agreement = 0, output_error = 0;
  std::uint64_t twin_steps = 0, error_records = 0;
};

constexpr std::uint32_t kBlock = 8;  // rows that are counted together while reading

void add_accesses(const TraceRecords& r, std::size_t i, Sums& sums) {
  if (r.kind[i] != RecordKind::kSampled) return;
  const std::uint32_t context = r.context[i];
  const std::uint32_t bin = sums.step / sums.steps_per_bin;
  ++sums.heads_at[bin][context];
  ++sums.sampled_records;
  sums.context = std::max(sums.context, context);
  for (std::uint64_t k = r.value_indptr[i]; k < r.value_indptr[i + 1]; ++k) {
    const std::uint32_t row = r.row[k];
    const std::uint64_t count = r.count[k];
    sums.draws_at[bin][row / kBlock] += count;
    sums.draws += count;
    if (row == 0) sums.first += count;
    if (row + kRecentRows >= context) sums.recent += count;
  }
  if (context > 0) {
    sums.even_recent += std::min(1.0, static_cast<double>(kRecentRows) / context);
    sums.distinct_share += static_cast<double>(r.value_indptr[i + 1] - r.value_indptr[i]) / context;
  }
}

void add_statistics(const TraceRecords& r, std::size_t i, Sums& sums) {
  const std::size_t layer = r.layer[i];
  if (layer >= sums.layer_records.size()) return;
  const StatColumns& s = r.stats;
  ++sums.layer_records[layer];
  if (!s.participation.empty())
    sums.participation[layer] += static_cast<double>(s.participation[i]);
  if (!s.mass_token0.empty()) sums.mass_first[layer] += static_cast<double>(s.mass_token0[i]);
  if (!s.output_error.empty()) {
    sums.output_error += static_cast<double>(s.output_error[i]);
    ++sums.error_records;
  }
  if (r.probe_budget.empty() || r.probe_error.empty()) return;
  if (sums.budgets.empty()) {
    sums.budgets = r.probe_budget;
    sums.errors.resize(sums.layer_records.size() * sums.budgets.size());
  }
  for (std::size_t b = 0; b < sums.budgets.size(); ++b) {
    const float error = r.probe_error[i * sums.budgets.size() + b];
    if (std::isfinite(error)) sums.errors[layer * sums.budgets.size() + b].push_back(error);
  }
}

void add_slice(const TraceRecords& records, std::uint32_t first_step, Sums& sums) {
  std::uint32_t index = first_step;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const bool new_step =
        i > 0 && (records.step[i] != records.step[i - 1] || records.seq[i] != records.seq[i - 1]);
    if (i > 0 && records.step[i] != records.step[i - 1]) ++index;
    sums.step = index;
    if ((i == 0 || new_step) && !records.stats.twin_total_variation.empty()) {
      const float variation = records.stats.twin_total_variation[i];
      if (std::isfinite(variation)) {
        sums.twin_variation += static_cast<double>(variation);
        sums.twin_agreement += static_cast<double>(records.stats.twin_top1_agreement[i]);
        ++sums.twin_steps;
      }
    }
    add_accesses(records, i, sums);
    add_statistics(records, i, sums);
  }
}

AccessMap make_map(const Sums& sums, std::uint32_t steps) {
  AccessMap map;
  if (sums.sampled_records == 0 || sums.draws == 0) return map;
  map.context = sums.context;
  map.steps = steps;
  map.steps_per_bin = sums.steps_per_bin;
  const std::uint32_t wanted = (sums.context + kRowBins - 1) / kRowBins;
  map.rows_per_bin = std::max(kBlock, (wanted + kBlock - 1) / kBlock * kBlock);
  const std::uint32_t bins = (sums.context + map.rows_per_bin - 1) / map.rows_per_bin;
  for (std::size_t s = 0; s < sums.draws_at.size(); ++s) {
    std::vector<double> rows(bins, 0.0), room(bins, 0.0);
    for (const auto& [block, draws] : sums.draws_at[s]) {
      rows[std::min(bins - 1, block * kBlock / map.rows_per_bin)] += static_cast<double>(draws);
    }
    for (const auto& [context, heads] : sums.heads_at[s]) {
      for (std::uint32_t b = 0; b < bins && b * map.rows_per_bin < context; ++b) {
        room[b] += static_cast<double>(std::min(map.rows_per_bin, context - b * map.rows_per_bin)) *
                   static_cast<double>(heads);
      }
    }
    for (std::uint32_t b = 0; b < bins; ++b) {
      rows[b] = room[b] > 0 ? rows[b] / room[b] : std::numeric_limits<double>::quiet_NaN();
    }
    map.reads.push_back(std::move(rows));
  }
  const auto draws = static_cast<double>(sums.draws);
  map.share_first = static_cast<double>(sums.first) / draws;
  map.share_recent = static_cast<double>(sums.recent) / draws;
  map.share_even_recent = sums.even_recent / static_cast<double>(sums.sampled_records);
  map.distinct_share = sums.distinct_share / static_cast<double>(sums.sampled_records);
  return map;
}

double quantile(std::vector<float>& values, double q) {
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return static_cast<double>(values[static_cast<std::size_t>(at)]);
}

std::vector<ProbePoint> make_probes(Sums& sums) {
  std::vector<ProbePoint> probes;
  for (std::size_t layer = 0; layer < sums.layer_records.size(); ++layer) {
    for (std::size_t b = 0; b < sums.budgets.size(); ++b) {
      std::vector<float>& errors = sums.errors[layer * sums.budgets.size() + b];
      if (errors.empty()) continue;
      probes.push_back({static_cast<std::uint32_t>(layer), sums.budgets[b], quantile(errors, 0.1),
                        quantile(errors, 0.5), quantile(errors, 0.9), errors.size()});
    }
  }
  return probes;
}

void describe(const TraceReader& reader, TraceView& view) {
  const TraceHeader& header = reader.header();
  view.name = std::filesystem::path(reader.path()).filename().string();
  view.method = method_name(header.method);
  view.score_kind = header.score_kind == ScoreKind::kTernary ? "ternary" : "exact";
  for (const std::uint32_t budget : header.budgets) {
    view.budget += (view.budget.empty() ? "" : ";") + std::to_string(budget);
  }
  view.model = header.model_name;
  view.content_hash = reader.content_hash();
  view.origin = header.origin;
  view.kv_dtype = header.kv_dtype;
  view.prompt_hash = header.prompt_hash;
  view.seed = header.seed;
  view.records = reader.records();
  view.steps = reader.steps();
  view.layers = header.n_layers;
  view.query_heads = header.n_q_heads;
  view.kv_heads = header.n_kv_heads;
  view.head_dim = header.head_dim;
}

std::string text_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

std::uint64_t TraceView::asked() const {
  return static_cast<std::uint64_t>(std::count_if(
      answers.begin(), answers.end(), [](const AnsweredQuestion& a) { return a.judged; }));
}

std::uint64_t TraceView::right() const {
  return static_cast<std::uint64_t>(
      std::count_if(answers.begin(), answers.end(),
                    [](const AnsweredQuestion& a) { return a.judged && a.correct; }));
}

AccessMap access_map(const std::vector<TraceRecords>& steps, bool by_head) {
  std::uint32_t heads = 0, lines = static_cast<std::uint32_t>(steps.size());
  for (const TraceRecords& step : steps) {
    for (std::size_t i = 0; i < step.size(); ++i) heads = std::max(heads, step.q_head[i] + 1U);
  }
  if (by_head) {
    lines = 0;
    for (const TraceRecords& step : steps) {
      for (std::size_t i = 0; i < step.size(); ++i)
        lines = std::max(lines, step.layer[i] * heads + step.q_head[i] + 1U);
    }
  }
  Sums sums;
  sums.steps_per_bin = std::max(1U, (lines + kStepBins - 1) / kStepBins);
  sums.heads_at.resize((lines + sums.steps_per_bin - 1) / sums.steps_per_bin);
  sums.draws_at.resize(sums.heads_at.size());
  for (std::size_t s = 0; s < steps.size(); ++s) {
    for (std::size_t i = 0; i < steps[s].size(); ++i) {
      sums.step =
          by_head ? steps[s].layer[i] * heads + steps[s].q_head[i] : static_cast<std::uint32_t>(s);
      add_accesses(steps[s], i, sums);
    }
  }
  AccessMap map = make_map(sums, lines);
  map.by_head = by_head;
  return map;
}

TraceView read_trace_view(const std::string& path) {
  const TraceReader reader(path);
  TraceView view;
  describe(reader, view);
  Sums sums;
  sums.steps_per_bin = std::max(1u, (view.steps + kStepBins - 1) / kStepBins);
  const std::size_t step_bins = (view.steps + sums.steps_per_bin - 1) / sums.steps_per_bin;
  sums.heads_at.resize(step_bins);
  sums.draws_at.resize(step_bins);
  sums.participation.resize(view.layers);
  sums.mass_first.resize(view.layers);
  sums.layer_records.resize(view.layers);
  for (std::uint32_t step = 0; step < view.steps; step += kStepsAtOnce) {
    add_slice(reader.read_steps(step, std::min(kStepsAtOnce, view.steps - step)), step, sums);
  }
  view.map = make_map(sums, view.steps);
  view.probes = make_probes(sums);
  for (std::uint32_t layer = 0; layer < view.layers; ++layer) {
    const auto n = static_cast<double>(sums.layer_records[layer]);
    if (n > 0)
      view.layer_stats.push_back(
          {layer, sums.participation[layer] / n, sums.mass_first[layer] / n});
  }
  if (sums.twin_steps > 0) {
    const auto n = static_cast<double>(sums.twin_steps);
    view.twin = TwinStats{sums.twin_variation / n, sums.twin_agreement / n, sums.twin_steps};
  }
  if (sums.error_records > 0)
    view.output_error = sums.output_error / static_cast<double>(sums.error_records);
  const std::string side = path + ".run.json";
  std::error_code ignored;
  if (std::filesystem::exists(side, ignored))
    read_side_file(read_file(side, 256u << 20), side, view);
  return view;
}

void read_side_file(const std::string& json, const std::string& path, TraceView& view) {
  const nlohmann::json root = nlohmann::json::parse(json, nullptr, false);
  constexpr const char* kRemedy = "remove it, or record the trace again";
  if (root.is_discarded() || !root.is_object() || !root.contains("result") ||
      !root["result"].is_object()) {
    throw damaged_error({path}, "no JSON object with a 'result'",
                        "the side file that `stoat capture` writes beside a trace", kRemedy);
  }
  const nlohmann::json& result = root["result"];
  if (text_of(result, "content_hash") != view.content_hash) {
    throw damaged_error({path}, "it belongs to the trace " + text_of(result, "content_hash"),
                        "content hash " + view.content_hash, kRemedy);
  }
  view.side_file = true;
  const auto tokens = result.find("prompt_tokens");
  if (tokens != result.end() && tokens->is_number_unsigned())
    view.prompt_tokens = tokens->get<std::uint64_t>();
  const auto answers = result.find("answers");
  if (answers == result.end() || !answers->is_array()) return;
  for (const nlohmann::json& item : *answers) {
    if (!item.is_object())
      throw damaged_error({path}, "an answer that is not an object", "", kRemedy);
    AnsweredQuestion answer;
    answer.kind = text_of(item, "kind");
    answer.question = text_of(item, "question");
    answer.expected = text_of(item, "expect");
    answer.answer = text_of(item, "answer");
    const auto correct = item.find("correct");
    answer.judged = correct != item.end() && correct->is_boolean();
    answer.correct = answer.judged && correct->get<bool>();
    view.answers.push_back(std::move(answer));
  }
}

}  // namespace stoat::sim
