// Where a byte lies: (channel, pseudo-channel,) stack ID, bank group, bank, row, column. A
// bijection, checked when it is made.
//
// The order of the fields is text, least significant first, e.g.
//   "column:256 bank_group column bank stack row"
// = 256 bytes of a row, then the next bank group, then the rest of the row, then banks, stack IDs,
// rows. "bank_group^row" flips the bank group by the low bits of the row (hashing), "bank^row/4" by
// the row without its two lowest bits. A map of a whole stack also orders channel and
// pseudo_channel: "column:128 pseudo_channel column:256 channel ..." splits 256 bytes over two.
// A sweep over maps changes text and nothing else.
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

struct StackAddress {
  std::uint32_t channel = 0, pseudo_channel = 0;
  BankAddress bank;
  friend bool operator==(const StackAddress&, const StackAddress&) = default;
};

class AddressMap {
 public:
  enum class Scope { kPseudoChannel, kStack };

  // Throws Error (usage) for an unknown, missing or repeated field, a column piece that is not a
  // power-of-two number of bursts or exceeds the row, and a map that is no bijection.
  AddressMap(const DramStandard& standard, const std::string& order,
             Scope scope = Scope::kPseudoChannel);
  explicit AddressMap(const DramStandard& standard)
      : AddressMap(standard, standard.address_order) {}

  BankAddress decode(std::uint64_t address) const { return decode_stack(address).bank; }
  StackAddress decode_stack(std::uint64_t address) const;  // the burst offset is dropped
  std::uint64_t encode(const BankAddress& where) const { return encode_stack({0, 0, where}); }
  std::uint64_t encode_stack(const StackAddress& where) const;  // of the first byte of the burst
  Bytes capacity() const { return Bytes(std::uint64_t{1} << total_bits_); }
  // So many aligned bytes always lie side by side in one row.
  Bytes contiguous() const { return Bytes(std::uint64_t{1} << contiguous_bits_); }

 private:
  enum Field : std::uint8_t {
    kColumn,
    kBankGroup,
    kBank,
    kStack,
    kRow,
    kPseudoChannel,
    kChannel,
    kFields
  };
  struct Piece {
    Field field = kColumn;
    std::uint32_t shift = 0;        // in the address
    std::uint32_t field_shift = 0;  // in the field
    std::uint64_t mask = 0;         // of the piece, unshifted
  };
  struct Hash {  // target ^= (source >> shift), as many bits as the target has
    Field target = kColumn, source = kColumn;
    std::uint32_t shift = 0;
    std::uint32_t mask = 0;
  };
  using Values = std::array<std::uint32_t, kFields>;
  class Parser;

  Values values_of(std::uint64_t address) const;
  std::uint64_t plain_address_of(const Values& values) const;
  void invert(const std::string& order);

  std::array<std::uint32_t, kFields> bits_{};
  std::vector<Piece> pieces_;
  std::vector<Hash> hashes_;
  std::vector<std::uint64_t> inverse_;  // [bit of the plain address] what it adds to the address
  std::uint32_t burst_bits_ = 0, total_bits_ = 0, contiguous_bits_ = 0;
};

}  // namespace stoat::sim
