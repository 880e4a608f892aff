// Is the mean of many sampled attention outputs the right one? The statistic, without a device.
//
// Draws come in B independent batches. With d_b = (mean of batch b) - reference, the squared bias
// is estimated without its Monte-Carlo part as (||sum d_b||^2 - sum ||d_b||^2) / (B (B - 1)): the
// mean of d_b . d_c over pairs of different batches, which are independent. Under "no bias" the
// pairs are uncorrelated, so the mean square of d_b . d_c gives the standard error.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/sampling/ruler.h"

namespace stoat::gpu {

// What the draws of one case added up to.
struct BiasSums {
  std::uint32_t batches = 0, draws_a_batch = 0;
  std::size_t elements = 0;          // of one draw's output, all heads
  std::vector<double> sum;           // [batches, elements] of outputs
  std::vector<double> square_error;  // [batches] of (output - exact)^2, over draws and elements

  std::uint64_t draws() const { return std::uint64_t{batches} * draws_a_batch; }
};

// Lengths are divided by ||reference||, squares by its square.
struct BiasEstimate {
  double squared = 0;         // estimate of the squared bias; negative by chance when there is none
  double standard_error = 0;  // of squared, under no bias
  double raw = 0;             // ||mean - reference||, Monte-Carlo noise and all
  double floor = 0;           // what raw would be from noise alone
  double sum_norm2 = 0;       // ||sum d_b||^2 ...
  std::vector<double> batch_norm2;  // ... and ||d_b||^2 [batches]: squared follows from these

  double bias() const;                                   // sqrt of squared, with its sign
  double z() const { return squared / standard_error; }  // standard errors from 0
};
BiasEstimate estimate_bias(const BiasSums& sums, std::span<const double> reference);

// Root mean square over draws of ||output - exact|| / ||exact||, with its standard error.
struct DrawError {
  double rms = 0, standard_error = 0;
};
DrawError draw_error(const BiasSums& sums, std::span<const double> exact);
// The same from one number for each draw: ||output - exact||^2 / ||exact||^2.
DrawError draw_error_of(std::span<const double> squares);

// Expected share of each row's value in a sampled output: ruler widths over Z. [rows]
std::vector<double> expected_weights(const Ruler& ruler);

// The twin that a test must reject: tile budgets rounded by largest remainder instead of drawn, as
// published (`prop` of arXiv 2605.01910): the share of each row when S_t points stay in tile t.
std::vector<std::uint32_t> largest_remainder_budgets(const Ruler& ruler, std::uint32_t budget);
std::vector<double> largest_remainder_weights(const Ruler& ruler, std::uint32_t budget);

}  // namespace stoat::gpu
