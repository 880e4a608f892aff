// Exact cycles and counts of two tiny traces. A change is a decision: scripts/update-goldens.sh
// shows the difference.
//
// With STOAT_GOLDEN_OUT=DIR the tests write what they found to DIR and compare nothing.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>

#include "models/files.h"
#include "tests/sim/fixture.h"

namespace stoat::sim {
namespace {

// Everything a run counts, one line a number, so that a difference reads well.
std::string text_of(const DatapathResult& r) {
  std::string text;
  const auto add = [&](const std::string& name, std::uint64_t value) {
    text += r.datapath + "," + name + "," + std::to_string(value) + "\n";
  };
  add("cycles", r.cycles.count());
  add("time_ps", r.time.count());
  add("activates", r.activates);
  add("row_hits", r.row_hits);
  add("row_misses", r.row_misses);
  add("refreshes", r.refreshes);
  for (std::size_t s = 0; s < kStages; ++s) {
    const auto stage = static_cast<Stage>(s);
    add("busy_" + std::string(stage_name(stage)), r.busy[s].count());
    for (std::size_t e = 0; e < kEvents; ++e) {
      const auto event = static_cast<Event>(e);
      if (r.events.at(stage, event) == 0) continue;
      add(std::string(stage_name(stage)) + "_" + std::string(event_name(event)),
          r.events.at(stage, event));
    }
  }
  for (std::size_t p = 0; p < kParts; ++p) {
    const std::string name(part_name(static_cast<Part>(p)));
    add(name + "_distinct_rows", r.traffic[p].distinct_rows);
    add(name + "_requested_bytes", r.traffic[p].requested.count());
    add(name + "_moved_bytes", r.traffic[p].moved.count());
  }
  for (const StepResult& step : r.per_step)
    add("step" + std::to_string(step.step) + "_time_ps", step.time.count());
  return text;
}

void compare(const std::string& name, const TestTrace& trace,
             const std::vector<std::string>& names) {
  std::string text = "datapath,quantity,value\n";
  for (const std::string& datapath : names) text += text_of(simulated(trace, datapath));
  if (const char* out = std::getenv("STOAT_GOLDEN_OUT")) {
    write_file_whole(std::string(out) + "/" + name, text);
    return;
  }
  EXPECT_EQ(text, read_file(std::string(STOAT_TEST_SOURCE_DIR) + "/tests/sim/golden/" + name))
      << "if this is meant: scripts/update-goldens.sh";
}

// Rows chosen by hand, so that nothing but the simulator can change the numbers.
TestTrace hand_made() {
  SynthOptions shape;
  shape.n_q_heads = 4;
  shape.n_kv_heads = 1;
  TestTrace trace{synth_header(shape), {}};
  trace.header.budgets = {8};
  for (std::uint32_t step = 0; step < 2; ++step) {
    for (std::uint16_t head = 0; head < 4; ++head) {
      Selection selection;
      selection.rows = {{0, 3}, {300U + head, 2}, {700, 2}, {1023 + step, 1}};
      append_record(trace.records, 0, step, 0, head, 0, 1024 + step, RecordKind::kSampled, 8,
                    selection);
    }
  }
  return trace;
}

TEST(Golden, FourHeadsWithRowsChosenByHand) {
  compare("hand_made.csv", hand_made(), {"mac", "gather_add"});
}

TEST(Golden, FlatTernaryTraceOfTwoLayers) {
  SynthOptions options;
  options.n_layers = 2;
  options.contexts = {700};
  options.steps = 2;
  options.budgets = {32};
  options.score_kind = ScoreKind::kTernary;
  options.ternary = {4, TernaryCoupling::kIndependent, TernaryNormaliser::kPow2};
  compare("flat_ternary.csv", synth_trace(options), {"mac", "gather_add", "ternary"});
}

TEST(Golden, TheTextNoticesOneCount) {
  DatapathResult r = simulated(hand_made(), "gather_add");
  const std::string before = text_of(r);
  r.events.at(Stage::kSelect, Event::kThresholdCompare) += 1;
  EXPECT_NE(text_of(r), before);
}

}  // namespace
}  // namespace stoat::sim
