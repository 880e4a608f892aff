// The variance of an attention output against the budget, on the queries, keys and values of a real
// decode, and what theory says of it (SANTA, arXiv 2605.01910, Figure 7).
//
// Theory, from the same integer weights: iid has tr(Sigma) / S, Sigma the covariance of the value
// rows under the softmax; stratified the sum over strata of tr(Sigma of the stratum) / S^2.
// Systematic has no such formula: it is measured only. On the CPU, in double.
#pragma once

#include <atomic>
#include <vector>

#include "gpu/accuracy.h"
#include "models/attention/decode.h"
#include "models/sampling/ruler.h"

namespace stoat {

// tr(Sigma) / S of the ruler's own probabilities.
double iid_variance(const Ruler& ruler, const KvRows& values, std::uint32_t budget);
// (1/S^2) sum over the S equal strata of the ruler of tr(Sigma of the stratum).
double stratified_variance(const Ruler& ruler, const KvRows& values, std::uint32_t budget);

// One layer, method and budget: sums over queries and heads.
struct VarianceCell {
  std::uint32_t layer = 0;
  Method method = Method::kIid;
  std::uint32_t budget = 0;
  std::uint64_t heads = 0;    // query heads times queries
  double squared_error = 0;   // sum of the mean over replicates of ||o_hat - o||^2
  double error_of_sum = 0;    // its standard error, heads taken as independent
  double theory = 0;          // sum of the formula; 0: there is none
  double squared_output = 0;  // sum of ||o||^2
};

// Nothing when `stop` became true before the last query.
std::vector<VarianceCell> measure_variance(const AccuracyPlan& plan, ThreadPool& pool,
                                           const std::atomic<bool>* stop = nullptr);

}  // namespace stoat
