// What recording costs the host: steps of 32 layers and 32 heads on their way to the spool, as the
// threads of a capture pack them, in milliseconds of a step. Not a test.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "gpu/recorder.h"

namespace {

using stoat::TraceRecords;

constexpr std::uint16_t kLayers = 32, kHeads = 32;
constexpr std::uint32_t kContext = 32768;

stoat::TraceHeader header_of(std::uint32_t budget) {
  stoat::TraceHeader header;
  header.model_name = "none";
  header.method = stoat::Method::kProp;
  header.budgets = {budget};
  header.row_bytes = 256;
  header.n_layers = kLayers;
  header.n_q_heads = kHeads;
  header.n_kv_heads = 8;
  header.head_dim = 128;
  return header;
}

// Rows of flat attention, in order, hardly any twice.
std::vector<stoat::Selection> selections(std::uint32_t heads, std::uint32_t budget) {
  std::mt19937 engine(1);
  std::uniform_int_distribution<std::uint32_t> any(0, kContext - 1);
  std::vector<stoat::Selection> all(heads);
  std::vector<std::uint32_t> rows(budget);
  for (stoat::Selection& selection : all) {
    for (std::uint32_t& row : rows) row = any(engine);
    std::sort(rows.begin(), rows.end());
    for (const std::uint32_t row : rows) {
      if (!selection.rows.empty() && selection.rows.back().row == row) {
        ++selection.rows.back().count;
      } else {
        selection.rows.push_back({row, 1});
      }
    }
  }
  return all;
}

// Arguments: sequences, budget, threads of the capture.
void record(benchmark::State& state) {
  const auto batch = static_cast<std::uint32_t>(state.range(0));
  const auto budget = static_cast<std::uint32_t>(state.range(1));
  // So many that the compressor does not meet one twice.
  const std::vector<stoat::Selection> drawn = selections(4096, budget);
  const std::string path = std::filesystem::temp_directory_path() /
                           ("stoat-bench-recorder-" + std::to_string(::getpid()));
  const std::size_t slots = std::size_t{batch} * kLayers * kHeads * budget;
  std::uint32_t step = 0;
  std::string spool;
  {
    stoat::Recorder recorder(path, header_of(budget), slots * 7,
                             static_cast<unsigned>(state.range(2)));
    spool = recorder.spool_path();
    for (auto _ : state) {
      recorder.add({std::vector<std::int32_t>(batch), [&, now = step++](TraceRecords& records) {
                      std::size_t next = now;
                      records.row.reserve(slots);
                      records.count.reserve(slots);
                      for (std::uint32_t sequence = 0; sequence < batch; ++sequence) {
                        records.token_id.push_back(1);
                        for (std::uint16_t layer = 0; layer < kLayers; ++layer) {
                          for (std::uint16_t head = 0; head < kHeads; ++head)
                            stoat::append_record(records, sequence, now, layer, head, head / 4,
                                                 kContext, stoat::RecordKind::kSampled, budget,
                                                 drawn[next++ % drawn.size()]);
                        }
                      }
                    }});
    }
    recorder.drain();
    state.counters["MB a step"] =
        static_cast<double>(recorder.spool_bytes()) / 1e6 / std::max(1U, step);
  }
  std::filesystem::remove(spool);
}
// Wall time, and the processors' time of all threads.
BENCHMARK(record)
    ->Args({16, 512, 3})
    ->Args({16, 128, 3})
    ->Args({1, 512, 3})
    ->MeasureProcessCPUTime()
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
