// A synthetic trace is recorded; the fit has to find what it was made of.
#include "sim/sweep/synth_fit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "traces/synth.h"

namespace stoat::sim {
namespace {

SynthOptions made_of(double recency, double correlation) {
  SynthOptions options;
  options.n_q_heads = 8;
  options.n_kv_heads = 2;
  options.contexts = {4096};
  options.budgets.assign(1, 256);
  options.participation = 120;
  options.recency = recency;
  options.group_correlation = correlation;
  options.seed = 5;
  return options;
}

LoadedTrace recorded(const SynthOptions& options) {
  LoadedTrace trace;
  trace.path = "memory";
  trace.header = synth_header(options);
  trace.records = synthesize_records(options);
  trace.step_begin = {0, trace.records.size()};
  trace.step_context = {options.contexts.front()};
  trace.scores_everywhere = options.scores;
  return trace;
}

TEST(SynthFit, FindsRecencyAndCorrelationFromDrawnRows) {
  const SynthFit fit = fit_synth(recorded(made_of(200, 0.6)));
  ASSERT_TRUE(fit.recency.has_value());
  EXPECT_GT(*fit.recency, 100);
  EXPECT_LT(*fit.recency, 400);
  EXPECT_NEAR(*fit.correlation, 0.6, 0.15);
}

TEST(SynthFit, FindsThemFromScoresToo) {
  SynthOptions options = made_of(60, 0.3);
  options.scores = true;
  const SynthFit fit = fit_synth(recorded(options));
  ASSERT_TRUE(fit.recency.has_value());
  EXPECT_GT(*fit.recency, 30);
  EXPECT_LT(*fit.recency, 120);
  EXPECT_NEAR(*fit.correlation, 0.3, 0.15);
}

TEST(SynthFit, FindsNothingWhereThereIsNothing) {
  const SynthFit fit = fit_synth(recorded(made_of(0, 0)));
  EXPECT_EQ(fit.sinks, 0U);
  EXPECT_LT(*fit.correlation, 0.15);
  // Any length that is found must change next to nothing: the newest rows get their even share.
  EXPECT_TRUE(*fit.recency < 10 || *fit.recency > 500) << *fit.recency;
}

TEST(SynthFit, SaysThatADenseTraceWithoutScoresTellsNothing) {
  SynthOptions options = made_of(200, 0.6);
  options.method = Method::kDense;
  const SynthFit fit = fit_synth(recorded(options));
  EXPECT_FALSE(fit.recency.has_value());
  EXPECT_FALSE(fit.correlation.has_value());
}

}  // namespace
}  // namespace stoat::sim
