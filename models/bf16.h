// bfloat16 as 16 raw bits: conversion to float is exact, from float rounds to nearest even (NaN
// stays NaN).
#pragma once

#include <bit>
#include <cstdint>

namespace stoat {

struct Bf16 {
  std::uint16_t bits = 0;
};
static_assert(sizeof(Bf16) == 2);

inline float to_float(Bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

inline Bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U)
    return Bf16{static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  const std::uint32_t rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
  return Bf16{static_cast<std::uint16_t>(rounded >> 16)};
}

}  // namespace stoat
