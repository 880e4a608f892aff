// A random ragged batch on the host, in the layouts that the kernels read. Not a test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "gpu/attention/params.h"
#include "models/bf16.h"

namespace stoat::emulation {

enum class Damage : std::uint8_t {
  kNone,
  kNan,     // in some rows of K
  kMasked,  // a score of minus infinity for some rows, and for a whole tile of KV head 0
  kHuge     // a finite score below -2^30
};

struct BatchCase {
  gpu::ElementType element = gpu::ElementType::kBf16;
  std::uint32_t head_dim = 128, group = 4, kv_heads = 2;
  std::uint32_t page_size = 0;
  gpu::KvLayout layout = gpu::KvLayout::kHnd;
  std::vector<std::uint32_t> contexts;
  std::uint32_t blocks = 2;  // of the score pass
  bool kv_is_stable = true;
  Damage damage = Damage::kNone;
  std::uint32_t code_places = 1U << 31;  // LaunchArguments
};

class Batch {
 public:
  Batch(const BatchCase& of, std::uint64_t seed);

  // Points into this object and its case; without method, budget and results.
  gpu::DecodeParams params() const;
  // q . k * sm_scale * log2(e)
  double score(std::uint32_t sequence, std::uint32_t q_head, std::uint32_t row) const;
  // [context, head_dim]
  std::vector<Bf16> values(std::uint32_t sequence, std::uint32_t kv_head) const;

 private:
  std::uint16_t encode(float value) const;
  double decode(std::uint16_t bits) const;
  void number_pages();
  std::size_t at(std::uint32_t sequence, std::uint32_t kv_head, std::uint32_t row) const;
  void do_damage();

  const BatchCase& case_;
  std::mt19937_64 random_;
  std::uint32_t batch_ = 0, max_context_ = 0, page_rows_ = 0;
  std::size_t pages_ = 0;
  std::vector<std::uint16_t> query_, keys_, values_;
  std::vector<std::int32_t> indptr_, indices_, last_page_len_;
};

}  // namespace stoat::emulation
