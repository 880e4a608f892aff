// Where a byte of a pseudo-channel lies: stack ID, bank group, bank, row, column. A bijection.
//
// The order of the fields is text, least significant first, e.g.
//   "column:256 bank_group column bank stack row"
// = 256 bytes of a row, then the next bank group, then the rest of the row, then banks, stack IDs,
// rows. A sweep over field orders changes DramStandard::address_order and nothing else.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "models/dram/standard.h"
#include "models/units.h"

namespace stoat::sim {

struct BankAddress {
  std::uint32_t stack = 0;
  std::uint32_t bank_group = 0;  // within the stack ID
  std::uint32_t bank = 0;        // within the bank group
  std::uint32_t row = 0;
  std::uint32_t column = 0;  // in bursts from the start of the row
  friend bool operator==(const BankAddress&, const BankAddress&) = default;
};

class AddressMap {
 public:
  // Throws Error (usage) for an unknown, missing or repeated field, or a column piece that is not a
  // power-of-two number of bursts or exceeds the row.
  AddressMap(const DramStandard& standard, const std::string& order);
  explicit AddressMap(const DramStandard& standard)
      : AddressMap(standard, standard.address_order) {}

  BankAddress decode(std::uint64_t address) const;       // the burst offset is dropped
  std::uint64_t encode(const BankAddress& where) const;  // of the first byte of the burst
  Bytes capacity() const { return Bytes(std::uint64_t{1} << total_bits_); }
  // So many aligned bytes always lie side by side in one row.
  Bytes contiguous() const { return Bytes(std::uint64_t{1} << contiguous_bits_); }

 private:
  enum Field : std::uint8_t { kColumn, kBankGroup, kBank, kStack, kRow, kFields };
  struct Piece {
    Field field = kColumn;
    std::uint32_t shift = 0;        // in the address
    std::uint32_t field_shift = 0;  // in the field
    std::uint64_t mask = 0;         // of the piece, unshifted
  };
  std::vector<Piece> pieces_;
  std::uint32_t total_bits_ = 0;
  std::uint32_t contiguous_bits_ = 0;
};

}  // namespace stoat::sim
