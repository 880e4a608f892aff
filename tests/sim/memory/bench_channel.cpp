// Speed of the channel model in bursts a second on one core. Not a test.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <random>

#include "sim/memory/channel.h"

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

}  // namespace

BENCHMARK_MAIN();
