// What the device tests of the transformer share: prompts and shapes of tiny models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/sampling/philox.h"
#include "tests/models/llm/model_writer.h"

namespace stoat::test {

inline std::vector<std::int32_t> some_tokens(std::size_t n, std::uint32_t vocab,
                                             std::uint32_t seed = 1) {
  std::vector<std::int32_t> tokens(n);
  for (std::size_t i = 0; i < n; ++i)
    tokens[i] = static_cast<std::int32_t>(
        draw_u64(DrawSite{seed, 0, static_cast<std::uint32_t>(i), 0, 0}, Purpose::kToken, 1) %
        vocab);
  return tokens;
}

inline TinyShape device_shape(const std::string& type, std::uint32_t head_dim = 64) {
  TinyShape shape;
  shape.model_type = type;
  shape.hidden = 96;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = head_dim;
  shape.intermediate = 136;
  shape.attention_bias = type == "qwen2";
  shape.tied = type == "qwen3";
  return shape;
}

}  // namespace stoat::test
