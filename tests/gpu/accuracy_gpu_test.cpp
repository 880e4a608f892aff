// An engine whose method changes on cached rows gives what engines made for each method give.
// Needs a device.
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "gpu/llm/engine.h"
#include "models/llm/transformer.h"
#include "tests/models/llm/model_writer.h"

namespace stoat {
namespace {

using gpu::DeviceWeights;
using gpu::Engine;
using gpu::EngineOptions;
using test::TempFolder;
using test::TinyShape;

struct Use {
  Method method = Method::kDense;
  std::vector<std::uint32_t> budgets;
  std::optional<TernaryOptions> ternary;
  std::uint64_t seed = 1;
};

std::vector<std::int32_t> tokens_of(std::uint32_t sequence, std::size_t n, std::uint32_t vocab) {
  std::vector<std::int32_t> tokens;
  for (std::uint32_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<std::int32_t>(
        draw_u64(DrawSite{5, sequence, i, 0, 0}, Purpose::kToken, 1) % vocab));
  return tokens;
}

// Four steps from the cached prompts; the last logits of all sequences.
std::vector<float> decode(Engine& engine, std::uint32_t batch) {
  for (std::uint32_t step = 0; step < 4; ++step) {
    const auto fed = tokens_of(100 + step, batch, engine.config().vocab_size);
    engine.submit(fed);
  }
  std::vector<float> logits;
  engine.collect();
  engine.all_logits(logits);
  return logits;
}

TEST(EngineReuse, AMethodOnCachedRowsIsTheMethodOfItsOwnEngine) {
  const TempFolder folder;
  TinyShape shape;
  shape.layers = 2;
  shape.hidden = 96;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 64;
  shape.intermediate = 136;
  test::write_model(folder.path(), shape, test::random_weights(shape, 5), 2);
  ThreadPool pool(2);
  const ModelConfig config = read_model_config(folder.path() + "/config.json");
  constexpr std::uint32_t kBatch = 20;  // by cuBLASLt
  const std::vector<Use> uses{
      {Method::kProp,
       {64},
       TernaryOptions{4, TernaryCoupling::kCoupled, TernaryNormaliser::kMax},
       3},
      {},
      {Method::kSystematic, {16}, {}, 4},
      {Method::kFlash, {32}, {}, 5},
      {Method::kIid, {4, 200}, {}, 6},
      {}};
  const auto options_of = [&](const Use& use) {
    EngineOptions options;
    options.batch = kBatch;
    options.capacity = 330;
    options.method = use.method;
    options.budgets = use.budgets;
    options.ternary = use.ternary;
    options.seed = use.seed;
    return options;
  };
  std::vector<std::uint32_t> lengths;
  const auto prefill = [&](Engine& engine) {
    lengths.clear();
    for (std::uint32_t s = 0; s < kBatch; ++s) {
      lengths.push_back(270 + s);
      engine.prefill(s, tokens_of(s, lengths.back(), config.vocab_size));
    }
  };
  Engine reused(config, DeviceWeights::load(folder.path(), config, pool), options_of(uses[0]));
  prefill(reused);
  for (std::size_t i = 0; i < uses.size(); ++i) {
    reused.use_method(uses[i].method, uses[i].budgets, uses[i].ternary, uses[i].seed);
    reused.rewind(lengths);
    const std::vector<float> found = decode(reused, kBatch);
    reused.rewind(lengths);
    EXPECT_EQ(decode(reused, kBatch), found) << "again, setting " << i;
    Engine own(config, DeviceWeights::load(folder.path(), config, pool), options_of(uses[i]));
    prefill(own);
    EXPECT_EQ(decode(own, kBatch), found) << "setting " << i;
  }
}

}  // namespace
}  // namespace stoat
