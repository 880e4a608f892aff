// The records of a point, made in the process that simulates it.
#include <algorithm>
#include <cmath>

#include "sim/sweep/point_source.h"

namespace stoat::sim {
namespace {

class ErrorSum {
 public:
  void add(Method method, const ScoreCodes& codes, const Ruler& ruler, const Selection& selection) {
    const auto total = static_cast<double>(ruler.total());
    double squares = 0;
    std::uint64_t before = 0;
    for (std::uint32_t row = 0; row < ruler.rows(); ++row) {
      const std::uint64_t end = ruler.end(row);
      const double p = static_cast<double>(end - before) / total;
      squares += p * p;
      before = end;
    }
    const std::vector<double> weights = selection_weights(method, codes, selection);
    // Rows that were not drawn add p^2 each: all of them less the drawn ones'.
    double error = squares;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::uint32_t row = selection.rows[i].row;
      const double p = static_cast<double>(ruler.end(row) - ruler.begin(row)) / total;
      error += (weights[i] - p) * (weights[i] - p) - p * p;
    }
    one(std::max(0.0, error) / squares);
    participation_ += 1 / squares;
  }
  void one(double square) {
    ++count_;
    sum_ += square;
    sum_squares_ += square * square;
  }
  void finish(const char* kind, PointRecords& out) const {
    if (count_ == 0) return;
    const auto n = static_cast<double>(count_);
    const double mean = sum_ / n;
    const double variance = std::max(0.0, sum_squares_ / n - mean * mean);
    out.error = {count_, mean, count_ > 1 ? std::sqrt(variance / (n - 1)) : 0, kind};
    if (participation_ > 0) out.participation = participation_ / n;
  }

 private:
  std::uint64_t count_ = 0;
  double sum_ = 0, sum_squares_ = 0, participation_ = 0;
};

ScoreCodes codes_of(const TraceRecords& records, std::size_t score) {
  ScoreCodes codes;
  const auto slice = [](const auto& values, std::uint64_t begin, std::uint64_t end) {
    return std::decay_t<decltype(values)>(values.begin() + static_cast<std::ptrdiff_t>(begin),
                                          values.begin() + static_cast<std::ptrdiff_t>(end));
  };
  codes.code =
      slice(records.score_code, records.score_indptr[score], records.score_indptr[score + 1]);
  codes.exponent = slice(records.score_exponent, records.score_tile_indptr[score],
                         records.score_tile_indptr[score + 1]);
  return codes;
}

Selection recorded_selection(const TraceRecords& records, std::size_t record) {
  Selection selection;
  for (std::uint64_t i = records.value_indptr[record]; i < records.value_indptr[record + 1]; ++i)
    selection.rows.push_back({records.row[i], records.count[i]});
  if (records.tile_indptr.size() > 1) {
    for (std::uint64_t i = records.tile_indptr[record]; i < records.tile_indptr[record + 1]; ++i)
      selection.tiles.push_back({records.tile[i], records.tile_mass[i]});
  }
  return selection;
}

void copy_keys(const TraceRecords& from, std::size_t record, std::uint32_t head_dim,
               TraceRecords& to) {
  if (from.draw_indptr.size() <= 1) return;
  const std::size_t width = (head_dim + 7) / 8;
  const std::uint64_t begin = from.draw_indptr[record], end = from.draw_indptr[record + 1];
  to.key_mask.insert(to.key_mask.end(),
                     from.key_mask.begin() + static_cast<std::ptrdiff_t>(begin * width),
                     from.key_mask.begin() + static_cast<std::ptrdiff_t>(end * width));
  to.draw_indptr.push_back(to.draw_indptr.back() + (end - begin));
  to.key_sign.insert(to.key_sign.end(),
                     from.key_sign.begin() + static_cast<std::ptrdiff_t>(record * width),
                     from.key_sign.begin() + static_cast<std::ptrdiff_t>((record + 1) * width));
}

void add_step(const PointSource& source, std::uint32_t step, ErrorSum& error, PointRecords& out) {
  const LoadedTrace& trace = *source.trace;
  const TraceRecords& from = trace.records;
  TraceRecords to;
  for (std::size_t i = trace.step_begin[step]; i < trace.step_begin[step + 1]; ++i) {
    if (from.layer[i] >= source.layers) continue;
    Selection selection = recorded_selection(from, i);
    RecordKind kind = from.kind[i];
    std::uint32_t budget = from.budget[i];
    if (trace.scores_everywhere && source.method != Method::kDense) {
      const ScoreCodes codes = codes_of(from, i);
      const Ruler ruler(codes);
      if (source.kind == SourceKind::kRedrawn) {
        const DrawSite site{source.seed, from.seq[i], from.context[i] - 1, from.layer[i],
                            from.q_head[i]};
        selection = select_rows(source.method, codes, ruler, source.budget, site);
        kind = RecordKind::kSampled;
        budget = source.budget;
      }
      if (kind == RecordKind::kSampled) error.add(source.method, codes, ruler, selection);
    }
    append_record(to, from.seq[i], from.step[i], from.layer[i], from.q_head[i], from.kv_head[i],
                  from.context[i], kind, budget, selection);
    copy_keys(from, i, source.header.head_dim, to);
  }
  out.steps.push_back(std::move(to));
}

void make_recorded(const PointSource& source, PointRecords& out) {
  ErrorSum drawn;
  for (const std::uint32_t step : source.steps) add_step(source, step, drawn, out);
  drawn.finish("independent_values", out);
  const LoadedTrace& trace = *source.trace;
  const std::vector<float>& measured = trace.records.stats.output_error;
  if (source.kind == SourceKind::kAccess && source.method != Method::kDense && !measured.empty()) {
    ErrorSum recorded;  // what the capture measured on the model's own values says more
    for (const std::uint32_t step : source.steps) {
      for (std::size_t i = trace.step_begin[step]; i < trace.step_begin[step + 1]; ++i) {
        const auto each = static_cast<double>(measured[i]);
        if (trace.records.layer[i] < source.layers) recorded.one(each * each);
      }
    }
    recorded.finish("recorded", out);
  }
}

void make_synthetic(const PointSource& source, PointRecords& out) {
  SynthOptions options = source.synth;
  options.scores = source.method != Method::kDense;
  ErrorSum error;
  synthesize(options, [&](const TraceRecords& step) {
    for (std::size_t i = 0; i < step.score_record.size(); ++i) {
      const ScoreCodes codes = codes_of(step, i);
      error.add(source.method, codes, Ruler(codes),
                recorded_selection(step, static_cast<std::size_t>(step.score_record[i])));
    }
    out.steps.push_back(step);
    TraceRecords& kept = out.steps.back();
    kept.score_record.clear();
    kept.score_indptr = {0};
    kept.score_tile_indptr = {0};
    kept.score_code = {};
    kept.score_exponent = {};
  });
  // Synthetic scores are exact ones: what ternary queries do to them is not in this number.
  if (options.score_kind == ScoreKind::kExact) error.finish("independent_values", out);
}

}  // namespace

PointRecords make_records(const PointSource& source) {
  PointRecords out;
  if (source.kind == SourceKind::kSynth || source.kind == SourceKind::kSynthFit) {
    make_synthetic(source, out);
  } else {
    make_recorded(source, out);
  }
  for (const TraceRecords& step : out.steps) {
    for (std::size_t i = 0; i < step.size(); ++i) {
      out.context_max = std::max(out.context_max, step.context[i]);
      out.sequences = std::max(out.sequences, step.seq[i] + 1);
    }
  }
  if (source.method == Method::kDense) out.error = {1, 0, 0, "exact"};
  return out;
}

}  // namespace stoat::sim
