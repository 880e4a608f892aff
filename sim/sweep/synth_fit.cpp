// See synth_fit.h.
#include "sim/sweep/synth_fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "models/error.h"
#include "models/sampling/selection.h"

namespace stoat::sim {
namespace {

constexpr std::array<std::uint32_t, 5> kWindows{16, 64, 256, 1024, 4096};  // newest rows
constexpr std::uint32_t kTrialBudget = 128;  // rows drawn from scores where none were recorded
constexpr std::uint32_t kTrialGroups = 2;    // KV heads of a trial
constexpr std::uint64_t kTrialSeed = 20250601;
constexpr int kBisections = 7;

// Sums over records; ratios of them are what recorded and synthetic steps are compared by.
struct Look {
  std::array<double, kWindows.size()> recent{};  // share of the mass or of the draws
  double records = 0, distinct = 0, shared = 0;  // rows of the heads, and of their groups' unions
};

ScoreCodes codes_of(const TraceRecords& records, std::size_t score) {
  ScoreCodes codes;
  codes.code.assign(
      records.score_code.begin() + static_cast<std::ptrdiff_t>(records.score_indptr[score]),
      records.score_code.begin() + static_cast<std::ptrdiff_t>(records.score_indptr[score + 1]));
  codes.exponent.assign(records.score_exponent.begin() +
                            static_cast<std::ptrdiff_t>(records.score_tile_indptr[score]),
                        records.score_exponent.begin() +
                            static_cast<std::ptrdiff_t>(records.score_tile_indptr[score + 1]));
  return codes;
}

// Rows of one group, to be united; a record that belongs to another group ends it.
struct Group {
  std::uint64_t name = ~std::uint64_t{0};
  std::vector<std::uint32_t> rows;
  void end(Look& look) {
    std::sort(rows.begin(), rows.end());
    look.shared += static_cast<double>(std::unique(rows.begin(), rows.end()) - rows.begin());
    rows.clear();
  }
};

void add_record(const TraceRecords& r, std::size_t i, const ScoreCodes* codes, Group& group,
                Look& look) {
  const std::uint32_t context = r.context[i];
  Selection drawn;
  if (codes != nullptr) {
    const Ruler ruler(*codes);
    for (std::size_t w = 0; w < kWindows.size() && kWindows[w] < context; ++w) {
      look.recent[w] += static_cast<double>(ruler.total() - ruler.begin(context - kWindows[w])) /
                        static_cast<double>(ruler.total());
    }
    const DrawSite site{kTrialSeed, r.seq[i], context - 1, r.layer[i], r.q_head[i]};
    drawn = select_rows(Method::kProp, *codes, ruler, kTrialBudget, site);
  } else {
    double all = 0;
    for (std::uint64_t k = r.value_indptr[i]; k < r.value_indptr[i + 1]; ++k) {
      drawn.rows.push_back({r.row[k], r.count[k]});
      all += r.count[k];
    }
    for (const auto& [row, count] : drawn.rows) {
      for (std::size_t w = 0; w < kWindows.size() && kWindows[w] < context; ++w) {
        if (row + kWindows[w] >= context) look.recent[w] += count / all;
      }
    }
  }
  const std::uint64_t name = (std::uint64_t{r.seq[i]} << 32 | std::uint64_t{r.layer[i]} << 16) +
                             r.kv_head[i] + (std::uint64_t{r.step[i]} << 48);
  if (name != group.name) group.end(look);
  group.name = name;
  ++look.records;
  look.distinct += static_cast<double>(drawn.rows.size());
  for (const auto& each : drawn.rows) group.rows.push_back(each.row);
}

Look look_at(const TraceRecords& r, std::size_t begin, std::size_t end) {
  Look look;
  Group group;
  if (!r.score_record.empty()) {
    for (std::size_t s = 0; s < r.score_record.size(); ++s) {
      const auto i = static_cast<std::size_t>(r.score_record[s]);
      if (i < begin || i >= end) continue;
      const ScoreCodes codes = codes_of(r, s);
      add_record(r, i, &codes, group, look);
    }
  } else {
    for (std::size_t i = begin; i < end; ++i) {
      if (r.kind[i] == RecordKind::kSampled && r.value_indptr[i + 1] > r.value_indptr[i])
        add_record(r, i, nullptr, group, look);
    }
  }
  group.end(look);
  return look;
}

class Fitter {
 public:
  explicit Fitter(const LoadedTrace& trace) : trace_(trace) {
    // One step of the middle: the context of the trials.
    step_ = trace.step_context.size() / 2;
    wanted_ = look_at(trace.records, trace.step_begin[step_], trace.step_begin[step_ + 1]);
    const TraceHeader& h = trace.header;
    const std::uint32_t group = h.n_q_heads / h.n_kv_heads;
    trial_.n_kv_heads = std::min(kTrialGroups, h.n_kv_heads);
    trial_.n_q_heads = group * trial_.n_kv_heads;
    trial_.head_dim = h.head_dim;
    trial_.contexts = {trace.step_context[step_]};
    trial_.scores = !trace.records.score_record.empty();
    trial_.method = trial_.scores || h.method == Method::kDense ? Method::kProp : h.method;
    trial_.budgets = {trial_.scores || h.budgets.empty() ? kTrialBudget : h.budgets.front()};
    trial_.participation = fitted_participation(trace, trial_.contexts.front());
    trial_.seed = kTrialSeed;
  }

  bool possible() const { return wanted_.records > 0; }

  double recency(std::uint32_t sinks) {
    trial_.sinks = sinks;
    const double context = trial_.contexts.front();
    double best = 0, least = distance(0);
    for (double length = 4; length <= context / 2; length *= 2) try_length(length, best, least);
    if (best > 0) {
      const double around = best;
      for (const double factor : {0.6, 0.75, 1.3, 1.6}) try_length(around * factor, best, least);
    }
    trial_.recency = std::round(best);
    return trial_.recency;
  }

  double correlation() {
    const double ratio = wanted_.shared / wanted_.distinct;
    if (trial_.n_q_heads == trial_.n_kv_heads) return 0;
    double low = 0, high = 1;
    if (union_ratio(0) <= ratio) return 0;
    if (union_ratio(1) >= ratio) return 1;
    for (int i = 0; i < kBisections; ++i) {
      const double middle = 0.5 * (low + high);
      (union_ratio(middle) > ratio ? low : high) = middle;
    }
    return std::round(50 * (low + high)) / 100;
  }

 private:
  void try_length(double length, double& best, double& least) {
    const double each = distance(length);
    if (each < least) {
      least = each;
      best = length;
    }
  }
  Look trial() {
    const TraceRecords records = synthesize_records(trial_);
    return look_at(records, 0, records.size());
  }
  // Squared logarithms of the shares' ratios; a share of nothing counts as half a record's.
  double distance(double length) {
    trial_.recency = length;
    const Look look = trial();
    double sum = 0;
    for (std::size_t w = 0; w < kWindows.size() && 2 * kWindows[w] < trial_.contexts.front(); ++w) {
      const auto share = [w](const Look& each) {
        return std::max(each.recent[w] / each.records, 1e-5);
      };
      const double log = std::log(share(look) / share(wanted_));
      sum += log * log;
    }
    return sum;
  }
  double union_ratio(double correlation) {
    trial_.group_correlation = correlation;
    const Look look = trial();
    return look.shared / look.distinct;
  }

  const LoadedTrace& trace_;
  std::size_t step_ = 0;
  Look wanted_;
  SynthOptions trial_;
};

double mean_of(const std::vector<float>& values, std::size_t begin, std::size_t end) {
  double sum = 0;
  for (std::size_t i = begin; i < end; ++i) sum += static_cast<double>(values[i]);
  return end > begin ? sum / static_cast<double>(end - begin) : 0;
}

}  // namespace

double fitted_participation(const LoadedTrace& trace, std::uint32_t context) {
  const auto [low, high] =
      std::minmax_element(trace.step_context.begin(), trace.step_context.end());
  const double all = mean_of(trace.records.stats.participation, 0, trace.records.size());
  double fitted = all;
  if (*high >= 1.5 * *low) {
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    const auto n = static_cast<double>(trace.step_context.size());
    for (std::size_t i = 0; i < trace.step_context.size(); ++i) {
      const double x = std::log(static_cast<double>(trace.step_context[i]));
      const double y = std::log(
          mean_of(trace.records.stats.participation, trace.step_begin[i], trace.step_begin[i + 1]));
      sx += x, sy += y, sxx += x * x, sxy += x * y;
    }
    const double slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
    fitted = std::exp((sy - slope * sx) / n + slope * std::log(static_cast<double>(context)));
  }
  fitted = std::clamp(fitted, 1.0, static_cast<double>(context));
  return std::round(fitted * 1000) / 1000;  // one text, whatever the last bits are
}

SynthFit fit_synth(const LoadedTrace& trace) {
  SynthFit fit;
  // Attention sinks where the first token has far more than an equal share.
  const std::vector<float>& token0 = trace.records.stats.mass_token0;
  fit.sinks = mean_of(token0, 0, token0.size()) * trace.step_context.front() > 10 ? 4 : 0;
  if (trace.records.stats.participation.empty()) return fit;
  Fitter fitter(trace);
  if (!fitter.possible()) return fit;
  fit.recency = fitter.recency(fit.sinks);
  fit.correlation = fitter.correlation();
  return fit;
}

}  // namespace stoat::sim
