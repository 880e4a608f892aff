// The forward pass against an independent one in double, and against itself: chunks, threads,
// prefill and decode.
#include "models/llm/transformer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <random>

#include "models/error.h"
#include "tests/models/llm/model_writer.h"
#include "tests/models/llm/reference_forward.h"

namespace stoat::test {
namespace {

std::vector<std::int32_t> random_tokens(std::uint32_t count, std::uint32_t vocab,
                                        std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::int32_t> tokens(count);
  for (auto& token : tokens) token = static_cast<std::int32_t>(generator() % vocab);
  return tokens;
}

struct Case {
  std::string name;
  TinyShape shape;
  // Frequency of pair j, written down apart from models/llm/rope.cpp.
  std::function<double(std::uint32_t pair, std::uint32_t head_dim)> frequency =
      [](std::uint32_t j, std::uint32_t d) { return std::pow(10000.0, -2.0 * j / d); };
};

// Llama-3.1's rule with factor 8, low 1, high 4, original 64 (small, so that all three branches are
// taken).
double llama3_frequency(std::uint32_t j, std::uint32_t d) {
  const double f = std::pow(500000.0, -2.0 * j / d), turns = 64 * f / (2 * std::numbers::pi);
  if (turns < 1) return f / 8;
  if (turns > 4) return f;
  const double smooth = (turns - 1) / 3;
  return (1 - smooth) * f / 8 + smooth * f;
}

std::vector<Case> cases() {
  std::vector<Case> list;
  list.push_back({"llama", {}});
  Case tied{"llama_tied_wide_head", {}};
  tied.shape.tied = true;
  tied.shape.head_dim = 40;
  tied.shape.kv_heads = 1;
  list.push_back(tied);
  Case scaled{"llama_rope_llama3", {}};
  scaled.shape.rope =
      R"("rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 64})";
  scaled.shape.head_dim = 32;
  scaled.frequency = llama3_frequency;
  list.push_back(scaled);
  Case linear{"llama_rope_linear_bias_fp32", {}};
  linear.shape.rope =
      R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0})";
  linear.shape.attention_bias = true;
  linear.shape.dtype = "F32";
  linear.frequency = [](std::uint32_t j, std::uint32_t d) {
    return std::pow(10000.0, -2.0 * j / d) / 4;
  };
  list.push_back(linear);
  Case qwen2{"qwen2_fp16", {}};
  qwen2.shape.model_type = "qwen2";
  qwen2.shape.kv_heads = 4;
  qwen2.shape.dtype = "F16";
  list.push_back(qwen2);
  Case qwen3{"qwen3", {}};
  qwen3.shape.model_type = "qwen3";
  qwen3.shape.head_dim = 24;
  qwen3.shape.tied = true;
  list.push_back(qwen3);
  return list;
}

class ForwardPass : public testing::TestWithParam<Case> {};

double largest(const std::vector<double>& values) {
  double top = 0;
  for (const double v : values) top = std::max(top, std::abs(v));
  return top;
}

// Largest difference over the largest logit.
double distance(const std::vector<float>& got, const std::vector<double>& want) {
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(got[i] - want[i]));
  return worst / largest(want);
}

// K and V in the cache must be the bf16 neighbours of the exact values; the reference then goes on
// with them.
Stored stored_in(const KvCache& cache) {
  return [&cache](std::uint32_t layer, std::uint32_t head, std::uint32_t position,
                  std::uint32_t dim, bool value, double exact) {
    const KvRows rows =
        value ? cache.values(layer, head, position + 1) : cache.keys(layer, head, position + 1);
    const double held = to_float(rows.data[position * rows.row_stride + dim]);
    EXPECT_LE(std::abs(held - exact), std::abs(exact) / 256 + 2e-5)
        << "layer " << layer << " head " << head << " position " << position << " dim " << dim
        << (value ? " V" : " K");
    return held;
  };
}

TEST_P(ForwardPass, AgreesWithPlainLoopsInDouble) {
  const Case& c = GetParam();
  TempFolder folder;
  const auto weights = random_weights(c.shape, 7);
  write_model(folder.path(), c.shape, weights);
  ThreadPool pool(2);
  Transformer model = Transformer::load(folder.path(), pool);
  const auto tokens = random_tokens(197, c.shape.vocab, 3);
  KvCache cache = model.make_cache(256);
  const auto dense = dense_attention(model.config(), model.attention_scale(), pool);
  // 150 tokens prefilled, the rest decoded one by one: every logit of the decode is compared.
  std::vector<std::vector<float>> got{model.prefill(std::span(tokens).first(150), cache)};
  for (std::size_t i = 150; i < tokens.size(); ++i)
    got.push_back(model.decode(tokens[i], cache, dense));
  ASSERT_EQ(cache.length(), tokens.size());
  // The angle is an fp32 product, as Hugging Face has it.
  const Angle angle = [&](std::uint32_t j, std::uint32_t position) {
    return static_cast<double>(static_cast<float>(c.frequency(j, c.shape.head_dim)) *
                               static_cast<float>(position));
  };
  const auto want = reference_logits(c.shape, weights, tokens, angle, stored_in(cache));
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_LT(distance(got[i], want[149 + i]), 2e-5) << "after token " << 149 + i;
  }
}

TEST_P(ForwardPass, DecodingAgreesWithPrefillOfEverything) {
  const Case& c = GetParam();
  TempFolder folder;
  write_model(folder.path(), c.shape, random_weights(c.shape, 8));
  ThreadPool pool(2);
  Transformer model = Transformer::load(folder.path(), pool);
  const auto tokens = random_tokens(300, c.shape.vocab, 4);
  KvCache decoded = model.make_cache(300), prefilled = model.make_cache(300);
  const auto dense = dense_attention(model.config(), model.attention_scale(), pool);
  auto logits = model.prefill(std::span(tokens).first(260), decoded);
  for (std::size_t i = 260; i < 300; ++i) logits = model.decode(tokens[i], decoded, dense);
  const auto whole = model.prefill(tokens, prefilled);
  // Double against fp32 attention: a rounding of K or V to bf16 may fall the other way, 2^-8 of one
  // element.
  EXPECT_LT(distance(logits, {whole.begin(), whole.end()}), 3e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, ForwardPass, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(Transformer, LogitsDependNeitherOnThreadsNorOnChunks) {
  TinyShape shape;
  shape.layers = 2;
  TempFolder folder;
  write_model(folder.path(), shape, random_weights(shape, 9));
  const auto tokens = random_tokens(1700, shape.vocab, 5);  // three chunks
  struct Run {
    unsigned threads;
    std::vector<std::size_t> cuts;
  };
  std::vector<std::vector<float>> results;
  std::vector<std::vector<std::uint16_t>> caches;
  for (const Run& run :
       {Run{1, {1690}}, Run{2, {1690}}, Run{3, {37, 900, 1690}}, Run{2, {1, 768, 1000, 1690}}}) {
    ThreadPool pool(run.threads);
    Transformer model = Transformer::load(folder.path(), pool);
    KvCache cache = model.make_cache(1700);
    const auto dense = dense_attention(model.config(), model.attention_scale(), pool);
    std::size_t done = 0;
    std::vector<float> all;
    for (const std::size_t cut : run.cuts) {
      const auto logits = model.prefill(std::span(tokens).subspan(done, cut - done), cache);
      if (cut == 1690) all = logits;
      done = cut;
    }
    for (; done < 1700; ++done) {
      const auto logits = model.decode(tokens[done], cache, dense);
      all.insert(all.end(), logits.begin(), logits.end());
    }
    results.push_back(all);
    caches.emplace_back();
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
      for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
        for (const KvRows& rows :
             {cache.keys(layer, head, 1700), cache.values(layer, head, 1700)}) {
          for (std::size_t i = 0; i < 1700 * shape.head_dim; ++i)
            caches.back().push_back(rows.data[i].bits);
        }
      }
    }
  }
  for (std::size_t i = 1; i < results.size(); ++i) {
    ASSERT_EQ(results[i].size(), results[0].size());
    EXPECT_EQ(std::memcmp(results[i].data(), results[0].data(), results[0].size() * sizeof(float)),
              0)
        << "run " << i;
    EXPECT_EQ(caches[i], caches[0]) << "run " << i;
  }
}

TEST(Transformer, ReadsAShardedModelAsTheSameModel) {
  TinyShape shape;
  const auto weights = random_weights(shape, 10);
  TempFolder one, three;
  write_model(one.path(), shape, weights, 1);
  write_model(three.path(), shape, weights, 3);
  ThreadPool pool(2);
  Transformer a = Transformer::load(one.path(), pool), b = Transformer::load(three.path(), pool);
  EXPECT_EQ(a.weights_hash(), b.weights_hash());
  EXPECT_EQ(a.weights_hash().size(), 32U);
  const auto tokens = random_tokens(20, shape.vocab, 6);
  KvCache ca = a.make_cache(20), cb = b.make_cache(20);
  EXPECT_EQ(a.prefill(tokens, ca), b.prefill(tokens, cb));
}

TEST(Transformer, TellsModelsOfEqualShapeApartByTheirHash) {
  TinyShape shape;
  TempFolder one, other;
  write_model(one.path(), shape, random_weights(shape, 1));
  write_model(other.path(), shape, random_weights(shape, 2));
  ThreadPool pool(1);
  EXPECT_NE(Transformer::load(one.path(), pool).weights_hash(),
            Transformer::load(other.path(), pool).weights_hash());
}

TEST(Transformer, CountsTheWeightBytesOfOneDecodeStep) {
  TinyShape shape;
  shape.layers = 1;
  TempFolder untied, tied;
  write_model(untied.path(), shape, random_weights(shape, 1));
  // q and o 48x48 each, k and v 24x48 each, three 72x48, three norms of 48, the head 101x48 and one
  // embedding row, in bf16.
  const std::uint64_t layer = 2 * 48 * 48 + 2 * 24 * 48 + 3 * 72 * 48 + 3 * 48;
  ThreadPool pool(1);
  EXPECT_EQ(Transformer::load(untied.path(), pool).weight_bytes_per_token(),
            2 * (layer + 101 * 48 + 48));
  shape.tied = true;
  write_model(tied.path(), shape, random_weights(shape, 1));
  EXPECT_EQ(Transformer::load(tied.path(), pool).weight_bytes_per_token(), 2 * (layer + 101 * 48));
}

template <class F>
std::string error_of(F&& action, ExitCode code) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

TEST(Transformer, RefusesTokensThatTheModelCannotTake) {
  TinyShape shape;
  shape.max_positions = 16;
  TempFolder folder;
  write_model(folder.path(), shape, random_weights(shape, 1));
  ThreadPool pool(1);
  Transformer model = Transformer::load(folder.path(), pool);
  KvCache cache = model.make_cache(16);
  const auto prefill = [&](std::vector<std::int32_t> tokens) {
    return error_of([&] { model.prefill(tokens, cache); }, ExitCode::kUsage);
  };
  expect_has(prefill({}), "no tokens");
  expect_has(prefill({1, -1}), "token -1 at index 1");
  expect_has(prefill({1, 2, 101}), "token 101 at index 2");
  expect_has(prefill(std::vector<std::int32_t>(17, 1)), "17 tokens; expected at most 16");
  EXPECT_EQ(cache.length(), 0U);
  expect_has(error_of([&] { model.make_cache(17); }, ExitCode::kUsage), "context of 17");
  expect_has(error_of([&] { model.make_cache(0); }, ExitCode::kUsage), "context of 0");
  EXPECT_EQ(model.prefill(std::vector<std::int32_t>(1, 5), cache).size(),
            shape.vocab);  // context 1 is fine
}

TEST(Transformer, NamesFileTensorAndElementOfANaN) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    TinyShape shape;
    auto weights = random_weights(shape, 1);
    weights["model.layers.1.self_attn.k_proj.weight"].values[77] = bad;
    TempFolder folder;
    write_model(folder.path(), shape, weights);
    ThreadPool pool(2);
    const auto text = error_of([&] { Transformer::load(folder.path(), pool); }, ExitCode::kDamaged);
    expect_has(text, folder / "model.safetensors");
    expect_has(text, "'model.layers.1.self_attn.k_proj.weight': element 77 is " +
                         std::string(bad == bad ? "infinite" : "NaN"));
  }
}

TEST(Transformer, NamesTheLayerWhoseNumbersOverflow) {
  TinyShape shape;
  shape.dtype = "F32";
  auto weights = random_weights(shape, 1);
  for (float& w : weights["model.layers.1.mlp.down_proj.weight"].values) w = 3e38F;
  TempFolder folder;
  write_model(folder.path(), shape, weights);
  ThreadPool pool(2);
  Transformer model = Transformer::load(folder.path(), pool);
  KvCache cache = model.make_cache(8);
  const std::vector<std::int32_t> tokens{1, 2, 3};
  expect_has(error_of([&] { model.prefill(tokens, cache); }, ExitCode::kDamaged),
             "output of layer 1");
}

TEST(Transformer, RefusesTensorsThatDoNotFitTheConfig) {
  const auto load =
      [](const std::function<void(TinyShape&, std::map<std::string, TestTensor>&)>& change) {
        TinyShape shape;
        auto weights = random_weights(shape, 1);
        change(shape, weights);
        TempFolder folder;
        write_model(folder.path(), shape, weights);
        ThreadPool pool(2);
        return error_of([&] { Transformer::load(folder.path(), pool); }, ExitCode::kDamaged);
      };
  expect_has(load([](auto&, auto& w) { w.erase("model.norm.weight"); }),
             "'model.norm.weight' is missing");
  expect_has(load([](auto& s, auto&) { s.intermediate = 80; }),
             "gate_proj.weight' has shape [72, 48]; expected [80, 48]");
  expect_has(load([](auto& s, auto&) { s.layers = 2; }),
             "'model.layers.2.input_layernorm.weight' is not part");
  expect_has(load([](auto&, auto& w) {
               w["model.layers.0.self_attn.q_proj.bias"] = {{48}, std::vector<float>(48)};
             }),
             "q_proj.bias' is not part");
  expect_has(load([](auto& s, auto&) { s.attention_bias = true; }), "q_proj.bias' is missing");
}

}  // namespace
}  // namespace stoat::test
