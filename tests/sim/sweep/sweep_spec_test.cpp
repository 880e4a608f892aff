// Sweep files: axes, samples, conditions, and what is said about mistakes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "sim/sweep/condition.h"
#include "sim/sweep/sweep_spec.h"
#include "sim/sweep/sweep_value.h"

namespace stoat::sim {
namespace {

std::string refusal(const std::string& text) {
  try {
    SweepSpec spec = parse_sweep(text, "s.yaml");
    sweep_choices(spec);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "not refused";
}

std::vector<std::string> labels(const std::string& axis, const std::string& name = "budget") {
  const SweepSpec spec = parse_sweep("base: hbm3\naxes:\n  " + name + ": " + axis + "\n", "s.yaml");
  std::vector<std::string> found;
  for (const AxisValue& value : spec.axes.at(0).values) found.push_back(value.label);
  return found;
}

using Words = std::vector<std::string>;

TEST(SweepSpec, ReadsEveryKindOfAxis) {
  EXPECT_EQ(labels("[1, 8, 64]"), (Words{"1", "8", "64"}));
  EXPECT_EQ(labels("{list: [1, 8]}"), (Words{"1", "8"}));
  EXPECT_EQ(labels("{range: [16, 64], step: 16}"), (Words{"16", "32", "48", "64"}));
  EXPECT_EQ(labels("{range: [0, 1], points: 3}", "group_correlation"), (Words{"0", "1"}))
      << "whole ends give whole values, each once";
  EXPECT_EQ(labels("{range: [0.5, 1], points: 3}", "group_correlation"),
            (Words{"0.5", "0.75", "1"}));
  EXPECT_EQ(labels("{log_range: [1, 4096], factor: 4}"),
            (Words{"1", "4", "16", "64", "256", "1024", "4096"}));
  EXPECT_EQ(labels("{log_range: [1, 1000], points: 4}"), (Words{"1", "10", "100", "1000"}));
  EXPECT_EQ(labels("{range: [16 KiB, 64 KiB], step: 16 KiB}", "engine.stash"),
            (Words{"16 KiB", "32 KiB", "48 KiB", "64 KiB"}));
}

TEST(SweepSpec, ACaseSetsSeveralKeysAtOnce) {
  const SweepSpec spec = parse_sweep(
      "base: hbm3\naxes:\n  rival:\n    cases:\n      dense: {datapath: mac}\n"
      "      s128: {datapath: gather_add, budget: 128}\n",
      "s.yaml");
  ASSERT_EQ(spec.axes.at(0).values.size(), 2U);
  EXPECT_EQ(spec.axes[0].values[1].label, "s128");
  EXPECT_EQ(spec.axes[0].values[1].sets,
            (std::vector<KeyValue>{{"datapath", "gather_add"}, {"budget", "128"}}));
  EXPECT_EQ(spec.keys(), (Words{"datapath", "budget"}));
}

TEST(SweepSpec, TheGridRunsThroughTheLastAxisFirst) {
  SweepSpec spec =
      parse_sweep("base: hbm3\naxes:\n  context: [1, 2]\n  budget: [3, 4, 5]\n", "s.yaml");
  const auto points = sweep_choices(spec);
  ASSERT_EQ(points.size(), 6U);
  EXPECT_EQ(points[0], (std::vector<std::uint32_t>{0, 0}));
  EXPECT_EQ(points[1], (std::vector<std::uint32_t>{0, 1}));
  EXPECT_EQ(points[3], (std::vector<std::uint32_t>{1, 0}));
}

TEST(SweepSpec, NamesThePlaceAndTheNearestNameOfAMistake) {
  const std::string typo = refusal("base: hbm3\naxes:\n  engine.lanes.dens: [1, 2]\n");
  EXPECT_NE(typo.find("s.yaml:3:3"), std::string::npos) << typo;
  EXPECT_NE(typo.find("engine.lanes.dense"), std::string::npos) << typo;
  EXPECT_NE(refusal("base: hbm3\naxis:\n  budget: [1]\n").find("did you mean 'axes'"),
            std::string::npos);
  EXPECT_NE(refusal("base: hbm3\naxes:\n  budget: []\n").find("empty"), std::string::npos);
  EXPECT_NE(refusal("base: hbm3\naxes: {}\n").find("empty grid"), std::string::npos);
  EXPECT_NE(refusal("base: hbm3\naxes:\n  budget: 4\n").find("set:"), std::string::npos);
  EXPECT_NE(refusal("base: hbm3\naxes:\n  budget: [1, 1]\n").find("twice"), std::string::npos);
  EXPECT_NE(refusal("base: hbm3\naxes:\n  budget: {range: [9, 1], step: 1}\n").find("exchange"),
            std::string::npos);
  EXPECT_NE(refusal("base: hbm3\naxes:\n  budget: {range: [1, 9]}\n").find("points"),
            std::string::npos);
  EXPECT_NE(refusal("base: hbm3\naxes:\n  budget: [1]\n  budget: [2]\n").find("s.yaml:4:3"),
            std::string::npos);
  EXPECT_NE(refusal("axes:\n  budget: [1]\n").find("no base"), std::string::npos);
  EXPECT_NE(refusal("&a base: hbm3\naxes:\n  budget: [1]\n").find("anchor"), std::string::npos);
}

TEST(SweepSpec, RefusesAContradictoryGrid) {
  const std::string twice = refusal("base: hbm3\nset: {budget: 4}\naxes:\n  budget: [1, 2]\n");
  EXPECT_NE(twice.find("contradictory"), std::string::npos) << twice;
  EXPECT_NE(refusal("base: hbm3\naxes:\n  budget: [1]\n  x: {cases: {a: {budget: 2}}}\n")
                .find("contradictory"),
            std::string::npos);
}

TEST(SweepSpec, RefusesABillionPointsAndSaysHowMany) {
  std::string text = "base: hbm3\naxes:\n";
  for (const char* key : {"budget", "context", "engine.lanes.dense"})
    text += "  " + std::string(key) + ": {range: [1, 1000], step: 1}\n";
  const std::string said = refusal(text);
  EXPECT_NE(said.find("1000000000 points"), std::string::npos) << said;
  text += "  seed: {range: [1, 100000], step: 1}\n  sinks: {range: [1, 100000], step: 1}\n";
  EXPECT_NE(refusal(text).find("about"), std::string::npos);
}

TEST(SweepSpec, ALatinHypercubePutsOnePointInEveryPart) {
  SweepSpec spec = parse_sweep(
      "base: hbm3\naxes:\n  group_correlation: {range: [0.0, 0.5]}\n"
      "  budget: {log_range: [1, 4096]}\n  datapath: [mac, gather_add]\n"
      "sample: {kind: latin_hypercube, points: 50, seed: 3}\n",
      "s.yaml");
  const auto points = sweep_choices(spec);
  ASSERT_EQ(points.size(), 50U);
  std::set<int> parts;
  std::map<std::uint32_t, int> datapaths;
  for (const auto& point : points) {
    const double value = *number_of(spec.axes[0].values[point[0]].label);
    parts.insert(static_cast<int>(value / 0.5 * 50));
    ++datapaths[point[2]];
    const double budget = *number_of(spec.axes[1].values[point[1]].label);
    EXPECT_EQ(budget, std::floor(budget));
    EXPECT_GE(budget, 1);
    EXPECT_LE(budget, 4096);
  }
  EXPECT_EQ(parts.size(), 50U);
  EXPECT_EQ(datapaths[0], 25);
}

TEST(SweepSpec, EqualSeedsGiveEqualPointsAndOtherSeedsOthers) {
  const auto drawn = [](const std::string& seed) {
    SweepSpec spec = parse_sweep(
        "base: hbm3\naxes:\n  budget: {range: [1, 1000000]}\nsample: {kind: random, points: 20, "
        "seed: " +
            seed + "}\n",
        "s.yaml");
    sweep_choices(spec);
    Words found;
    for (const AxisValue& value : spec.axes[0].values) found.push_back(value.label);
    return found;
  };
  EXPECT_EQ(drawn("1"), drawn("1"));
  EXPECT_NE(drawn("1"), drawn("2"));
}

bool holds(const std::string& text, const std::map<std::string, std::string>& values) {
  Words known{"budget", "context", "datapath", "engine.stash", "absent"};
  return Condition::parse(text, {}, known).holds([&](const std::string& key) -> const std::string* {
    const auto found = values.find(key);
    return found == values.end() ? nullptr : &found->second;
  });
}

TEST(Condition, ComparesNumbersTextsAndUnits) {
  const std::map<std::string, std::string> point{
      {"budget", "128"}, {"context", "1024"}, {"datapath", "mac"}, {"engine.stash", "64 KiB"}};
  EXPECT_TRUE(holds("budget < context", point));
  EXPECT_FALSE(holds("budget * 16 < context", point));
  EXPECT_TRUE(holds("budget * 8 == context and datapath == 'mac'", point));
  EXPECT_TRUE(holds("datapath != \"gather_add\"", point));
  EXPECT_TRUE(holds("engine.stash >= 65536", point));
  EXPECT_TRUE(holds("engine.stash < 1 MiB", point));
  EXPECT_TRUE(holds("datapath in ['topk', 'mac']", point));
  EXPECT_FALSE(holds("budget in [1, 2, 3]", point));
  EXPECT_TRUE(holds("not (budget == 1 or budget == 2)", point));
  EXPECT_TRUE(holds("budget == 1 or budget == 128 and context == 1024", point));
  EXPECT_TRUE(holds("-budget < 0 and (context - 24) / 1000 == 1", point));
}

TEST(Condition, IsFalseAboutAKeyThatThePointDoesNotHave) {
  EXPECT_FALSE(holds("absent == 1", {}));
  EXPECT_FALSE(holds("absent < 1", {}));
  EXPECT_FALSE(holds("absent >= 1", {}));
  EXPECT_TRUE(holds("absent != 1", {}));
}

TEST(Condition, ADivisionByZeroIsAMistakeAndNoAnswer) {
  const std::map<std::string, std::string> point{{"budget", "8"}, {"context", "1024"}};
  EXPECT_THROW(holds("context / (budget - 8) > 1", point), Error);
  EXPECT_THROW(holds("0 / (budget - 8) == 0", point), Error);
  // What is asked first decides whether the division is asked at all.
  EXPECT_FALSE(holds("budget != 8 and context / (budget - 8) > 1", point));
  EXPECT_TRUE(holds("budget == 8 or context / (budget - 8) > 1", point));
}

TEST(Condition, NamesTheColumnOfAMistake) {
  const auto refused = [](const std::string& text) {
    try {
      Condition::parse(text, Place{"s.yaml", 7, 5}, {"budget", "context"});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  EXPECT_NE(refused("budget > contxt").find("s.yaml:7:14"), std::string::npos)
      << refused("budget > contxt");
  EXPECT_NE(refused("budget > contxt").find("did you mean 'context'"), std::string::npos);
  for (const char* wrong : {"budget >", "budget", "(budget > 1", "budget > 1 1", "budget = 1", "'a",
                            "", "budget in 1", "1 and 2", "budget > 'x' and"}) {
    EXPECT_EQ(refused(wrong).find("not refused"), std::string::npos) << wrong;
  }
  EXPECT_EQ(refused(std::string(100000, '(')).find("not refused"), std::string::npos);
  EXPECT_EQ(refused("budget > " + std::string(100000, '-') + "1").find("not refused"),
            std::string::npos);
}

}  // namespace
}  // namespace stoat::sim
