#include "models/units.h"

#include <array>
#include <charconv>
#include <limits>

#include "models/error.h"

namespace stoat {

namespace {

constexpr Uint128 kPicosecondsPerSecond = 1'000'000'000'000ULL;

struct UnitScale {
  std::string_view name;
  int decimal_exponent;  // in units of the base (aJ, Hz, ps); binary units carry a factor instead
  std::uint64_t factor;
};

constexpr std::array<UnitScale, 7> kEnergyUnits{{{"aJ", 0, 1},
                                                 {"fJ", 3, 1},
                                                 {"pJ", 6, 1},
                                                 {"nJ", 9, 1},
                                                 {"uJ", 12, 1},
                                                 {"mJ", 15, 1},
                                                 {"J", 18, 1}}};
constexpr std::array<UnitScale, 4> kFrequencyUnits{
    {{"Hz", 0, 1}, {"kHz", 3, 1}, {"MHz", 6, 1}, {"GHz", 9, 1}}};
constexpr std::array<UnitScale, 5> kTimeUnits{
    {{"ps", 0, 1}, {"ns", 3, 1}, {"us", 6, 1}, {"ms", 9, 1}, {"s", 12, 1}}};
constexpr std::array<UnitScale, 4> kByteUnits{
    {{"B", 0, 1}, {"KiB", 0, 1ULL << 10}, {"MiB", 0, 1ULL << 20}, {"GiB", 0, 1ULL << 30}}};

template <std::size_t N>
std::string unit_list(const std::array<UnitScale, N>& units) {
  std::string text;
  for (const UnitScale& unit : units) text += (text.empty() ? "" : ", ") + std::string(unit.name);
  return text;
}

// Exact decimal arithmetic: digits * 10^exponent. Scientific notation is allowed ("3.48e-1").
Uint128 exact_value(std::string_view number, const UnitScale& unit, std::string_view text,
                    std::string_view what, std::string_view finest) {
  const auto fail = [&](std::string_view found, std::string_view expected) {
    return usage_error(
        {}, std::string(what) + ": " + std::string(found) + " in '" + std::string(text) + "'",
        expected);
  };
  Uint128 digits = 0;
  int exponent = unit.decimal_exponent;
  bool point = false;
  bool any = false;
  std::size_t i = 0;
  for (; i < number.size(); ++i) {
    const char c = number[i];
    if (c == '.' && !point) {
      point = true;
    } else if (c >= '0' && c <= '9') {
      any = true;
      if (digits > (std::numeric_limits<Uint128>::max() >> 8))
        throw fail("too many digits", "at most 30 digits");
      digits = digits * 10 + static_cast<unsigned>(c - '0');
      if (point) --exponent;
    } else {
      break;
    }
  }
  if (any && i < number.size() && (number[i] == 'e' || number[i] == 'E')) {
    ++i;
    bool negative = false;
    if (i < number.size() && (number[i] == '-' || number[i] == '+')) negative = number[i++] == '-';
    int value = 0;
    bool exponent_digits = false;
    for (; i < number.size() && number[i] >= '0' && number[i] <= '9' && value < 1000; ++i) {
      value = value * 10 + (number[i] - '0');
      exponent_digits = true;
    }
    if (!exponent_digits) any = false;
    exponent += negative ? -value : value;
  }
  if (!any || i != number.size()) throw fail("not a number", "a plain non-negative decimal number");
  if (digits == 0) return 0;
  digits *= unit.factor;
  for (; exponent < 0; ++exponent) {
    if (digits % 10 != 0) throw fail("a value finer than the smallest step", finest);
    digits /= 10;
  }
  for (; exponent > 0; --exponent) {
    if (digits > (std::numeric_limits<Uint128>::max() >> 5))
      throw fail("a value out of range", "a smaller number");
    digits *= 10;
  }
  return digits;
}

template <std::size_t N>
Uint128 parse_quantity(std::string_view text, std::string_view what,
                       const std::array<UnitScale, N>& units, std::string_view finest) {
  const std::string_view trimmed = [&] {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return std::string_view{};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
  }();
  std::size_t split = trimmed.size();
  while (split > 0 && ((trimmed[split - 1] >= 'a' && trimmed[split - 1] <= 'z') ||
                       (trimmed[split - 1] >= 'A' && trimmed[split - 1] <= 'Z'))) {
    --split;
  }
  const std::string_view unit_text = trimmed.substr(split);
  std::string_view number = trimmed.substr(0, split);
  while (!number.empty() && number.back() == ' ') number.remove_suffix(1);
  for (const UnitScale& unit : units) {
    if (unit.name == unit_text) return exact_value(number, unit, text, what, finest);
  }
  throw usage_error({},
                    std::string(what) + ": '" + std::string(text) + "' has " +
                        (unit_text.empty() ? std::string("no unit")
                                           : "the unit '" + std::string(unit_text) + "'"),
                    "a number with one of the units " + unit_list(units));
}

std::uint64_t narrow(Uint128 value, std::string_view text, std::string_view what) {
  if (value > std::numeric_limits<std::uint64_t>::max()) {
    throw usage_error({}, std::string(what) + ": '" + std::string(text) + "' is out of range",
                      "a value below 2^64 base units");
  }
  return static_cast<std::uint64_t>(value);
}

Energy to_energy(Uint128 value, std::string_view text, std::string_view what) {
  if (value > (static_cast<Uint128>(1) << 126)) {
    throw usage_error({}, std::string(what) + ": '" + std::string(text) + "' is out of range",
                      "a smaller energy");
  }
  return Energy(static_cast<Int128>(value));
}

}  // namespace

Picoseconds time_of_cycles(std::uint64_t cycles, Hertz frequency) {
  STOAT_ENSURE(frequency.count() != 0, "a clock needs a frequency");
  const Uint128 time = cycles * kPicosecondsPerSecond / frequency.count();
  STOAT_ENSURE(time <= std::numeric_limits<std::uint64_t>::max(),
               "simulated time fits 64 bits of picoseconds");
  return Picoseconds(static_cast<std::uint64_t>(time));
}

Picoseconds time_of_cycles_up(std::uint64_t cycles, Hertz frequency) {
  STOAT_ENSURE(frequency.count() != 0, "a clock needs a frequency");
  const Uint128 time = (cycles * kPicosecondsPerSecond + frequency.count() - 1) / frequency.count();
  STOAT_ENSURE(time <= std::numeric_limits<std::uint64_t>::max(),
               "simulated time fits 64 bits of picoseconds");
  return Picoseconds(static_cast<std::uint64_t>(time));
}

std::uint64_t cycles_until(Picoseconds t, Hertz frequency) {
  const Uint128 product = static_cast<Uint128>(t.count()) * frequency.count();
  return static_cast<std::uint64_t>((product + kPicosecondsPerSecond - 1) / kPicosecondsPerSecond);
}

std::string to_string(Int128 value) {
  const bool negative = value < 0;
  Uint128 rest = negative ? Uint128{0} - static_cast<Uint128>(value) : static_cast<Uint128>(value);
  std::string digits;
  do {
    digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
    rest /= 10;
  } while (rest != 0);
  return negative ? "-" + digits : digits;
}

std::string decimal(Int128 value, int fraction_digits) {
  const bool negative = value < 0;
  std::string digits = to_string(negative ? -value : value);
  if (fraction_digits > 0) {
    const auto fraction = static_cast<std::size_t>(fraction_digits);
    if (digits.size() <= fraction) digits.insert(0, fraction + 1 - digits.size(), '0');
    digits.insert(digits.size() - fraction, ".");
  }
  return negative ? "-" + digits : digits;
}

Energy parse_energy(std::string_view text, std::string_view what) {
  return to_energy(parse_quantity(text, what, kEnergyUnits, "whole attojoules (10^-18 J)"), text,
                   what);
}

Hertz parse_frequency(std::string_view text, std::string_view what) {
  return Hertz(narrow(parse_quantity(text, what, kFrequencyUnits, "whole hertz"), text, what));
}

Bytes parse_bytes(std::string_view text, std::string_view what) {
  return Bytes(narrow(parse_quantity(text, what, kByteUnits, "whole bytes"), text, what));
}

Picoseconds parse_time(std::string_view text, std::string_view what) {
  return Picoseconds(
      narrow(parse_quantity(text, what, kTimeUnits, "whole picoseconds"), text, what));
}

std::uint64_t parse_count(std::string_view text, std::string_view what, std::uint64_t most) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value);
  if (text.empty() || read.ec != std::errc() || read.ptr != end || value > most) {
    throw usage_error({std::string(what)}, "'" + std::string(text) + "'",
                      "a whole number from 0 to " + std::to_string(most));
  }
  return value;
}

Energy energy_from(std::string_view number, std::string_view unit, std::string_view what) {
  return parse_energy(std::string(number) + " " + std::string(unit), what);
}

}  // namespace stoat
