// One layer of one step: draw ternary queries by KV group, run the heads side by side, then append
// their records in order.
#include "gpu/cpu_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/attention/decode.h"
#include "models/error.h"

namespace stoat {
namespace {

// What one query head of one layer leaves behind.
struct HeadRecord {
  Selection selection;
  ScoreCodes codes;  // kept for score records
  SoftmaxStats stats;
  double output_error = 0;
  std::vector<float> probe_error;         // [probe budgets]
  std::vector<double> accumulator_error;  // [accumulators]
};

// Relative error of each format's sum of the rows that were read, against the same sum in double.
// Sampled: (1/S) sum of count * v; dense (no rows selected): sum of p * v.
std::vector<double> accumulator_errors_of(const std::vector<AccumulatorFormat>& formats,
                                          const Selection& selection, std::uint32_t budget,
                                          std::span<const double> p, const KvRows& values) {
  float largest = 0;  // the running maximum that a cache keeps with a head
  for (std::uint32_t row = 0; row < values.context_len; ++row) {
    for (std::uint32_t d = 0; d < values.head_dim; ++d) {
      largest = std::max(largest, std::fabs(to_float(values.data[row * values.row_stride + d])));
    }
  }
  std::vector<CountedRow> rows;
  std::vector<double> weights;
  const bool dense = selection.rows.empty();
  for (const RowCount& each : selection.rows) {
    rows.push_back({values.data + each.row * values.row_stride, each.count});
    weights.push_back(static_cast<double>(each.count) / budget);
  }
  for (std::uint32_t row = 0; dense && row < values.context_len; ++row) {
    rows.push_back({values.data + row * values.row_stride, 1});
    weights.push_back(p[row]);
  }
  std::vector<double> exact(values.head_dim, 0.0), errors;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::uint32_t d = 0; d < values.head_dim; ++d)
      exact[d] += weights[i] * static_cast<double>(to_float(rows[i].values[d]));
  }
  // Rounded probabilities may sum to a little more than one.
  const SharedExponent shared = shared_exponent(largest, dense ? 2 : budget);
  for (const AccumulatorFormat format : formats) {
    const std::vector<double> lane =
        dense ? gather_weighted(rows, weights, values.head_dim, format, shared)
              : gather_counted(rows, values.head_dim, budget, format, Repeats::kShiftAdds, shared);
    errors.push_back(relative_error(lane, exact));
  }
  return errors;
}

struct HeadSite {
  DrawSite draw;
  std::uint32_t budget = 0;
  bool keep_codes = false;
};

std::vector<double> widened(std::span<const float> values) {
  return {values.begin(), values.end()};
}

std::vector<float> narrowed(std::span<const double> values) {
  std::vector<float> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = static_cast<float>(values[i]);
  return result;
}

void append_stats(StatColumns& columns, const HeadRecord& head, bool full) {
  const auto push = [](std::vector<float>& column, double value) {
    column.push_back(static_cast<float>(value));
  };
  push(columns.lse, head.stats.lse);
  push(columns.max, head.stats.max);
  push(columns.entropy, head.stats.entropy);
  push(columns.mass_top1, head.stats.mass_top1);
  push(columns.mass_token0, head.stats.mass_token0);
  push(columns.participation, head.stats.participation);
  if (!full) return;
  push(columns.mass_top8, head.stats.mass_top8);
  push(columns.mass_top32, head.stats.mass_top32);
  push(columns.output_error, head.output_error);
}

void append_key_draws(TraceRecords& records, const TernaryGroup& group, std::uint32_t head) {
  const std::size_t sign_bytes = group.head_dim / 8;
  const std::size_t mask_bytes = group.draws * sign_bytes;
  const auto slice = [](const std::vector<std::uint8_t>& bytes, std::size_t first,
                        std::size_t count) { return std::span(bytes).subspan(first, count); };
  const auto mask = slice(group.mask, head * mask_bytes, mask_bytes);
  const auto sign = slice(group.sign, head * sign_bytes, sign_bytes);
  records.key_mask.insert(records.key_mask.end(), mask.begin(), mask.end());
  records.key_sign.insert(records.key_sign.end(), sign.begin(), sign.end());
  records.draw_indptr.push_back(records.draw_indptr.back() + group.draws);
}

void append_scores(TraceRecords& records, const ScoreCodes& codes, std::size_t record) {
  records.score_record.push_back(record);
  records.score_code.insert(records.score_code.end(), codes.code.begin(), codes.code.end());
  records.score_indptr.push_back(records.score_code.size());
  records.score_exponent.insert(records.score_exponent.end(), codes.exponent.begin(),
                                codes.exponent.end());
  records.score_tile_indptr.push_back(records.score_exponent.size());
}

}  // namespace

std::uint32_t RecordingOptions::budget_of_layer(std::uint32_t layer) const {
  if (method == Method::kDense) return 0;
  STOAT_ENSURE(!budgets.empty() && (budgets.size() == 1 || layer < budgets.size()),
               "one budget, or one a layer");
  return budgets.size() == 1 ? budgets.front() : budgets[layer];
}

struct RecordingAttention::State {
  ModelConfig config;
  double scale;
  RecordingOptions options;
  ThreadPool& pool;
  std::uint32_t step = 0, sequence = 0;
  TraceRecords records;
  TouchedFeatures touched;
  std::vector<double> accumulator_sum, accumulator_worst;  // [accumulators]
  std::uint64_t accumulator_heads = 0;

  void run_layer(std::uint32_t layer, std::span<const float> q, const KvCache& cache,
                 std::uint32_t context_len, std::span<float> out);
  HeadRecord run_head(const HeadSite& site, std::span<const float> exact_q,
                      std::span<const float> used_q, const KvRows& keys, const KvRows& values,
                      std::span<float> out) const;
  std::vector<TernaryGroup> draw_groups(std::span<const float> q, const DrawSite& site);
  void append(std::uint32_t layer, std::uint32_t head, std::uint32_t context_len,
              const HeadRecord& record, const TernaryGroup* group);
};

// exact_q, used_q: [head_dim]; they differ for ternary scores. out: [head_dim].
HeadRecord RecordingAttention::State::run_head(const HeadSite& site, std::span<const float> exact_q,
                                               std::span<const float> used_q, const KvRows& keys,
                                               const KvRows& values, std::span<float> out) const {
  HeadRecord head;
  const std::vector<double> logits = score(widened(used_q), keys, scale);
  const std::vector<double> p = softmax(logits);
  head.stats = softmax_stats(logits, p);

  std::vector<double> exact;  // the exact output that errors are measured against
  if (options.full_stats || !options.probe_budgets.empty()) {
    const bool same_scores = options.score_kind == ScoreKind::kExact;
    exact = gather_dense(same_scores ? p : softmax(score(widened(exact_q), keys, scale)), values);
  }
  std::vector<double> output;
  if (options.method == Method::kDense) {
    output = gather_dense(p, values);
    if (site.keep_codes) head.codes = encode_scores(narrowed(logits));
  } else {
    ScoreCodes codes = encode_scores(narrowed(logits));
    const Ruler ruler(codes);
    const auto draw = [&](std::uint32_t budget, Selection& selection) {
      selection = select_rows(options.method, codes, ruler, budget, site.draw);
      if (options.method == Method::kSystematic || options.method == Method::kProp) {
        STOAT_ENSURE(counts_within_one(ruler, selection, budget),
                     "every count is the floor or ceiling of S * p");
      }
      return gather_selected(selection.rows, selection_weights(options.method, codes, selection),
                             values);
    };
    output = draw(site.budget, head.selection);
    for (const std::uint32_t budget : options.probe_budgets) {
      Selection probe;
      head.probe_error.push_back(static_cast<float>(relative_error(draw(budget, probe), exact)));
    }
    if (site.keep_codes) head.codes = std::move(codes);
  }
  if (options.full_stats) head.output_error = relative_error(output, exact);
  if (!options.accumulators.empty()) {
    head.accumulator_error =
        accumulator_errors_of(options.accumulators, head.selection, site.budget, p, values);
  }
  for (std::size_t d = 0; d < out.size(); ++d) out[d] = static_cast<float>(output[d]);
  return head;
}

std::vector<TernaryGroup> RecordingAttention::State::draw_groups(std::span<const float> q,
                                                                 const DrawSite& site) {
  std::vector<TernaryGroup> groups(config.n_kv_heads);
  const std::size_t group_values = std::size_t{config.group()} * config.head_dim;
  pool.for_chunks(groups.size(), [&](std::size_t g) {
    DrawSite group_site = site;
    group_site.query_head = static_cast<std::uint16_t>(g * config.group());
    groups[g] = draw_ternary(q.subspan(g * group_values, group_values), config.group(),
                             config.head_dim, options.ternary, group_site);
  });
  for (const TernaryGroup& group : groups) {
    touched.by_groups += group.touched_by_group();
    ++touched.groups;
    for (std::uint32_t h = 0; h < group.heads; ++h) touched.by_heads += group.touched_features(h);
    touched.heads += group.heads;
  }
  return groups;
}

void RecordingAttention::State::append(std::uint32_t layer, std::uint32_t head,
                                       std::uint32_t context_len, const HeadRecord& record,
                                       const TernaryGroup* group) {
  const std::uint32_t kv_head = head / config.group();
  append_record(records, sequence, step, static_cast<std::uint16_t>(layer),
                static_cast<std::uint16_t>(head), static_cast<std::uint16_t>(kv_head), context_len,
                options.method == Method::kDense ? RecordKind::kDense : RecordKind::kSampled,
                options.budget_of_layer(layer), record.selection);
  append_stats(records.stats, record, options.full_stats);
  if (group != nullptr) append_key_draws(records, *group, head % config.group());
  if (!record.codes.code.empty()) append_scores(records, record.codes, records.size() - 1);
  accumulator_sum.resize(record.accumulator_error.size(), 0.0);
  accumulator_worst.resize(record.accumulator_error.size(), 0.0);
  for (std::size_t i = 0; i < record.accumulator_error.size(); ++i) {
    accumulator_sum[i] += record.accumulator_error[i];
    accumulator_worst[i] = std::max(accumulator_worst[i], record.accumulator_error[i]);
  }
  ++accumulator_heads;
  records.probe_error.insert(records.probe_error.end(), record.probe_error.begin(),
                             record.probe_error.end());
}

// q, out: [q_heads, head_dim].
void RecordingAttention::State::run_layer(std::uint32_t layer, std::span<const float> q,
                                          const KvCache& cache, std::uint32_t context_len,
                                          std::span<float> out) {
  HeadSite site;
  site.draw =
      DrawSite{options.seed, sequence, context_len - 1, static_cast<std::uint16_t>(layer), 0};
  site.budget = options.budget_of_layer(layer);
  site.keep_codes = layer < options.score_layers.size() && options.score_layers[layer];

  std::vector<TernaryGroup> groups;
  if (options.score_kind == ScoreKind::kTernary) groups = draw_groups(q, site.draw);
  std::vector<HeadRecord> heads(config.n_q_heads);
  pool.for_chunks(heads.size(), [&](std::size_t h) {
    const auto kv_head = static_cast<std::uint32_t>(h / config.group());
    const std::size_t first = h * config.head_dim;
    const std::span<const float> exact_q = q.subspan(first, config.head_dim);
    std::span<const float> used_q = exact_q;
    if (!groups.empty()) {
      used_q = std::span<const float>(groups[kv_head].effective)
                   .subspan(h % config.group() * config.head_dim, config.head_dim);
    }
    HeadSite head_site = site;
    head_site.draw.query_head = static_cast<std::uint16_t>(h);
    heads[h] =
        run_head(head_site, exact_q, used_q, cache.keys(layer, kv_head, context_len),
                 cache.values(layer, kv_head, context_len), out.subspan(first, config.head_dim));
  });
  for (std::uint32_t h = 0; h < heads.size(); ++h) {
    append(layer, h, context_len, heads[h], groups.empty() ? nullptr : &groups[h / config.group()]);
  }
}

RecordingAttention::RecordingAttention(const ModelConfig& config, double scale,
                                       RecordingOptions options, ThreadPool& pool)
    : state_(new State{config, scale, std::move(options), pool, 0, 0, {}, {}, {}, {}, 0}) {
  STOAT_ENSURE(state_->options.method != Method::kDense || state_->options.probe_budgets.empty(),
               "dense attention has no budget to probe");
}

RecordingAttention::~RecordingAttention() = default;

void RecordingAttention::begin_step(std::uint32_t step) {
  state_->step = step;
  state_->records = TraceRecords{};
  state_->records.probe_budget = state_->options.probe_budgets;
}

void RecordingAttention::begin_sequence(std::uint32_t sequence, std::int32_t token) {
  state_->sequence = sequence;
  state_->records.token_id.push_back(token);
}

DecodeAttention RecordingAttention::callback() {
  return [state = state_.get()](std::uint32_t layer, std::span<const float> q, const KvCache& cache,
                                std::uint32_t context_len, std::span<float> out) {
    state->run_layer(layer, q, cache, context_len, out);
  };
}

void RecordingAttention::set_twin(double total_variation, bool top1_agrees) {
  StatColumns& stats = state_->records.stats;
  stats.twin_total_variation.resize(state_->records.size(), static_cast<float>(total_variation));
  stats.twin_top1_agreement.resize(state_->records.size(), top1_agrees ? 1.0F : 0.0F);
}

TraceRecords RecordingAttention::take_records() {
  STOAT_ENSURE(state_->records.size() == state_->records.token_id.size() * state_->config.n_layers *
                                             state_->config.n_q_heads,
               "one record a sequence, layer and query head");
  return std::exchange(state_->records, TraceRecords{});
}

const TouchedFeatures& RecordingAttention::touched() const { return state_->touched; }

std::vector<AccumulatorError> RecordingAttention::accumulator_errors() const {
  std::vector<AccumulatorError> errors;
  for (std::size_t i = 0; i < state_->accumulator_sum.size(); ++i) {
    errors.push_back({state_->options.accumulators[i],
                      state_->accumulator_sum[i] / static_cast<double>(state_->accumulator_heads),
                      state_->accumulator_worst[i]});
  }
  return errors;
}

}  // namespace stoat
