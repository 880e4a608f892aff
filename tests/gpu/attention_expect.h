// What every sampled launch owes its own codes: rows and counts as the CPU's, outputs near their
// gather, log-sum-exp near that of the codes. Not a test.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "gpu/attention/select_check.h"
#include "tests/gpu/attention_case.h"

namespace stoat::gpu {

class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    const std::string obstacle = device_obstacle();
    if (!obstacle.empty()) GTEST_SKIP() << obstacle;
  }
};

inline const std::vector<Method>& selecting_methods() {
  static const std::vector<Method> methods{Method::kIid,  Method::kStratified, Method::kSystematic,
                                           Method::kProp, Method::kFlash,      Method::kTopK};
  return methods;
}

inline DecodeParams params_of(const AttentionCase& on, Method method, std::uint32_t budget) {
  DecodeParams params = on.params();
  params.method = method;
  params.budget = budget;
  return params;
}

// A traced launch whose codes and exponents are those of its score records.
inline Result run_recorded(const AttentionCase& on, DecodeParams params) {
  const std::size_t slots = std::size_t{on.batch()} * on.shape().q_heads() * on.tiles_capacity();
  const DeviceArray<std::uint16_t> code(slots * kTileRows);
  const DeviceArray<std::int32_t> exponent(slots);
  params.scores = ScoreSink{code.get(), exponent.get(), nullptr};
  Result result = on.run(params, true);
  result.code = code.to_host();
  result.exponent = exponent.to_host();
  return result;
}

inline Shape shape_of(const std::vector<std::uint32_t>& contexts, std::uint32_t group,
                      std::uint32_t kv_heads = 2) {
  Shape shape;
  shape.contexts = contexts;
  shape.group = group;
  shape.kv_heads = kv_heads;
  return shape;
}

inline std::vector<double> head_of(const AttentionCase& on, const Result& result,
                                   std::size_t head) {
  const std::size_t d = on.shape().head_dim;
  return {result.out.begin() + static_cast<std::ptrdiff_t>(head * d),
          result.out.begin() + static_cast<std::ptrdiff_t>((head + 1) * d)};
}

// Calls visit(sequence, q_head, index of the head in the batch).
template <class Visit>
void for_heads(const AttentionCase& on, Visit visit) {
  for (std::uint32_t s = 0; s < on.batch(); ++s) {
    for (std::uint32_t h = 0; h < on.shape().q_heads(); ++h)
      visit(s, h, std::size_t{s} * on.shape().q_heads() + h);
  }
}

// Natural log of the sum of exp(score) over the selected rows, or over all for a sampled method.
inline double lse_of_codes(const ScoreCodes& codes, Method method, const Selection& selection) {
  const auto x = [&](std::size_t row) {
    const std::int32_t exponent = codes.exponent[row / kTileRows];
    return exponent == kMaskedTile ? -INFINITY : exponent - codes.code[row] / 2048.0;
  };
  std::vector<double> scores;
  if (method == Method::kTopK) {
    for (const RowCount& entry : selection.rows) scores.push_back(x(entry.row));
  } else {
    for (std::size_t row = 0; row < codes.code.size(); ++row) scores.push_back(x(row));
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp2(score - top);
  return (top + std::log2(sum)) * std::log(2.0);
}

// One head of a traced launch with float outputs, given its own codes.
inline void expect_head_follows_codes(const AttentionCase& on, const DecodeParams& params,
                                      const Result& result, std::uint32_t s, std::uint32_t h) {
  const std::size_t head = std::size_t{s} * on.shape().q_heads() + h;
  const ScoreCodes codes = on.codes(result, s, h);
  const Ruler ruler(codes);
  for (std::uint32_t t = 0; t < ruler.tiles(); ++t)
    ASSERT_EQ(result.mass[head * on.tiles_capacity() + t], ruler.tile_weight(t)) << "tile " << t;
  const Selection expected =
      select_rows(params.method, codes, ruler, params.budget, on.site(params, s, h));
  ASSERT_EQ(traced_rows(result, head, params.budget), expected.rows)
      << method_name(params.method) << ", budget " << params.budget << ", context "
      << codes.code.size() << ", head " << h;
  const std::vector<double> gathered =
      gather_selected(expected.rows, selection_weights(params.method, codes, expected),
                      on.values(s, h / on.shape().group));
  // Outputs are fp32 here: far inside the 3e-3 that a 16-bit output may have.
  ASSERT_LE(relative_error(head_of(on, result, head), gathered), 2e-5)
      << method_name(params.method) << ", budget " << params.budget << ", context "
      << codes.code.size();
  ASSERT_NEAR(static_cast<double>(result.lse[head]), lse_of_codes(codes, params.method, expected),
              5e-4)
      << method_name(params.method);
}

inline void expect_follows_codes(const AttentionCase& on, const DecodeParams& params,
                                 const Result& result) {
  EXPECT_EQ(result.status, 0U);
  EXPECT_EQ(result.lost, 0U);
  for_heads(on, [&](std::uint32_t s, std::uint32_t h, std::size_t) {
    if (!testing::Test::HasFatalFailure()) expect_head_follows_codes(on, params, result, s, h);
  });
}

}  // namespace stoat::gpu
