// One value of a sweep's key: the text that the design reader gets, and the number in it, if any.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace stoat::sim {

// "64 KiB" -> 64 and "KiB"; "128" -> 128 and ""; "prop" -> nothing. The unit stays apart.
struct NumberWithUnit {
  double number = 0;
  std::string unit;
};
std::optional<NumberWithUnit> split_number(std::string_view text);

// What a number with this unit is in bytes, hertz or picoseconds; nothing for an unknown unit.
std::optional<double> unit_factor(std::string_view unit);

// In base units (bytes, hertz, picoseconds), for comparisons; nothing when the text is no number.
std::optional<double> number_of(std::string_view text);

// The shortest text that reads back as this number; whole numbers below 2^53 without a point.
std::string number_text(double value);

}  // namespace stoat::sim
