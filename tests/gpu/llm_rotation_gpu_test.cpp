// A product that rotates q and K and fills the caches (SkinnyEnd::kRotate) against the product and
// the kernel that do the same one after the other, and against plain loops in double. Needs a
// device.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gpu/llm/kernels.h"
#include "tests/gpu/llm_kernel_case.h"

namespace stoat::gpu {
namespace {

constexpr std::uint32_t kCapacity = 64, kPageShift = 4, kPagesEach = kCapacity >> kPageShift;

struct Case {
  std::uint32_t rows, q_heads, kv_heads, head_dim, k;
  bool biased, normed, paged, by_features;

  std::uint32_t heads() const { return q_heads + 2 * kv_heads; }
  std::uint32_t columns() const { return heads() * head_dim; }
  std::size_t tiles() const { return (k + 15) / 16; }
  std::size_t of_cache() const { return std::size_t{rows} * kv_heads * kCapacity * head_dim; }
  std::string text() const {
    return std::to_string(rows) + " rows, head_dim " + std::to_string(head_dim) + ", k " +
           std::to_string(k);
  }
};

struct Rotated {
  std::vector<Bf16> q, k_cache, v_cache, features;

  bool operator==(const Rotated& other) const {
    const auto same = [](const std::vector<Bf16>& a, const std::vector<Bf16>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(Bf16)) == 0;
    };
    return same(q, other.q) && same(k_cache, other.k_cache) && same(v_cache, other.v_cache) &&
           same(features, other.features);
  }
};

class LlmRotation : public LlmKernel {
 protected:
  // What a case reads. Row 2 has no room in its cache: nothing is written of it.
  struct Inputs {
    std::vector<Bf16> x, w;
    std::vector<float> bias, squares, cos_sin;
    std::vector<std::uint32_t> contexts;
    std::vector<std::int32_t> pages;
  };
  Inputs inputs(const Case& c) {
    Inputs in;
    in.x = random_bf16(std::size_t{c.rows} * c.k);
    in.w = random_bf16(std::size_t{c.columns()} * c.k);
    in.bias = random_floats(c.columns());
    for (std::size_t i = 0; i < c.rows * c.tiles(); ++i)
      in.squares.push_back(7 + static_cast<float>(i % 11));
    for (std::uint32_t position = 0; position < kCapacity; ++position) {
      for (std::uint32_t j = 0; j < c.head_dim / 2; ++j) {
        const double angle = position * std::pow(10000.0, -2.0 * j / c.head_dim);
        in.cos_sin.push_back(static_cast<float>(std::cos(angle)));
        in.cos_sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    for (std::uint32_t r = 0; r < c.rows; ++r)
      in.contexts.push_back(r == 2 ? kCapacity + 1 : 1 + 17 * r % kCapacity);
    for (std::uint32_t i = c.rows * kPagesEach; i-- > 0;)
      in.pages.push_back(static_cast<std::int32_t>(i));
    return in;
  }

  Rotated run(const Case& c, const Inputs& in, bool in_product) {
    const DeviceMemory x = upload(in.x), w = upload(in.w), bias = upload(in.bias),
                       squares = upload(in.squares), cos_sin = upload(in.cos_sin),
                       contexts = upload(in.contexts), pages = upload(in.pages);
    const std::size_t of_q = std::size_t{c.rows} * c.q_heads * c.head_dim;
    const DeviceMemory y = poisoned<float>(std::size_t{c.rows} * c.columns()),
                       q = poisoned<Bf16>(of_q), k_cache = poisoned<Bf16>(c.of_cache()),
                       v_cache = poisoned<Bf16>(c.of_cache()),
                       features = poisoned<Bf16>(c.of_cache());
    RotateParams turn;
    turn.qkv = y.as<float>();
    if (c.biased) turn.bias = bias.as<float>();
    turn.cos_sin = cos_sin.as<float>();
    turn.rows = c.rows;
    turn.q_heads = c.q_heads;
    turn.kv_heads = c.kv_heads;
    turn.head_dim = c.head_dim;
    turn.context_len = contexts.as<std::uint32_t>();
    turn.q = q.as<void>();
    turn.k_cache = k_cache.as<void>();
    turn.v_cache = v_cache.as<void>();
    turn.capacity = kCapacity;
    if (c.paged) turn.pages = pages.as<std::int32_t>();
    turn.page_shift = kPageShift;
    if (c.by_features) turn.k_features = features.as<void>();
    SkinnyParams p;
    p.input = x.as<void>();
    p.weight = w.as<void>();
    p.rows = c.rows;
    p.columns = c.columns();
    p.k = c.k;
    p.read_once = c.paged;
    if (c.normed) {
      p.square_sums = squares.as<float>();
      p.square_tiles = static_cast<std::uint32_t>(c.tiles());
      p.norm_width = static_cast<float>(c.k);
      p.norm_eps = 1e-5F;
    }
    if (in_product) {
      p.end = SkinnyEnd::kRotate;
      p.turn = turn;
    } else {
      p.y = y.as<float>();
    }
    launch_skinny(p, device_multiprocessors(), stream_.get());
    if (!in_product) launch_rotate(turn, stream_.get());
    return {download<Bf16>(q, of_q), download<Bf16>(k_cache, c.of_cache()),
            download<Bf16>(v_cache, c.of_cache()), download<Bf16>(features, c.of_cache())};
  }

  // Of one row, with what was found of it beside it: q, K, V and K by features, in double.
  static void compare_row(const Case& c, const Inputs& in, const Rotated& found, std::uint32_t row,
                          std::vector<double>& want, std::vector<Bf16>& there) {
    const std::uint32_t position = in.contexts[row] - 1, half = c.head_dim / 2;
    double square = 0;
    for (std::size_t i = 0; i < c.tiles(); ++i)
      square += static_cast<double>(in.squares[row * c.tiles() + i]);
    const double scale = c.normed ? 1 / std::sqrt(square / c.k + 1e-5) : 1;
    std::size_t page = row, page_rows = kCapacity, within = position;
    if (c.paged) {
      page_rows = std::size_t{1} << kPageShift;
      page = static_cast<std::size_t>(in.pages[row * kPagesEach + (position >> kPageShift)]);
      within = position % page_rows;
    }
    for (std::uint32_t head = 0; head < c.heads(); ++head) {
      std::vector<double> value(c.head_dim);
      for (std::uint32_t j = 0; j < c.head_dim; ++j) {
        const std::size_t column = std::size_t{head} * c.head_dim + j;
        value[j] = product(in.x, in.w, row, column, c.k) * scale;
        if (c.biased) value[j] += static_cast<double>(in.bias[column]);
      }
      const bool is_q = head < c.q_heads, is_v = head >= c.q_heads + c.kv_heads;
      const std::size_t kv_head = is_q ? 0 : (head - c.q_heads) % c.kv_heads;
      const std::size_t first = (page * c.kv_heads + kv_head) * page_rows * c.head_dim;
      for (std::uint32_t j = 0; j < c.head_dim; ++j) {
        const std::size_t turn = 2 * (std::size_t{position} * half + j % half);
        const double partner = j < half ? -value[j + half] : value[j - half];
        const double rotated = value[j] * static_cast<double>(in.cos_sin[turn]) +
                               partner * static_cast<double>(in.cos_sin[turn + 1]);
        want.push_back(is_v ? value[j] : rotated);
        const std::size_t at = first + within * c.head_dim + j;
        there.push_back(is_q   ? found.q[(std::size_t{row} * c.q_heads + head) * c.head_dim + j]
                        : is_v ? found.v_cache[at]
                               : found.k_cache[at]);
        if (!c.by_features || is_q || is_v) continue;
        want.push_back(rotated);
        there.push_back(found.features[first + j * page_rows + within]);
      }
    }
  }
};

TEST_F(LlmRotation, InAProductEqualsTheKernelThatRotates) {
  for (const Case& c : {Case{1, 4, 2, 64, 128, false, false, false, false},
                        Case{3, 8, 2, 128, 1032, true, true, true, true},
                        Case{8, 32, 8, 128, 2056, false, true, true, false},
                        Case{16, 32, 8, 128, 2056, true, true, false, true},
                        Case{13, 6, 6, 64, 2056, false, false, true, true},
                        Case{9, 28, 4, 128, 200, true, true, false, false}}) {
    const Inputs in = inputs(c);
    EXPECT_TRUE(run(c, in, true) == run(c, in, false)) << c.text();
  }
}

TEST_F(LlmRotation, InAProductEqualsDouble) {
  for (const Case& c : {Case{1, 4, 2, 64, 128, false, false, false, false},
                        Case{4, 8, 2, 128, 1032, true, true, true, true},
                        Case{12, 6, 3, 64, 2056, true, true, false, true},
                        Case{9, 4, 4, 128, 200, false, true, true, false}}) {
    const Inputs in = inputs(c);
    const Rotated found = run(c, in, true);
    std::vector<double> want;
    std::vector<Bf16> there;
    for (std::uint32_t row = 0; row < c.rows; ++row)
      if (row != 2) compare_row(c, in, found, row, want, there);
    EXPECT_LT(distance(want, widened(there)), 3e-3) << c.text();
  }
}

// All bits set before, and set still.
TEST_F(LlmRotation, NothingIsWrittenPastACache) {
  Case c{1, 4, 2, 64, 128, true, false, false, true};
  Inputs in = inputs(c);
  in.contexts[0] = kCapacity + 1;
  const Rotated found = run(c, in, true);
  for (const auto* part : {&found.q, &found.k_cache, &found.v_cache, &found.features})
    for (const float value : widened(*part)) ASSERT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace stoat::gpu
