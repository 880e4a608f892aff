#include "sim/memory/address_map.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <tuple>

#include "models/error.h"

namespace stoat::sim {
namespace {

// A small device, so that every address can be tried.
DramStandard small() {
  DramStandard standard = read_dram_standard("hbm3_5200");
  standard.rows_per_bank = 8;
  return standard;
}

const char* const kOrders[] = {
    "column:256 bank_group column bank stack row", "column bank_group bank stack row",
    "bank_group column bank stack row", "row stack bank bank_group column",
    "column:64 stack column:128 bank row column bank_group"};

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
      {"", "missing"}};
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

}  // namespace
}  // namespace stoat::sim
