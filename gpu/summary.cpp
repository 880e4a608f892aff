// Means over records, and the union over KV groups.
#include "gpu/summary.h"

#include <algorithm>

#include "models/error.h"

namespace stoat {
namespace {
double ratio(double sum, std::uint64_t count) {
  return count == 0 ? 0.0 : sum / static_cast<double>(count);
}
}  // namespace

std::uint64_t union_rows(const TraceRecords& records, std::size_t first, std::size_t last) {
  if (records.kind[first] == RecordKind::kDense) return records.context[first];
  // A bit a row. The records may not have been checked yet: rows past the context are left out.
  const auto begin = records.value_indptr[first], end = records.value_indptr[last];
  const std::uint32_t context =
      *std::max_element(records.context.begin() + static_cast<std::ptrdiff_t>(first),
                        records.context.begin() + static_cast<std::ptrdiff_t>(last));
  thread_local std::vector<std::uint64_t> bits;
  bits.assign(context / 64 + 1, 0);
  std::uint64_t* const words = bits.data();
  const std::uint32_t* const row = records.row.data();
  std::uint64_t rows = 0;
  for (std::uint64_t i = begin; i < end; ++i) {  // counted where they are new: bits a word are few
    if (row[i] >= context) continue;
    std::uint64_t& word = words[row[i] / 64];
    const std::uint32_t bit = row[i] % 64;
    rows += ~(word >> bit) & 1;
    word |= std::uint64_t{1} << bit;
  }
  return rows;
}

std::vector<std::uint64_t> group_unions(const TraceRecords& records, std::uint32_t group) {
  std::vector<std::uint64_t> unions(records.size() / group);
  for (std::size_t g = 0; g < unions.size(); ++g)
    unions[g] = union_rows(records, g * group, (g + 1) * group);
  return unions;
}

SummaryBuilder::SummaryBuilder(const TraceHeader& header)
    : group_(header.group()), layers_(header.n_layers) {
  STOAT_ENSURE(group_ > 0, "a group has at least one query head");
}

StepSummary SummaryBuilder::add_step(const TraceRecords& records,
                                     const std::vector<std::uint64_t>& together) {
  STOAT_ENSURE(!records.empty() && records.size() % group_ == 0, "records come in whole KV groups");
  StepSummary step;
  step.step = records.step.front();
  step.token = records.token_id.empty() ? 0 : records.token_id.front();
  step.context = records.context.front();
  const StatColumns& stats = records.stats;
  const bool has_error = !stats.output_error.empty();
  std::uint64_t rows = 0, unions = 0;
  for (std::size_t r = 0; r < records.size(); ++r) {
    LayerSums& layer = layers_.at(records.layer[r]);
    // Rows are distinct within a record (traces/validate.h).
    const std::uint64_t own = records.kind[r] == RecordKind::kDense
                                  ? records.context[r]
                                  : records.value_indptr[r + 1] - records.value_indptr[r];
    rows += own;
    layer.rows += static_cast<double>(own);
    layer.participation +=
        stats.participation.empty() ? 0.0 : static_cast<double>(stats.participation[r]);
    layer.output_error += has_error ? static_cast<double>(stats.output_error[r]) : 0.0;
    step.output_error += has_error ? static_cast<double>(stats.output_error[r]) : 0.0;
    ++layer.records;
    if (r % group_ != 0) continue;
    unions += together[r / group_];
    layer.union_rows += static_cast<double>(together[r / group_]);
    ++layer.groups;
    context_rows_ += records.context[r];
  }
  const std::uint64_t count = records.size();
  step.rows_per_head = ratio(static_cast<double>(rows), count);
  step.rows_per_group = ratio(static_cast<double>(unions), count / group_);
  step.output_error = ratio(step.output_error, count);
  union_rows_ += unions;
  records_ += count;
  ++steps_;
  has_output_error_ = has_error;
  if (!stats.twin_total_variation.empty()) {
    step.twin_total_variation = static_cast<double>(stats.twin_total_variation.front());
    step.twin_top1_agrees = stats.twin_top1_agreement.front() > 0.5F;
    twin_variation_ += step.twin_total_variation;
    twin_agreement_ += step.twin_top1_agrees ? 1.0 : 0.0;
    ++twin_steps_;
  }
  probe_budgets_ = records.probe_budget;
  probe_sums_.resize(probe_budgets_.size(), 0.0);
  for (std::size_t i = 0; i < records.probe_error.size(); ++i) {
    probe_sums_[i % probe_sums_.size()] += static_cast<double>(records.probe_error[i]);
  }
  return step;
}

CaptureSummary SummaryBuilder::result() const {
  CaptureSummary summary;
  summary.steps = steps_;
  double rows = 0, error = 0;
  std::uint64_t groups = 0;
  for (const LayerSums& sums : layers_) {
    LayerSummary layer;
    layer.participation = ratio(sums.participation, sums.records);
    layer.rows_per_head = ratio(sums.rows, sums.records);
    layer.rows_per_group = ratio(sums.union_rows, sums.groups);
    layer.output_error = ratio(sums.output_error, sums.records);
    summary.layers.push_back(layer);
    rows += sums.rows;
    error += sums.output_error;
    groups += sums.groups;
  }
  summary.rows_per_head = ratio(rows, records_);
  summary.rows_per_group = ratio(static_cast<double>(union_rows_), groups);
  summary.value_rows_read = ratio(static_cast<double>(union_rows_), context_rows_);
  summary.has_output_error = has_output_error_;
  summary.output_error = ratio(error, records_);
  summary.has_twin = twin_steps_ > 0;
  summary.twin_total_variation = ratio(twin_variation_, twin_steps_);
  summary.twin_top1_agreement = ratio(twin_agreement_, twin_steps_);
  summary.probe_budgets = probe_budgets_;
  for (const double sum : probe_sums_) summary.probe_error.push_back(ratio(sum, records_));
  return summary;
}

}  // namespace stoat
