// What a capture found, as means over its records: rows read, unions over KV groups, participation,
// errors.
//
// Computed from the recorded frames alone, so a trace read back gives the same numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "traces/trace.h"

namespace stoat {

struct StepSummary {
  std::uint32_t step = 0;
  std::int32_t token = 0;
  std::uint32_t context = 0;
  double rows_per_head = 0;   // mean distinct V rows of a query head
  double rows_per_group = 0;  // mean size of the union over a KV group's heads
  double output_error = 0;    // mean over heads; 0 unless recorded
  double twin_total_variation = 0;
  bool twin_top1_agrees = true;
};

struct LayerSummary {
  double participation = 0;  // means over records of the layer
  double rows_per_head = 0;
  double rows_per_group = 0;
  double output_error = 0;
};

struct CaptureSummary {
  std::uint64_t steps = 0;
  double rows_per_head = 0;
  double rows_per_group = 0;
  double value_rows_read =
      0;  // union rows / context rows, over all groups and steps: share of V that is fetched
  std::vector<LayerSummary> layers;
  bool has_output_error = false;
  double output_error = 0;
  bool has_twin = false;
  double twin_total_variation = 0;
  double twin_top1_agreement = 0;
  std::vector<std::uint32_t> probe_budgets;
  std::vector<double> probe_error;  // [probe budgets] means
};

// Distinct rows of every KV group of `group` heads.
std::vector<std::uint64_t> group_unions(const TraceRecords& records, std::uint32_t group);

class SummaryBuilder {
 public:
  explicit SummaryBuilder(const TraceHeader& header);
  // All records of one step.
  StepSummary add_step(const TraceRecords& records) {
    return add_step(records, group_unions(records, group_));
  }
  // The same with the unions counted before: what takes long, and may be done elsewhere.
  StepSummary add_step(const TraceRecords& records, const std::vector<std::uint64_t>& unions);
  CaptureSummary result() const;

 private:
  struct LayerSums {
    double participation = 0, rows = 0, union_rows = 0, output_error = 0;
    std::uint64_t records = 0, groups = 0;
  };
  std::uint32_t group_;
  std::vector<LayerSums> layers_;
  std::uint64_t steps_ = 0, union_rows_ = 0, context_rows_ = 0, twin_steps_ = 0, records_ = 0;
  double twin_variation_ = 0, twin_agreement_ = 0;
  bool has_output_error_ = false;
  std::vector<std::uint32_t> probe_budgets_;
  std::vector<double> probe_sums_;
};

// Distinct rows of records [first, last): the union over a group's heads; the whole context for
// dense records.
std::uint64_t union_rows(const TraceRecords& records, std::size_t first, std::size_t last);

}  // namespace stoat
