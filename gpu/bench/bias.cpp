#include "gpu/bench/bias.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "gpu/bench/bias_truth.h"
#include "models/error.h"
#include "models/sampling/philox.h"

namespace stoat::gpu {

namespace {

struct Draws {
  Method method;
  std::uint32_t budget;
};

// Keys with participation ratios (median over heads) near 20, 64, 12430 and 45: those that errors
// are quoted for elsewhere.
const std::vector<BiasRegime>& regimes() {
  static const std::vector<BiasRegime> list{{"skew 3.75", 32768, 3.75F, 101, false},
                                            {"skew 3.0", 32768, 3.0F, 102, false},
                                            {"flat", 32768, 1.0F, 103, true},
                                            {"skew 3.75", 131072, 3.75F, 108, false}};
  return list;
}

std::vector<Draws> draws_of(const BiasRegime& regime) {
  std::vector<Draws> list{{Method::kProp, 128}, {Method::kFlash, 2048}};
  if (regime.context > 32768) return list;
  for (const Method method : {Method::kSystematic, Method::kStratified, Method::kIid})
    list.push_back({method, 128});
  if (regime.flat) return list;
  for (const std::uint32_t budget : {512U, 2048U}) list.push_back({Method::kProp, budget});
  return list;
}

std::uint64_t spread_seed(std::uint64_t seed, std::uint64_t index) {
  const PhiloxBlock block =
      philox4x32_10({{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                      0x62696173U, 0}},
                    static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  return block.word[0] | (static_cast<std::uint64_t>(block.word[1]) << 32);
}

// Every batch as the first: what a sampler that repeats its seeds would give.
BiasSums repeat_first_batch(const BiasSums& sums) {
  BiasSums repeated = sums;
  for (std::size_t b = 0; b < sums.batches; ++b) {
    std::copy_n(sums.sum.begin(), sums.elements,
                repeated.sum.begin() + static_cast<std::ptrdiff_t>(b * sums.elements));
  }
  return repeated;
}

std::vector<std::string> failures_of(const BiasResult& r) {
  std::vector<std::string> list;
  const auto expect = [&](bool holds, const std::string& text) {
    if (!holds) list.push_back(text);
  };
  if (r.regime.flat) {
    expect(r.dense.raw <= kFlatBound * r.dense.floor, "mean off by more than 3 x the noise");
  } else {
    expect(r.dense.bias() <= kBiasBound, "biased by more than 1e-3");
  }
  expect(std::fabs(r.codes.z()) <= kBiasZ, "biased against the codes");
  expect(r.reused.z() > kBiasZ, "repeated seeds pass the test");
  const bool one_offset = r.method == Method::kProp || r.method == Method::kSystematic;
  if (one_offset) {
    expect(std::fabs(r.error.rms / r.systematic.rms - 1) <= kErrorBound,
           "per-draw error more than 3 % off systematic sampling");
  }
  if (one_offset && !r.regime.flat && r.budget == 128)
    expect(r.largest_remainder > kBiasBound, "largest remainder passes the bound");
  return list;
}

bool wanted(const BiasPlan& plan, const std::string& name) {
  return plan.only.empty() || std::any_of(plan.only.begin(), plan.only.end(), [&](const auto& p) {
           return name.find(p) != std::string::npos;
         });
}

}  // namespace

std::string BiasResult::name() const {
  return fmt::format("{} {}k {} S={}", regime.name, regime.context / 1024, method_name(method),
                     budget);
}

void measure_bias(const BiasPlan& plan, const std::function<void(const BiasResult&)>& done) {
  bool any = false;
  for (const BiasRegime& regime : regimes()) {
    std::vector<BiasResult> cases;
    for (const Draws& draws : draws_of(regime)) {
      BiasResult result;
      result.regime = regime;
      result.method = draws.method;
      result.budget = draws.budget;
      if (wanted(plan, result.name())) cases.push_back(result);
    }
    if (cases.empty()) continue;
    any = true;
    BiasDevice device(regime);
    const BiasTruth truth(regime, device);
    std::uint64_t first_seed = std::uint64_t{regime.key} << 40;
    std::map<std::uint32_t, std::pair<DrawError, double>> by_budget;
    for (BiasResult& result : cases) {
      first_seed += std::uint64_t{1} << 32;  // no two cases share a seed
      const BiasSums sums =
          device.run(result.method, result.budget, plan.draws, truth.exact(),
                     [&](std::uint64_t i) { return spread_seed(plan.seed, first_seed + i); });
      result.draws = static_cast<std::uint32_t>(sums.draws());
      result.participation = truth.participation();
      result.dense = estimate_bias(sums, truth.exact());
      result.codes = estimate_bias(sums, truth.expected());
      result.reused = estimate_bias(repeat_first_batch(sums), truth.exact());
      result.error = draw_error(sums, truth.exact());
      if (!by_budget.contains(result.budget)) {
        by_budget[result.budget] = {truth.systematic_error(result.budget),
                                    truth.largest_remainder_bias(result.budget)};
      }
      std::tie(result.systematic, result.largest_remainder) = by_budget.at(result.budget);
      result.failures = failures_of(result);
      done(result);
    }
  }
  if (!any)
    throw usage_error({"--cases"}, "no case has such a name", "parts of names",
                      "for example 'prop S=128' or '32k'");
}

std::string bias_table_head() {
  return fmt::format("{:<30} {:>6} {:>8} {:>8} {:>9} {:>9} {:>6} {:>9} {:>9}  {}", "case", "ratio",
                     "a draw", "sys f64", "bias", "to codes", "z", "repeated", "lrg rem",
                     "verdict");
}

std::string bias_table_row(const BiasResult& r) {
  return fmt::format(
      "{:<30} {:>6.0f} {:>8.4f} {:>8.4f} {:>9.1e} {:>9.1e} {:>6.1f} {:>9.1e} {:>9.1e}  {}",
      r.name(), r.participation, r.error.rms, r.systematic.rms, r.dense.bias(), r.codes.bias(),
      r.codes.z(), r.reused.bias(), r.largest_remainder,
      r.failures.empty() ? "ok" : fmt::format("FAILED: {}", fmt::join(r.failures, "; ")));
}

namespace {

nlohmann::json estimate_json(const BiasEstimate& e) {
  return {{"bias", e.bias()},
          {"squared", e.squared},
          {"squared_standard_error", e.standard_error},
          {"z", e.z()},
          {"raw", e.raw},
          {"floor", e.floor},
          {"sum_norm2", e.sum_norm2},
          {"batch_norm2", e.batch_norm2}};
}

}  // namespace

nlohmann::json bias_json(const BiasResult& r) {
  return {{"case", r.name()},
          {"regime", r.regime.name},
          {"context", r.regime.context},
          {"skew", r.regime.skew},
          {"flat", r.regime.flat},
          {"method", std::string(method_name(r.method))},
          {"budget", r.budget},
          {"draws", r.draws},
          {"participation", r.participation},
          {"draw_rms", r.error.rms},
          {"draw_rms_standard_error", r.error.standard_error},
          {"systematic_rms", r.systematic.rms},
          {"systematic_rms_standard_error", r.systematic.standard_error},
          {"bias", r.dense.bias()},
          {"bias_raw", r.dense.raw},
          {"noise_floor", r.dense.floor},
          {"bias_to_codes", r.codes.bias()},
          {"z_to_codes", r.codes.z()},
          {"largest_remainder_bias", r.largest_remainder},
          {"repeated_seeds_bias", r.reused.bias()},
          {"repeated_seeds_z", r.reused.z()},
          {"against_dense", estimate_json(r.dense)},
          {"against_codes", estimate_json(r.codes)},
          {"failures", r.failures}};
}

std::vector<std::string> bias_columns() {
  return {"regime",
          "context",
          "method",
          "budget",
          "draws",
          "participation",
          "draw_rms",
          "draw_rms_standard_error",
          "systematic_rms",
          "systematic_rms_standard_error",
          "bias",
          "bias_raw",
          "noise_floor",
          "bias_to_codes",
          "z_to_codes",
          "largest_remainder_bias",
          "repeated_seeds_bias"};
}

}  // namespace stoat::gpu
