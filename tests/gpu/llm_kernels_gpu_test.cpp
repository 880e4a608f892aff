// The kernels of gpu/llm but for products with few rows (llm_products_gpu_test) against plain loops
// in double. Needs a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "gpu/llm/blas.h"
#include "gpu/llm/kernels.h"
#include "models/attention/decode.h"
#include "models/bf16.h"
#include "models/llm/token_choice.h"
#include "models/sampling/ruler.h"
#include "tests/gpu/llm_kernel_case.h"

namespace stoat::gpu {
namespace {

constexpr float kNan = __builtin_nanf("");

TEST_F(LlmKernel, CublasProductsEqualDouble) {
  Blas blas;
  const std::size_t rows = 37, columns = 72, k = 136;
  const auto x = random_bf16(rows * k), w = random_bf16(columns * k);
  const auto before = random_floats(rows * columns);
  const DeviceMemory dx = upload(x), dw = upload(w), y = upload(before);
  std::vector<double> want(rows * columns);
  for (std::size_t i = 0; i < want.size(); ++i)
    want[i] = static_cast<double>(before[i]) + product(x, w, i / columns, i % columns, k);
  blas.multiply(dx.as<void>(), dw.as<void>(), y.as<float>(), rows, columns, k, true, stream_.get());
  EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] -= static_cast<double>(before[i]);
  blas.multiply(dx.as<void>(), dw.as<void>(), y.as<float>(), rows, columns, k, false,
                stream_.get());
  EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6);
}

// One query row in double.
std::vector<double> attend(const std::vector<Bf16>& q, std::size_t q_at, const std::vector<Bf16>& k,
                           const std::vector<Bf16>& v, std::size_t kv_at, std::uint32_t context,
                           std::uint32_t d) {
  const KvRows keys{k.data() + kv_at, d, context, d}, values{v.data() + kv_at, d, context, d};
  std::vector<double> query(d);
  for (std::uint32_t j = 0; j < d; ++j) query[j] = static_cast<double>(to_float(q[q_at + j]));
  return gather_dense(softmax(score(query, keys, 1 / std::sqrt(static_cast<double>(d)))), values);
}

TEST_F(LlmKernel, PrefillAttentionEqualsDouble) {
  struct Case {
    std::uint32_t rows, start, q_heads, kv_heads, d;
  };
  for (const Case c : {Case{1, 0, 1, 1, 64}, Case{63, 0, 2, 2, 128}, Case{129, 17, 4, 1, 128},
                       Case{300, 513, 3, 1, 64}, Case{64, 64, 2, 1, 128}}) {
    const std::uint32_t context = c.start + c.rows, capacity = context + 5;
    const auto q = random_bf16(std::size_t{c.rows} * c.q_heads * c.d, 2);
    auto k = random_bf16(std::size_t{c.kv_heads} * capacity * c.d);
    auto v = random_bf16(k.size());
    for (std::uint32_t h = 0; h < c.kv_heads; ++h) {  // past the end lies NaN
      for (std::size_t i = (std::size_t{h} * capacity + context) * c.d;
           i < (std::size_t{h} + 1) * capacity * c.d; ++i)
        k[i] = v[i] = to_bf16(kNan);
    }
    const DeviceMemory dq = upload(q), dk = upload(k), dv = upload(v);
    const DeviceMemory out = poisoned<Bf16>(q.size());
    PrefillParams p;
    p.q = dq.as<void>();
    p.k = dk.as<void>();
    p.v = dv.as<void>();
    p.out = out.as<void>();
    p.rows = c.rows;
    p.start = c.start;
    p.q_heads = c.q_heads;
    p.kv_heads = c.kv_heads;
    p.head_dim = c.d;
    p.capacity = capacity;
    p.sm_scale = 1 / std::sqrt(static_cast<float>(c.d));
    launch_prefill_attention(p, stream_.get());
    const auto found = widened(download<Bf16>(out, q.size()));
    std::vector<double> want;
    for (std::uint32_t r = 0; r < c.rows; ++r) {
      for (std::uint32_t h = 0; h < c.q_heads; ++h) {
        const std::size_t kv = std::size_t{h / (c.q_heads / c.kv_heads)} * capacity * c.d;
        const auto row =
            attend(q, (std::size_t{r} * c.q_heads + h) * c.d, k, v, kv, c.start + r + 1, c.d);
        want.insert(want.end(), row.begin(), row.end());
      }
    }
    EXPECT_LT(distance(want, found), 5e-3) << c.rows << " " << c.start << " " << c.d;
  }
}

TEST_F(LlmKernel, ChoosesTheTokensThatTheCpuChooses) {
  const std::uint32_t rows = 4, vocab = 5003;
  std::vector<std::uint32_t> lut(weight_lut(), weight_lut() + kWeightLutSize);
  const DeviceMemory dlut = upload(lut);
  for (const TokenChoice choice : {TokenChoice{0, 1}, TokenChoice{1, 1}, TokenChoice{0.6F, 0.9F},
                                   TokenChoice{1.7F, 0.999F}, TokenChoice{1, 1e-6F}}) {
    for (std::uint32_t position = 100; position < 120; ++position) {
      auto logits = random_floats(std::size_t{rows} * vocab, 3);
      logits[7] = logits[9] = 40;  // equals: the first one
      const DeviceMemory dl = upload(logits), status = upload(std::vector<std::uint32_t>{0});
      const DeviceMemory token = poisoned<std::int32_t>(rows);
      const DeviceMemory context = upload(std::vector<std::uint32_t>(rows, position + 1));
      TokenParams p;
      p.logits = dl.as<float>();
      p.rows = rows;
      p.vocab = vocab;
      p.temperature = choice.temperature;
      p.top_p = choice.top_p;
      p.seed = 42;
      p.token = token.as<std::int32_t>();
      p.context_len = context.as<std::uint32_t>();
      p.lut = dlut.as<std::uint32_t>();
      p.status = status.as<std::uint32_t>();
      launch_choose_token(p, stream_.get());
      const auto found = download<std::int32_t>(token, rows);
      for (std::uint32_t r = 0; r < rows; ++r) {
        const std::span<const float> row(logits.data() + std::size_t{r} * vocab, vocab);
        EXPECT_EQ(found[r], choose_token(row, choice, DrawSite{42, r, position, 0, 0}));
      }
      EXPECT_EQ(download<std::uint32_t>(context, rows),
                std::vector<std::uint32_t>(rows, position + 2));
      EXPECT_EQ(download<std::uint32_t>(status, 1)[0], 0U);
    }
  }
}

TEST_F(LlmKernel, ReportsALogitThatIsNotFinite) {
  std::vector<float> logits(100);
  logits[63] = kNan;
  const DeviceMemory dl = upload(logits), status = upload(std::vector<std::uint32_t>{0});
  const DeviceMemory token = poisoned<std::int32_t>(1),
                     context = upload(std::vector<std::uint32_t>{5});
  TokenParams p;
  p.logits = dl.as<float>();
  p.rows = 1;
  p.vocab = 100;
  p.token = token.as<std::int32_t>();
  p.context_len = context.as<std::uint32_t>();
  p.status = status.as<std::uint32_t>();
  launch_choose_token(p, stream_.get());
  EXPECT_EQ(download<std::uint32_t>(status, 1)[0], kBadLogits);
}

// Codes of several sequences as the score pass leaves them, and what belongs to them.
struct ScoredHeads {
  static constexpr std::uint32_t kHeads = 3;  // of a sequence
  std::vector<std::uint32_t> contexts;
  std::uint32_t tiles;  // room of a head
  std::vector<std::uint16_t> code;
  std::vector<std::int32_t> exponent;
  std::vector<ScoreCodes> scores;          // [sequences * kHeads]
  std::vector<std::vector<float>> logits;  // the same

  using Draw = std::function<std::vector<float>(std::uint32_t n, float spread)>;

  ScoredHeads(std::vector<std::uint32_t> lengths, const Draw& draw)
      : contexts(std::move(lengths)),
        tiles((*std::max_element(contexts.begin(), contexts.end()) + kTileRows - 1) / kTileRows +
              1),
        code(contexts.size() * kHeads * tiles * kTileRows, 12345),
        exponent(contexts.size() * kHeads * tiles, 77) {
    for (const std::uint32_t context : contexts) {
      for (std::uint32_t h = 0; h < kHeads; ++h) {
        logits.push_back(draw(context, 1.0F + 3.0F * static_cast<float>(h)));
        // Tiles far below the others, and rows without any weight in a tile that has one.
        for (std::uint32_t row = 0; h == 1 && row < context; ++row) {
          if (row / kTileRows % 3 == 1) logits.back()[row] -= 9.0F;
          if (row % 7 == 3) logits.back()[row] = -1000.0F;
        }
        const std::size_t place = scores.size();
        scores.push_back(encode_scores(logits.back()));
        std::copy(scores.back().code.begin(), scores.back().code.end(),
                  code.begin() + static_cast<std::ptrdiff_t>(place * tiles * kTileRows));
        std::copy(scores.back().exponent.begin(), scores.back().exponent.end(),
                  exponent.begin() + static_cast<std::ptrdiff_t>(place * tiles));
      }
    }
  }
};

TEST_F(LlmKernel, StatisticsAndTileMassesAreThoseOfTheCodes) {
  const ScoredHeads scored(
      {1, 255, 1000, 1024, 4 * 1024 + 512, 33 * 1024 + 7},
      [this](std::uint32_t n, float spread) { return random_floats(n, spread); });
  const std::size_t heads = scored.scores.size();
  const DeviceMemory dexponent = upload(scored.exponent), lengths = upload(scored.contexts);
  const DeviceMemory dlut =
      upload(std::vector<std::uint32_t>(weight_lut(), weight_lut() + kWeightLutSize));
  for (const bool with_masses : {false, true}) {
    const DeviceMemory dcode = upload(scored.code);
    const DeviceMemory stats = poisoned<float>(heads * kFastStats);
    const DeviceMemory mass = poisoned<std::uint64_t>(heads * scored.tiles);
    StatsParams p;
    p.code = dcode.as<std::uint16_t>();
    p.exponent = dexponent.as<std::int32_t>();
    p.tiles = scored.tiles;
    p.sequences = static_cast<std::uint32_t>(scored.contexts.size());
    p.q_heads = ScoredHeads::kHeads;
    p.context_len = lengths.as<std::uint32_t>();
    p.stats = stats.as<float>();
    p.lut = dlut.as<std::uint32_t>();
    p.forget = true;
    if (with_masses) p.tile_mass = mass.as<std::uint64_t>();
    launch_stats(p, stream_.get());
    const auto found = download<float>(stats, heads * kFastStats);
    const auto masses = download<std::uint64_t>(mass, heads * scored.tiles);
    for (std::size_t h = 0; h < heads; ++h) {
      const std::vector<double> wide(scored.logits[h].begin(), scored.logits[h].end());
      const SoftmaxStats want = softmax_stats(wide, softmax(wide));
      const double expected[] = {want.lse,       want.max,         want.entropy,
                                 want.mass_top1, want.mass_token0, want.participation};
      for (std::uint32_t i = 0; i < kFastStats; ++i)
        EXPECT_NEAR(static_cast<double>(found[h * kFastStats + i]), expected[i],
                    1e-3 * (1e-3 + std::abs(expected[i])))
            << "column " << i << " head " << h << " masses " << with_masses;
      const Ruler ruler(scored.scores[h]);
      for (std::uint32_t t = 0; with_masses && t < scored.tiles; ++t)
        EXPECT_EQ(masses[h * scored.tiles + t], t < ruler.tiles() ? ruler.tile_mass(t) : 0U);
    }
  }
}

}  // namespace
}  // namespace stoat::gpu
