// Price lists: what they hold, what is refused, exact sums, and published ratios through pricing.
#include "models/energy/price_list.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <sstream>

#include "models/data_path.h"
#include "models/error.h"

namespace stoat {
namespace {

const char* const kShipped[] = {"jouppi_7nm_hbm3",
                                "hbm2_oconnor",
                                "horowitz_45nm",
                                "horowitz_45nm_fp32",
                                "bitnet_7nm",
                                "rtl_asap7",
                                "rtl_nangate45",
                                "jouppi_7nm_hbm3_logic_die",
                                "jouppi_7nm_hbm3_bank_group",
                                "jouppi_7nm_hbm3_bank"};

std::string shipped_text() {
  std::ifstream file(data_path("energy/jouppi_7nm_hbm3.csv"));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string without(const std::string& event) {
  std::istringstream lines(shipped_text());
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(event + ",", 0) != 0) text += line + "\n";
  }
  return text;
}

std::string refusal(const std::string& text) {
  const std::string path =
      testing::TempDir() + "/" + std::to_string(getpid()) + "_stoat_prices.csv";
  std::ofstream(path) << text;
  std::string message;
  try {
    PriceList::read(path);
  } catch (const Error& error) {
    message = error.what();
    EXPECT_NE(message.find("stoat_prices.csv"), std::string::npos) << message;
  }
  std::filesystem::remove(path);
  return message;
}

TEST(Events, NamesAreUniqueAndEveryEventHasAComponent) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kEvents; ++i) {
    names.insert(event_name(static_cast<Event>(i)));
    EXPECT_FALSE(event_component(static_cast<Event>(i)).empty());
  }
  EXPECT_EQ(names.size(), kEvents);
  EXPECT_EQ(event_name(Event::kDramBackgroundNs), "dram_background_ns");
  EXPECT_EQ(stage_name(Stage::kSelect), "select");
}

TEST(PriceList, ShippedListsAreCompleteAndEveryPriceHasASource) {
  for (const char* name : kShipped) {
    const PriceList list = PriceList::read(name);
    EXPECT_EQ(list.name(), name);
    EXPECT_FALSE(list.boundary().empty());
    for (std::size_t i = 0; i < kEvents; ++i) {
      const auto event = static_cast<Event>(i);
      EXPECT_TRUE(list.has(event) || event_is_optional(event)) << name << " " << event_name(event);
      EXPECT_TRUE(!list.has(event) || list.source(event).size() > 10U) << name;
      EXPECT_GE(list.price(event).count(), 0);
    }
  }
}

TEST(PriceList, TheDefaultHoldsTheDesignsPrices) {
  const PriceList list = PriceList::read("jouppi_7nm_hbm3");
  EXPECT_EQ(list.price(Event::kMultiply), Energy(210'000));
  EXPECT_EQ(list.price(Event::kAccumulate), Energy(380'000));
  EXPECT_EQ(list.price(Event::kTernaryAdd), Energy(380'000));
  EXPECT_EQ(list.price(Event::kDramReadBits), Energy(3'480'000));
  EXPECT_EQ(list.price(Event::kDramActivate), Energy(909'000'000));
  EXPECT_EQ(list.price(Event::kDramRefresh), Energy(0));
  EXPECT_NE(list.source(Event::kDramRefresh).find("[assumption]"), std::string::npos);
  EXPECT_NE(list.source(Event::kStashReadBits).find("[recalled]"), std::string::npos);
}

TEST(PriceList, WrongListsAreRefusedByName) {
  const auto expect = [](const std::string& text, const std::string& part) {
    const std::string message = refusal(text);
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  };
  const std::string rest = without("multiply");
  expect(rest, "rows are missing: multiply");
  expect(without("boundary"), "rows are missing: boundary");
  expect(rest + "multiply,bf16,0.21,pJ,test\nmultiply,bf16,0.21,pJ,test\n", "stands twice");
  expect(rest + "multiply,bf16,0.21,pW,test\n", "'pW'");
  expect(rest + "multiply,bf16,0.21,,test\n", "no unit");
  expect(rest + "multiply,bf16,-0.21,pJ,test\n", "-0.21");
  expect(rest + "multiply,bf16,nan,pJ,test\n", "nan");
  expect(rest + "multiply,bf16,inf,pJ,test\n", "inf");
  expect(rest + "multiply,bf16,,pJ,test\n", "multiply");
  expect(rest + "multiply,bf16,0.2100001,pJ,test\n", "finer");
  expect(rest + "multiply,bf16,0.5,aJ,test\n", "finer");
  expect(rest + "multiply,bf16,0.21,pJ,\n", "without a source");
  expect(rest + "multipy,bf16,0.21,pJ,test\n", "did you mean 'multiply'");
  expect(rest + "multiply,bf16,0.21,pJ\n", "cells");
  EXPECT_EQ(refusal(rest + "multiply,bf16,0.210001,pJ,test\n"), "") << "whole attojoules";
  EXPECT_EQ(refusal(rest + "multiply,bf16,210,fJ,test\n"), "");
  EXPECT_THROW(PriceList::read("no_such_list"), Error);
}

TEST(Pricing, PartsSumExactlyInAnyOrder) {
  const PriceList list = PriceList::read("rtl_asap7");
  std::mt19937_64 random(3);
  EventCounts counts, halves[2];
  for (std::size_t s = 0; s < kStages; ++s) {
    for (std::size_t e = 0; e < kEvents; ++e) {
      halves[0].count[s][e] = random() >> 20;
      halves[1].count[s][e] = random() >> 20;
    }
  }
  counts = halves[0];
  counts += halves[1];
  const EnergyTable table = price(counts, list);
  Energy by_stage{0}, by_event{0}, by_product{0};
  for (std::size_t s = 0; s < kStages; ++s) by_stage += table.of_stage(static_cast<Stage>(s));
  for (std::size_t e = 0; e < kEvents; ++e) {
    const auto event = static_cast<Event>(e);
    by_event += table.of_event(event);
    by_product += Energy(list.price(event).count() * Int128{counts.total(event)});
  }
  EXPECT_EQ(table.total(), by_stage);
  EXPECT_EQ(table.total(), by_event);
  EXPECT_EQ(table.total(), by_product);
  EXPECT_EQ(table.total(), price(halves[0], list).total() + price(halves[1], list).total());
}

TEST(PriceList, SynthesisedListsPriceEveryFormatAndPlacementsAreNamed) {
  for (const char* name : {"rtl_asap7", "rtl_nangate45"}) {
    const PriceList list = PriceList::read(name);
    for (std::size_t i = 0; i < kEvents; ++i) EXPECT_TRUE(list.has(static_cast<Event>(i))) << name;
    EXPECT_EQ(list.placement(), "beside");
  }
  EXPECT_EQ(PriceList::read("jouppi_7nm_hbm3_bank").placement(), "bank");
  EXPECT_EQ(PriceList::read("jouppi_7nm_hbm3_bank").price(Event::kDramReadBits), Energy(600'000));
}

TEST(Pricing, NamesTheRowsThatAreMissingForWhatWasCounted) {
  EventCounts counts;
  const PriceList list = PriceList::read("horowitz_45nm");
  counts.at(Stage::kGather, Event::kAccumulate) = 1;
  EXPECT_NO_THROW(price(counts, list));
  counts.at(Stage::kGather, Event::kAccumulateShared24) = 1;
  counts.at(Stage::kGather, Event::kShiftAddShared24) = 1;
  try {
    price(counts, list);
    FAIL() << "45 nm has no published 24-bit accumulator";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    const std::string message = error.what();
    EXPECT_NE(message.find("horowitz_45nm lacks rows"), std::string::npos) << message;
    EXPECT_NE(message.find("accumulate_shared24, shift_add_shared24"), std::string::npos)
        << message;
  }
  EXPECT_NO_THROW(price(counts, PriceList::read("rtl_nangate45")));
}

TEST(Pricing, RefusesCountsThatWouldOverflow) {
  EventCounts counts;
  counts.at(Stage::kScore, Event::kDramActivate) = ~std::uint64_t{0};
  EXPECT_NO_THROW(price(counts, PriceList::read("jouppi_7nm_hbm3")));
  const std::string path = testing::TempDir() + "/" + std::to_string(getpid()) + "_stoat_huge.csv";
  std::ofstream(path) << without("dram_activate") << "dram_activate,,1000,J,test\n";
  EXPECT_THROW(price(counts, PriceList::read(path)), Bug);
  std::filesystem::remove(path);
}

// The energy of n value-stage operations, with and without the multiplier.
double value_stage_ratio(const char* prices) {
  EventCounts dense, add;
  dense.at(Stage::kGather, Event::kMultiply) = 1000;
  dense.at(Stage::kGather, Event::kAccumulate) = 1000;
  add.at(Stage::kGather, Event::kAccumulate) = 1000;
  const PriceList list = PriceList::read(prices);
  return static_cast<double>(price(dense, list).total().count()) /
         static_cast<double>(price(add, list).total().count());
}

// V03, and the 7 nm ratios of the energy notes.
TEST(PublishedRatios, ValueStagePerOperation) {
  EXPECT_DOUBLE_EQ(value_stage_ratio("horowitz_45nm"), 1.5 / 0.4);
  EXPECT_DOUBLE_EQ(value_stage_ratio("horowitz_45nm_fp32"), 4.6 / 0.9);
  EXPECT_NEAR(value_stage_ratio("jouppi_7nm_hbm3"), 1.55, 0.005);
  EXPECT_NEAR(value_stage_ratio("rtl_asap7"), 1.63, 0.005);
}

// V10: 71.4x, a multiply-accumulate in fp16 against one int8 add.
TEST(PublishedRatios, BitNetMultiplierFree) {
  EventCounts dense, ternary;
  dense.at(Stage::kScore, Event::kMultiply) = 134'217'728;
  dense.at(Stage::kScore, Event::kAccumulate) = 134'217'728;
  ternary.at(Stage::kScore, Event::kTernaryAdd) = 134'217'728;
  const PriceList list = PriceList::read("bitnet_7nm");
  const double ratio = static_cast<double>(price(dense, list).total().count()) /
                       static_cast<double>(price(ternary, list).total().count());
  EXPECT_NEAR(ratio, 71.4, 0.005 * 71.4);
}

}  // namespace
}  // namespace stoat
