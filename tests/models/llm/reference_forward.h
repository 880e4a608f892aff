// An independent, slow forward pass in double with plain loops, after the published description of
// the models. Shares no code with models/llm: it reads the test's own weights and its own shape.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/models/llm/model_writer.h"

namespace stoat::test {

// The cache stores bf16. `stored` gets the exact K (value = false) or V of (layer, kv_head,
// position, dim) and returns what the cache holds for it, so that one rounding that goes the other
// way does not blur the comparison.
using Stored =
    std::function<double(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t position,
                         std::uint32_t dim, bool value, double exact)>;
// Angle of pair j at a position, radians.
using Angle = std::function<double(std::uint32_t pair, std::uint32_t position)>;

// Logits after every token. [tokens][vocab]
std::vector<std::vector<double>> reference_logits(const TinyShape& shape,
                                                  const std::map<std::string, TestTensor>& weights,
                                                  const std::vector<std::int32_t>& tokens,
                                                  const Angle& angle, const Stored& stored);

}  // namespace stoat::test
