// Storage of the KV cache: one block each for K and V, a head's rows side by side.
#include "models/llm/kv_cache.h"

#include <limits>
#include <new>
#include <string>

#include "models/error.h"

namespace stoat {

KvCache::KvCache(std::uint32_t layers, std::uint32_t kv_heads, std::uint32_t head_dim,
                 std::uint32_t capacity)
    : kv_heads_(kv_heads), head_dim_(head_dim), capacity_(capacity) {
  const std::uint64_t lines = static_cast<std::uint64_t>(layers) * kv_heads;
  const std::uint64_t line = static_cast<std::uint64_t>(capacity) * head_dim;
  STOAT_ENSURE(lines > 0 && line > 0, "an empty KV cache");
  STOAT_ENSURE(lines <= std::numeric_limits<std::uint64_t>::max() / 4 / line,
               "KV cache size overflows");
  try {
    keys_.resize(lines * line);
    values_.resize(lines * line);
  } catch (const std::bad_alloc&) {
    throw resource_error({}, "no memory for a KV cache of " + std::to_string(capacity) + " tokens",
                         std::to_string(lines * line * 4) + " bytes", "use a shorter context");
  } catch (const std::length_error&) {
    throw resource_error({}, "no memory for a KV cache of " + std::to_string(capacity) + " tokens",
                         std::to_string(lines * line * 4) + " bytes", "use a shorter context");
  }
}

std::size_t KvCache::offset(std::uint32_t layer, std::uint32_t kv_head,
                            std::uint32_t position) const {
  STOAT_ENSURE(kv_head < kv_heads_ && position < capacity_, "outside the KV cache");
  const std::size_t at =
      ((static_cast<std::size_t>(layer) * kv_heads_ + kv_head) * capacity_ + position) * head_dim_;
  STOAT_ENSURE(at < keys_.size(), "outside the KV cache");
  return at;
}

KvRows KvCache::keys(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t context_len) const {
  STOAT_ENSURE(context_len <= capacity_, "context longer than the KV cache");
  return KvRows{keys_.data() + offset(layer, kv_head, 0), head_dim_, context_len, head_dim_};
}

KvRows KvCache::values(std::uint32_t layer, std::uint32_t kv_head,
                       std::uint32_t context_len) const {
  STOAT_ENSURE(context_len <= capacity_, "context longer than the KV cache");
  return KvRows{values_.data() + offset(layer, kv_head, 0), head_dim_, context_len, head_dim_};
}

Bf16* KvCache::key_row(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t position) {
  return keys_.data() + offset(layer, kv_head, position);
}

Bf16* KvCache::value_row(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t position) {
  return values_.data() + offset(layer, kv_head, position);
}

}  // namespace stoat
