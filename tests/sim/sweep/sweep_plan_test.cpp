// Points as typed values: keys, shared work, prices; and tables made of stored counts.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "sim/sweep/results.h"
#include "sim/sweep/sweep_plan.h"
#include "sim/sweep/sweep_tables.h"

namespace stoat::sim {
namespace {

namespace fs = std::filesystem;

const char* const kSet =
    "base: hbm3\nset: {trace: synth, query_heads: 32, kv_heads: 8, head_dim: 128, participation: "
    "16, "
    "method: prop, context: 512";

std::unique_ptr<SweepPlan> plan(const std::string& more, const std::string& axes) {
  return std::make_unique<SweepPlan>(
      parse_sweep(std::string(kSet) + more + "}\naxes:\n" + axes, "s.yaml"));
}

TEST(SweepPlan, ADenseDatapathIsSimulatedOnceForAllBudgetsAndMethods) {
  const auto all = plan("", "  datapath: [mac, gather_add]\n  budget: [8, 16, 32]\n");
  EXPECT_EQ(all->points().size(), 6U);
  EXPECT_EQ(all->simulations().size(), 4U);
  EXPECT_EQ(all->points()[0].sim_key, all->points()[2].sim_key);
  EXPECT_NE(all->points()[3].sim_key, all->points()[4].sim_key);
}

TEST(SweepPlan, TheKeyChangesWithWhatIsCountedAndNotWithPrices) {
  const auto key = [](const std::string& more) {
    return plan(more + ", datapath: gather_add", "  budget: [8]\n")->points()[0];
  };
  const PlannedPoint base = key("");
  for (const char* change : {", seed: 2", ", engine.lanes.exp: 8", ", batch: 2", ", layers: 2",
                             ", recency: 4", ", memory.refresh: off"}) {
    EXPECT_NE(key(change).sim_key, base.sim_key) << change;
    EXPECT_NE(key(change).id, base.id) << change;
  }
  const PlannedPoint priced = key(", energy.prices: rtl_asap7");
  EXPECT_EQ(priced.sim_key, base.sim_key);
  EXPECT_NE(priced.id, base.id);
}

TEST(SweepPlan, AGridWithoutASinglePointIsContradictory) {
  try {
    plan(", datapath: mac", "  budget: [8]\nskip_when: [budget == 8]\n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("contradictory"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("budget == 8"), std::string::npos) << error.what();
  }
}

TEST(SweepPlan, AConditionThatDividesByZeroNamesItsPlaceAndThePoint) {
  try {
    plan(", datapath: gather_add", "  budget: [4, 8]\nskip_when: [64 / (budget - 8) > 1]\n");
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_NE(text.find("s.yaml:5:16"), std::string::npos) << text;  // the division sign
    EXPECT_NE(text.find("budget = 8"), std::string::npos) << text;
    EXPECT_NE(text.find("64 / (budget - 8) > 1"), std::string::npos) << text;
  }
}

TEST(SweepPlan, MoreParticipationThanRowsIsLeftOutAndNotClamped) {
  const SweepPlan all(parse_sweep(
      "base: hbm3\nset: {trace: synth, query_heads: 32, kv_heads: 8, head_dim: 128, method: prop, "
      "context: 512, datapath: gather_add, budget: 8}\naxes:\n  participation: [512, 513, flat]\n",
      "s.yaml"));
  EXPECT_EQ(all.points()[0].state, PlannedPoint::State::kRun);
  EXPECT_EQ(all.points()[1].state, PlannedPoint::State::kInvalid);
  EXPECT_NE(all.points()[1].reason.find("513"), std::string::npos) << all.points()[1].reason;
  EXPECT_EQ(all.points()[2].state, PlannedPoint::State::kRun);
}

TEST(SweepPlan, AnInvalidPointSaysWhatTheReaderSays) {
  const auto all = plan(", datapath: gather_add, budget: 8", "  kv.element: [bf16, fp9]\n");
  EXPECT_EQ(all->points()[0].state, PlannedPoint::State::kRun);
  EXPECT_EQ(all->points()[1].state, PlannedPoint::State::kInvalid);
  EXPECT_NE(all->points()[1].reason.find("fp9"), std::string::npos) << all->points()[1].reason;
}

TEST(SweepPlan, FlashBelowOneDrawATileIsRefusedBeforeItRuns) {
  SweepSpec spec = parse_sweep(
      "base: hbm3\nset: {trace: synth, query_heads: 32, kv_heads: 8, head_dim: 128, participation: "
      "16, "
      "context: 512, datapath: gather_add, budget: 1}\naxes:\n  method: [flash, iid]\n",
      "s.yaml");
  const SweepPlan all(std::move(spec));
  EXPECT_EQ(all.points()[0].state, PlannedPoint::State::kInvalid);
  EXPECT_NE(all.points()[0].reason.find("2 tiles"), std::string::npos) << all.points()[0].reason;
}

// What a resume of a finished sweep and a new price list do: read, price, write down.
TEST(SweepTables, TenThousandStoredPointsArePricedWithoutRunningThemAgain) {
  std::string pattern = (fs::temp_directory_path() / "stoat-tables-XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  const auto all = plan(", datapath: gather_add, budget: 8",
                        "  engine.lanes.dense: {range: [1, 100], step: 1}\n"
                        "  engine.lanes.exp: {range: [1, 100], step: 1}\n");
  ASSERT_EQ(all->simulations().size(), 10000U);
  DatapathResult counts;
  counts.datapath = "gather_add";
  counts.steps = 1;
  counts.events.at(Stage::kGather, Event::kAccumulate) = 1000;
  const nlohmann::json body{
      {"counts", to_json(counts)},
      {"error", {{"kind", ""}, {"records", 0}, {"mean_square", 0.0}, {"standard_error", 0.0}}},
      {"participation", 0.0}};
  ResultStore store(pattern + "/s.sqlite");
  store.begin();
  for (const PlannedPoint& point : all->points()) store.put(point.sim_key, body.dump());
  store.commit();
  const auto begin = std::chrono::steady_clock::now();
  const SweepTables tables = make_sweep_tables(*all, store);
  const auto seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(tables.counts.done, 10000U);
  EXPECT_EQ(std::count(tables.results.begin(), tables.results.end(), '\n'), 10001);
  std::printf("%.2f s\n", seconds);  // not asserted: machines are busy
  fs::remove_all(pattern);
}

}  // namespace
}  // namespace stoat::sim
