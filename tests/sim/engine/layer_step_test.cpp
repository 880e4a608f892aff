// Dealing records to engines: every tile and row once, to the engine that owns it.
#include "sim/engine/layer_step.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "models/error.h"
#include "sim/engine/simulate.h"
#include "traces/synth.h"

namespace stoat::sim {
namespace {

struct Dealt {
  TraceHeader header;
  TraceRecords records;
  EngineShape shape;
  AddressPlan plan;
  LayerWork work;
};

Dealt deal(const SynthOptions& options, const std::vector<std::string>& overrides) {
  Dealt dealt;
  dealt.header = synth_header(options);
  dealt.records = synthesize_records(options);
  const DesignPoint point = read_design_point("hbm3", overrides);
  const DramStandard dram = read_dram_standard(point.dram);
  dealt.shape = engine_shape(point, dram, dealt.header);
  dealt.plan = make_address_plan(dealt.shape, dram, options.contexts[0], 1, 0, options.n_layers,
                                 dealt.header.group());
  const auto steps = layer_steps(dealt.records, 0, options.n_layers);
  dealt.work = split_layer_step(dealt.records, dealt.header, steps.at(0), dealt.shape, dealt.plan,
                                false, options.score_kind == ScoreKind::kTernary);
  return dealt;
}

SynthOptions options_of(std::uint32_t context) {
  SynthOptions options;
  options.contexts.assign(1, context);
  options.budgets.assign(1, 64);
  options.participation = 30;
  options.group_correlation = 0.9;
  return options;
}

TEST(LayerStep, EveryTileAndEveryDrawReachesOneEngine) {
  for (const char* dealing : {"mapping.tiles=round_robin", "mapping.tiles=contiguous"}) {
    const Dealt dealt = deal(options_of(5000), {dealing});
    ASSERT_EQ(dealt.work.of_engine.size(), 32U);
    for (std::uint32_t kv_head = 0; kv_head < 2; ++kv_head) {
      std::set<std::uint32_t> tiles;
      std::map<std::uint32_t, std::uint64_t> draws;  // by head
      std::uint64_t keys = 0;
      for (std::uint32_t e = 0; e < 16; ++e) {
        const EngineWork& share = dealt.work.of_engine[kv_head * 16 + e].at(0);
        EXPECT_EQ(share.engine, e);
        std::set<std::uint32_t> slots;
        for (const OwnTile& tile : share.tiles) {
          EXPECT_TRUE(tiles.insert(tile.tile).second);
          EXPECT_TRUE(slots.insert(tile.slot).second);
          EXPECT_LT(tile.slot, dealt.plan.slots);
        }
        for (std::size_t i = 0; i < share.rows.size(); ++i) {
          EXPECT_EQ(share.tiles[share.rows[i].tile_index].tile, share.rows[i].row / 256);
          for (std::uint32_t head = 0; head < 4; ++head) draws[head] += share.counts[i * 4 + head];
        }
        keys += share.own_keys();
      }
      EXPECT_EQ(tiles.size(), 20U);
      EXPECT_EQ(keys, 5000U);
      for (std::uint32_t head = 0; head < 4; ++head) EXPECT_EQ(draws[head], 64U);
    }
  }
}

TEST(LayerStep, TheUnionCountsSharedRowsOnce) {
  const Dealt dealt = deal(options_of(2000), {});
  const Recount& recount = dealt.work.recount;
  EXPECT_EQ(recount.draws, 8U * 64);
  EXPECT_LT(recount.value_rows, recount.value_rows_logical);
  EXPECT_LT(recount.value_rows_logical, recount.draws);
  EXPECT_EQ(recount.key_rows, 2U * 2000);
  EXPECT_EQ(recount.key_rows_logical, 8U * 2000);
}

TEST(LayerStep, RefusesACacheThatDoesNotFitTheMemory) {
  SynthOptions options = options_of(300);
  Dealt dealt = deal(options, {});
  const DramStandard dram = read_dram_standard(dealt.shape.point.dram);
  EXPECT_THROW(make_address_plan(dealt.shape, dram, 100000000, 1, 0, 32, 4), Error);
}

TEST(LayerStep, NamesRowsAndCountsThatCannotBe) {
  const SynthOptions options = options_of(300);
  const Dealt dealt = deal(options, {});
  const auto steps = layer_steps(dealt.records, 0, 1);
  const auto message = [&](const std::function<void(TraceRecords&)>& doctor) {
    TraceRecords records = dealt.records;
    doctor(records);
    try {
      split_layer_step(records, dealt.header, steps[0], dealt.shape, dealt.plan, false, false);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kDamaged);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message([](TraceRecords&) {}), "accepted");
  const std::string beyond = message([](TraceRecords& r) { r.row[r.value_indptr[2] - 1] = 300; });
  EXPECT_NE(beyond.find("record 1 (step 0, layer 0, query head 1): row 300"), std::string::npos)
      << beyond;
  EXPECT_NE(message([](TraceRecords& r) { r.count[0] += 1; }).find("counts that sum to 65"),
            std::string::npos);
  EXPECT_NE(message([](TraceRecords& r) { std::swap(r.row[0], r.row[1]); }).find("increasing rows"),
            std::string::npos);
}

TEST(LayerStep, RefusesAGroupThatDisagreesAboutItsContext) {
  const SynthOptions options = options_of(300);
  Dealt dealt = deal(options, {});
  dealt.records.context[1] -= 1;
  const auto steps = layer_steps(dealt.records, 0, 1);
  EXPECT_THROW(split_layer_step(dealt.records, dealt.header, steps[0], dealt.shape, dealt.plan,
                                false, false),
               Error);
}

}  // namespace
}  // namespace stoat::sim
