// How the fields of a design point are read and written back: words, counts, sizes, times. Used by
// design_point.cpp and design_memory.cpp only.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/error.h"
#include "models/units.h"
#include "sim/design_point.h"
#include "sim/design_schema.h"

namespace stoat::sim {

template <class E>
struct Word {
  std::string_view name;
  E value;
};
template <class E, std::size_t N>
std::string_view word_of(const Word<E> (&words)[N], E value) {
  for (const auto& word : words) {
    if (word.value == value) return word.name;
  }
  throw Bug("a design point holds an unknown word");
}

template <class E, std::size_t N>
E value_of(const Word<E> (&words)[N], const std::string& text, const DesignField& field,
           const Place& place) {
  std::vector<std::string> known;
  for (const auto& word : words) {
    if (word.name == text) return word.value;
    known.emplace_back(word.name);
  }
  throw usage_error(place, std::string(field.path) + " is '" + text + "'", field.expected,
                    nearest_name_hint(text, known));
}

[[noreturn]] inline void refuse(const std::string& text, const DesignField& field,
                                const Place& place, const std::string& remedy = {}) {
  throw usage_error(place, std::string(field.path) + " is '" + text + "'", field.expected, remedy);
}

inline std::uint32_t whole_number(const std::string& text, std::uint32_t low, std::uint32_t high,
                                  const DesignField& field, const Place& place) {
  std::uint32_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = end == text.data() + text.size() && !text.empty();
  if (!number || status == std::errc::invalid_argument)
    refuse(text, field, place, "digits only, without unit or sign");
  if (status != std::errc{} || value > high)
    refuse(text, field, place, "the largest is " + std::to_string(high));
  if (value < low) refuse(text, field, place, "the smallest is " + std::to_string(low));
  return value;
}

// Parsers of models/units.h know neither the place nor the range: both stand here.
template <class Parse>
auto with_unit(Parse parse, const char* units, const std::string& text, const DesignField& field,
               const Place& place) {
  try {
    return parse(text, field.path);
  } catch (const Error&) {
    refuse(text, field, place, units);
  }
}
inline constexpr const char* kByteUnits = "units: B, KiB, MiB, GiB; whole bytes";
inline constexpr const char* kFrequencyUnits = "units: Hz, kHz, MHz, GHz; whole hertz";
inline constexpr const char* kTimeUnits = "units: ps, ns, us, ms, s; whole picoseconds";

inline Bytes size_of(const std::string& text, std::uint64_t low, std::uint64_t high,
                     const DesignField& field, const Place& place) {
  const Bytes value = with_unit(parse_bytes, kByteUnits, text, field, place);
  if (value.count() < low || value.count() > high) refuse(text, field, place);
  return value;
}

using Text = const std::string&;
using Self = const DesignField&;
using At = const Place&;

// One of `words` ("a, b or c" in messages).
template <auto Member, const auto& Words>
DesignField word_field(const char* path, const char* expected) {
  return {path,
          [](DesignPoint& p, Text text, Self self, At at) {
            p.*Member = value_of(Words, text, self, at);
          },
          [](const DesignPoint& p) { return std::string(word_of(Words, p.*Member)); }, expected};
}

template <auto Member, std::uint32_t Low = 1, std::uint32_t High = 65536>
DesignField count_field(const char* path, const char* expected = "a whole number from 1 to 65536") {
  return {path,
          [](DesignPoint& p, Text text, Self self, At at) {
            p.*Member = whole_number(text, Low, High, self, at);
          },
          [](const DesignPoint& p) { return std::to_string(p.*Member); }, expected};
}

template <auto Member, std::uint64_t Low, std::uint64_t High>
DesignField size_field(const char* path, const char* expected) {
  return {path,
          [](DesignPoint& p, Text text, Self self, At at) {
            p.*Member = size_of(text, Low, High, self, at);
          },
          [](const DesignPoint& p) { return std::to_string((p.*Member).count()) + " B"; },
          expected};
}

inline constexpr std::uint64_t kMillisecond = 1000000000ULL;  // in picoseconds

template <auto Member>
DesignField time_field(const char* path, const char* expected) {
  return {path,
          [](DesignPoint& p, Text text, Self self, At at) {
            p.*Member = with_unit(parse_time, kTimeUnits, text, self, at);
            if ((p.*Member).count() > kMillisecond) refuse(text, self, at);
          },
          [](const DesignPoint& p) { return std::to_string((p.*Member).count()) + " ps"; },
          expected};
}

// memory.map, memory.model and memory.controller.* (design_memory.cpp).
void add_memory_fields(std::vector<DesignField>& fields);

}  // namespace stoat::sim
