// Kernels that are wrong in what only some orders of the warps show, which tests/gpu's
// CMakeLists.txt makes of the right ones: the emulation has to find them.
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/gpu/emulation/gather_case.h"
#include "tests/gpu/emulation/score_case.h"
#include "tests/gpu/llm_product_case.h"

namespace stoat::emulation {
namespace {

constexpr std::uint64_t kOrders = 8;

TEST(EmulationTwin, OfTheScorePassIsFoundWrongInMostOrdersOfTheWarps) {
  std::uint32_t found = 0;
  for (std::uint64_t seed = 0; seed < kOrders; ++seed)
    found +=
        what_is_wrong({.contexts = {700, 1500}, .blocks = 3}, {1, 1, 256, seed}).empty() ? 0 : 1;
  EXPECT_GT(found, kOrders / 2);
}

TEST(EmulationTwin, OfTheGatherIsFoundWrongInMostOrdersOfTheWarps) {
  // One tile a block: the twin of the score pass is right there.
  const BatchCase of{.kv_heads = 1, .contexts = {256}, .blocks = 1};
  const Batch batch(of, 5);
  gpu::DecodeParams p = batch.params();
  p.method = Method::kProp;
  p.budget = 300;
  const ScoreResults scores = run_score(p, of.code_places, {of.blocks});
  std::uint32_t found = 0;
  for (std::uint64_t seed = 0; seed < kOrders; ++seed)
    found += what_is_wrong(batch, of, p, scores, {1}, {1, 1, 256, seed}).empty() ? 0 : 1;
  EXPECT_GT(found, kOrders / 2);
}

using gpu::DeviceMemory;

class EmulationProductTwin : public gpu::LlmProduct {};

TEST_F(EmulationProductTwin, IsFoundWrongInMostOrdersOfTheWarps) {
  constexpr std::uint32_t kRows = 3, kColumns = 48, kSum = 2056;
  const auto x = random_bf16(std::size_t{kRows} * kSum),
             w = random_bf16(std::size_t{kColumns} * kSum);
  const DeviceMemory dx = upload(x), dw = upload(w);
  std::vector<double> want(std::size_t{kRows} * kColumns);
  for (std::size_t i = 0; i < want.size(); ++i)
    want[i] = gpu::product(x, w, i / kColumns, i % kColumns, kSum);
  std::uint32_t found = 0;
  for (std::uint64_t launch = 0; launch < kOrders; ++launch) {
    const DeviceMemory y = poisoned<float>(want.size());
    gpu::SkinnyParams p = gpu::params_of(dx, dw, kRows, kColumns, kSum);
    p.y = y.as<float>();
    try {
      multiply(p);
      found += gpu::distance(want, download<float>(y, want.size())) < 1e-6 ? 0 : 1;
    } catch (const std::runtime_error&) {
      ++found;
    }
  }
  EXPECT_GT(found, kOrders / 2);
}

}  // namespace
}  // namespace stoat::emulation
