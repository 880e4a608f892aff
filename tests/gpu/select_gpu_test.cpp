// Given the codes, the counts of the device equal those of the CPU bit for bit; so do ternary
// masks. Skipped without a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "gpu/attention/select_check.h"
#include "models/sampling/ternary.h"

namespace stoat {
namespace {

class SelectOnDevice : public testing::Test {
 protected:
  void SetUp() override {
    const std::string obstacle = gpu::device_obstacle();
    if (!obstacle.empty()) GTEST_SKIP() << obstacle;
  }
  std::mt19937_64 random_{20260917};
};

struct Shape {
  std::uint32_t heads, context_len, budget;
};

// Logits of several kinds: diffuse, peaked, with a sink, with whole tiles far below the rest, with
// masked rows.
std::vector<float> random_logits(std::mt19937_64& random, std::uint32_t context_len) {
  std::normal_distribution<float> normal;
  const float spread = std::exp(2 * normal(random));
  const bool sink = random() % 2 == 0, deep = random() % 2 == 0, masked = random() % 3 == 0;
  std::vector<float> logits(context_len);
  for (std::uint32_t i = 0; i < context_len; ++i) {
    logits[i] = spread * normal(random);
    if (deep && i / kTileRows % 3 == 1) logits[i] -= 60.0F;
    if (masked && i > 0 && random() % 5 == 0) logits[i] = -std::numeric_limits<float>::infinity();
    if (masked && i >= kTileRows && i / kTileRows % 4 == 2)
      logits[i] = -std::numeric_limits<float>::infinity();
  }
  if (sink) logits[0] += 10 * spread;
  return logits;
}

void expect_equal_counts(std::mt19937_64& random, const Shape& shape, Method method) {
  std::vector<std::uint16_t> code;
  std::vector<std::int32_t> exponent;
  std::vector<DrawSite> sites;
  std::vector<ScoreCodes> heads;
  for (std::uint32_t h = 0; h < shape.heads; ++h) {
    heads.push_back(encode_scores(random_logits(random, shape.context_len)));
    code.insert(code.end(), heads.back().code.begin(), heads.back().code.end());
    exponent.insert(exponent.end(), heads.back().exponent.begin(), heads.back().exponent.end());
    sites.push_back(DrawSite{random(), static_cast<std::uint32_t>(random()), shape.context_len - 1,
                             static_cast<std::uint16_t>(random() % 128),
                             static_cast<std::uint16_t>(h)});
  }
  const auto counts =
      gpu::device_counts(method, {code, exponent, shape.context_len}, shape.budget, sites);
  for (std::uint32_t h = 0; h < shape.heads; ++h) {
    std::vector<std::uint32_t> expected(shape.context_len, 0);
    for (const RowCount& entry : select_rows(method, heads[h], shape.budget, sites[h]).rows) {
      expected[entry.row] = entry.count;
    }
    const auto first =
        counts.begin() + static_cast<std::ptrdiff_t>(std::size_t{h} * shape.context_len);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), first))
        << method_name(method) << ", context " << shape.context_len << ", budget " << shape.budget
        << ", head " << h;
  }
}

TEST_F(SelectOnDevice, CountsEqualTheCpusBitForBit) {
  std::vector<Shape> shapes{{1, 1, 1},       {1, 1, 65535},     {3, 2, 7},
                            {8, 255, 128},   {8, 256, 128},     {8, 257, 128},
                            {32, 4096, 256}, {32, 32768, 4096}, {2, 131072, 1024}};
  for (int i = 0; i < 60; ++i) {
    const auto context = static_cast<std::uint32_t>(1 + random_() % 9000);
    shapes.push_back({static_cast<std::uint32_t>(1 + random_() % 8), context,
                      static_cast<std::uint32_t>(1 + random_() % (i % 2 == 0 ? 64 : 5000))});
  }
  for (const Shape& shape : shapes) {
    for (const Method method :
         {Method::kSystematic, Method::kProp, Method::kStratified, Method::kIid}) {
      expect_equal_counts(random_, shape, method);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(SelectOnDevice, TernaryMasksEqualTheCpusBitForBit) {
  std::normal_distribution<float> normal;
  for (int i = 0; i < 60; ++i) {
    const auto heads = static_cast<std::uint32_t>(1 + random_() % 8);
    const std::uint32_t head_dim = 8U << (random_() % 5);
    TernaryOptions options;
    options.draws = static_cast<std::uint32_t>(1 + random_() % 64);
    options.coupling = i % 2 == 0 ? TernaryCoupling::kIndependent : TernaryCoupling::kCoupled;
    options.normaliser = i % 3 == 0 ? TernaryNormaliser::kMax : TernaryNormaliser::kPow2;
    std::vector<float> q(std::size_t{heads} * head_dim), magnitude(q.size());
    for (std::size_t d = 0; d < q.size(); ++d) {
      q[d] = random_() % 9 == 0 ? 0.0F : normal(random_);
      magnitude[d] = std::fabs(q[d]);
    }
    const DrawSite site{random_(), 0, static_cast<std::uint32_t>(random_()), 3, 8};
    std::vector<DrawSite> sites(heads, site);
    if (options.coupling == TernaryCoupling::kIndependent) {
      for (std::uint32_t h = 0; h < heads; ++h)
        sites[h].query_head = static_cast<std::uint16_t>(site.query_head + h);
    }
    const TernaryGroup group = draw_ternary(q, heads, head_dim, options, site);
    ASSERT_EQ(
        gpu::device_ternary_masks(magnitude, group.normaliser, sites, head_dim, options.draws),
        group.mask)
        << i;
  }
}

}  // namespace
}  // namespace stoat
