// Decode attention in double against loops written out, and the sampled estimate's laws (unbiased,
// variance Sigma / S).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "models/attention/decode.h"
#include "models/error.h"
#include "tests/models/sampling/statistics.h"

namespace stoat {
namespace {

constexpr std::uint32_t kContext = 700;
constexpr std::uint32_t kHeadDim = 64;

struct Head {
  std::vector<double> q;
  std::vector<Bf16> keys, values;  // [context, head_dim]
  KvRows key_rows() const { return {keys.data(), kHeadDim, kContext, kHeadDim}; }
  KvRows value_rows() const { return {values.data(), kHeadDim, kContext, kHeadDim}; }
};

Head random_head(double sharpness) {
  std::mt19937_64 engine(31);
  std::normal_distribution<double> normal;
  Head head;
  for (std::uint32_t d = 0; d < kHeadDim; ++d) head.q.push_back(sharpness * normal(engine));
  for (std::uint32_t i = 0; i < kContext * kHeadDim; ++i) {
    head.keys.push_back(to_bf16(static_cast<float>(normal(engine))));
    head.values.push_back(to_bf16(static_cast<float>(normal(engine))));
  }
  return head;
}

TEST(Attention, MatchesLoopsWrittenOut) {
  const Head head = random_head(2.0);
  const double scale = 1 / std::sqrt(64.0);
  std::vector<double> logits(kContext), p(kContext), out(kHeadDim, 0.0);
  double max = -1e300, sum = 0;
  for (std::uint32_t i = 0; i < kContext; ++i) {
    double dot = 0;
    for (std::uint32_t d = 0; d < kHeadDim; ++d)
      dot += head.q[d] * static_cast<double>(to_float(head.keys[i * kHeadDim + d]));
    logits[i] = scale * dot;
    max = std::max(max, logits[i]);
  }
  for (std::uint32_t i = 0; i < kContext; ++i) sum += p[i] = std::exp(logits[i] - max);
  double squares = 0, entropy = 0;
  for (std::uint32_t i = 0; i < kContext; ++i) {
    p[i] /= sum;
    squares += p[i] * p[i];
    entropy -= p[i] * std::log(p[i]);
    for (std::uint32_t d = 0; d < kHeadDim; ++d)
      out[d] += p[i] * static_cast<double>(to_float(head.values[i * kHeadDim + d]));
  }
  const std::vector<double> scores = score(head.q, head.key_rows(), scale);
  const std::vector<double> probabilities = softmax(scores);
  EXPECT_LT(relative_error(scores, logits), 1e-14);
  EXPECT_LT(relative_error(probabilities, p), 1e-13);
  EXPECT_LT(relative_error(gather_dense(probabilities, head.value_rows()), out), 1e-13);
  const SoftmaxStats stats = softmax_stats(scores, probabilities);
  EXPECT_NEAR(stats.lse, max + std::log(sum), 1e-12);
  EXPECT_NEAR(stats.participation, 1 / squares, 1e-9);
  EXPECT_NEAR(stats.entropy, entropy, 1e-10);
  EXPECT_EQ(stats.mass_token0, probabilities[0]);
  EXPECT_EQ(stats.mass_top1, *std::max_element(probabilities.begin(), probabilities.end()));
  EXPECT_GT(stats.mass_top32, stats.mass_top8);
}

std::vector<float> as_float(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

TEST(Attention, AllRowsSelectedByTopKGivesExactAttention) {
  const Head head = random_head(1.5);
  const std::vector<double> logits = score(head.q, head.key_rows(), 0.125);
  const ScoreCodes codes = encode_scores(as_float(logits));
  const Selection selection = select_rows(Method::kTopK, codes, kContext, {});
  const std::vector<double> out = gather_selected(
      selection.rows, selection_weights(Method::kTopK, codes, selection), head.value_rows());
  EXPECT_LT(relative_error(out, gather_dense(softmax(logits), head.value_rows())),
            5e-4);  // the codes' step
}

// Hypothesis: the mean of the estimates over seeds equals the gather by the ruler's own
// probabilities. z per feature, 1e-6.
double bias_p_value(Method method, std::uint32_t budget, double scale_of_estimate) {
  const Head head = random_head(1.5);
  const ScoreCodes codes = encode_scores(as_float(score(head.q, head.key_rows(), 0.125)));
  const Ruler ruler(codes);
  std::vector<double> p(kContext);
  for (std::uint32_t row = 0; row < kContext; ++row) {
    p[row] =
        static_cast<double>(ruler.end(row) - ruler.begin(row)) / static_cast<double>(ruler.total());
  }
  const std::vector<double> exact = gather_dense(p, head.value_rows());
  constexpr std::uint32_t kReplicates = 20000;
  std::vector<double> sum(kHeadDim, 0), squares(kHeadDim, 0);
  for (std::uint32_t n = 0; n < kReplicates; ++n) {
    const Selection selection = select_rows(method, codes, ruler, budget, DrawSite{7, 0, n, 0, 0});
    const std::vector<double> out = gather_selected(
        selection.rows, selection_weights(method, codes, selection), head.value_rows());
    for (std::uint32_t d = 0; d < kHeadDim; ++d) {
      sum[d] += out[d] * scale_of_estimate;
      squares[d] += out[d] * out[d] * scale_of_estimate * scale_of_estimate;
    }
  }
  std::vector<double> p_values;
  for (std::uint32_t d = 0; d < kHeadDim; ++d) {
    const double mean = sum[d] / kReplicates;
    const double variance = squares[d] / kReplicates - mean * mean;
    p_values.push_back(test::normal_p_value((mean - exact[d]) / std::sqrt(variance / kReplicates)));
  }
  return test::bonferroni(p_values);
}

TEST(SampledAttention, IsUnbiasedForEveryMethod) {
  for (const Method method :
       {Method::kIid, Method::kStratified, Method::kSystematic, Method::kProp, Method::kFlash}) {
    EXPECT_GT(bias_p_value(method, 64, 1.0), test::kLevel) << method_name(method);
  }
}

TEST(SampledAttention, AnEstimateTwoPercentTooLargeIsRejected) {
  EXPECT_LT(bias_p_value(Method::kProp, 64, 1.02), test::kLevel);
}

TEST(SampledAttention, VarianceOrderIsIidAboveStratifiedAboveOrEqualSystematic) {
  const Head head = random_head(1.5);
  const ScoreCodes codes = encode_scores(as_float(score(head.q, head.key_rows(), 0.125)));
  const Ruler ruler(codes);
  const std::vector<double> exact =
      gather_dense(softmax(score(head.q, head.key_rows(), 0.125)), head.value_rows());
  const auto mean_square = [&](Method method) {
    double sum = 0;
    for (std::uint32_t n = 0; n < 4000; ++n) {
      const Selection selection = select_rows(method, codes, ruler, 64, DrawSite{8, 0, n, 0, 0});
      const double error = relative_error(
          gather_selected(selection.rows, selection_weights(method, codes, selection),
                          head.value_rows()),
          exact);
      sum += error * error;
    }
    return sum / 4000;
  };
  const double iid = mean_square(Method::kIid);
  // SANTA: covariance Sigma / S. The trace of Sigma over ||exact||^2 from the probabilities.
  double trace = 0;
  const std::vector<double> p = softmax(score(head.q, head.key_rows(), 0.125));
  double norm = 0;
  for (const double value : exact) norm += value * value;
  for (std::uint32_t i = 0; i < kContext; ++i) {
    for (std::uint32_t d = 0; d < kHeadDim; ++d) {
      const double difference =
          static_cast<double>(to_float(head.values[i * kHeadDim + d])) - exact[d];
      trace += p[i] * difference * difference;
    }
  }
  EXPECT_NEAR(iid, trace / norm / 64, 0.05 * iid);
  EXPECT_LT(mean_square(Method::kStratified), iid);
  EXPECT_LT(mean_square(Method::kSystematic), iid);
}

TEST(Attention, RefusesScoresThatAreNotFinite) {
  EXPECT_THROW(softmax(std::vector<double>{}), Error);
  EXPECT_THROW(softmax(std::vector<double>{1, std::nan("")}), Error);
}

TEST(Attention, ComparesNextTokenDistributions) {
  EXPECT_EQ(total_variation(std::vector<float>{0, 0}, std::vector<float>{0, 0}), 0.0);
  EXPECT_NEAR(total_variation(std::vector<float>{0, 100}, std::vector<float>{100, 0}), 1.0, 1e-12);
  EXPECT_FALSE(same_top1(std::vector<float>{0, 1}, std::vector<float>{1, 0}));
}

}  // namespace
}  // namespace stoat
