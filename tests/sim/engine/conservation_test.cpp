// The checks of every run must themselves be able to fail: one doctored result a rule.
#include "sim/engine/conservation.h"

#include <gtest/gtest.h>

#include <functional>

#include "models/error.h"
#include "sim/engine/simulate.h"

namespace stoat::sim {
namespace {

struct Case {
  DatapathResult result;
  Recount recount;
  EngineShape shape;
  DramStandard dram;
};

// One KV head of 256 rows, one query head, consistent by hand.
Case sound() {
  Case c;
  c.shape.point = read_design_point("hbm3");
  c.shape.head_dim = 128;
  c.shape.engines = 4;
  c.dram = read_dram_standard(c.shape.point.dram);
  c.shape.access = c.dram.access_size;
  c.recount.key_rows = c.recount.key_rows_logical = 256;
  c.recount.value_rows = c.recount.value_rows_logical = 10;
  c.recount.key_requested = Bytes(65536);
  c.recount.groups = 1;
  DatapathResult& r = c.result;
  r.engines = 32;
  r.traffic[0] = {256, 256, Bytes(65536), Bytes(65536), Bytes(65536), 2048};
  r.traffic[1] = {10, 10, Bytes(2560), Bytes(2560), Bytes(2560), 80};
  r.traffic[4] = {0, 0, Bytes(0), Bytes(512), Bytes(512), 16};
  r.events.at(Stage::kAppend, Event::kDramWriteBits) = 512 * 8;
  r.write_bursts = 16;
  r.events.at(Stage::kScore, Event::kDramReadBits) = 65536 * 8;
  r.events.at(Stage::kGather, Event::kDramReadBits) = 2560 * 8;
  r.events.at(Stage::kScore, Event::kDramActivate) = 64;
  r.events.at(Stage::kScore, Event::kAccumulate) = 256 * 128;
  r.activates = 64;
  r.read_bursts = 2128;
  r.row_hits = 2080;
  r.row_misses = 64;
  r.time = Picoseconds(10000000);
  r.cycles = CoreCycles(10000);
  r.per_step.push_back(
      {0, 256, CoreCycles(10000), Picoseconds(10000000), Bytes(0), Bytes(0), Bytes(0), 0, 0});
  return c;
}

void check(const Case& c) {
  check_conservation(c.result, c.recount, datapath_from_name("gather_add"), c.shape, c.dram);
}

TEST(Conservation, AcceptsASoundResult) { EXPECT_NO_THROW(check(sound())); }

TEST(Conservation, RejectsEveryDoctoredResult) {
  const std::vector<std::pair<const char*, std::function<void(Case&)>>> doctors = {
      {"a K row too few", [](Case& c) { c.result.traffic[0].distinct_rows -= 1; }},
      {"a V row twice", [](Case& c) { c.result.traffic[1].distinct_rows += 1; }},
      {"logical rows", [](Case& c) { c.result.traffic[1].logical_rows += 1; }},
      {"K bytes", [](Case& c) { c.recount.key_requested += Bytes(2); }},
      {"V bytes", [](Case& c) { c.result.traffic[1].requested -= Bytes(256); }},
      {"an append too few", [](Case& c) { c.recount.groups = 2; }},
      {"units busier than the time",
       [](Case& c) { c.result.units[0].starved = Picoseconds(33 * 10000000ULL); }},
      {"moved below requested", [](Case& c) { c.result.traffic[1].moved -= Bytes(32); }},
      {"bursts", [](Case& c) { c.result.traffic[1].bursts += 1; }},
      {"bursts of the channels",
       [](Case& c) {
         c.result.read_bursts += 1;
         c.result.row_hits += 1;
       }},
      {"hits and misses", [](Case& c) { c.result.row_hits += 1; }},
      {"activations", [](Case& c) { c.result.activates += 1; }},
      {"bits of a stage",
       [](Case& c) { c.result.events.at(Stage::kGather, Event::kDramReadBits) += 8; }},
      {"faster than the memory",
       [](Case& c) { c.result.time = c.result.per_step[0].time = Picoseconds(100000); }},
      {"faster than the lanes",
       [](Case& c) {
         c.result.events.at(Stage::kGather, Event::kShiftAdd) = 32ULL * 16 * 10000 + 1;
       }},
      {"steps do not sum", [](Case& c) { c.result.per_step[0].time -= Picoseconds(1); }},
  };
  for (const auto& [what, doctor] : doctors) {
    Case c = sound();
    doctor(c);
    EXPECT_THROW(check(c), Bug) << what;
  }
}

}  // namespace
}  // namespace stoat::sim
