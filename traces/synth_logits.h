// Logits of synthetic attention: normal numbers from the counter-based generator, scaled by the
// sigma that gives a wanted participation ratio. Draws of rows are not made here.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace stoat {

enum StreamKind : std::uint32_t { kHeadLogits = 0, kGroupLogits = 1, kQuery = 2 };

std::array<std::uint32_t, 3> stream_of(StreamKind kind, std::uint32_t seq, std::uint32_t step,
                                       std::uint32_t layer, std::uint32_t head);

// g[i] = normal number i of a stream.
void fill_normals(std::uint64_t seed, std::array<std::uint32_t, 3> stream, std::vector<float>& g);

struct Softmax {
  double max = 0, sum = 0, squares = 0;       // sum of e^y and of its square; y = x - max
  double weighted = 0, weighted_squares = 0;  // sum of y e^y and of y e^2y
  double participation() const { return sum * sum / squares; }
};

// Of logits sigma * shape.
Softmax softmax_of(const std::vector<float>& shape, double sigma);

// The sigma in [0, 64] whose participation is the target, to 1/1000. log P(sigma) = 2 K(sigma) -
// K(2 sigma), with K the log-sum-exp, falls with slope 2 (mean under p - mean under p^2): Newton's
// method inside a shrinking bracket.
double solve_sigma(const std::vector<float>& shape, double target, double start);

}  // namespace stoat
