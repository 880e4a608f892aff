// Tokens a second of prefill and decode, on random weights of the shipped model's shape (or on the
// folder in $STOAT_MODEL).
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "models/llm/transformer.h"
#include "tests/models/llm/model_writer.h"

namespace {

struct Bench {
  stoat::test::TempFolder folder;
  stoat::ThreadPool pool;
  std::unique_ptr<stoat::Transformer> model;

  Bench() {
    std::string path = folder.path();
    if (const char* given = std::getenv("STOAT_MODEL")) {
      path = given;
    } else {
      stoat::test::TinyShape shape;
      shape.layers = 4;
      shape.hidden = 384;
      shape.heads = 8;
      shape.kv_heads = 2;
      shape.head_dim = 128;
      shape.intermediate = 896;
      shape.vocab = 256;
      shape.tied = true;
      shape.max_positions = 32768;
      stoat::test::write_model(path, shape, stoat::test::random_weights(shape, 1));
    }
    model = std::make_unique<stoat::Transformer>(stoat::Transformer::load(path, pool));
  }
  static Bench& get() {
    static Bench bench;
    return bench;
  }
};

std::vector<std::int32_t> tokens(std::int64_t count) {
  std::vector<std::int32_t> list;
  for (std::int64_t i = 0; i < count; ++i) list.push_back(static_cast<std::int32_t>(i * 131 % 251));
  return list;
}

void prefill(benchmark::State& state) {
  Bench& b = Bench::get();
  const auto text = tokens(state.range(0));
  for (auto _ : state) {
    stoat::KvCache cache = b.model->make_cache(static_cast<std::uint32_t>(text.size()));
    benchmark::DoNotOptimize(b.model->prefill(text, cache));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void decode(benchmark::State& state) {
  Bench& b = Bench::get();
  const auto text = tokens(state.range(0));
  stoat::KvCache cache = b.model->make_cache(static_cast<std::uint32_t>(text.size() + 1));
  b.model->prefill(text, cache);
  const auto length = cache.length();
  const auto dense = stoat::dense_attention(b.model->config(), b.model->attention_scale(), b.pool);
  for (auto _ : state) {
    cache.set_length(length);
    benchmark::DoNotOptimize(b.model->decode(1, cache, dense));
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK(prefill)->Arg(512)->Arg(4096)->Arg(8192)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(decode)->Arg(512)->Arg(4096)->Arg(8192)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
