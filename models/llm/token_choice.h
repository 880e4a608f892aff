// The next token from logits: greedy, or drawn at a temperature among the most probable tokens
// (top-p, nucleus sampling: Holtzman et al., ICLR 2020).
//
// Drawing is integer arithmetic, as for rows (models/sampling/ruler.h): logits become u16 codes and
// integer weights, the nucleus is a bound on the code, one counter-based draw is a point on the
// ruler of the weights that are left. Given the logits a CPU and a GPU choose the same token.
#pragma once

#include <cstdint>
#include <span>

#include "models/sampling/philox.h"
#include "models/sampling/ruler.h"

namespace stoat {

struct TokenChoice {
  float temperature = 0;  // 0: greedy, the lowest token of equals
  float top_p = 1;        // keep the fewest tokens whose weight reaches this share; ties are kept

  // x = logit * factor is what is encoded.
  float factor() const { return kLog2E / temperature; }
  // top_p as a 64-bit fraction; all ones keeps everything.
  std::uint64_t share() const;
};

// Throws Error (usage) for a temperature below 0 or not finite, or top_p outside (0, 1].
void ensure_valid(const TokenChoice& choice);

// The weight that the kept tokens must reach, of `total`.
STOAT_HD std::uint64_t nucleus_weight(std::uint64_t total, std::uint64_t share) {
  if (share == ~std::uint64_t{0}) return total;
  const std::uint64_t wanted = mulhi64(total, share);
  return wanted == 0 ? 1 : wanted;
}

// The point of the draw among tokens of weight `kept`. site.position: of the token that was fed.
STOAT_HD std::uint64_t token_point(const DrawSite& site, std::uint64_t kept) {
  return mulhi64(draw_u64(site, Purpose::kToken, 0), kept);
}

// Throws Error (damaged) for NaN or infinity. site: layer and query head 0.
std::int32_t choose_token(std::span<const float> logits, const TokenChoice& choice,
                          const DrawSite& site);

}  // namespace stoat
