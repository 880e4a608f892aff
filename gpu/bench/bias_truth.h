// What the sampled kernels are compared with, for one regime: attention in double on the host, the
// expectation of the codes, and systematic sampling in double. No kernel and no ruler stands behind
// the first and the last.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gpu/bench/bias.h"
#include "models/attention/decode.h"

namespace stoat::gpu {

class BiasTruth {
 public:
  // device must outlive this.
  BiasTruth(const BiasRegime& regime, const BiasDevice& device);

  const std::vector<double>& exact() const { return exact_; }  // dense, in double. [elements]
  // Sum over rows of (ruler width / Z) * v, the ruler made from the scores in double. [elements]
  const std::vector<double>& expected() const { return expected_; }
  double participation() const;  // median over heads of 1 / sum p^2
  double largest_remainder_bias(std::uint32_t budget) const;
  // Per-draw error over offsets spread evenly in [0, 1), heads apart.
  DrawError systematic_error(std::uint32_t budget) const;

 private:
  struct Head {
    std::vector<double> cumulative;  // [context] of the softmax
    std::unique_ptr<Ruler> ruler;
    double participation = 0;
  };
  KvRows rows(const std::vector<Bf16>& tensor, std::uint32_t head) const;
  // ||output - exact||^2 of one head for the points (s + offset) / budget.
  double systematic_square(std::uint32_t head, std::uint32_t budget, double offset) const;

  BiasRegime regime_;
  const BiasDevice& device_;
  std::vector<Head> heads_;
  std::vector<double> exact_, expected_;
};

}  // namespace stoat::gpu
