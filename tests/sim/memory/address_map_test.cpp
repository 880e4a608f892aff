#include "sim/memory/address_map.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "models/error.h"

namespace stoat::sim {
namespace {

// A small device, so that every address can be tried.
DramStandard small() {
  DramStandard standard = read_dram_standard("hbm3_5200");
  standard.rows_per_bank = 8;
  return standard;
}

const char* const kOrders[] = {"column:256 bank_group column bank stack row",
                               "column bank_group bank stack row",
                               "bank_group column bank stack row",
                               "row stack bank bank_group column",
                               "column:64 stack column:128 bank row column bank_group",
                               "column:256 bank_group^row column bank^row/4 stack row",
                               "column bank_group^bank bank^row stack^row row"};

TEST(AddressMap, IsABijectionForEveryOrder) {
  const DramStandard standard = small();
  for (const char* order : kOrders) {
    const AddressMap map(standard, order);
    ASSERT_EQ(map.capacity(), standard.capacity()) << order;
    std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>>
        seen;
    for (std::uint64_t address = 0; address < map.capacity().count(); address += 32) {
      const BankAddress w = map.decode(address);
      ASSERT_LT(w.stack, standard.stack_ids);
      ASSERT_LT(w.bank_group, standard.bank_groups);
      ASSERT_LT(w.bank, standard.banks_per_group);
      ASSERT_LT(w.row, standard.rows_per_bank);
      ASSERT_LT(w.column, 32U);
      ASSERT_EQ(map.encode(w), address) << order;
      seen.insert({w.stack, w.bank_group, w.bank, w.row, w.column});
    }
    EXPECT_EQ(seen.size(), map.capacity().count() / 32) << order;
  }
}

TEST(AddressMap, KeepsContiguousBytesInOneRow) {
  const DramStandard standard = small();
  for (const char* order : kOrders) {
    const AddressMap map(standard, order);
    const std::uint64_t piece = map.contiguous().count();
    for (std::uint64_t address = 0; address < map.capacity().count(); address += 32) {
      BankAddress start = map.decode(address / piece * piece);
      start.column += static_cast<std::uint32_t>(address % piece / 32);
      ASSERT_EQ(map.decode(address), start) << order << " at " << address;
    }
  }
}

TEST(AddressMap, DefaultKeepsAValueRowWholeAndChangesTheBankGroupBetweenThem) {
  const AddressMap map(read_dram_standard("hbm3_5200"));
  EXPECT_EQ(map.contiguous(), Bytes(256));
  EXPECT_EQ(map.decode(0), (BankAddress{0, 0, 0, 0, 0}));
  EXPECT_EQ(map.decode(224), (BankAddress{0, 0, 0, 0, 7}));
  EXPECT_EQ(map.decode(256), (BankAddress{0, 1, 0, 0, 0}));
  EXPECT_EQ(map.decode(1024), (BankAddress{0, 0, 0, 0, 8}));
  EXPECT_EQ(map.decode(4096), (BankAddress{0, 0, 1, 0, 0}));
  EXPECT_EQ(map.decode(4 * 4096), (BankAddress{1, 0, 0, 0, 0}));
  EXPECT_EQ(map.decode(8 * 4096), (BankAddress{0, 0, 0, 1, 0}));
}

TEST(AddressMap, RefusesOrdersThatAreNone) {
  const DramStandard standard = small();
  const std::pair<const char*, const char*> cases[] = {
      {"column bank_group bank stack rows", "rows"},
      {"column bank_group bank stack", "'row' is missing"},
      {"column bank_group bank stack row row", "stands twice"},
      {"column:256 bank_group bank stack row", "'column' is missing"},
      {"column:100 bank_group column bank stack row", "column:100"},
      {"column:16 bank_group column bank stack row", "column:16"},
      {"column:4096 bank_group bank stack row", "column:4096"},
      {"", "missing"},
      {"column bank_group^bank_group bank stack row", "two addresses in one place"},
      {"column bank_group^bank bank^bank_group stack row", "two addresses in one place"},
      {"column bank_group^rows bank stack row", "rows"},
      {"column bank_group^row/3 bank stack row", "power of two"},
      {"column^row bank_group bank stack row", "another field than the column"},
      {"column bank_group bank stack row channel", "'channel'"}};
  for (const auto& [order, part] : cases) {
    try {
      AddressMap map(standard, order);
      ADD_FAILURE() << "'" << order << "' was accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_EQ(error.code(), ExitCode::kUsage);
    }
  }
}

TEST(AddressMap, AHashMovesConflictsToOtherBanks) {
  const DramStandard standard = read_dram_standard("hbm3_5200");
  const AddressMap plain(standard),
      hashed(standard, "column:256 bank_group^row column bank^row/4 stack row");
  const std::uint64_t stride = plain.encode({0, 0, 0, 1, 0});  // the next row of the same bank
  std::set<std::pair<std::uint32_t, std::uint32_t>> banks;
  for (std::uint64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(plain.decode(i * stride).bank_group, 0U);
    const BankAddress w = hashed.decode(i * stride);
    EXPECT_EQ(w.row, i);
    banks.insert({w.bank_group, w.bank});
  }
  EXPECT_EQ(banks.size(), 16U);
  EXPECT_EQ(hashed.contiguous(), Bytes(256));
}

TEST(AddressMap, OfAWholeStackIsABijectionAndSplitsRowsOverPseudoChannels) {
  DramStandard standard = small();
  standard.rows_per_bank = 2;
  for (const char* order :
       {"column:256 channel pseudo_channel bank_group column bank stack row",
        "column:128 pseudo_channel column:256 channel^row bank_group bank stack row",
        "channel pseudo_channel bank_group column bank stack row"}) {
    const AddressMap map(standard, order, AddressMap::Scope::kStack);
    ASSERT_EQ(map.capacity().count(), standard.capacity().count() * 32);
    std::vector<bool> seen(map.capacity().count() / 32);
    for (std::uint64_t address = 0; address < map.capacity().count(); address += 32) {
      const StackAddress w = map.decode_stack(address);
      ASSERT_EQ(map.encode_stack(w), address) << order;
      const BankAddress& b = w.bank;
      const std::uint64_t place =
          ((((((w.channel * 2ULL + w.pseudo_channel) * 2 + b.stack) * 4 + b.bank_group) * 4 +
             b.bank) *
                2 +
            b.row) *
           32) +
          b.column;
      ASSERT_FALSE(seen.at(place)) << order;
      seen[place] = true;
    }
  }
  const AddressMap whole(standard,
                         "column:256 pseudo_channel channel bank_group column bank stack row",
                         AddressMap::Scope::kStack);
  const AddressMap split(standard,
                         "column:128 pseudo_channel column:256 channel bank_group bank stack row",
                         AddressMap::Scope::kStack);
  EXPECT_EQ(whole.decode_stack(0).pseudo_channel, whole.decode_stack(255).pseudo_channel);
  EXPECT_NE(split.decode_stack(0).pseudo_channel, split.decode_stack(255).pseudo_channel);
  EXPECT_EQ(split.decode_stack(0).bank.row, split.decode_stack(255).bank.row);
}

}  // namespace
}  // namespace stoat::sim
