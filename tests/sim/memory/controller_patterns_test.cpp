// Whole patterns through the first-ready controller, as the reference results were made: all
// requests wanted at time 0, one queue of 64 entries a channel. Prints bandwidth, row hits, and the
// closed-form bound that no schedule beats; checks against the references.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim/memory/patterns.h"

namespace stoat::sim {
namespace {

struct Outcome {
  double percent = 0;  // of the stack's peak
  double row_hits = 0;
  double bound_percent = 0;  // that the closed form allows
  ChannelCounts counts;
};

// Largest over pseudo-channels of data bus and tFAW, over the channel of the row bus, over banks of
// tRC; with the rows in order of the requests, which a first-ready scheduler can only improve on.
std::uint64_t bound_cycles(const DramStandard& s, const DramController& channel,
                           const std::vector<MemoryRequest>& requests) {
  std::uint64_t bound = 0;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::map<std::uint32_t, std::uint64_t>> rows;
  for (const MemoryRequest& r : requests) {
    const BankAddress w = channel.address_map().decode(r.address);
    const std::uint32_t bank =
        (w.stack * s.bank_groups + w.bank_group) * s.banks_per_group + w.bank;
    ++rows[{r.pseudo_channel, bank}][w.row];
  }
  for (const auto& [bank, of_bank] : rows) {
    bound = std::max<std::uint64_t>(bound, (of_bank.size() - 1) * s.rc);  // each row once at least
  }
  for (std::uint32_t p = 0; p < s.pseudo_channels; ++p) {
    const ChannelCounts counts = channel.counts(p);
    bound = std::max(bound, counts.read_bursts * s.burst_cycles);
    if (counts.activates > 0) bound = std::max(bound, (counts.activates - 1) / 4 * s.faw);
  }
  const ChannelCounts all = channel.counts();
  return std::max(
      bound, (all.activates * s.activate_bus_cycles + all.precharges * s.precharge_bus_cycles) / 2);
}

Outcome run(DramStandard standard, const Pattern& pattern, ReferenceMap map,
            const ControllerOptions& options = {}) {
  standard.address_order = address_order(map);
  Outcome outcome;
  Picoseconds end{0};
  std::uint64_t bound = 0;
  std::vector<DramController> channels;
  for (const std::vector<MemoryRequest>& requests : requests_of(pattern, standard, map)) {
    channels.emplace_back(standard, options);
    for (const MemoryRequest& request : requests) channels.back().submit(request);
    channels.back().drain();
    bound = std::max(bound, bound_cycles(standard, channels.back(), requests));
    end = std::max(end, channels.back().last_data());
  }
  for (DramController& channel : channels) {
    channel.finish(end);
    outcome.counts += channel.counts();
  }
  const auto peak = static_cast<double>(standard.stack_peak_bytes_per_second());
  const auto bytes = static_cast<double>(outcome.counts.bytes_moved.count());
  outcome.percent = 100 * bytes / (static_cast<double>(end.count()) * 1e-12) / peak;
  outcome.bound_percent = 100 * bytes / peak / static_cast<double>(bound) *
                          static_cast<double>(standard.command_clock.count());
  outcome.row_hits = static_cast<double>(outcome.counts.row_hits) /
                     static_cast<double>(outcome.counts.read_bursts);
  EXPECT_GE(cycles_until(end, standard.command_clock), bound)
      << "no schedule beats the closed form";
  std::printf("%-22s %-5s %-11s %5.1f %% of peak, at most %5.1f %%, row hits %.3f\n",
              standard.name.c_str(), map == ReferenceMap::kFine ? "fine" : "chunk",
              pattern.name.c_str(), outcome.percent, outcome.bound_percent, outcome.row_hits);
  return outcome;
}

TEST(ControllerPatterns, Hbm2EqualsTheReferences) {
  const DramStandard free = read_dram_standard("hbm2_aligned_norefresh");
  EXPECT_NEAR(run(free, a_stream(), ReferenceMap::kChunk).percent, 99.9, 1.0);
  const double random = run(free, c_gather64(), ReferenceMap::kChunk).percent;
  EXPECT_GE(random, 60.1 - 3) << "two simulators: 60.1 to 63.5";
  EXPECT_LE(random, 63.5 + 3);
  EXPECT_NEAR(run(free, a_stream(), ReferenceMap::kFine).percent, 99.9, 1.0);
  const double fine = run(free, c_gather64(), ReferenceMap::kFine).percent;
  EXPECT_GE(fine, 31.1 - 3) << "31.1 to 32.8";
  EXPECT_LE(fine, 32.8 + 3);
}

TEST(ControllerPatterns, Hbm2WithRefreshEqualsTheReferences) {
  const DramStandard standard = read_dram_standard("hbm2_aligned");
  EXPECT_NEAR(run(standard, a_stream(), ReferenceMap::kChunk).percent, 92.0, 1.0);
  EXPECT_NEAR(run(standard, c_gather64(), ReferenceMap::kChunk).percent, 63.5, 3.0);
}

TEST(ControllerPatterns, Hbm3EqualsTheReference) {
  const Outcome stream = run(read_dram_standard("hbm3_6400"), a_stream(), ReferenceMap::kChunk);
  EXPECT_NEAR(stream.percent, 89.6, 1.0);
  EXPECT_NEAR(stream.row_hits, 1.0 - 1.0 / 32, 0.02);
}

// V07: the peak exactly (tests/models/dram), a long stream at 85 % of it or more.
TEST(ControllerPatterns, EveryStandardStreamsAndGathersWithinItsBounds) {
  for (const char* name :
       {"hbm2_aligned_norefresh", "hbm2_aligned", "hbm3_5200", "hbm3_6400", "hbm4_8000",
        "lpddr5_6400", "lpddr5x_7500", "gddr6_14000", "ddr5_4800"}) {
    DramStandard standard = read_dram_standard(name);
    standard.channels = reference_channels(standard);
    for (const Pattern& pattern : all_patterns()) {
      const Outcome outcome = run(standard, pattern, ReferenceMap::kChunk);
      EXPECT_LE(outcome.percent, 100.0);
      if (pattern.name != "a_stream") continue;
      EXPECT_GE(outcome.percent, 80.0) << name;
      EXPECT_GE(outcome.row_hits, 0.95) << name;
    }
  }
  EXPECT_GE(run(read_dram_standard("hbm3_5200"), a_stream(), ReferenceMap::kChunk).percent, 85.0);
}

TEST(ControllerPatterns, ADeeperQueueGathersFaster) {
  double last = 0;
  for (const std::uint32_t entries : {8U, 16U, 32U, 64U, 128U, 256U}) {
    ControllerOptions options;
    options.queue_bursts = entries;
    const double now = run(read_dram_standard("hbm2_aligned_norefresh"), b_gather256(),
                           ReferenceMap::kChunk, options)
                           .percent;
    EXPECT_GE(now, last - 0.5) << entries;
    last = now;
  }
  EXPECT_GE(last, 87.0);
}

// Loss of a stream: tRFC / tREFI when pseudo-channels refresh together or apart behind ports of
// their own; less when banks are refreshed one at a time.
TEST(ControllerPatterns, RefreshModesCostWhatTheyShould) {
  const DramStandard standard = read_dram_standard("hbm2_aligned");
  ControllerOptions options;
  const double together = run(standard, a_stream(), ReferenceMap::kChunk, options).percent;
  options.stagger_refresh = true;
  const double staggered = run(standard, a_stream(), ReferenceMap::kChunk, options).percent;
  options.stagger_refresh = false;
  options.refresh = RefreshMode::kPerBank;
  const double per_bank = run(standard, a_stream(), ReferenceMap::kChunk, options).percent;
  EXPECT_NEAR(together, 100.0 * (1 - 260.0 / 3900), 1.5);
  EXPECT_LE(staggered, together + 0.5) << "a shared queue waits for the one that refreshes";
  std::printf("refresh together %.1f, staggered %.1f, per bank %.1f %%\n", together, staggered,
              per_bank);
}

}  // namespace
}  // namespace stoat::sim
