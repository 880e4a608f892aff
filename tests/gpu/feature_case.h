// The feature-major copy of an AttentionCase's K, for tests of ternary scores and of the kernels
// that write the caches.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/attention/kv_append.h"
#include "tests/gpu/attention_case.h"

namespace stoat::gpu {

// Rows that a feature of a contiguous cache has room for.
inline std::uint32_t feature_capacity(const DecodeParams& p) { return (p.max_context + 7) / 8 * 8; }

inline std::size_t feature_elements(const AttentionCase& on, const DecodeParams& p) {
  std::size_t slots = on.batch();
  if (p.page_size != 0) {
    slots = 1;  // page 0 is not used
    for (const std::uint32_t context : on.shape().contexts)
      slots += (context + p.page_size - 1) / p.page_size;
  }
  const std::size_t rows = p.page_size == 0 ? feature_capacity(p) : p.page_size;
  return slots * rows * p.kv_heads * p.head_dim;
}

// The caches of a launch, for the kernels that write them.
inline KvAppendParams cache_of(const DecodeParams& p, std::uint32_t tokens,
                               std::uint16_t* features) {
  KvAppendParams cache;
  cache.element = p.element;
  cache.batch = p.batch;
  cache.kv_heads = p.kv_heads;
  cache.head_dim = p.head_dim;
  cache.tokens = tokens;
  cache.k = const_cast<void*>(p.k);
  cache.v = const_cast<void*>(p.v);
  cache.kv_layout = p.kv_layout;
  cache.kv_capacity = p.kv_capacity;
  cache.context_len = p.context_len;
  cache.page_size = p.page_size;
  cache.indptr = p.indptr;
  cache.indices = p.indices;
  cache.last_page_len = p.last_page_len;
  cache.k_features = features;
  cache.feature_capacity = feature_capacity(p);
  return cache;
}

// The feature-major copy of a case's K, made by the transposition kernel.
inline DeviceArray<std::uint16_t> features_of(const AttentionCase& on) {
  const DecodeParams p = on.params();
  DeviceArray<std::uint16_t> features(feature_elements(on, p));
  launch_transpose(cache_of(p, p.max_context, features.get()), nullptr);
  cuda_check(cudaDeviceSynchronize());
  return features;
}

}  // namespace stoat::gpu
