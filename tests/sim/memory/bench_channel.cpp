// Speed of the channel model in bursts a second on one core. Not a test.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <random>

#include "sim/memory/channel.h"
#include "sim/memory/controller.h"
#include "sim/memory/patterns.h"

namespace {

using stoat::Bytes;
using stoat::Picoseconds;

void stream(benchmark::State& state) {
  const stoat::DramStandard standard = stoat::read_dram_standard("hbm3_5200");
  const auto size = static_cast<std::uint64_t>(state.range(0));
  std::uint64_t bursts = 0;
  for (auto _ : state) {
    stoat::sim::DramChannel channel(standard, {static_cast<std::uint32_t>(state.range(1))});
    Picoseconds end{0};
    for (std::uint64_t at = 0; at < 16 << 20; at += size) {
      for (std::uint32_t p = 0; p < 2; ++p) {
        end = std::max(end, channel.access({p, at, Bytes(size)}).done);
      }
    }
    channel.finish(end);
    bursts += channel.counts().read_bursts;
  }
  state.counters["bursts/s"] =
      benchmark::Counter(static_cast<double>(bursts), benchmark::Counter::kIsRate);
}
BENCHMARK(stream)
    ->Args({65536, 64})
    ->Args({4096, 64})
    ->Args({65536, 0})
    ->Unit(benchmark::kMillisecond);

void gather(benchmark::State& state) {
  const stoat::DramStandard standard = stoat::read_dram_standard("hbm3_5200");
  const auto size = static_cast<std::uint64_t>(state.range(0));
  std::uint64_t bursts = 0;
  for (auto _ : state) {
    stoat::sim::DramChannel channel(standard, {static_cast<std::uint32_t>(state.range(1))});
    std::mt19937_64 random(1);
    Picoseconds end{0};
    for (int i = 0; i < 16384; ++i) {
      for (std::uint32_t p = 0; p < 2; ++p) {
        const std::uint64_t at = random() % ((16 << 20) / size) * size;
        end = std::max(end, channel.access({p, at, Bytes(size)}).done);
      }
    }
    channel.finish(end);
    bursts += channel.counts().read_bursts;
  }
  state.counters["bursts/s"] =
      benchmark::Counter(static_cast<double>(bursts), benchmark::Counter::kIsRate);
}
BENCHMARK(gather)->Args({256, 64})->Args({64, 64})->Args({256, 0})->Unit(benchmark::kMillisecond);

// The first-ready controller on the five reference patterns: HBM3, 256-byte interleave, 64 entries
// a channel, all requests at time 0; every channel of the stack by itself.
void first_ready(benchmark::State& state, const stoat::sim::Pattern& pattern) {
  using namespace stoat::sim;
  stoat::DramStandard standard = stoat::read_dram_standard("hbm3_6400");
  standard.address_order = address_order(ReferenceMap::kChunk);
  const auto channels = requests_of(pattern, standard, ReferenceMap::kChunk);
  std::uint64_t bursts = 0;
  for (auto _ : state) {
    for (const auto& requests : channels) {
      DramController controller(standard, {});
      for (const MemoryRequest& request : requests) controller.submit(request);
      controller.drain();
      controller.finish(controller.last_data());
      bursts += controller.counts().read_bursts;
    }
  }
  state.counters["bursts/s"] =
      benchmark::Counter(static_cast<double>(bursts), benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(first_ready, a_stream, stoat::sim::a_stream())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(first_ready, b_gather256, stoat::sim::b_gather256())
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(first_ready, c_gather64, stoat::sim::c_gather64())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(first_ready, d_stride256, stoat::sim::d_stride256())
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(first_ready, e_mixed, stoat::sim::e_mixed())->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
