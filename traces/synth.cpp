// Synthetic traces (synth.h): logits from synth_logits.h, real draws from them, records.
#include "traces/synth.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "models/error.h"
#include "traces/synth_logits.h"

namespace stoat {

namespace {

constexpr double kRampHeight = 2.0;
constexpr double kSinkHeight = 3.0;

class Synthesizer {
 public:
  explicit Synthesizer(const SynthOptions& options) : o_(options), header_(synth_header(options)) {}

  SynthSummary run(const std::function<void(const TraceRecords&)>& sink);

 private:
  void logit_shape(std::uint32_t seq, std::uint32_t step, std::uint32_t layer, std::uint32_t head,
                   std::uint32_t context);
  void add_group(TraceRecords& out, std::uint32_t seq, std::uint32_t step, std::uint32_t layer,
                 std::uint32_t kv_head, std::uint32_t context);
  void add_head(TraceRecords& out, const DrawSite& site, std::uint32_t step, std::uint32_t kv_head,
                std::uint32_t context);
  void add_keys(TraceRecords& out, DrawSite site, std::uint32_t step, std::uint32_t kv_head);

  const SynthOptions& o_;
  TraceHeader header_;
  SynthSummary summary_;
  std::vector<float> shape_, common_, logits_;
  double last_sigma_ = 1;  // where the next search starts
};

void Synthesizer::logit_shape(std::uint32_t seq, std::uint32_t step, std::uint32_t layer,
                              std::uint32_t head, std::uint32_t context) {
  shape_.resize(context);
  fill_normals(o_.seed, stream_of(kHeadLogits, seq, step, layer, head), shape_);
  if (o_.group_correlation > 0) {
    const std::uint32_t kv_head = head / header_.group();
    common_.resize(context);
    fill_normals(o_.seed, stream_of(kGroupLogits, seq, step, layer, kv_head), common_);
    const auto shared = static_cast<float>(std::sqrt(o_.group_correlation));
    const auto own = static_cast<float>(std::sqrt(1 - o_.group_correlation));
    for (std::size_t i = 0; i < context; ++i) shape_[i] = own * shape_[i] + shared * common_[i];
  }
  if (o_.recency > 0) {
    // Beyond 40 lengths the ramp is below the smallest step of a float beside 1.
    const double reach = std::min<double>(context, 40.0 * o_.recency);
    for (std::uint32_t age = 0; age < reach; ++age) {
      shape_[context - 1 - age] +=
          static_cast<float>(kRampHeight * std::exp(-static_cast<double>(age) / o_.recency));
    }
  }
  for (std::uint32_t i = 0; i < std::min(o_.sinks, context); ++i) {
    shape_[i] += static_cast<float>(kSinkHeight);
  }
}

void Synthesizer::add_head(TraceRecords& out, const DrawSite& site, std::uint32_t step,
                           std::uint32_t kv_head, std::uint32_t context) {
  logit_shape(site.sequence, step, site.layer, site.query_head, context);
  const double sigma = solve_sigma(shape_, o_.participation, last_sigma_);
  if (sigma > 0) last_sigma_ = sigma;
  summary_.mean_sigma += sigma;
  const Softmax s = softmax_of(shape_, sigma);
  out.stats.lse.push_back(static_cast<float>(s.max + std::log(s.sum)));
  out.stats.max.push_back(static_cast<float>(s.max));
  out.stats.entropy.push_back(
      static_cast<float>(std::max(0.0, std::log(s.sum) - s.weighted / s.sum)));
  out.stats.mass_top1.push_back(static_cast<float>(1 / s.sum));
  const double token0 = std::exp(sigma * static_cast<double>(shape_[0]) - s.max) / s.sum;
  out.stats.mass_token0.push_back(static_cast<float>(token0));
  out.stats.participation.push_back(static_cast<float>(s.participation()));
  summary_.mean_participation += s.participation();
  summary_.min_participation = std::min(summary_.min_participation, s.participation());
  summary_.max_participation = std::max(summary_.max_participation, s.participation());
  ++summary_.records;
  if (o_.participation > 0 && std::abs(s.participation() / o_.participation - 1) > 0.01)
    ++summary_.missed_records;
  if (o_.sinks > context) ++summary_.clipped_sinks;

  const std::uint32_t budget = header_.budget_of_layer(site.layer);
  const bool dense = header_.method == Method::kDense || budget == 0;
  Selection selection;
  ScoreCodes codes;
  if (!dense || o_.scores) {
    logits_.resize(context);
    for (std::size_t i = 0; i < context; ++i) {
      logits_[i] = static_cast<float>(sigma * static_cast<double>(shape_[i]));
    }
    codes = encode_scores(logits_, "synthetic scores");
  }
  if (!dense) selection = select_rows(header_.method, codes, budget, site);
  summary_.mean_distinct_rows += dense ? context : static_cast<double>(selection.rows.size());
  append_record(out, site.sequence, step, site.layer, site.query_head,
                static_cast<std::uint16_t>(kv_head), context,
                dense ? RecordKind::kDense : RecordKind::kSampled, dense ? 0 : budget, selection);
  if (o_.scores) {
    out.score_record.push_back(out.size() - 1);
    out.score_code.insert(out.score_code.end(), codes.code.begin(), codes.code.end());
    out.score_indptr.push_back(out.score_code.size());
    out.score_exponent.insert(out.score_exponent.end(), codes.exponent.begin(),
                              codes.exponent.end());
    out.score_tile_indptr.push_back(out.score_exponent.size());
  }
}

void Synthesizer::add_keys(TraceRecords& out, DrawSite site, std::uint32_t step,
                           std::uint32_t kv_head) {
  const std::uint32_t group = header_.group();
  std::vector<float> q(std::size_t{group} * o_.head_dim);
  fill_normals(o_.seed, stream_of(kQuery, site.sequence, step, site.layer, kv_head), q);
  site.query_head = static_cast<std::uint16_t>(kv_head * group);
  const TernaryGroup keys = draw_ternary(q, group, o_.head_dim, o_.ternary, site);
  for (std::uint32_t head = 0; head < group; ++head) {
    out.draw_indptr.push_back(out.draw_indptr.back() + o_.ternary.draws);
  }
  out.key_mask.insert(out.key_mask.end(), keys.mask.begin(), keys.mask.end());
  out.key_sign.insert(out.key_sign.end(), keys.sign.begin(), keys.sign.end());
}

void Synthesizer::add_group(TraceRecords& out, std::uint32_t seq, std::uint32_t step,
                            std::uint32_t layer, std::uint32_t kv_head, std::uint32_t context) {
  DrawSite site{o_.seed, seq, context - 1, static_cast<std::uint16_t>(layer), 0};
  const std::size_t first_row = out.row.size();
  const std::uint32_t group = header_.group();
  for (std::uint32_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    site.query_head = static_cast<std::uint16_t>(head);
    add_head(out, site, step, kv_head, context);
  }
  if (out.kind.back() == RecordKind::kDense) {
    summary_.mean_union_rows += context;
  } else {
    std::vector<std::uint32_t> rows(out.row.begin() + static_cast<std::ptrdiff_t>(first_row),
                                    out.row.end());
    std::sort(rows.begin(), rows.end());
    summary_.mean_union_rows +=
        static_cast<double>(std::unique(rows.begin(), rows.end()) - rows.begin());
  }
  if (o_.score_kind == ScoreKind::kTernary) add_keys(out, site, step, kv_head);
}

SynthSummary Synthesizer::run(const std::function<void(const TraceRecords&)>& sink) {
  summary_.min_participation = std::numeric_limits<double>::infinity();
  for (std::uint32_t step = 0; step < o_.steps; ++step) {
    TraceRecords records;
    for (std::uint32_t seq = 0; seq < o_.contexts.size(); ++seq) {
      const std::uint32_t context = o_.contexts[seq] + step;
      for (std::uint32_t layer = 0; layer < o_.n_layers; ++layer) {
        for (std::uint32_t kv_head = 0; kv_head < o_.n_kv_heads; ++kv_head) {
          add_group(records, seq, step, layer, kv_head, context);
        }
      }
      records.token_id.push_back(0);
    }
    sink(records);
  }
  const auto records = static_cast<double>(summary_.records);
  summary_.mean_participation /= records;
  summary_.mean_sigma /= records;
  summary_.mean_distinct_rows /= records;
  summary_.mean_union_rows /= records / header_.group();
  return summary_;
}

std::uint32_t element_bytes(const std::string& dtype) {
  if (dtype == "bf16" || dtype == "fp16") return 2;
  if (dtype == "fp8" || dtype == "int8") return 1;
  throw usage_error({}, "KV element type '" + dtype + "'", "bf16, fp16, fp8 or int8",
                    nearest_name_hint(dtype, {"bf16", "fp16", "fp8", "int8"}));
}

void check(bool good, const std::string& found, const std::string& expected) {
  if (!good) throw usage_error({}, found, expected);
}

}  // namespace

TraceHeader synth_header(const SynthOptions& o) {
  check(o.n_layers >= 1 && o.n_layers <= 65535, fmt::format("{} layers", o.n_layers), "1 to 65535");
  check(o.n_kv_heads >= 1 && o.n_q_heads >= 1 && o.n_q_heads <= 65535 &&
            o.n_q_heads % o.n_kv_heads == 0,
        fmt::format("{} query heads for {} KV heads", o.n_q_heads, o.n_kv_heads),
        "a whole number of query heads a KV head");
  check(o.head_dim >= 1 && o.head_dim <= 65536, fmt::format("a head_dim of {}", o.head_dim),
        "1 to 65536");
  check(o.score_kind == ScoreKind::kExact || o.head_dim % 8 == 0,
        fmt::format("a head_dim of {}", o.head_dim), "a multiple of 8 for ternary scores");
  check(o.score_kind == ScoreKind::kExact || (o.ternary.draws >= 1 && o.ternary.draws <= 64),
        fmt::format("{} ternary draws", o.ternary.draws), "1 to 64");
  check(!o.contexts.empty() && o.contexts.size() < (1U << 30), "no context", "one a sequence");
  check(o.steps >= 1, "0 steps", "at least 1");
  for (const std::uint32_t context : o.contexts) {
    check(context >= 1 && std::uint64_t{context} + o.steps <= (std::uint64_t{1} << 20),
          fmt::format("a context of {} and {} steps", context, o.steps), "1 to 2^20 rows in all");
  }
  check(o.participation == 0 || (o.participation >= 1 && std::isfinite(o.participation)),
        fmt::format("a participation of {}", o.participation), "at least 1, or flat");
  check(std::isfinite(o.recency) && o.recency >= 0, fmt::format("a recency of {}", o.recency),
        "0 or more tokens");
  check(o.group_correlation >= 0 && o.group_correlation <= 1,
        fmt::format("a group correlation of {}", o.group_correlation), "0 to 1");
  TraceHeader h;
  h.model_name = o.model_name;
  h.origin = "synth";
  h.seed = o.seed;
  h.method = o.method;
  if (o.method != Method::kDense) {
    h.budgets = o.budgets;
    check(o.budgets.size() == 1 || o.budgets.size() == o.n_layers,
          fmt::format("{} budgets", o.budgets.size()), "one, or one a layer");
    for (const std::uint32_t budget : o.budgets) {
      check(budget >= 1 && budget <= kMaxBudget, fmt::format("a budget of {}", budget),
            fmt::format("1 to {}", kMaxBudget));
    }
  }
  h.score_kind = o.score_kind;
  h.ternary = o.ternary;
  h.kv_dtype = o.kv_dtype;
  h.row_bytes = o.head_dim * element_bytes(o.kv_dtype);
  h.n_layers = o.n_layers;
  h.n_q_heads = o.n_q_heads;
  h.n_kv_heads = o.n_kv_heads;
  h.head_dim = o.head_dim;
  h.weight_bytes_per_token = o.weight_bytes_per_token;
  return h;
}

SynthSummary synthesize(const SynthOptions& options,
                        const std::function<void(const TraceRecords&)>& sink) {
  return Synthesizer(options).run(sink);
}

TraceRecords synthesize_records(const SynthOptions& options, SynthSummary* summary) {
  TraceRecords all;
  const SynthSummary result =
      synthesize(options, [&all](const TraceRecords& step) { append_steps(all, step); });
  if (summary != nullptr) *summary = result;
  return all;
}

}  // namespace stoat
