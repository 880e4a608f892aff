// See accumulator.h. Additions are the host's IEEE fp32 (round to nearest even). bf16 rounds an
// fp32 sum again; the second rounding does no harm, since 24 bits are at least twice 8 and 2 more.
#include "models/arithmetic/accumulator.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "models/error.h"

namespace stoat {
namespace {

constexpr std::string_view kFormatNames[] = {"fp32", "bf16", "shared24", "int32"};
constexpr std::string_view kRepeatNames[] = {"adds", "shift_adds", "multiply"};
constexpr std::int64_t kShared24Limit = std::int64_t{1} << 23;

template <class E, std::size_t N>
E from_name(const std::string_view (&names)[N], std::string_view name, const char* what) {
  std::vector<std::string> known;
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) return static_cast<E>(i);
    known.emplace_back(names[i]);
  }
  throw usage_error({}, std::string("unknown ") + what + " '" + std::string(name) + "'",
                    std::string("one of the known ") + what + "s", nearest_name_hint(name, known));
}

// value * 2^shift in whole units, cut off towards zero as an aligner does that drops low bits.
std::int64_t in_units(double value, std::int32_t unit_exponent) {
  return static_cast<std::int64_t>(std::trunc(std::ldexp(value, -unit_exponent)));
}

float round_to_bf16(float value) { return to_float(to_bf16(value)); }

std::uint64_t additions(std::uint32_t count, Repeats repeats) {
  if (repeats == Repeats::kAdds) return count;
  return repeats == Repeats::kShiftAdds ? static_cast<std::uint64_t>(std::popcount(count)) : 1;
}

double scaled_by_budget(double sum, std::uint32_t budget) {
  if (std::has_single_bit(budget)) return sum / budget;
  return static_cast<double>(static_cast<float>(sum) * (1.0F / static_cast<float>(budget)));
}

}  // namespace

std::string_view accumulator_name(AccumulatorFormat format) {
  const auto index = static_cast<std::size_t>(format);
  STOAT_ENSURE(index < kAccumulatorFormats, "an accumulator format of the enumeration");
  return kFormatNames[index];
}

AccumulatorFormat accumulator_from_name(std::string_view name) {
  return from_name<AccumulatorFormat>(kFormatNames, name, "accumulator format");
}

std::uint32_t accumulator_bits(AccumulatorFormat format) {
  constexpr std::uint32_t kBits[] = {32, 16, 24, 32};
  return kBits[static_cast<std::size_t>(format)];
}

std::string_view repeats_name(Repeats value) {
  return kRepeatNames[static_cast<std::size_t>(value)];
}

Repeats repeats_from_name(std::string_view name) {
  return from_name<Repeats>(kRepeatNames, name, "way to treat repeated row");
}

SharedExponent shared_exponent(float largest, std::uint32_t budget) {
  STOAT_ENSURE(budget > 0, "a budget of at least one row");
  if (!std::isfinite(largest)) {
    throw damaged_error({}, "a value row holds NaN or infinity", "finite values");
  }
  if (largest == 0) return {};
  // budget * largest < 2^top.
  const std::int32_t top =
      std::ilogb(std::fabs(largest)) + 1 + static_cast<std::int32_t>(std::bit_width(budget - 1));
  return {top - 23};
}

void Accumulator::add(Bf16 value, std::uint32_t count) {
  STOAT_ENSURE(count > 0, "a selected row was drawn at least once");
  const float v = to_float(value);
  STOAT_ENSURE(std::isfinite(v), "values are finite");
  switch (repeats_) {
    case Repeats::kAdds:
      for (std::uint32_t i = 0; i < count; ++i) add_once(v, 0);
      return;
    case Repeats::kShiftAdds:
      for (std::int32_t bit = 0; count != 0; ++bit, count >>= 1U) {
        if ((count & 1U) != 0) add_once(v, bit);
      }
      return;
    case Repeats::kMultiply:  // at most 16 + 8 bits: exact in fp32
      add_once(v * static_cast<float>(count), 0);
      return;
  }
}

void Accumulator::add_once(float value, std::int32_t shift) {
  const float term = std::ldexp(value, shift);
  switch (format_) {
    case AccumulatorFormat::kFp32:
      sum_ += term;
      return;
    case AccumulatorFormat::kBf16:  // a product n * v is rounded before it is added
      sum_ = round_to_bf16(sum_ + round_to_bf16(term));
      return;
    case AccumulatorFormat::kShared24:
      integer_ += in_units(static_cast<double>(term), shared_.unit_exponent);
      STOAT_ENSURE(integer_ >= -kShared24Limit && integer_ < kShared24Limit,
                   "a 24-bit accumulator holds the sum");
      return;
    case AccumulatorFormat::kInt32:
      STOAT_ENSURE(term == std::trunc(term) && std::fabs(value) <= 128 * 65535.0F,
                   "an int32 accumulator adds whole numbers");
      integer_ += static_cast<std::int64_t>(term);
      STOAT_ENSURE(integer_ >= std::numeric_limits<std::int32_t>::min() &&
                       integer_ <= std::numeric_limits<std::int32_t>::max(),
                   "a 32-bit accumulator holds the sum");
      return;
  }
}

double Accumulator::value() const {
  if (format_ == AccumulatorFormat::kShared24) {
    return std::ldexp(static_cast<double>(integer_), shared_.unit_exponent);
  }
  return format_ == AccumulatorFormat::kInt32 ? static_cast<double>(integer_)
                                              : static_cast<double>(sum_);
}

std::vector<double> gather_counted(std::span<const CountedRow> rows, std::uint32_t head_dim,
                                   std::uint32_t budget, AccumulatorFormat format, Repeats repeats,
                                   SharedExponent shared) {
  STOAT_ENSURE(budget > 0, "a budget of at least one row");
  std::vector<double> out(head_dim);
  for (std::uint32_t d = 0; d < head_dim; ++d) {
    Accumulator lane(format, repeats, shared);
    for (const CountedRow& row : rows) lane.add(row.values[d], row.count);
    out[d] = scaled_by_budget(lane.value(), budget);
  }
  return out;
}

std::vector<double> gather_weighted(std::span<const CountedRow> rows,
                                    std::span<const double> weights, std::uint32_t head_dim,
                                    AccumulatorFormat format, SharedExponent shared) {
  STOAT_ENSURE(rows.size() == weights.size(), "one weight a row");
  STOAT_ENSURE(format != AccumulatorFormat::kInt32, "an int32 accumulator takes no weights");
  std::vector<double> out(head_dim);
  for (std::uint32_t d = 0; d < head_dim; ++d) {
    float sum = 0;
    std::int64_t units = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float w = round_to_bf16(static_cast<float>(weights[i]));
      const float product = w * to_float(rows[i].values[d]);  // 8 x 8 bits: exact
      if (format == AccumulatorFormat::kShared24) {
        units += in_units(static_cast<double>(product), shared.unit_exponent);
      } else {
        sum += product;
        if (format == AccumulatorFormat::kBf16) sum = round_to_bf16(sum);
      }
    }
    out[d] = format == AccumulatorFormat::kShared24
                 ? std::ldexp(static_cast<double>(units), shared.unit_exponent)
                 : static_cast<double>(sum);
  }
  return out;
}

double gather_error_bound(std::span<const CountedRow> rows, std::uint32_t head_dim,
                          std::uint32_t budget, AccumulatorFormat format, Repeats repeats,
                          SharedExponent shared) {
  std::uint64_t added = 0;
  double largest_sum = 0;  // of the magnitudes: no partial sum exceeds it
  for (const CountedRow& row : rows) added += additions(row.count, repeats);
  for (std::uint32_t d = 0; d < head_dim; ++d) {
    double magnitudes = 0;
    for (const CountedRow& row : rows) {
      magnitudes += row.count * static_cast<double>(std::fabs(to_float(row.values[d])));
    }
    largest_sum = std::max(largest_sum, magnitudes);
  }
  const auto count = static_cast<double>(added);
  const double final_product = std::has_single_bit(budget) ? 0 : 0x1p-22 * largest_sum;
  // Each rounding is at most half a unit in the last place of a partial sum that has itself grown
  // by the roundings before it.
  const auto rounded = [&](double half_ulp, double roundings) {
    return roundings * half_ulp * largest_sum * std::pow(1 + half_ulp, roundings);
  };
  double bound = 0;
  if (format == AccumulatorFormat::kFp32) bound = rounded(0x1p-24, count);
  if (format == AccumulatorFormat::kBf16) bound = rounded(0x1p-9 + 0x1p-24, 2 * count);
  if (format == AccumulatorFormat::kShared24) bound = count * std::ldexp(1.0, shared.unit_exponent);
  return (bound + final_product) / budget;
}

}  // namespace stoat
