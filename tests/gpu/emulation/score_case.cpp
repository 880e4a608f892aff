#include "tests/gpu/emulation/score_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

#include "models/bf16.h"
#include "models/sampling/ruler.h"

namespace stoat::emulation {

using namespace gpu;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Batch {
 public:
  Batch(const ScoreCase& of, std::uint64_t seed) : case_(of), random_(seed) {
    batch_ = static_cast<std::uint32_t>(of.contexts.size());
    const std::uint32_t longest = *std::ranges::max_element(of.contexts);
    max_context_ = longest + 8;
    page_rows_ = of.page_size == 0 ? max_context_ : of.page_size;
    number_pages();
    query_.resize(std::size_t{batch_} * of.kv_heads * of.group * of.head_dim);
    keys_.resize(pages_ * page_rows_ * of.kv_heads * of.head_dim);
    std::normal_distribution<float> normal;
    for (std::uint16_t& x : query_) x = encode(2 * normal(random_));
    for (std::uint16_t& x : keys_) x = encode(normal(random_));
    if (of.damage != Damage::kNone) do_damage();
  }

  DecodeParams params() const {
    DecodeParams p;
    p.element = case_.element;
    p.batch = batch_;
    p.q_heads = case_.kv_heads * case_.group;
    p.kv_heads = case_.kv_heads;
    p.head_dim = case_.head_dim;
    p.max_context = p.kv_capacity = max_context_;
    p.q = query_.data();
    p.k = keys_.data();
    p.kv_layout = case_.layout;
    p.context_len = case_.contexts.data();
    p.page_size = case_.page_size;
    p.indptr = indptr_.data();
    p.indices = indices_.data();
    p.last_page_len = last_page_len_.data();
    p.sm_scale = 1.0F / std::sqrt(static_cast<float>(case_.head_dim));
    p.method = Method::kProp;
    p.budget = 64;
    p.kv_is_stable = case_.kv_is_stable;
    return p;
  }

  // q . k * sm_scale * log2(e)
  double score(std::uint32_t sequence, std::uint32_t q_head, std::uint32_t row) const {
    const std::uint16_t* key = keys_.data() + at(sequence, q_head / case_.group, row);
    const std::uint16_t* query =
        query_.data() +
        (std::size_t{sequence} * case_.kv_heads * case_.group + q_head) * case_.head_dim;
    double dot = 0;
    for (std::uint32_t i = 0; i < case_.head_dim; ++i) dot += decode(query[i]) * decode(key[i]);
    return dot / std::sqrt(case_.head_dim) * static_cast<double>(kLog2E);
  }

 private:
  std::uint16_t encode(float value) const {
    return case_.element == ElementType::kBf16
               ? to_bf16(value).bits
               : std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
  }
  double decode(std::uint16_t bits) const {
    return case_.element == ElementType::kBf16 ? static_cast<double>(to_float(Bf16{bits}))
                                               : static_cast<double>(std::bit_cast<_Float16>(bits));
  }

  void number_pages() {
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

  std::size_t at(std::uint32_t sequence, std::uint32_t kv_head, std::uint32_t row) const {
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

  void do_damage() {
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

  const ScoreCase& case_;
  std::mt19937_64 random_;
  std::uint32_t batch_ = 0, max_context_ = 0, page_rows_ = 0;
  std::size_t pages_ = 0;
  std::vector<std::uint16_t> query_, keys_;
  std::vector<std::int32_t> indptr_, indices_, last_page_len_;
};

// The tile's scores, its largest, and whether one is refused.
struct TileScores {
  std::vector<double> x = std::vector<double>(kTileRows, -HUGE_VAL);
  double largest = -HUGE_VAL;
  bool damaged = false;

  TileScores(const Batch& batch, std::uint32_t sequence, std::uint32_t head, std::uint32_t tile,
             std::uint32_t context) {
    constexpr double kLimit = 1073741824.0;
    for (std::uint32_t i = 0; i < kTileRows && tile * kTileRows + i < context; ++i) {
      x[i] = batch.score(sequence, head, tile * kTileRows + i);
      damaged |=
          std::isnan(x[i]) || (!std::isinf(x[i]) && std::fabs(x[i]) >= kLimit) || x[i] == HUGE_VAL;
      largest = std::max(largest, x[i]);
    }
  }
  // fp32 may see the other side of an integer.
  bool has_exponent(std::int32_t exponent) const {
    constexpr std::int32_t kDamagedTile = 0x7fffffff;
    if (damaged) return exponent == kDamagedTile;
    if (largest == -HUGE_VAL) return exponent == kMaskedTile;
    return exponent == static_cast<std::int32_t>(std::ceil(largest)) ||
           (std::fabs(largest - std::round(largest)) < 1e-4 && std::abs(exponent - largest) < 2);
  }
  double code(std::uint32_t row, std::int32_t exponent) const {
    if (damaged || largest == -HUGE_VAL) return 65535;
    return std::min(65535.0, std::round((exponent - x[row]) * kWeightLutSize));
  }
};

std::string place(const char* what, std::uint32_t sequence, std::uint32_t head, std::uint32_t at,
                  double got, double expected) {
  return std::string(what) + " of sequence " + std::to_string(sequence) + ", head " +
         std::to_string(head) + " at " + std::to_string(at) + " is " + std::to_string(got) +
         ", expected " + std::to_string(expected);
}

}  // namespace

std::string what_is_wrong(const ScoreCase& of, Launch launch) {
  const Batch batch(of, 17 + launch.seed);
  const DecodeParams p = batch.params();
  launch.blocks = of.blocks;
  ScoreResults got;
  try {
    got = run_score(p, of.code_places, launch);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  const std::uint32_t capacity = max_tiles(p);
  if (got.next_tile != 0) return place("counter of tiles", 0, 0, 0, got.next_tile, 0);
  if (got.report.conflicts != 0)
    return std::to_string(got.report.conflicts) + " of " + std::to_string(got.report.matrix_reads) +
           " reads of matrices meet in a bank";
  const bool codes_are_kept = of.code_places >= p.batch;
  std::size_t codes = 0, unequal = 0;
  for (std::uint32_t s = 0; s < p.batch; ++s) {
    const std::uint32_t tiles = (of.contexts[s] + kTileRows - 1) / kTileRows;
    if (got.ready[s] != tiles * p.kv_heads)
      return place("signal", s, 0, 0, got.ready[s], tiles * p.kv_heads);
    for (std::uint32_t h = 0; codes_are_kept && h < p.q_heads; ++h) {
      for (std::uint32_t t = 0; t < tiles; ++t) {
        const std::size_t slot = (std::size_t{s} * p.q_heads + h) * capacity + t;
        const TileScores expected(batch, s, h, t, of.contexts[s]);
        const std::int32_t exponent = got.exponent[slot];
        if (!expected.has_exponent(exponent))
          return place("exponent", s, h, t, exponent, std::ceil(expected.largest));
        std::vector<std::uint32_t> parts(kTileParts);
        for (std::uint32_t i = 0; i < kTileRows; ++i) {
          const std::uint16_t code = got.code[slot * kTileRows + i];
          const double distance = std::fabs(expected.code(i, exponent) - code);
          if (distance > 1)
            return place("code", s, h, t * kTileRows + i, code, expected.code(i, exponent));
          ++codes;
          unequal += distance > 0 ? 1 : 0;
          parts[i / (kTileRows / kTileParts)] += weight_of_code(code, weight_lut());
        }
        std::uint64_t mass = 0;
        for (std::uint32_t i = 0; i < kTileParts; ++i) {
          const std::uint32_t part = got.part[slot * kTileParts + i];
          if (part != parts[i])
            return place("mass of a part", s, h, t * kTileParts + i, part, parts[i]);
          mass += part;
        }
        if (got.mass[slot] != mass)
          return place("mass", s, h, t, static_cast<double>(got.mass[slot]),
                       static_cast<double>(mass));
      }
    }
  }
  if (100 * unequal > codes)
    return std::to_string(unequal) + " of " + std::to_string(codes) + " codes are off by one";
  return "";
}

}  // namespace stoat::emulation
