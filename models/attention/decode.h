// Decode attention of one query head in double: the specification that every kernel is judged by.
//
// Score, select, gather as three plain functions. K and V rows are bf16 in the KV cache; everything
// else is double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/bf16.h"
#include "models/sampling/selection.h"

namespace stoat {

// K or V rows of one KV head: row i starts at data + i * row_stride. [context_len, head_dim]
struct KvRows {
  const Bf16* data = nullptr;
  std::size_t row_stride = 0;  // elements
  std::uint32_t context_len = 0;
  std::uint32_t head_dim = 0;
};

// logits[i] = scale * q . k_i, summed in double. q: [head_dim]. Returns [context_len].
std::vector<double> score(std::span<const double> q, const KvRows& keys, double scale);

// Softmax of logits in double. Throws Error for NaN or infinity.
std::vector<double> softmax(std::span<const double> logits);

// out = sum_i p_i v_i over all rows. [head_dim]
std::vector<double> gather_dense(std::span<const double> p, const KvRows& values);

// out = sum over selected rows of weight * v_row. [head_dim]
std::vector<double> gather_selected(std::span<const RowCount> rows, std::span<const double> weights,
                                    const KvRows& values);

// The statistics of one softmax row (traces' /stats/).
struct SoftmaxStats {
  double lse = 0;      // log sum exp of the logits
  double max = 0;      // largest logit
  double entropy = 0;  // nats
  double mass_top1 = 0;
  double mass_top8 = 0;
  double mass_top32 = 0;
  double mass_token0 = 0;
  double participation = 0;  // 1 / sum p^2
};
SoftmaxStats softmax_stats(std::span<const double> logits, std::span<const double> p);

// ||a - b|| / ||b||; 0 when both are zero.
double relative_error(std::span<const double> a, std::span<const double> b);

// (1/2) sum |p - q| of two distributions given as logits, and whether their arg max agrees.
double total_variation(std::span<const float> logits_a, std::span<const float> logits_b);
bool same_top1(std::span<const float> logits_a, std::span<const float> logits_b);

}  // namespace stoat
