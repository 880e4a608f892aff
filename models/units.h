// Quantities that cannot be mixed: bytes, cycles of two clocks, picoseconds, energy, frequency.
//
// All are integers, so sums are exact in any order. Energy counts attojoules in 128 bits. The time
// of n cycles is n * 10^12 / f in 128 bits, never n times a rounded period.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace stoat {

__extension__ using Int128 = __int128;
__extension__ using Uint128 = unsigned __int128;

// One integer with a name. Tag keeps kinds apart; T is the representation.
template <class Tag, class T>
class Quantity {
 public:
  using Representation = T;
  constexpr Quantity() = default;
  constexpr explicit Quantity(T value) : value_(value) {}
  constexpr T count() const { return value_; }

  constexpr Quantity& operator+=(Quantity other) {
    value_ += other.value_;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity other) {
    value_ -= other.value_;
    return *this;
  }
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return Quantity(a.value_ + b.value_);
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return Quantity(a.value_ - b.value_);
  }
  friend constexpr Quantity operator*(Quantity a, T n) { return Quantity(a.value_ * n); }
  friend constexpr Quantity operator*(T n, Quantity a) { return Quantity(a.value_ * n); }
  friend constexpr auto operator<=>(Quantity, Quantity) = default;

 private:
  T value_ = 0;
};

using Bytes = Quantity<struct BytesTag, std::uint64_t>;
using CoreCycles = Quantity<struct CoreCyclesTag, std::uint64_t>;  // of the accelerator's clock
using DramCycles = Quantity<struct DramCyclesTag, std::uint64_t>;  // of the memory's command clock
using Picoseconds = Quantity<struct PicosecondsTag, std::uint64_t>;  // simulated time
using Hertz = Quantity<struct HertzTag, std::uint64_t>;
using Energy = Quantity<struct EnergyTag, Int128>;  // attojoules

// n cycles of a clock of f hertz, rounded down / up to whole picoseconds. Throws Bug when f is 0.
Picoseconds time_of_cycles(std::uint64_t cycles, Hertz frequency);
Picoseconds time_of_cycles_up(std::uint64_t cycles, Hertz frequency);
// The first whole cycle that starts at or after t: ceil(t * f / 10^12).
std::uint64_t cycles_until(Picoseconds t, Hertz frequency);

// "12345" for any 128-bit integer, and its decimal fraction: decimal(12345, 3) = "12.345" (trailing
// zeros kept).
std::string to_string(Int128 value);
std::string decimal(Int128 value, int fraction_digits);

// Reads "3.48 pJ", "909 pJ", "1.0 GHz", "64 KiB", "3900 ns". `what` names the value in the message.
// Throws Error (usage) when the unit is missing or wrong, or when the value is finer than one
// attojoule / one hertz / one picosecond / one byte.
Energy parse_energy(std::string_view text, std::string_view what);     // aJ fJ pJ nJ uJ mJ J
Hertz parse_frequency(std::string_view text, std::string_view what);   // Hz kHz MHz GHz
Bytes parse_bytes(std::string_view text, std::string_view what);       // B KiB MiB GiB
Picoseconds parse_time(std::string_view text, std::string_view what);  // ps ns us ms s

// Reads "128": digits only (no sign, no blank, no 0x), at most `most`. Throws Error (usage).
std::uint64_t parse_count(std::string_view text, std::string_view what,
                          std::uint64_t most = ~std::uint64_t{0});

// Value and unit given apart, as in a table row ("0.38", "pJ").
Energy energy_from(std::string_view number, std::string_view unit, std::string_view what);

}  // namespace stoat
