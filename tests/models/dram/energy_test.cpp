// Prices of DRAM commands: from tables and from currents, boundaries, and what is refused.
#include "models/dram/energy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "models/error.h"

namespace stoat {
namespace {

double picojoules(const DramPrices& prices, DramEvent event,
                  EnergyBoundary layer = EnergyBoundary::kDie) {
  return static_cast<double>(prices.price(event, layer).value().count()) * 1e-6;
}

std::string refusal(const std::string& text) {
  const std::string path = testing::TempDir() + "/" + std::to_string(getpid()) + "_dram_prices.csv";
  std::ofstream(path) << text;
  std::string message;
  try {
    DramPrices::read(path);
  } catch (const Error& error) {
    message = error.what();
  }
  std::filesystem::remove(path);
  return message;
}

// V06: 828 pJ an activation, 1.57 pJ a bit read.
TEST(DramEnergy, CurrentsOfDramsim3GiveItsEnergies) {
  const DramPrices prices = DramPrices::read("hbm2_dramsim3");
  EXPECT_NEAR(picojoules(prices, DramEvent::kActivate), 828, 0.01 * 828);
  EXPECT_NEAR(picojoules(prices, DramEvent::kReadBit), 1.57, 0.01 * 1.57);
  EXPECT_DOUBLE_EQ(picojoules(prices, DramEvent::kActiveStandbyNs), 55 * 1.2 / 2);
  EXPECT_DOUBLE_EQ(picojoules(prices, DramEvent::kPrechargeDownNs), 28 * 1.2 / 2);
  EXPECT_FALSE(prices.price(DramEvent::kReadBit, EnergyBoundary::kIo)) << "it has no I/O term";
}

// The figures that the reference derives from the same currents.
TEST(DramEnergy, DatasheetCurrentsGiveTheDerivedFigures) {
  const DramPrices lpddr = DramPrices::read("lpddr5x_micron");
  EXPECT_NEAR(picojoules(lpddr, DramEvent::kReadBit), 3.06, 0.01 * 3.06);
  EXPECT_NEAR(picojoules(lpddr, DramEvent::kReadBit, EnergyBoundary::kIo), 0.47, 0.01 * 0.47);
  EXPECT_NEAR(picojoules(DramPrices::read("gddr6_samsung"), DramEvent::kReadBit), 2.29, 0.0229);
  EXPECT_NEAR(picojoules(DramPrices::read("ddr5_4800b"), DramEvent::kReadBit), 6.7, 0.067);
  EXPECT_NEAR(picojoules(DramPrices::read("hbm2_measured"), DramEvent::kReadBit), 5.16, 0.0516);
}

TEST(DramEnergy, PartsAddUpWithinEachBoundary) {
  const DramPrices prices = DramPrices::read("hbm3_attacc");
  DramActivity activity;
  activity.at(DramEvent::kActivate) = 3;
  activity.at(DramEvent::kReadBit) = 8192 * 3;
  const DramEnergy die = price_dram(activity, prices, EnergyBoundary::kDie);
  const DramEnergy io = price_dram(activity, prices, EnergyBoundary::kIo);
  const DramEnergy system = price_dram(activity, prices, EnergyBoundary::kSystem);
  EXPECT_EQ(die.of(DramEvent::kActivate), Energy(3 * Int128{909'000'000}));
  EXPECT_EQ(die.total(), Energy(3 * Int128{909'000'000} + Int128{8192 * 3} * 3'180'000));
  EXPECT_EQ(io.total() - die.total(), Energy(Int128{8192 * 3} * 300'000));
  EXPECT_EQ(system.total() - io.total(), Energy(Int128{8192 * 3} * 8'690'000));
}

TEST(DramEnergy, MissingPricesAreNamed) {
  DramActivity activity;
  activity.at(DramEvent::kActivate) = 1;
  activity.at(DramEvent::kRefresh) = 1;
  try {
    price_dram(activity, DramPrices::read("ddr5_4800b"), EnergyBoundary::kIo);
    FAIL() << "priced without prices";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_NE(message.find("activate, refresh"), std::string::npos) << message;
    EXPECT_NE(message.find("boundary io"), std::string::npos) << message;
  }
  activity = {};
  activity.at(DramEvent::kReadBit) = 1;
  EXPECT_NO_THROW(price_dram(activity, DramPrices::read("ddr5_4800b"), EnergyBoundary::kDie));
}

TEST(DramEnergy, TablesThatContradictThemselvesAreRefused) {
  const std::string head = "event,boundary,value,unit,source\n";
  const auto expect = [](const std::string& text, const std::string& part) {
    const std::string message = refusal(text);
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  };
  EXPECT_EQ(refusal(head + "activate,die,909,pJ,test\n"), "");
  expect(head + "activates,die,909,pJ,test\n", "did you mean 'activate'");
  expect(head + "activate,dye,909,pJ,test\n", "did you mean 'die'");
  expect(head + "activate,die,909,pJ,\n", "without a source");
  expect(head + "activate,die,909,pJ,test\nactivate,die,909,pJ,test\n", "stands twice");
  expect(head + "activate,die,-1,pJ,test\n", "-1");
  expect(head + "activate,die,1e-9,pJ,test\n", "1e-9");
  const std::string currents =
      "name,value,unit,source\nvdd,1.1,V,t\nrate,38.4,Gb/s,t\nidd2n,92,mA,t\nidd3n,142,mA,t\n"
      "t_rc,46.25,ns,t\nt_ras,32,ns,t\n";
  EXPECT_EQ(refusal(currents), "");
  expect(currents + "idd0,103,mA,t\n", "activate would cost -");
  expect(currents + "idd9,103,mA,t\n", "idd9");
  expect(currents + "idd4r,100,mA,t\n", "read_bit would cost -");
}

}  // namespace
}  // namespace stoat
