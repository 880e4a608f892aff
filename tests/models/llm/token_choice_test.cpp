// Choosing tokens: greedy, the laws of the draw, top-p's set.
#include "models/llm/token_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "models/error.h"

namespace stoat {
namespace {

DrawSite at(std::uint32_t position) { return DrawSite{11, 0, position, 0, 0}; }

TEST(TokenChoice, GreedyTakesTheFirstOfTheLargest) {
  EXPECT_EQ(choose_token(std::vector<float>{0, 3, 3, 1}, {}, at(1)), 1);
}

TEST(TokenChoice, RefusesALogitThatIsNotFinite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    try {
      choose_token(std::vector<float>{0, bad, 1}, {}, at(1));
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kDamaged);
      EXPECT_NE(std::string(error.what()).find("token 1"), std::string::npos) << error.what();
    }
  }
}

TEST(TokenChoice, RefusesOptionsOutOfRange) {
  for (const TokenChoice bad :
       {TokenChoice{-1, 1}, TokenChoice{std::nanf(""), 1}, TokenChoice{1, 0}, TokenChoice{1, 1.5F},
        TokenChoice{1e-5F, 1}, TokenChoice{0, 0.5F}})
    EXPECT_THROW(ensure_valid(bad), Error) << bad.temperature << " " << bad.top_p;
  EXPECT_NO_THROW(ensure_valid({}));
  EXPECT_NO_THROW(ensure_valid({0.7F, 0.9F}));
}

// Hypothesis: token i is drawn with p_i = softmax(logits / T). Chi-squared with 5 degrees of
// freedom, 20000 draws; 38.4 is passed with probability 3e-7 by chance.
double chi_squared(const std::vector<float>& logits, const TokenChoice& choice,
                   const std::vector<double>& p) {
  constexpr int kDraws = 20000;
  std::vector<int> count(logits.size());
  for (int i = 0; i < kDraws; ++i)
    ++count[static_cast<std::size_t>(
        choose_token(logits, choice, at(static_cast<std::uint32_t>(i))))];
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    sum += (count[i] - kDraws * p[i]) * (count[i] - kDraws * p[i]) / (kDraws * p[i]);
  return sum;
}

std::vector<double> softened(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  double total = 0;
  for (const float logit : logits) total += p.emplace_back(std::exp(logit / temperature));
  for (double& value : p) value /= total;
  return p;
}

TEST(TokenChoice, DrawsWithTheSoftmaxAndATwinAtAnotherTemperatureIsRejected) {
  const std::vector<float> logits{0.5F, 2, -1, 0, 1, 1.5F};
  EXPECT_LT(chi_squared(logits, {0.8F, 1}, softened(logits, 0.8)), 38.4);
  EXPECT_GT(chi_squared(logits, {0.8F, 1}, softened(logits, 0.9)), 38.4);
}

TEST(TokenChoice, TopPKeepsTheFewestTokensThatReachTheShare) {
  // Weights 8 4 2 1 1 of 16, shuffled.
  const float octave = std::log(2.0F);
  const std::vector<float> logits{octave, 3 * octave, 0, 2 * octave, 0};
  const auto drawn = [&](float top_p) {
    std::set<std::int32_t> tokens;
    for (std::uint32_t i = 0; i < 2000; ++i) tokens.insert(choose_token(logits, {1, top_p}, at(i)));
    return tokens;
  };
  EXPECT_EQ(drawn(0.4F), (std::set<std::int32_t>{1}));
  EXPECT_EQ(drawn(0.7F), (std::set<std::int32_t>{1, 3}));
  EXPECT_EQ(drawn(0.8F), (std::set<std::int32_t>{0, 1, 3}));
  EXPECT_EQ(drawn(0.9F), (std::set<std::int32_t>{0, 1, 2, 3, 4}));  // equals are kept together
}

TEST(TokenChoice, TheDrawDependsOnSeedSequenceAndPositionOnly) {
  const std::vector<float> logits(1000, 0.0F);
  std::set<std::int32_t> tokens;
  for (const DrawSite site : {DrawSite{1, 0, 5, 0, 0}, DrawSite{2, 0, 5, 0, 0},
                              DrawSite{1, 1, 5, 0, 0}, DrawSite{1, 0, 6, 0, 0}}) {
    const auto token = choose_token(logits, {1, 1}, site);
    EXPECT_EQ(choose_token(logits, {1, 1}, site), token);
    tokens.insert(token);
  }
  EXPECT_EQ(tokens.size(), 4U);
}

}  // namespace
}  // namespace stoat
