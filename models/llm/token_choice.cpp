// The plain version of token_choice.h; gpu/llm/token.cu is the fast one.
#include "models/llm/token_choice.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "models/error.h"

namespace stoat {

std::uint64_t TokenChoice::share() const {
  if (top_p >= 1) return ~std::uint64_t{0};
  return static_cast<std::uint64_t>(std::ldexp(static_cast<double>(top_p), 64));
}

void ensure_valid(const TokenChoice& choice) {
  if (!(choice.temperature >= 0) || choice.temperature > 1000 ||
      (choice.temperature > 0 && choice.temperature < 1e-3F)) {
    throw usage_error({"--temperature"}, std::to_string(choice.temperature),
                      "0 (greedy), or 0.001 to 1000");
  }
  if (!(choice.top_p > 0 && choice.top_p <= 1))
    throw usage_error({"--top-p"}, std::to_string(choice.top_p), "above 0, at most 1");
  if (choice.temperature == 0 && choice.top_p != 1)
    throw usage_error({"--top-p"}, "given without --temperature", "",
                      "add --temperature 1, or leave it out for greedy decoding");
}

std::int32_t choose_token(std::span<const float> logits, const TokenChoice& choice,
                          const DrawSite& site) {
  STOAT_ENSURE(!logits.empty(), "logits of a vocabulary");
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) {
      throw damaged_error({"logits"}, "the logit of token " + std::to_string(i) + " is not finite",
                          "finite logits", "look for damaged weights");
    }
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (choice.temperature == 0) return static_cast<std::int32_t>(best - logits.begin());
  const float factor = choice.factor();
  const std::int32_t exponent = tile_exponent(*best * factor);
  std::vector<std::uint32_t> weight(logits.size());
  std::vector<std::uint16_t> code(logits.size());
  std::vector<std::uint64_t> by_code(65536);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    code[i] = encode_score(exponent, logits[i] * factor);
    weight[i] = weight_of_code(code[i], weight_lut());
    by_code[code[i]] += weight[i];
    total += weight[i];
  }
  const std::uint64_t wanted = nucleus_weight(total, choice.share());
  std::uint64_t kept = 0;
  std::size_t last = 0;  // the largest code that is kept
  while ((kept += by_code[last]) < wanted) ++last;
  const std::uint64_t point = token_point(site, kept);
  std::uint64_t before = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (code[i] > last) continue;
    before += weight[i];
    if (point < before) return static_cast<std::int32_t>(i);
  }
  throw Bug("the point lies past the last token");
}

}  // namespace stoat
