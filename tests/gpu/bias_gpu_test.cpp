// The sampled kernels are unbiased on the device: 65,536 spread seeds on inputs of participation
// ratio 20 at 32k tokens (stoat-bench bias has the other regimes). References: attention in double,
// and the expectation of the codes; twins that must be rejected: repeated seeds, largest remainder.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "gpu/attention/select_check.h"
#include "gpu/bench/bias.h"
#include "tests/gpu/attention_case.h"

namespace stoat::gpu {
namespace {

TEST(BiasOnDevice, IsBelowTheBoundForEveryMethodAndBothTwinsAreRejected) {
  if (const std::string obstacle = device_obstacle(); !obstacle.empty()) GTEST_SKIP() << obstacle;
  BiasPlan plan;
  plan.only = {"skew 3.75 32k"};
  std::printf("%s\n", bias_table_head().c_str());
  std::vector<Method> seen;
  measure_bias(plan, [&](const BiasResult& result) {
    std::printf("%s\n", bias_table_row(result).c_str());
    seen.push_back(result.method);
    for (const std::string& failure : result.failures)
      ADD_FAILURE() << result.name() << ": " << failure;
    EXPECT_NEAR(result.participation, 20, 8);
  });
  for (const Method method :
       {Method::kProp, Method::kSystematic, Method::kStratified, Method::kIid, Method::kFlash})
    EXPECT_NE(std::find(seen.begin(), seen.end(), method), seen.end()) << method_name(method);
}

}  // namespace
}  // namespace stoat::gpu
