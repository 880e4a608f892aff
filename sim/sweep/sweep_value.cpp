// Numbers and units in sweep files.
#include "sim/sweep/sweep_value.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace stoat::sim {

std::optional<NumberWithUnit> split_number(std::string_view text) {
  NumberWithUnit result;
  const char* const end = text.data() + text.size();
  const auto [rest, status] = std::from_chars(text.data(), end, result.number);
  if (status != std::errc{} || !std::isfinite(result.number)) return std::nullopt;
  std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  if (!unit.empty() && !unit_factor(unit)) return std::nullopt;
  result.unit = unit;
  return result;
}

std::optional<double> unit_factor(std::string_view unit) {
  static constexpr std::array<std::pair<std::string_view, double>, 14> kUnits{{{"", 1},
                                                                               {"B", 1},
                                                                               {"KiB", 1024},
                                                                               {"MiB", 1048576},
                                                                               {"GiB", 1073741824},
                                                                               {"Hz", 1},
                                                                               {"kHz", 1e3},
                                                                               {"MHz", 1e6},
                                                                               {"GHz", 1e9},
                                                                               {"ps", 1},
                                                                               {"ns", 1e3},
                                                                               {"us", 1e6},
                                                                               {"ms", 1e9},
                                                                               {"s", 1e12}}};
  for (const auto& [name, factor] : kUnits) {
    if (name == unit) return factor;
  }
  return std::nullopt;
}

std::optional<double> number_of(std::string_view text) {
  const auto split = split_number(text);
  if (!split) return std::nullopt;
  return split->number * *unit_factor(split->unit);
}

std::string number_text(double value) {
  std::array<char, 64> buffer{};
  constexpr double kWhole = 9007199254740992.0;
  const bool whole = std::floor(value) == value && std::abs(value) < kWhole;
  const auto result = whole ? std::to_chars(buffer.data(), buffer.data() + buffer.size(),
                                            static_cast<long long>(value))
                            : std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

}  // namespace stoat::sim
