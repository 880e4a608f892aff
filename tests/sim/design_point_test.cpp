// The strict reader of accelerators: what is right is read exactly, what is wrong is named with its
// place.
#include "sim/design_point.h"

#include <gtest/gtest.h>

#include "models/data_path.h"
#include "models/error.h"
#include "models/files.h"
#include "sim/design_schema.h"

namespace stoat::sim {
namespace {

std::string shipped() { return read_file(data_path("arch/hbm3.yaml")); }

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = shipped();
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw Bug("the shipped file lacks '" + from + "'");
  return text.replace(at, from.size(), to);
}

std::string without_kv() {
  const std::string text = shipped();
  return text.substr(0, text.find("kv:"));
}

std::string message_of(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    parse_design_point(yaml, "arch.yaml", overrides);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "accepted";
}

TEST(DesignPoint, ReadsTheShippedAccelerator) {
  const DesignPoint point = read_design_point("hbm3");
  EXPECT_EQ(point.name, "hbm3");
  EXPECT_EQ(point.clock, Hertz(1000000000));
  EXPECT_EQ(point.dense_lanes, 64U);
  EXPECT_EQ(point.gather_add_lanes, 16U);
  EXPECT_EQ(point.ternary_lanes, 64U);
  EXPECT_EQ(point.stash, Bytes(65536));
  EXPECT_EQ(point.row_buffer, Bytes(4096));
  EXPECT_EQ(point.exchange_latency, Picoseconds(100000));
  EXPECT_TRUE(point.refresh);
  EXPECT_EQ(point.dealing, Dealing::kRoundRobin);
  EXPECT_EQ(point.k_layout, KLayout::kTokenMajor);
  EXPECT_EQ(point.gather_add_accumulator, AccumulatorFormat::kFp32);
  EXPECT_EQ(point.placement, Placement::kBeside);
  EXPECT_EQ(point.stacks, 1U);
  EXPECT_EQ(point.queue_tiles, 2U);
  EXPECT_EQ(point.engines_per_head, 0U);
  EXPECT_TRUE(point.double_buffer);
  EXPECT_TRUE(point.append);
}

TEST(DesignPoint, OverridesChangeOneFieldAndTheHash) {
  const DesignPoint plain = read_design_point("hbm3");
  const DesignPoint changed =
      read_design_point("hbm3", {"engine.lanes.dense=128", "kv.element=fp8"});
  EXPECT_EQ(changed.dense_lanes, 128U);
  EXPECT_EQ(element_bytes(changed.element), Bytes(1));
  EXPECT_EQ(changed.gather_add_lanes, plain.gather_add_lanes);
  EXPECT_NE(changed.hash, plain.hash);
  EXPECT_EQ(read_design_point("hbm3", {"engine.clock=1000 MHz"}).hash, plain.hash);
}

TEST(DesignPoint, TakesWhatItDoesNotSayFromItsBase) {
  const DesignPoint point =
      parse_design_point("base: hbm3\nengine:\n  lanes:\n    dense: 32\n", "wide.yaml");
  EXPECT_EQ(point.name, "wide");
  EXPECT_EQ(point.dense_lanes, 32U);
  EXPECT_EQ(point.ternary_lanes, 64U);
}

TEST(DesignPoint, CanonicalTextReadsBackToTheSameDesign) {
  const DesignPoint point = read_design_point("hbm3", {"mapping.tiles=contiguous"});
  std::vector<std::string> overrides;
  const std::string text = canonical_text(point);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    std::string line = text.substr(begin, end - begin);
    overrides.push_back(line.replace(line.find(": "), 2, "="));
    begin = end + 1;
  }
  EXPECT_EQ(overrides.size(), design_fields().size());
  EXPECT_EQ(read_design_point("hbm3", overrides).hash, point.hash);
}

struct Wrong {
  const char* what;
  std::string yaml;
  std::vector<std::string> parts;  // of the message
};

TEST(DesignPoint, NamesEveryMistakeWithItsPlace) {
  const std::vector<Wrong> cases = {
      {"misspelt key",
       replaced("    dense: 64", "    dens: 64"),
       {"arch.yaml:28:5", "unknown key 'engine.lanes.dens'", "did you mean 'dense'?"}},
      {"unknown section",
       replaced("mapping:", "maping:"),
       {"unknown key 'maping'", "did you mean 'mapping'?"}},
      {"duplicate key",
       replaced("    dense: 64", "    dense: 64\n    dense: 32"),
       {"arch.yaml:29:5", "'engine.lanes.dense' stands twice"}},
      {"duplicate section", shipped() + "kv:\n  element: fp8\n", {"'kv' stands twice"}},
      {"wrong unit",
       replaced("stash: 64 KiB", "stash: 64 GHz"),
       {"arch.yaml:", "engine.stash", "64 KiB"}},
      {"no unit",
       replaced("clock: 1.0 GHz", "clock: 1.0"),
       {"arch.yaml:26:10: engine.clock is '1.0'; expected a frequency with its unit", "GHz;"}},
      {"misspelt standard",
       replaced("standard: hbm3_5200", "standard: hbm3_520"),
       {"arch.yaml:7:13: memory.standard is 'hbm3_520'", "did you mean 'hbm3_5200'?"}},
      {"unknown prices",
       replaced("prices: jouppi_7nm_hbm3", "prices: free"),
       {"arch.yaml:24:11: energy.prices is 'free'", "models/energy"}},
      {"misspelt layout",
       replaced("k_layout: token_major", "k_layout: token_mayor"),
       {"arch.yaml:51:13", "did you mean 'token_major'?"}},
      {"bare number of bytes", replaced("stash: 64 KiB", "stash: 65536"), {"engine.stash", "unit"}},
      {"wrong type",
       replaced("dense: 64 ", "dense: many "),
       {"engine.lanes.dense is 'many'", "a whole number from 1 to 65536"}},
      {"fraction", replaced("dense: 64 ", "dense: 64.5 "), {"engine.lanes.dense is '64.5'"}},
      {"list",
       replaced("dense: 64 ", "dense: [64] "),
       {"engine.lanes.dense is not a single value"}},
      {"zero lanes",
       replaced("dense: 64 ", "dense: 0 "),
       {"arch.yaml:28:12: engine.lanes.dense is '0'", "the smallest is 1"}},
      {"too many lanes", replaced("dense: 64 ", "dense: 65537 "), {"the largest is 65536"}},
      {"far too many lanes",
       replaced("dense: 64 ", "dense: 99999999999999999999 "),
       {"the largest is 65536"}},
      {"negative", replaced("dense: 64 ", "dense: -1 "), {"engine.lanes.dense is '-1'"}},
      {"zero clock", replaced("1.0 GHz", "0 GHz"), {"engine.clock is '0 GHz'", "1 MHz"}},
      {"unknown word",
       replaced("repeats: shift_adds", "repeats: shift_add"),
       {"did you mean 'shift_adds'?"}},
      {"bad switch",
       replaced("refresh: on", "refresh: yes"),
       {"memory.refresh is 'yes'", "on or off"}},
      {"section as value", without_kv() + "kv: bf16\n", {"'kv' has no keys of its own"}},
      {"missing key", replaced("  element: bf16", "  #"), {}},
      {"missing section", without_kv(), {"missing: kv.element, kv.append"}},
      {"an integer sum of bf16",
       replaced("gather_add: fp32", "gather_add: int32"),
       {"engine.accumulator.gather_add is int32 and kv.element is bf16", "kv.element=int8"}},
      {"unknown placement",
       replaced("placement: beside", "placement: besides"),
       {"did you mean 'beside'?"}},
      {"no engines", replaced("engines_per_head: all", "engines_per_head: 0"), {"from 1 to 65536"}},
      {"no memory queue",
       replaced("    queue: 64", "    queue: 0"),
       {"memory.controller.queue is '0'", "the smallest is 1"}},
      {"misspelt model of the memory",
       replaced("model: first_ready", "model: firstready"),
       {"did you mean 'first_ready'?"}},
      {"a timeout that never comes",
       replaced("page_timeout: 200 ns", "page_timeout: 2 s"),
       {"memory.controller.page_timeout is '2 s'", "up to 1 ms"}},
      {"odd pages", replaced("page_rows: 0", "page_rows: 100"), {"mapping.page_rows is 100"}},
      {"no heads in flight",
       replaced("heads_in_flight: 2", "heads_in_flight: 0"),
       {"the smallest is 1"}},
      {"no queue", replaced("queue_tiles: 2", "queue_tiles: 0"), {"the smallest is 1"}},
      {"no stacks", replaced("stacks: 1", "stacks: 0"), {"the smallest is 1"}},
      {"anchor", replaced("dense: 64 ", "dense: &n 64 "), {"anchor"}},
      {"two documents", shipped() + "---\nkv:\n  element: fp8\n", {"second YAML document"}},
      {"not YAML", "memory: [", {"arch.yaml:"}},
      {"empty", "", {"no keys"}},
      {"a word", "hbm3\n", {"no keys"}},
      {"too large", shipped() + std::string(1 << 20, '#'), {"bytes", "1048576"}},
      {"too deep", "kv: " + std::string(65, '[') + std::string(65, ']'), {"64 levels"}},
      {"very deep", std::string(100000, '['), {"arch.yaml:1:1"}},
      {"circle of bases",
       "base: hbm3x\n",
       {"arch.yaml:1:7: no accelerator 'hbm3x'", "did you mean 'hbm3'?"}},
  };
  for (const Wrong& each : cases) {
    const std::string message = message_of(each.yaml);
    EXPECT_NE(message, "accepted") << each.what;
    const std::size_t expected = message.find("expected");
    EXPECT_EQ(message.find("expected", expected + 1), std::string::npos)
        << each.what << ": " << message;
    for (const std::string& part : each.parts) {
      EXPECT_NE(message.find(part), std::string::npos) << each.what << ": " << message;
    }
  }
}

TEST(DesignPoint, NamesWrongOverrides) {
  EXPECT_NE(message_of(shipped(), {"engine.lanes.dense"}).find("no '='"), std::string::npos);
  EXPECT_NE(message_of(shipped(), {"engine.lanes.dense=0"}).find("'0'"), std::string::npos);
  EXPECT_NE(
      message_of(shipped(), {"engine.lane.dense=1"}).find("did you mean 'engine.lanes.dense'?"),
      std::string::npos);
}

TEST(DesignPoint, RefusesHeadsThatDoNotDivideTheMemory) {
  EXPECT_EQ(engines_per_kv_head(32, 8), 4U);
  EXPECT_THROW(engines_per_kv_head(32, 3), Error);
  EXPECT_THROW(engines_per_kv_head(32, 64), Error);
  EXPECT_THROW(engines_per_kv_head(32, 0), Error);
}

}  // namespace
}  // namespace stoat::sim
