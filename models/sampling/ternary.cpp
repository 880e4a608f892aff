#include "models/sampling/ternary.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "models/error.h"

namespace stoat {

namespace {

const std::vector<std::string>& coupling_names() {
  static const std::vector<std::string> names{"independent", "coupled", "group-mean"};
  return names;
}
const std::vector<std::string>& normaliser_names() {
  static const std::vector<std::string> names{"max", "pow2"};
  return names;
}

struct Shape {
  std::uint32_t draws, head_dim;
};

// Sets the mask bits of one head from its magnitudes, with the uniforms of `site`.
void draw_masks(std::span<std::uint8_t> mask, std::span<const float> magnitudes, float normaliser,
                Shape shape, const DrawSite& site) {
  for (std::uint32_t b = 0; b < shape.draws; ++b) {
    for (std::uint32_t d = 0; d < shape.head_dim; ++d) {
      if (ternary_uniform(site, b, d, shape.head_dim) <
          ternary_threshold(magnitudes[d], normaliser)) {
        mask[b * (shape.head_dim / 8) + d / 8] |= static_cast<std::uint8_t>(1U << (d % 8));
      }
    }
  }
}

}  // namespace

std::string_view coupling_name(TernaryCoupling coupling) {
  return coupling_names()[static_cast<std::size_t>(coupling)];
}
std::string_view normaliser_name(TernaryNormaliser normaliser) {
  return normaliser_names()[static_cast<std::size_t>(normaliser)];
}

TernaryCoupling coupling_from_name(std::string_view name) {
  const auto found = std::find(coupling_names().begin(), coupling_names().end(), name);
  if (found == coupling_names().end()) {
    throw usage_error({}, "unknown ternary coupling '" + std::string(name) + "'",
                      "independent, coupled or group-mean",
                      nearest_name_hint(name, coupling_names()));
  }
  return static_cast<TernaryCoupling>(found - coupling_names().begin());
}

TernaryNormaliser normaliser_from_name(std::string_view name) {
  const auto found = std::find(normaliser_names().begin(), normaliser_names().end(), name);
  if (found == normaliser_names().end()) {
    throw usage_error({}, "unknown ternary normaliser '" + std::string(name) + "'", "max or pow2",
                      nearest_name_hint(name, normaliser_names()));
  }
  return static_cast<TernaryNormaliser>(found - normaliser_names().begin());
}

bool TernaryGroup::touched(std::uint32_t head, std::uint32_t draw, std::uint32_t feature) const {
  const std::size_t bytes = head_dim / 8;
  return (mask[(static_cast<std::size_t>(head) * draws + draw) * bytes + feature / 8] >>
              (feature % 8) &
          1) != 0;
}

std::uint32_t TernaryGroup::touched_features(std::uint32_t head) const {
  std::uint32_t count = 0;
  for (std::uint32_t d = 0; d < head_dim; ++d) {
    bool any = false;
    for (std::uint32_t b = 0; b < draws && !any; ++b) any = touched(head, b, d);
    count += any ? 1 : 0;
  }
  return count;
}

std::uint32_t TernaryGroup::touched_by_group() const {
  const std::size_t bytes = head_dim / 8;
  std::uint32_t count = 0;
  for (std::size_t byte = 0; byte < bytes; ++byte) {
    std::uint8_t any = 0;
    for (std::size_t i = byte; i < mask.size(); i += bytes) any |= mask[i];
    count += static_cast<std::uint32_t>(std::popcount(any));
  }
  return count;
}

std::uint64_t TernaryGroup::touches(std::uint32_t head) const {
  const std::size_t bytes = static_cast<std::size_t>(draws) * (head_dim / 8);
  std::uint64_t count = 0;
  for (std::size_t i = head * bytes; i < (head + 1) * bytes; ++i)
    count += static_cast<std::uint64_t>(std::popcount(mask[i]));
  return count;
}

TernaryGroup draw_ternary(std::span<const float> q, std::uint32_t heads, std::uint32_t head_dim,
                          const TernaryOptions& options, const DrawSite& site) {
  STOAT_ENSURE(
      heads > 0 && head_dim > 0 && head_dim % 8 == 0 && q.size() == std::size_t{heads} * head_dim,
      "a query of [heads, head_dim], head_dim a multiple of 8");
  if (options.draws == 0 || options.draws > 64) {
    throw usage_error({}, std::to_string(options.draws) + " ternary draws", "1 to 64");
  }
  for (const float value : q) {
    if (!std::isfinite(value))
      throw damaged_error({"ternary query"}, "a query feature is not finite", "finite queries");
  }
  TernaryGroup group;
  group.heads = heads;
  group.head_dim = head_dim;
  group.draws = options.draws;
  const Shape shape{options.draws, head_dim};
  const std::size_t mask_bytes = static_cast<std::size_t>(options.draws) * head_dim / 8;
  group.mask.assign(heads * mask_bytes, 0);
  group.sign.assign(static_cast<std::size_t>(heads) * head_dim / 8, 0);
  group.effective.assign(q.size(), 0.0F);

  // What decides a head's masks: its own magnitudes, or for group-mean the mean magnitude of the
  // group.
  std::vector<float> magnitudes(q.size());
  for (std::size_t i = 0; i < q.size(); ++i) magnitudes[i] = std::fabs(q[i]);
  if (options.coupling == TernaryCoupling::kGroupMean) {
    for (std::uint32_t d = 0; d < head_dim; ++d) {
      double sum = 0;
      for (std::uint32_t h = 0; h < heads; ++h)
        sum += static_cast<double>(magnitudes[h * head_dim + d]);
      for (std::uint32_t h = 0; h < heads; ++h)
        magnitudes[h * head_dim + d] = static_cast<float>(sum / heads);
    }
  }
  for (std::uint32_t h = 0; h < heads; ++h) {
    const std::span<const float> own(magnitudes.data() + static_cast<std::size_t>(h) * head_dim,
                                     head_dim);
    const float c =
        ternary_normaliser(*std::max_element(own.begin(), own.end()), options.normaliser);
    group.normaliser.push_back(c);
    DrawSite head_site = site;
    if (options.coupling == TernaryCoupling::kIndependent) {
      head_site.query_head = static_cast<std::uint16_t>(site.query_head + h);
    }
    draw_masks(std::span(group.mask).subspan(h * mask_bytes, mask_bytes), own, c, shape, head_site);
    for (std::uint32_t d = 0; d < head_dim; ++d) {
      const std::size_t i = static_cast<std::size_t>(h) * head_dim + d;
      if (std::signbit(q[i]))
        group.sign[static_cast<std::size_t>(h) * head_dim / 8 + d / 8] |=
            static_cast<std::uint8_t>(1U << (d % 8));
      std::uint32_t count = 0;
      for (std::uint32_t b = 0; b < options.draws; ++b) count += group.touched(h, b, d) ? 1U : 0U;
      if (count == 0) continue;
      group.effective[i] = ternary_estimate(q[i], own[d], c, count, options.draws);
    }
  }
  return group;
}

}  // namespace stoat
