// Shipped DRAM standards, where their numbers come from, and the sets that are refused.
#include "models/dram/standard.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/data_path.h"
#include "models/error.h"
#include "models/table.h"

namespace stoat {
namespace {

const char* const kShipped[] = {
    "hbm3_5200",   "hbm3_6400",    "hbm2_aligned", "hbm2_aligned_norefresh",
    "hbm4_8000",   "gddr6_14000",  "ddr5_4800",    "ddr5_6400",
    "lpddr5_6400", "lpddr5x_7500", "lpddr5x_8533"};

std::string shipped_text(const std::string& name) {
  std::ifstream file(data_path("dram/" + name + ".csv"));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The message of reading `text` as a standard; empty when it is accepted.
std::string refusal(const std::string& text) {
  const std::string path =
      testing::TempDir() + "/" + std::to_string(getpid()) + "_stoat_standard.csv";
  std::ofstream(path) << text;
  std::string message;
  try {
    read_dram_standard(path);
  } catch (const Error& error) {
    message = error.what();
    EXPECT_TRUE(error.code() == ExitCode::kUsage || error.code() == ExitCode::kDamaged);
    EXPECT_NE(message.find("stoat_standard.csv"), std::string::npos) << message;
  }
  std::filesystem::remove(path);
  return message;
}

// The shipped text with one row's value (or the whole row) changed.
std::string with_row(const std::string& name, const std::string& row) {
  std::istringstream lines(shipped_text("hbm3_5200"));
  std::string text;
  bool found = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name + ",", 0) == 0) {
      found = true;
      if (!row.empty()) text += row + "\n";
    } else {
      text += line + "\n";
    }
  }
  EXPECT_TRUE(found) << name;
  return text;
}

TEST(DramStandard, ShippedSetsAreReadAndEachRowHasASource) {
  for (const char* name : kShipped) {
    const DramStandard standard = read_dram_standard(name);
    EXPECT_EQ(standard.name, name);
    EXPECT_EQ(standard.hash.size(), 32U);
    const NamedValues values = NamedValues::read(standard.source);
    for (const std::string& row : values.names()) EXPECT_GT(values.source(row).size(), 10U) << row;
  }
}

TEST(DramStandard, PeaksAreExact) {
  EXPECT_EQ(read_dram_standard("hbm3_5200").peak_bytes_per_second(), 20'800'000'000U);
  EXPECT_EQ(read_dram_standard("hbm3_5200").stack_peak_bytes_per_second(), 665'600'000'000U);
  EXPECT_EQ(read_dram_standard("hbm3_6400").stack_peak_bytes_per_second(), 819'200'000'000U);
  EXPECT_EQ(read_dram_standard("hbm2_aligned").stack_peak_bytes_per_second(), 256'000'000'000U);
  EXPECT_EQ(read_dram_standard("hbm4_8000").stack_peak_bytes_per_second(), 2'048'000'000'000U);
  EXPECT_EQ(read_dram_standard("gddr6_14000").peak_bytes_per_second(), 28'000'000'000U);
  EXPECT_EQ(read_dram_standard("ddr5_4800").peak_bytes_per_second(), 19'200'000'000U);
  EXPECT_EQ(read_dram_standard("ddr5_6400").peak_bytes_per_second(), 25'600'000'000U);
  EXPECT_EQ(read_dram_standard("lpddr5_6400").peak_bytes_per_second(), 12'800'000'000U);
  EXPECT_EQ(read_dram_standard("lpddr5x_7500").peak_bytes_per_second(), 15'000'000'000U);
  EXPECT_EQ(read_dram_standard("lpddr5x_8533").peak_bytes_per_second(), 17'066'000'000U);
}

TEST(DramStandard, Hbm3OrganisationIsThatOfTheDesign) {
  const DramStandard s = read_dram_standard("hbm3_5200");
  EXPECT_EQ(s.pseudo_channels_total(), 32U);
  EXPECT_EQ(s.banks(), 32U);
  EXPECT_EQ(s.stack_ids, 2U);
  EXPECT_EQ(s.row_size, Bytes(1024));
  EXPECT_EQ(s.access_size, Bytes(32));
  EXPECT_EQ(s.capacity(), Bytes(std::uint64_t{512} << 20));
  EXPECT_EQ(s.activate_bus_cycles, 3U) << "1.5 cycles";
}

// hbm3_5200 = hbm3_6400 in nanoseconds, rounded up to the slower clock.
TEST(DramStandard, Hbm3At5200KeepsTheNanosecondsOf6400) {
  const DramStandard slow = read_dram_standard("hbm3_5200"), fast = read_dram_standard("hbm3_6400");
  std::uint32_t DramStandard::*const members[] = {&DramStandard::read_latency,
                                                  &DramStandard::write_latency,
                                                  &DramStandard::rcd_read,
                                                  &DramStandard::rcd_write,
                                                  &DramStandard::rp,
                                                  &DramStandard::ras,
                                                  &DramStandard::rc,
                                                  &DramStandard::rrd_short,
                                                  &DramStandard::rrd_long,
                                                  &DramStandard::faw,
                                                  &DramStandard::ccd_long,
                                                  &DramStandard::ccd_stack,
                                                  &DramStandard::rtp,
                                                  &DramStandard::wr,
                                                  &DramStandard::wtr_short,
                                                  &DramStandard::wtr_long,
                                                  &DramStandard::rtw,
                                                  &DramStandard::refresh_interval,
                                                  &DramStandard::refresh_cycles};
  for (auto member : members) EXPECT_EQ(slow.*member, (fast.*member * 13 + 15) / 16);
  EXPECT_EQ(slow.ccd_short, slow.burst_cycles);
}

// lpddr5x = lpddr5_6400 in nanoseconds, rounded up to its faster clock.
TEST(DramStandard, Lpddr5xKeepsTheNanosecondsOfLpddr5) {
  const DramStandard base = read_dram_standard("lpddr5_6400");
  std::uint32_t DramStandard::*const members[] = {&DramStandard::read_latency,
                                                  &DramStandard::write_latency,
                                                  &DramStandard::rcd_read,
                                                  &DramStandard::rcd_write,
                                                  &DramStandard::rp,
                                                  &DramStandard::ras,
                                                  &DramStandard::rrd_short,
                                                  &DramStandard::rrd_long,
                                                  &DramStandard::faw,
                                                  &DramStandard::rtp,
                                                  &DramStandard::wr,
                                                  &DramStandard::wtr_short,
                                                  &DramStandard::wtr_long,
                                                  &DramStandard::refresh_interval,
                                                  &DramStandard::refresh_cycles,
                                                  &DramStandard::refresh_bank_cycles,
                                                  &DramStandard::refresh_bank_spacing};
  for (const char* name : {"lpddr5x_7500", "lpddr5x_8533"}) {
    const DramStandard fast = read_dram_standard(name);
    for (auto member : members) {
      const Uint128 cycles = Uint128{base.*member} * fast.command_clock.count();
      const Uint128 clock = base.command_clock.count();
      EXPECT_EQ(fast.*member, static_cast<std::uint32_t>((cycles + clock - 1) / clock)) << name;
    }
    EXPECT_GE(fast.rc, fast.ras + fast.rp);
  }
}

TEST(DramStandard, ContradictionsAreNamed) {
  struct Case {
    const char* row;
    const char* changed;
    const char* part;
  };
  const Case cases[] = {
      {"rc", "rc,58,tCK,test", "tRC 58 < tRAS 37 + tRP 22"},
      {"faw", "faw,3,tCK,test", "tFAW 3 < tRRD_S 4"},
      {"rrd_long", "rrd_long,3,tCK,test", "tRRD_L 3 < tRRD_S 4"},
      {"ras", "ras,20,tCK,test", "tRAS 20 < tRCD 26"},
      {"ccd_short", "ccd_short,1,tCK,test", "tCCD_S 1 < burst of 2"},
      {"ccd_long", "ccd_long,1,tCK,test", "tCCD_L 1 < tCCD_S 2"},
      {"ccd_stack", "ccd_stack,1,tCK,test", "tCCD_R 1 < tCCD_S 2"},
      {"wtr_long", "wtr_long,5,tCK,test", "tWTR_L 5 < tWTR_S 6"},
      {"rtw", "rtw,9,tCK,test", "tRTW 9"},
      {"refresh_cycles", "refresh_cycles,0,tCK,test", "tREFI 5070, tRFC 0"},
      {"refresh_interval", "refresh_interval,500,tCK,test", "tREFI 500 <= tRFC 455 + tRC"},
      {"row_size", "row_size,1000,B,test", "row_size = 1000"},
      {"row_size", "row_size,16,B,test", "row size a multiple of the burst"},
      {"banks_per_group", "banks_per_group,0,-,test", "banks_per_group = 0"},
      {"bank_groups", "bank_groups,3,-,test", "bank_groups = 3"},
      {"channels", "channels,0,-,test", "channels = 0"},
      {"burst_cycles", "burst_cycles,0,tCK,test", "burst_cycles = 0"},
      {"command_clock", "command_clock,0,GHz,test", "command_clock = 0"},
      {"activate_bus_cycles", "activate_bus_cycles,9,tCK,test", "ACT longer than tRRD_S"},
      {"activate_bus_cycles", "activate_bus_cycles,1.25,tCK,test", "half a cycle"},
      {"activate_bus_cycles", "activate_bus_cycles,0,tCK,test", "activate_bus_cycles = 0"},
      {"column_bus_cycles", "column_bus_cycles,0,tCK,test", "column_bus_cycles = 0"},
      {"column_bus_cycles", "column_bus_cycles,2.5,tCK,test", "RD longer than tCCD_S"},
      {"rcd_write", "rcd_write,40,tCK,test", "tRAS 37 < tRCDWR 40"},
      {"ccd_write_long", "ccd_write_long,3,tCK,test", "tCCD_L_WR 3 < tCCD_L 4"},
      {"command_buses", "command_buses,3,-,test", "command_buses = 3"},
      {"masked_write", "masked_write,2,-,test", "masked_write = 2"},
      {"stack_ids", "stack_ids,8,-,test", "128 banks"},
      {"refresh_bank_set", "refresh_bank_set,3,-,test", "refresh_bank_set = 3 of 32"},
      {"refresh_bank_cycles", "refresh_bank_cycles,500,tCK,test", "tRFC 455 < tRFCpb 500"},
      {"refresh_bank_spacing", "refresh_bank_spacing,200,tCK,test", "= 158 <= spacing 200"},
      {"refresh_bank_activate", "refresh_bank_activate,300,tCK,test",
       "tRFCpb 260 < refresh_bank_activate 300"}};
  for (const Case& c : cases) {
    const std::string message = refusal(with_row(c.row, c.changed));
    EXPECT_NE(message.find(c.part), std::string::npos) << c.changed << ": " << message;
  }
  EXPECT_EQ(refusal(with_row("rc", "rc,59,tCK,test")), "") << "the limit itself is allowed";
}

TEST(DramStandard, MissingUnknownAndMisspeltRowsAreNamed) {
  const auto expect = [](const std::string& text, const std::string& part) {
    const std::string message = refusal(text);
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  };
  expect(with_row("rcd_read", ""), "rcd_read");
  expect(with_row("faw", "fawn,20,tCK,test"), "did you mean 'faw'");
  expect(with_row("faw", "faw,20,ns,test"), "'ns'");
  expect(with_row("faw", "faw,-20,tCK,test"), "-20");
  expect(with_row("faw", "faw,nan,tCK,test"), "nan");
  expect(with_row("faw", "faw,20.5,tCK,test"), "20.5");
  expect(with_row("faw", "faw,20,tCK,"), "without a source");
  expect(with_row("faw", "faw,20,tCK,test\nfaw,20,tCK,test"), "stands twice");
  expect(with_row("faw", "faw,20,tCK"), "cells");
  expect("", "empty");
  EXPECT_THROW(read_dram_standard("hbm9_9000"), Error);
  EXPECT_THROW(read_dram_standard("/no/such/file.csv"), Error);
}

}  // namespace
}  // namespace stoat
