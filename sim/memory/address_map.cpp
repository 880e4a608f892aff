// Parses a field order and moves bits. See address_map.h.
//
// Every map is linear over single bits (pieces move them, hashes add them modulo 2), so it is a
// bijection exactly when its matrix can be inverted: that is how it is checked, and the inverse is
// what encodes.
#include "sim/memory/address_map.h"

#include <bit>
#include <charconv>
#include <sstream>

#include "models/error.h"

namespace stoat::sim {
namespace {

const std::vector<std::string> kNames = {"column", "bank_group",     "bank",   "stack",
                                         "row",    "pseudo_channel", "channel"};

std::uint32_t bits_of(std::uint64_t count) {
  return static_cast<std::uint32_t>(std::bit_width(count) - 1);
}

bool read_number(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

class AddressMap::Parser {
 public:
  Parser(const std::string& order, bool stack) : order_(order), stack_(stack) {}

  // "bank^row/4" -> field, hash; "column:256" -> field, bits.
  struct Word {
    Field field = kColumn;
    std::uint64_t bytes = 0;  // of a column piece; 0: the rest
    bool hashed = false;
    Hash hash;
  };

  Word read(const std::string& text) const {
    Word word;
    std::string name = text;
    const std::size_t hat = name.find('^');
    if (hat != std::string::npos) {
      word.hashed = true;
      std::string source = name.substr(hat + 1);
      const std::size_t slash = source.find('/');
      if (slash != std::string::npos) {
        std::uint64_t divisor = 0;
        if (!read_number(std::string_view(source).substr(slash + 1), divisor) ||
            !std::has_single_bit(divisor)) {
          throw wrong(text, "a power of two behind the /");
        }
        word.hash.shift = bits_of(divisor);
        source.resize(slash);
      }
      word.hash.source = field(source, text);
      name.resize(hat);
    }
    const std::size_t colon = name.find(':');
    if (colon != std::string::npos) {
      if (!read_number(std::string_view(name).substr(colon + 1), word.bytes) ||
          !std::has_single_bit(word.bytes)) {
        throw wrong(text, "column:N with N a power of two in bytes");
      }
      name.resize(colon);
    }
    word.field = word.hash.target = field(name, text);
    if (word.hashed && word.field == kColumn) {
      throw wrong(text, "a hash of another field than the column (bursts stay side by side)");
    }
    return word;
  }

  Error wrong(const std::string& text, const std::string& expected) const {
    return usage_error({"address_order"}, "'" + text + "' in '" + order_ + "'", expected);
  }
  std::string fields() const {
    return stack_ ? "column[:BYTES] bank_group bank stack row pseudo_channel channel"
                  : "column[:BYTES] bank_group bank stack row";
  }

 private:
  Field field(const std::string& name, const std::string& text) const {
    const std::size_t known = stack_ ? kNames.size() : std::size_t{kPseudoChannel};
    for (std::size_t i = 0; i < known; ++i) {
      if (kNames[i] == name) return static_cast<Field>(i);
    }
    throw usage_error(
        {"address_order"}, "'" + text + "' in '" + order_ + "'", fields(),
        nearest_name_hint(name,
                          {kNames.begin(), kNames.begin() + static_cast<std::ptrdiff_t>(known)}));
  }

  const std::string& order_;
  bool stack_;
};

AddressMap::AddressMap(const DramStandard& standard, const std::string& order, Scope scope) {
  const bool stack = scope == Scope::kStack;
  burst_bits_ = bits_of(standard.access_size.count());
  bits_ = {bits_of(standard.row_size.count()) - burst_bits_,
           bits_of(standard.bank_groups),
           bits_of(standard.banks_per_group),
           bits_of(standard.stack_ids),
           bits_of(standard.rows_per_bank),
           stack ? bits_of(standard.pseudo_channels) : 0,
           stack ? bits_of(standard.channels) : 0};
  if (stack &&
      (!std::has_single_bit(standard.channels) || !std::has_single_bit(standard.pseudo_channels))) {
    throw usage_error({"address_order"}, std::to_string(standard.channels) + " channels",
                      "a power of two in a map of the whole stack");
  }
  const Parser parser(order, stack);
  std::array<std::uint32_t, kFields> left = bits_;
  std::array<bool, kFields> complete{};
  total_bits_ = burst_bits_;
  bool only_columns = true;
  std::istringstream words(order);
  for (std::string text; words >> text;) {
    const Parser::Word word = parser.read(text);
    const Field field = word.field;
    if (complete[field]) {
      throw usage_error({"address_order"},
                        "'" + kNames[field] + "' stands twice in '" + order + "'",
                        "each field once (a column may be cut: column:256 ... column)");
    }
    std::uint32_t bits = left[field];
    if (word.bytes > 0) {
      if (field != kColumn || bits_of(word.bytes) < burst_bits_ ||
          bits_of(word.bytes) - burst_bits_ > bits) {
        throw parser.wrong(text,
                           "column:BYTES, at least one burst and at most the rest of the row");
      }
      bits = bits_of(word.bytes) - burst_bits_;
    }
    complete[field] = bits == left[field];
    pieces_.push_back(
        {field, total_bits_, bits_[field] - left[field], (std::uint64_t{1} << bits) - 1});
    if (word.hashed) {
      hashes_.push_back(word.hash);
      hashes_.back().mask = (std::uint32_t{1} << bits_[field]) - 1;
    }
    only_columns = only_columns && (field == kColumn || bits == 0);
    total_bits_ += bits;
    left[field] -= bits;
    if (only_columns) contiguous_bits_ = total_bits_;
  }
  for (std::size_t field = 0; field < kNames.size(); ++field) {
    if (left[field] > 0) {
      throw usage_error({"address_order"}, "'" + kNames[field] + "' is missing in '" + order + "'",
                        parser.fields());
    }
  }
  if (contiguous_bits_ == 0) contiguous_bits_ = burst_bits_;
  invert(order);
}

AddressMap::Values AddressMap::values_of(std::uint64_t address) const {
  Values plain{};
  for (const Piece& piece : pieces_) {
    plain[piece.field] |= static_cast<std::uint32_t>((address >> piece.shift) & piece.mask)
                          << piece.field_shift;
  }
  if (hashes_.empty()) return plain;
  Values hashed = plain;
  for (const Hash& hash : hashes_) {
    hashed[hash.target] ^= (plain[hash.source] >> hash.shift) & hash.mask;
  }
  return hashed;
}

// The address that a map without hashes gives to these values.
std::uint64_t AddressMap::plain_address_of(const Values& values) const {
  std::uint64_t address = 0;
  for (const Piece& piece : pieces_) {
    address |= ((std::uint64_t{values[piece.field]} >> piece.field_shift) & piece.mask)
               << piece.shift;
  }
  return address;
}

// Gauss-Jordan over bits: column i of the matrix is what address bit i becomes.
void AddressMap::invert(const std::string& order) {
  if (hashes_.empty()) return;
  const std::uint32_t n = total_bits_ - burst_bits_;
  std::vector<std::uint64_t> image(n);
  inverse_.resize(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    image[i] = plain_address_of(values_of(std::uint64_t{1} << (i + burst_bits_))) >> burst_bits_;
    inverse_[i] = std::uint64_t{1} << i;
  }
  for (std::uint32_t bit = 0; bit < n; ++bit) {
    std::uint32_t pivot = bit;
    while (pivot < n && (image[pivot] >> bit & 1) == 0) ++pivot;
    if (pivot == n) {
      throw usage_error({"address_order"}, "'" + order + "' puts two addresses in one place",
                        "a bijection: hash fields by others that are not hashed by them");
    }
    std::swap(image[bit], image[pivot]);
    std::swap(inverse_[bit], inverse_[pivot]);
    for (std::uint32_t other = 0; other < n; ++other) {
      if (other == bit || (image[other] >> bit & 1) == 0) continue;
      image[other] ^= image[bit];
      inverse_[other] ^= inverse_[bit];
    }
  }
}

StackAddress AddressMap::decode_stack(std::uint64_t address) const {
  const Values v = values_of(address);
  return {
      v[kChannel], v[kPseudoChannel], {v[kStack], v[kBankGroup], v[kBank], v[kRow], v[kColumn]}};
}

std::uint64_t AddressMap::encode_stack(const StackAddress& where) const {
  const BankAddress& b = where.bank;
  const std::uint64_t plain = plain_address_of(
      {b.column, b.bank_group, b.bank, b.stack, b.row, where.pseudo_channel, where.channel});
  if (hashes_.empty()) return plain;
  std::uint64_t address = 0;
  for (std::uint64_t left = plain >> burst_bits_; left != 0; left &= left - 1) {
    address ^= inverse_[static_cast<std::size_t>(std::countr_zero(left))];
  }
  return address << burst_bits_;
}

}  // namespace stoat::sim
