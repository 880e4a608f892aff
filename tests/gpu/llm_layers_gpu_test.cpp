// Products that begin while the one before runs, against those that wait. Needs a device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/gpu/llm_product_case.h"

namespace stoat::gpu {
namespace {

// A layer's products, with a residual stream that goes on from launch to launch.
struct LayerCase {
  std::uint32_t rows, hidden, middle, attended, last;
};
struct LayerMemory {
  DeviceMemory x, next, squares, act, input, y, norm, o, gate_up, down, head;

  std::vector<SkinnyParams> products(const LayerCase& c) const {
    const auto product = [&c](const DeviceMemory& from, const DeviceMemory& weight,
                              std::uint32_t columns, std::uint32_t k) {
      return params_of(from, weight, c.rows, columns, k);
    };
    const auto normed = [&](const DeviceMemory& weight, std::uint32_t columns) {
      SkinnyParams p = product(next, weight, columns, c.hidden);
      p.square_sums = squares.as<float>();
      p.square_tiles = (c.hidden + kTileColumns - 1) / kTileColumns;
      p.norm_width = static_cast<float>(c.hidden);
      p.norm_eps = 1e-5F;
      return p;
    };
    const auto residual = [&](const DeviceMemory& from, const DeviceMemory& weight,
                              std::uint32_t k) {
      SkinnyParams p = product(from, weight, c.hidden, k);
      p.end = SkinnyEnd::kResidual;
      p.y = x.as<float>();
      p.next_norm = norm.as<float>();
      p.next = next.as<void>();
      p.next_square_sums = squares.as<float>();
      return p;
    };
    std::vector<SkinnyParams> all{residual(input, o, c.attended), normed(gate_up, 2 * c.middle),
                                  residual(act, down, c.middle), normed(head, c.last)};
    all[1].end = SkinnyEnd::kSwiGlu;
    all[1].next = act.as<void>();
    all[3].y = y.as<float>();
    all[3].read_once = true;
    return all;
  }
};

// The residual stream and the last product after `layers` layers: in graphs, where a product begins
// while the one before runs, and where each waits for the one before.
class LlmLayer : public LlmProduct {
 protected:
  std::vector<float> results(const LayerCase& c, std::uint32_t layers, bool in_turn) {
    memory_.x = upload(start_);
    memory_.next = poisoned<Bf16>(start_.size());
    memory_.squares = poisoned<float>(std::size_t{c.rows} * ((c.hidden + 15) / 16));
    memory_.act = poisoned<Bf16>(std::size_t{c.rows} * c.middle);
    memory_.y = poisoned<float>(std::size_t{c.rows} * c.last);
    const auto queue = [&] {
      for (const SkinnyParams& p : memory_.products(c)) {
        multiply(p);
        if (!in_turn) stream_.wait();
      }
    };
    queue();  // loads the kernels
    DeviceGraph graph;
    if (in_turn) {
      graph.begin(stream_.get());
      for (int i = 0; i < 4; ++i) queue();
      graph.end(stream_.get());
    }
    for (std::uint32_t i = 1; i < layers; i += 4) {
      if (in_turn) {
        graph.launch(stream_.get());
      } else {
        for (int k = 0; k < 4; ++k) queue();
      }
    }
    auto found = download<float>(memory_.y, std::size_t{c.rows} * c.last);
    const auto x = download<float>(memory_.x, start_.size());
    found.insert(found.end(), x.begin(), x.end());
    return found;
  }
  void expect_equal(const LayerCase& c, std::uint32_t layers) {
    const auto matrix = [this](std::uint32_t columns, std::uint32_t k) {
      return upload(random_bf16(std::size_t{columns} * k, 1 / std::sqrt(static_cast<float>(k))));
    };
    memory_.norm = upload(random_floats(c.hidden));
    memory_.o = matrix(c.hidden, c.attended);
    memory_.gate_up = matrix(2 * c.middle, c.hidden);
    memory_.down = matrix(c.hidden, c.middle);
    memory_.head = matrix(c.last, c.hidden);
    memory_.input = upload(random_bf16(std::size_t{c.rows} * c.attended));
    start_ = random_floats(std::size_t{c.rows} * c.hidden);
    const std::vector<float> want = results(c, layers, false);
    EXPECT_TRUE(std::all_of(want.begin(), want.end(), [](float v) { return std::isfinite(v); }));
    EXPECT_EQ(want, results(c, layers, true)) << c.rows << " " << c.hidden;
  }

 private:
  LayerMemory memory_;
  std::vector<float> start_;
};

TEST_F(LlmLayer, ProductsBehindEachOtherEqualThoseThatWaitForEachOther) {
  // More units of columns than multiprocessors, and fewer; more behind fewer, and the reverse.
  for (const LayerCase c : {LayerCase{16, 4096, 2304, 1024, 6152},
                            LayerCase{9, 1032, 3000, 520, 40}, LayerCase{7, 2200, 72, 4104, 2136},
                            LayerCase{1, 64, 128, 72, 1000}, LayerCase{1, 3072, 1536, 3072, 2200}})
    expect_equal(c, 25);
}

TEST_F(LlmLayer, SmallProductsBehindEachOtherEqualThoseThatWaitForEachOther) {
  for (const LayerCase c : {LayerCase{7, 64, 128, 72, 1000}, LayerCase{9, 136, 72, 1032, 40}})
    expect_equal(c, 5);
}

}  // namespace
}  // namespace stoat::gpu
