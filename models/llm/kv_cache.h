// The KV cache of one sequence on the CPU: bf16, K after rotary embedding.
#pragma once

#include <cstdint>
#include <vector>

#include "models/attention/decode.h"
#include "models/bf16.h"

namespace stoat {

class KvCache {
 public:
  KvCache(std::uint32_t layers, std::uint32_t kv_heads, std::uint32_t head_dim,
          std::uint32_t capacity);

  std::uint32_t length() const { return length_; }
  std::uint32_t capacity() const { return capacity_; }
  // First rows of one head: [context_len, head_dim], context_len <= written rows of that layer.
  KvRows keys(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t context_len) const;
  KvRows values(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t context_len) const;
  // Where row `position` of a head is written. [head_dim]
  Bf16* key_row(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t position);
  Bf16* value_row(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t position);
  void set_length(std::uint32_t length) {
    length_ = length;
  }  // after a whole token or chunk is in all layers

 private:
  std::size_t offset(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t position) const;

  std::uint32_t kv_heads_, head_dim_, capacity_;
  std::uint32_t length_ = 0;
  std::vector<Bf16> keys_, values_;  // [layers, kv_heads, capacity, head_dim]
};

}  // namespace stoat
