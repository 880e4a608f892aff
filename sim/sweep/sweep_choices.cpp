// From axes to points: the whole grid, a Latin hypercube, or random choices. Random numbers are
// Philox, keyed by the sample's seed, so equal files give equal points.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/sampling/philox.h"
#include "sim/sweep/sweep_spec.h"
#include "sim/sweep/sweep_value.h"

namespace stoat::sim {
namespace {

[[noreturn]] void refuse(const SweepSpec& spec, const std::string& count) {
  throw usage_error(Place{spec.file}, "a grid of " + count + " points",
                    "at most " + std::to_string(kMaxSweepPoints),
                    "narrow an axis, or take sample: {kind: latin_hypercube, points: N}");
}

std::vector<std::vector<std::uint32_t>> grid(const SweepSpec& spec) {
  __extension__ using Wide = unsigned __int128;
  Wide count = 1;
  bool huge = false;
  double about = 1;
  for (const SweepAxis& axis : spec.axes) {
    about *= static_cast<double>(axis.values.size());
    huge = huge || about > 1e18;
    if (!huge) count *= axis.values.size();
  }
  if (huge) refuse(spec, "about " + number_text(about));
  if (count > kMaxSweepPoints) refuse(spec, std::to_string(static_cast<std::uint64_t>(count)));
  std::vector<std::vector<std::uint32_t>> points;
  points.reserve(static_cast<std::size_t>(count));
  std::vector<std::uint32_t> choice(spec.axes.size(), 0);
  for (std::uint64_t n = 0; n < static_cast<std::uint64_t>(count); ++n) {
    points.push_back(choice);
    for (std::size_t i = spec.axes.size(); i-- > 0;) {
      if (++choice[i] < spec.axes[i].values.size()) break;
      choice[i] = 0;
    }
  }
  return points;
}

double uniform(const SweepSample& sample, std::uint32_t axis, std::uint32_t draw,
               std::uint32_t purpose) {
  const PhiloxBlock block = philox4x32_10(PhiloxBlock{{draw, axis, purpose, 0x73776570U}},
                                          static_cast<std::uint32_t>(sample.seed),
                                          static_cast<std::uint32_t>(sample.seed >> 32));
  const std::uint64_t bits = (std::uint64_t{block.word[0]} << 21) ^ (block.word[1] >> 11);
  return static_cast<double>(bits & ((std::uint64_t{1} << 53) - 1)) / 9007199254740992.0;
}

// One u in [0, 1) a point: for a Latin hypercube one in each of n equal parts, in shuffled order.
std::vector<double> positions(const SweepSample& sample, std::uint32_t axis) {
  std::vector<double> u(sample.points);
  std::vector<std::uint32_t> cell(sample.points);
  std::iota(cell.begin(), cell.end(), 0U);
  for (std::uint32_t i = sample.points; sample.latin_hypercube && i > 1; --i) {
    const auto other = static_cast<std::uint32_t>(uniform(sample, axis, i, 1) * i);
    std::swap(cell[i - 1], cell[std::min(other, i - 1)]);
  }
  for (std::uint32_t i = 0; i < sample.points; ++i) {
    const double inside = uniform(sample, axis, i, 0);
    u[i] = sample.latin_hypercube ? (cell[i] + inside) / sample.points : inside;
  }
  return u;
}

std::string value_at(const Axis1D& line, double u) {
  double value = 0;
  if (line.logarithmic) {
    value = line.low * std::pow(line.high / line.low, u);
    if (line.whole) value = std::clamp(std::round(value), line.low, line.high);
  } else if (line.whole) {  // every whole number is as likely as the next
    value = std::min(line.high, line.low + std::floor(u * (line.high - line.low + 1)));
  } else {
    value = line.low + u * (line.high - line.low);
  }
  return number_text(value) + (line.unit.empty() ? "" : " " + line.unit);
}

}  // namespace

std::vector<std::vector<std::uint32_t>> sweep_choices(SweepSpec& spec) {
  if (!spec.sample) return grid(spec);
  const SweepSample& sample = *spec.sample;
  std::vector<std::vector<std::uint32_t>> points(sample.points,
                                                 std::vector<std::uint32_t>(spec.axes.size(), 0));
  for (std::uint32_t a = 0; a < spec.axes.size(); ++a) {
    SweepAxis& axis = spec.axes[a];
    const std::vector<double> u = positions(sample, a);
    for (std::uint32_t i = 0; i < sample.points; ++i) {
      if (axis.continuous) {
        const std::string text = value_at(*axis.continuous, u[i]);
        points[i][a] = static_cast<std::uint32_t>(axis.values.size());
        axis.values.push_back({text, {{axis.name, text}}});
      } else {
        const auto n = static_cast<double>(axis.values.size());
        points[i][a] = std::min(static_cast<std::uint32_t>(u[i] * n),
                                static_cast<std::uint32_t>(axis.values.size() - 1));
      }
    }
  }
  return points;
}

}  // namespace stoat::sim
