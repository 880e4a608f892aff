// Parses a field order and moves bits. See address_map.h.
#include "sim/memory/address_map.h"

#include <bit>
#include <charconv>
#include <sstream>

#include "models/error.h"

namespace stoat::sim {
namespace {

const std::vector<std::string> kNames = {"column", "bank_group", "bank", "stack", "row"};

std::uint32_t bits_of(std::uint64_t count) {
  return static_cast<std::uint32_t>(std::bit_width(count) - 1);
}

// The N of "column:N", in bytes.
std::uint64_t piece_bytes(const std::string& text, const std::string& order) {
  std::uint64_t bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (error != std::errc() || end != text.data() + text.size() || !std::has_single_bit(bytes)) {
    throw usage_error({"address_order"}, "'column:" + text + "' in '" + order + "'",
                      "column:N with N a power of two in bytes");
  }
  return bytes;
}

}  // namespace

AddressMap::AddressMap(const DramStandard& standard, const std::string& order) {
  const std::uint32_t burst_bits = bits_of(standard.access_size.count());
  std::array<std::uint32_t, kFields> left = {
      bits_of(standard.row_size.count()) - burst_bits, bits_of(standard.bank_groups),
      bits_of(standard.banks_per_group), bits_of(standard.stack_ids),
      bits_of(standard.rows_per_bank)};
  std::array<std::uint32_t, kFields> used{};
  std::array<bool, kFields> complete{};
  total_bits_ = burst_bits;
  bool only_columns = true;
  std::istringstream words(order);
  for (std::string word; words >> word;) {
    const std::size_t colon = word.find(':');
    const std::string name = word.substr(0, colon);
    std::size_t field = 0;
    while (field < kNames.size() && kNames[field] != name) ++field;
    if (field == kNames.size()) {
      throw usage_error({"address_order"}, "'" + word + "' in '" + order + "'",
                        "column[:BYTES] bank_group bank stack row",
                        nearest_name_hint(name, kNames));
    }
    if (complete[field]) {
      throw usage_error({"address_order"}, "'" + name + "' stands twice in '" + order + "'",
                        "each field once (a column may be cut: column:256 ... column)");
    }
    std::uint32_t bits = left[field];
    if (colon != std::string::npos) {
      const std::uint64_t bytes = piece_bytes(word.substr(colon + 1), order);
      if (field != kColumn || bits_of(bytes) < burst_bits || bits_of(bytes) - burst_bits > bits) {
        throw usage_error({"address_order"}, "'" + word + "' in '" + order + "'",
                          "column:BYTES, at least one burst and at most the rest of the row");
      }
      bits = bits_of(bytes) - burst_bits;
      complete[field] = bits == left[field];
    } else {
      complete[field] = true;
    }
    pieces_.push_back(
        {static_cast<Field>(field), total_bits_, used[field], (std::uint64_t{1} << bits) - 1});
    only_columns = only_columns && (field == kColumn || bits == 0);
    total_bits_ += bits;
    used[field] += bits;
    left[field] -= bits;
    if (only_columns) contiguous_bits_ = total_bits_;
  }
  for (std::size_t field = 0; field < kNames.size(); ++field) {
    if (left[field] > 0) {
      throw usage_error({"address_order"}, "'" + kNames[field] + "' is missing in '" + order + "'",
                        "column[:BYTES] bank_group bank stack row");
    }
  }
  if (contiguous_bits_ == 0) contiguous_bits_ = burst_bits;
}

BankAddress AddressMap::decode(std::uint64_t address) const {
  std::array<std::uint32_t, kFields> value{};
  for (const Piece& piece : pieces_) {
    value[piece.field] |= static_cast<std::uint32_t>((address >> piece.shift) & piece.mask)
                          << piece.field_shift;
  }
  return {value[kStack], value[kBankGroup], value[kBank], value[kRow], value[kColumn]};
}

std::uint64_t AddressMap::encode(const BankAddress& where) const {
  const std::array<std::uint64_t, kFields> value = {where.column, where.bank_group, where.bank,
                                                    where.stack, where.row};
  std::uint64_t address = 0;
  for (const Piece& piece : pieces_) {
    address |= ((value[piece.field] >> piece.field_shift) & piece.mask) << piece.shift;
  }
  return address;
}

}  // namespace stoat::sim
