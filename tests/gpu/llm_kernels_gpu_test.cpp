// The kernels of gpu/llm against plain loops in double. Needs a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "gpu/llm/blas.h"
#include "gpu/llm/kernels.h"
#include "models/attention/decode.h"
#include "models/bf16.h"
#include "models/llm/token_choice.h"
#include "models/sampling/ruler.h"

namespace stoat::gpu {
namespace {

constexpr float kNan = __builtin_nanf("");

class LlmKernel : public testing::Test {
 protected:
  std::vector<Bf16> random_bf16(std::size_t n, float spread = 1) {
    std::vector<Bf16> values(n);
    for (Bf16& value : values) value = to_bf16(spread * normal_(engine_));
    return values;
  }
  std::vector<float> random_floats(std::size_t n, float spread = 1) {
    std::vector<float> values(n);
    for (float& value : values) value = spread * normal_(engine_);
    return values;
  }
  template <class T>
  DeviceMemory upload(const std::vector<T>& values) {
    DeviceMemory memory(values.size() * sizeof(T));
    copy_to_device(memory.as<void>(), values.data(), values.size() * sizeof(T), stream_.get());
    stream_.wait();
    return memory;
  }
  template <class T>
  DeviceMemory poisoned(std::size_t n) {  // all bits set: NaN
    return upload(std::vector<std::uint8_t>(n * sizeof(T), 0xff));
  }
  template <class T>
  std::vector<T> download(const DeviceMemory& memory, std::size_t n) {
    std::vector<T> values(n);
    copy_to_host(values.data(), memory.as<void>(), n * sizeof(T), stream_.get());
    stream_.wait();
    return values;
  }

  DeviceStream stream_;
  std::mt19937 engine_{20261122};
  std::normal_distribution<float> normal_;
};

double product(const std::vector<Bf16>& x, const std::vector<Bf16>& w, std::size_t r, std::size_t c,
               std::size_t k) {
  double sum = 0;
  for (std::size_t j = 0; j < k; ++j)
    sum +=
        static_cast<double>(to_float(x[r * k + j])) * static_cast<double>(to_float(w[c * k + j]));
  return sum;
}

double distance(const std::vector<double>& want, const std::vector<float>& found) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - want[i];
    error += difference * difference;
    size += want[i] * want[i];
  }
  return std::sqrt(error / size);  // NaN where one is found
}

std::vector<float> widened(const std::vector<Bf16>& values) {
  std::vector<float> wide(values.size());
  std::transform(values.begin(), values.end(), wide.begin(), to_float);
  return wide;
}

TEST_F(LlmKernel, SkinnyProductsEqualDouble) {
  struct Case {
    std::uint32_t rows, columns, k;
  };
  for (const Case c : {Case{1, 16, 64}, Case{1, 40, 72}, Case{3, 6144, 256}, Case{8, 100, 1032},
                       Case{9, 6400, 200}, Case{16, 48, 2056}, Case{16, 2200, 4096},
                       Case{16, 2200, 4104}, Case{13, 2130, 1800}}) {
    const auto x = random_bf16(std::size_t{c.rows} * c.k),
               w = random_bf16(std::size_t{c.columns} * c.k);
    const DeviceMemory dx = upload(x), dw = upload(w);
    const DeviceMemory y = poisoned<float>(std::size_t{c.rows} * c.columns);
    SkinnyParams p;
    p.input = dx.as<void>();
    p.weight = dw.as<void>();
    p.rows = c.rows;
    p.columns = c.columns;
    p.k = c.k;
    p.y = y.as<float>();
    launch_skinny(p, 132, stream_.get());
    std::vector<double> want(std::size_t{c.rows} * c.columns);
    for (std::size_t i = 0; i < want.size(); ++i)
      want[i] = product(x, w, i / c.columns, i % c.columns, c.k);
    EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6)
        << c.rows << " " << c.columns << " " << c.k;
  }
}

TEST_F(LlmKernel, ANormedProductDividesByTheRootMeanSquare) {
  const std::uint32_t rows = 5, columns = 64, k = 144;
  const auto hidden = random_floats(std::size_t{rows} * k, 3);
  const auto w = random_bf16(std::size_t{columns} * k);
  std::vector<float> squares(rows * 9);
  std::vector<Bf16> x(hidden.size());
  std::vector<double> scale(rows);
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    squares[i / k * 9 + i % k / 16] += hidden[i] * hidden[i];
    x[i] = to_bf16(hidden[i]);
    scale[i / k] += static_cast<double>(hidden[i]) * static_cast<double>(hidden[i]) / k;
  }
  const DeviceMemory dx = upload(x), dw = upload(w), ds = upload(squares);
  const DeviceMemory y = poisoned<float>(rows * columns);
  SkinnyParams p;
  p.input = dx.as<void>();
  p.weight = dw.as<void>();
  p.rows = rows;
  p.columns = columns;
  p.k = k;
  p.square_sums = ds.as<float>();
  p.square_tiles = 9;
  p.norm_width = k;
  p.norm_eps = 1e-5F;
  p.y = y.as<float>();
  launch_skinny(p, 132, stream_.get());
  std::vector<double> want(rows * columns);
  for (std::size_t i = 0; i < want.size(); ++i)
    want[i] = product(x, w, i / columns, i % columns, k) / std::sqrt(scale[i / columns] + 1e-5);
  EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6);
}

TEST_F(LlmKernel, ResidualEndAddsAndPreparesTheNextNorm) {
  // Tiles of 16 and of 32 columns; of the last one half or more may lie past the columns.
  for (const auto& [rows, columns] : {std::pair{2U, 56U}, {16U, 56U}, {16U, 48U}, {9U, 40U}}) {
    const std::uint32_t k = 128, tiles = (columns + 15) / 16;
    const auto x = random_bf16(std::size_t{rows} * k), w = random_bf16(std::size_t{columns} * k);
    const auto before = random_floats(std::size_t{rows} * columns);
    const auto bias = random_floats(columns), norm = random_floats(columns);
    const DeviceMemory dx = upload(x), dw = upload(w), dbias = upload(bias), dnorm = upload(norm);
    const DeviceMemory y = upload(before), next = poisoned<Bf16>(before.size());
    const DeviceMemory squares = poisoned<float>(rows * tiles + 1);  // one that stays as it is
    SkinnyParams p;
    p.input = dx.as<void>();
    p.weight = dw.as<void>();
    p.rows = rows;
    p.columns = columns;
    p.k = k;
    p.end = SkinnyEnd::kResidual;
    p.y = y.as<float>();
    p.bias = dbias.as<float>();
    p.next_norm = dnorm.as<float>();
    p.next = next.as<void>();
    p.next_square_sums = squares.as<float>();
    launch_skinny(p, 132, stream_.get());
    std::vector<double> want(before.size()), want_next(before.size()), want_squares(rows * tiles);
    for (std::size_t i = 0; i < want.size(); ++i) {
      const std::size_t r = i / columns, c = i % columns;
      want[i] =
          static_cast<double>(before[i]) + static_cast<double>(bias[c]) + product(x, w, r, c, k);
      want_next[i] = want[i] * static_cast<double>(norm[c]);
      want_squares[r * tiles + c / 16] += want[i] * want[i];
    }
    EXPECT_LT(distance(want, download<float>(y, want.size())), 1e-6);
    EXPECT_LT(distance(want_next, widened(download<Bf16>(next, want.size()))), 3e-3);
    EXPECT_LT(distance(want_squares, download<float>(squares, want_squares.size())), 1e-6);
    EXPECT_TRUE(std::isnan(download<float>(squares, want_squares.size() + 1).back()));
  }
}

TEST_F(LlmKernel, SwiGluEndTakesGatesAndUpsInTurn) {
  const std::uint32_t rows = 3, middle = 24, k = 64;
  const auto x = random_bf16(std::size_t{rows} * k),
             w = random_bf16(std::size_t{2} * middle * k, 0.2F);
  const DeviceMemory dx = upload(x), dw = upload(w), next = poisoned<Bf16>(rows * middle);
  SkinnyParams p;
  p.input = dx.as<void>();
  p.weight = dw.as<void>();
  p.rows = rows;
  p.columns = 2 * middle;
  p.k = k;
  p.end = SkinnyEnd::kSwiGlu;
  p.next = next.as<void>();
  launch_skinny(p, 132, stream_.get());
  std::vector<double> want(rows * middle);
  for (std::size_t i = 0; i < want.size(); ++i) {
    const std::size_t r = i / middle, c = i % middle, at = c / 8 * 16 + c % 8;
    const double gate = product(x, w, r, at, k), up = product(x, w, r, at + 8, k);
    want[i] = gate / (1 + std::exp(-gate)) * up;
  }
  EXPECT_LT(distance(want, widened(download<Bf16>(next, want.size()))), 3e-3);
}

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
