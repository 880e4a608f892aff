// Writing K and V caches on the device: new tokens into any layout of DecodeParams, and the
// feature-major copy of K that ternary scores read. No CUDA header is needed.
//
// A token costs one row of K, one of V and, with the feature-major copy, head_dim stores of 2 bytes
// a KV head, each in another line of memory. A prefill appends rows alone and transposes them
// after.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "gpu/attention/decode_launch.h"

namespace stoat::gpu {

// All pointers are device pointers; the words are those of DecodeParams.
struct KvAppendParams {
  ElementType element = ElementType::kBf16;  // both are 16 bits: only their width matters
  std::uint32_t batch = 0;                   // 1 to 256
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;  // a multiple of 8, at most 256
  std::uint32_t tokens = 1;    // new rows of every sequence: its last ones

  const void* k_new = nullptr;  // [batch, tokens, kv_heads, head_dim], new_stride between tokens
  const void* v_new = nullptr;  // as k_new
  std::size_t new_stride = 0;   // elements, a multiple of 8; 0: kv_heads * head_dim

  void* k = nullptr;  // as DecodeParams::k
  void* v = nullptr;
  KvLayout kv_layout = KvLayout::kNhd;
  std::uint32_t kv_capacity = 0;                // contiguous: rows of k and v a sequence
  const std::uint32_t* context_len = nullptr;   // [batch] the new tokens counted in
  std::uint32_t page_size = 0;                  // 0: contiguous; else a power of two
  const std::int32_t* indptr = nullptr;         // [batch + 1]
  const std::int32_t* indices = nullptr;        // [indptr[batch]]
  const std::int32_t* last_page_len = nullptr;  // [batch] the new tokens counted in

  void* k_features = nullptr;          // as TernaryScore::k_features; null: no such copy
  std::uint32_t feature_capacity = 0;  // as TernaryScore::capacity
};

// Why these parameters are not supported; empty when they are.
std::string append_refusal(const KvAppendParams& params);
std::string transpose_refusal(const KvAppendParams& params);

// Queues the copy of k_new and v_new into k, v and, unless null, k_features. A sequence whose
// length is below `tokens` or above the capacity is left alone. Throws Error (usage) with
// append_refusal.
void launch_append(const KvAppendParams& params, Stream stream);

// Queues the copy of the last `tokens` rows of every sequence (all rows of a shorter one) from k to
// k_features. Up to 63 rows before them are written again, and up to 7 rows after them with zeros.
// A length above a capacity is left alone. Throws Error (usage) with transpose_refusal.
void launch_transpose(const KvAppendParams& params, Stream stream);

}  // namespace stoat::gpu
