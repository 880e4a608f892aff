// Accumulators of value rows, bit by bit as a lane holds them: fp32, bf16, a 24-bit integer under a
// shared exponent, and int32 for int8 caches.
//
// Sampled rows all have the weight 1/S, so a gather is a sum of whole multiples of bf16 rows and
// one scaling at the end. Not a fast kernel, and no energy in it: what each format costs on real
// values. The judge is the same sum in double.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/bf16.h"

namespace stoat {

enum class AccumulatorFormat : std::uint8_t { kFp32, kBf16, kShared24, kInt32 };
inline constexpr std::size_t kAccumulatorFormats = 4;
std::string_view accumulator_name(AccumulatorFormat format);  // fp32 bf16 shared24 int32
// Throws Error naming the nearest format.
AccumulatorFormat accumulator_from_name(std::string_view name);
std::uint32_t accumulator_bits(AccumulatorFormat format);  // 32 16 24 32

// A row drawn n times: n additions, one (shifted) addition a set bit of n, or one product n * v.
enum class Repeats : std::uint8_t { kAdds, kShiftAdds, kMultiply };
std::string_view repeats_name(Repeats value);  // adds shift_adds multiply
Repeats repeats_from_name(std::string_view name);

// The exponent that all elements of a head's 24-bit accumulators share. One unit of the accumulator
// is 2^unit_exponent: the smallest for which `budget` values of the largest magnitude cannot
// overflow 23 bits and a sign. A KV cache keeps the largest exponent as it appends rows.
struct SharedExponent {
  std::int32_t unit_exponent = 0;
  friend bool operator==(const SharedExponent&, const SharedExponent&) = default;
};
// `largest` >= every |value| that will be added. Throws Error for NaN or infinity, Bug for budget
// 0.
SharedExponent shared_exponent(float largest, std::uint32_t budget);

// One element's accumulator. Adds count * value in the order of calls.
class Accumulator {
 public:
  Accumulator(AccumulatorFormat format, Repeats repeats, SharedExponent shared = {})
      : format_(format), repeats_(repeats), shared_(shared) {}

  // value: finite. kInt32: value must be a whole number of int8. count >= 1.
  // Throws Bug when a 24-bit or 32-bit accumulator would overflow.
  void add(Bf16 value, std::uint32_t count = 1);
  // The sum as the lane holds it, exactly.
  double value() const;

 private:
  void add_once(float value, std::int32_t shift);  // value * 2^shift

  AccumulatorFormat format_;
  Repeats repeats_;
  SharedExponent shared_;
  float sum_ = 0;             // fp32, bf16 (always a bf16 number)
  std::int64_t integer_ = 0;  // shared24: in units; int32
};

// (1/S) sum_i count_i * v_i, each element in its own accumulator; the final 1/S is exact for S a
// power of two and one fp32 product otherwise. rows: [n, head_dim] bf16, row i at data + i *
// stride.
struct CountedRow {
  const Bf16* values = nullptr;  // [head_dim]
  std::uint32_t count = 0;
};
std::vector<double> gather_counted(std::span<const CountedRow> rows, std::uint32_t head_dim,
                                   std::uint32_t budget, AccumulatorFormat format, Repeats repeats,
                                   SharedExponent shared);

// sum_i w_i * v_i with bf16 weights and exact products, as a dense lane does it: fp32 and bf16
// round each sum, shared24 truncates each product to a unit.
std::vector<double> gather_weighted(std::span<const CountedRow> rows,
                                    std::span<const double> weights, std::uint32_t head_dim,
                                    AccumulatorFormat format, SharedExponent shared);

// How far any element of gather_counted can be from the sum in double: additions * one rounding of
// the largest partial sum (fp32: 2^-24, bf16: 2^-9 of it), or * one unit (shared24); 0 for int32.
double gather_error_bound(std::span<const CountedRow> rows, std::uint32_t head_dim,
                          std::uint32_t budget, AccumulatorFormat format, Repeats repeats,
                          SharedExponent shared);

}  // namespace stoat
