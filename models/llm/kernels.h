// The inner loops of the fp32 forward pass, compiled once per instruction set and chosen at run
// time.
//
// Every variant gives the same bits: each output element is summed in one order with separate
// multiply and add (no fused multiply-add), reductions use 16 fixed lanes, exp is our own
// polynomial. So logits, and the traces made from them, depend neither on the number of threads nor
// on the machine's vector width. What is in models/attention (double) is the judge; this is only
// the exact prefill and the matrices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace stoat {

// Columns of a weight panel: a matrix [columns, k] is stored as [ceil(columns / 32)][k][32],
// missing columns zero.
inline constexpr std::size_t kPanel = 32;
// Keys of one attention tile.
inline constexpr std::size_t kKeyTile = 128;

struct Kernels {
  const char* name;

  // y[r, c] = (accumulate ? y[r, c] : 0) + sum_j x[r, j] * w[c, j], j ascending. x: [rows, k] with
  // row stride ldx; panels: of w [columns, k]; y: [rows, columns] with row stride ldy.
  void (*gemm)(const float* x, std::size_t ldx, std::size_t rows, const float* panels,
               std::size_t k, std::size_t columns, float* y, std::size_t ldy, bool accumulate);

  // One row of one key tile of the online softmax. s: [kKeyTile] logits in, weights exp(s -
  // maximum) out, 0 from `visible` on; running maximum and sum are updated, out [width, a multiple
  // of 16] is rescaled.
  void (*softmax_tile)(float* s, std::size_t visible, float* maximum, float* sum, float* out,
                       std::size_t width);

  // bf16 rows [count <= kKeyTile, head_dim] with row stride `stride` to panels. keys: [kKeyTile /
  // 32][head_dim][32]; values: [ceil(head_dim / 32)][kKeyTile][32]. What is missing is zero.
  void (*pack_keys)(const std::uint16_t* rows, std::size_t stride, std::size_t count,
                    std::size_t head_dim, float* panels);
  void (*pack_values)(const std::uint16_t* rows, std::size_t stride, std::size_t count,
                      std::size_t head_dim, float* panels);

  // y[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]. [n]
  void (*rms_norm)(const float* x, const float* weight, std::size_t n, float eps, float* y);
  // out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]. [n]
  void (*silu_times)(const float* gate, const float* up, std::size_t n, float* out);
  // Rotary embedding of the two halves of x: [2 * half], cos and sin: [half].
  void (*rotate)(float* x, const float* cos, const float* sin, std::size_t half);
  // y[i] = exp(x[i]), within 2 ulp where normal, 0 below -87.3. [n]
  void (*exponential)(const float* x, std::size_t n, float* y);
};

// The fastest variant that this machine can run; all that it can run, slowest first (for tests).
const Kernels& best_kernels();
std::vector<const Kernels*> runnable_kernels();

}  // namespace stoat
