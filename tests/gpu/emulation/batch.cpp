#include "tests/gpu/emulation/batch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "models/sampling/ruler.h"

namespace stoat::emulation {

using namespace gpu;

Batch::Batch(const BatchCase& of, std::uint64_t seed) : case_(of), random_(seed) {
  batch_ = static_cast<std::uint32_t>(of.contexts.size());
  max_context_ = *std::ranges::max_element(of.contexts) + 8;
  page_rows_ = of.page_size == 0 ? max_context_ : of.page_size;
  number_pages();
  query_.resize(std::size_t{batch_} * of.kv_heads * of.group * of.head_dim);
  keys_.resize(pages_ * page_rows_ * of.kv_heads * of.head_dim);
  values_.resize(keys_.size());
  std::normal_distribution<float> normal;
  for (std::uint16_t& x : query_) x = encode(2 * normal(random_));
  for (std::uint16_t& x : keys_) x = encode(normal(random_));
  // Exact in both element types.
  for (std::uint16_t& x : values_) {
    const float value = to_float(to_bf16(normal(random_)));
    x = encode(std::fabs(value) < 1.0F / 4096 ? 0 : value);
  }
  if (of.damage != Damage::kNone) do_damage();
}

DecodeParams Batch::params() const {
  DecodeParams p;
  p.element = case_.element;
  p.batch = batch_;
  p.q_heads = case_.kv_heads * case_.group;
  p.kv_heads = case_.kv_heads;
  p.head_dim = case_.head_dim;
  p.max_context = p.kv_capacity = max_context_;
  p.q = query_.data();
  p.k = keys_.data();
  p.v = values_.data();
  p.kv_layout = case_.layout;
  p.context_len = case_.contexts.data();
  p.page_size = case_.page_size;
  p.indptr = indptr_.data();
  p.indices = indices_.data();
  p.last_page_len = last_page_len_.data();
  p.sm_scale = 1.0F / std::sqrt(static_cast<float>(case_.head_dim));
  p.seed = 0x123456789abcdefULL;
  p.layer = 5;
  p.kv_is_stable = case_.kv_is_stable;
  return p;
}

double Batch::score(std::uint32_t sequence, std::uint32_t q_head, std::uint32_t row) const {
  const std::size_t q_heads = std::size_t{case_.kv_heads} * case_.group;
  const std::uint16_t* key = keys_.data() + at(sequence, q_head / case_.group, row);
  const std::uint16_t* query = query_.data() + (sequence * q_heads + q_head) * case_.head_dim;
  double dot = 0;
  for (std::uint32_t i = 0; i < case_.head_dim; ++i) dot += decode(query[i]) * decode(key[i]);
  return dot / std::sqrt(case_.head_dim) * static_cast<double>(kLog2E);
}

std::vector<Bf16> Batch::values(std::uint32_t sequence, std::uint32_t kv_head) const {
  std::vector<Bf16> rows;
  for (std::uint32_t row = 0; row < case_.contexts[sequence]; ++row) {
    const std::uint16_t* value = values_.data() + at(sequence, kv_head, row);
    for (std::uint32_t i = 0; i < case_.head_dim; ++i)
      rows.push_back(to_bf16(static_cast<float>(decode(value[i]))));
  }
  return rows;
}

std::uint16_t Batch::encode(float value) const {
  return case_.element == ElementType::kBf16
             ? to_bf16(value).bits
             : std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
}

double Batch::decode(std::uint16_t bits) const {
  return case_.element == ElementType::kBf16 ? static_cast<double>(to_float(Bf16{bits}))
                                             : static_cast<double>(std::bit_cast<_Float16>(bits));
}

void Batch::number_pages() {
  indptr_.push_back(0);
  for (const std::uint32_t context : case_.contexts) {
    const std::uint32_t used = (context + page_rows_ - 1) / page_rows_;
    indptr_.push_back(indptr_.back() + static_cast<std::int32_t>(used));
    last_page_len_.push_back(static_cast<std::int32_t>(context - (used - 1) * page_rows_));
  }
  indices_.resize(static_cast<std::size_t>(indptr_.back()));
  std::iota(indices_.begin(), indices_.end(), 1);  // page 0 is nobody's
  std::ranges::shuffle(indices_, random_);
  pages_ = case_.page_size == 0 ? batch_ : indices_.size() + 1;
}

std::size_t Batch::at(std::uint32_t sequence, std::uint32_t kv_head, std::uint32_t row) const {
  std::size_t page = sequence, within = row;
  if (case_.page_size != 0) {
    page = static_cast<std::size_t>(
        indices_[static_cast<std::size_t>(indptr_[sequence]) + row / page_rows_]);
    within = row % page_rows_;
  }
  const std::size_t place = case_.layout == KvLayout::kNhd
                                ? (page * page_rows_ + within) * case_.kv_heads + kv_head
                                : (page * case_.kv_heads + kv_head) * page_rows_ + within;
  return place * case_.head_dim;
}

void Batch::do_damage() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < query_.size(); i += case_.head_dim) query_[i] = encode(-1);
  for (std::uint32_t s = 0; s < batch_; ++s) {
    for (std::uint32_t row = 0; row < case_.contexts[s]; ++row) {
      const bool whole_tile = case_.damage == Damage::kMasked && row / kTileRows == 1;
      if (!whole_tile && row != 5 && row != 299) continue;
      std::uint16_t* key = keys_.data() + at(s, whole_tile ? 0 : row % case_.kv_heads, row);
      std::fill_n(key, case_.head_dim, encode(0));
      key[0] = encode(case_.damage == Damage::kNan      ? std::nanf("")
                      : case_.damage == Damage::kMasked ? kInfinity
                                                        : 1e30F);
    }
  }
}

}  // namespace stoat::emulation
