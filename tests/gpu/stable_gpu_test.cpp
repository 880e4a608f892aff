// Launches that follow each other while only the newest row of K and V changes
// (DecodeParams::kv_is_stable): what starts before the launch before has ended reads nothing that
// is still to be written, and gives bit for bit what launches that wait give. Skipped without a
// device.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gpu/attention/kv_append.h"
#include "tests/gpu/attention_expect.h"
#include "tests/gpu/feature_case.h"

namespace stoat::gpu {
namespace {

using StableCacheOnDevice = OnDevice;

constexpr int kLaunches = 6, kAppendAfter = 3;  // launches of a round; when the newest row changes

struct Round {
  std::vector<float> out;  // [kLaunches, batch, q_heads, head_dim]
  std::uint32_t status = 0;
};

// Launches on one workspace behind each other, recorded in a graph, with other layers, so that
// draws differ; with `appends` the newest rows are written again before one of them. (That kernel
// lets the next one start when it has ended; one that lets it start at once is llm_gpu_test's.)
Round run_round(AttentionCase& on, const DecodeParams& base, bool stable, bool appends) {
  on.upload();
  DecodeParams p = base;
  const DecodeParams cache = on.params();
  p.k = cache.k;
  p.v = cache.v;
  p.q = cache.q;
  p.context_len = cache.context_len;
  p.sequence_id = cache.sequence_id;
  p.indptr = cache.indptr;
  p.indices = cache.indices;
  p.last_page_len = cache.last_page_len;
  p.kv_is_stable = stable;
  const std::size_t elements = std::size_t{p.batch} * p.q_heads * p.head_dim;
  const DeviceArray<float> out(kLaunches * elements);
  const DeviceArray<std::uint32_t> status(std::vector<std::uint32_t>{0});
  p.out = out.get();
  p.out_is_float = true;
  p.status = status.get();
  p.workspace_size = workspace_bytes(p, device_multiprocessors());
  const DeviceArray<std::uint8_t> workspace(p.workspace_size);
  p.workspace = workspace.get();
  std::vector<std::uint16_t> rows(std::size_t{p.batch} * p.kv_heads * p.head_dim);
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] =
        to_bf16(static_cast<float>(static_cast<int>(i * 2654435761U >> 24 & 63) - 32) / 2).bits;
  const DeviceArray<std::uint16_t> newest(rows);
  KvAppendParams append = cache_of(p, 1, nullptr);
  append.k_new = append.v_new = newest.get();
  prepare_workspace(p, nullptr);
  run_in_graph([&](Stream stream) {
    for (int i = 0; i < kLaunches; ++i) {
      if (appends && i == kAppendAfter) launch_append(append, stream);
      p.layer = static_cast<std::uint32_t>(i);
      p.out = out.get() + static_cast<std::size_t>(i) * elements;
      launch_decode(p, stream);
    }
  });
  return {out.to_host(), status.to_host()[0]};
}

// twin: also the evil one, which never writes the newest rows; the launches after that must tell.
void expect_stable_equals_waiting(const Shape& shape, Method method, std::uint32_t budget,
                                  bool twin = false) {
  AttentionCase on(shape, 90);
  const DecodeParams params = params_of(on, method, budget);
  const Round waiting = run_round(on, params, false, true);
  const Round stable = run_round(on, params, true, true);
  const std::string what = std::string(method_name(method)) + " " + std::to_string(budget) +
                           " of " + std::to_string(shape.contexts[0]) + " rows, pages of " +
                           std::to_string(shape.page_size);
  EXPECT_EQ(waiting.status, 0U) << what;
  EXPECT_EQ(stable.status, 0U) << what;
  const std::size_t launch = waiting.out.size() / kLaunches;
  const auto last = [launch](const Round& round) {
    return std::vector<float>(round.out.end() - static_cast<std::ptrdiff_t>(launch),
                              round.out.end());
  };
  if (twin) {
    EXPECT_NE(last(run_round(on, params, true, false)), last(waiting)) << what;
  }
  ASSERT_EQ(waiting.out.size(), stable.out.size());
  for (std::size_t i = 0; i < waiting.out.size(); ++i)
    ASSERT_EQ(waiting.out[i], stable.out[i])
        << what << ", launch " << i / launch << ", element " << i % launch;
}

// One tile a block and fewer; the newest row in each place of a warp's rows.
TEST_F(StableCacheOnDevice, ShortContextsGiveWhatWaitingLaunchesGive) {
  for (const std::uint32_t context : {1U, 15U, 16U, 17U, 32U, 33U, 255U, 256U, 257U, 4096U}) {
    for (const std::uint32_t page_size : {0U, 16U}) {
      Shape shape = shape_of({context}, 4, 8);
      shape.page_size = page_size;
      expect_stable_equals_waiting(shape, Method::kProp, 128, true);
    }
  }
}

// Several tiles a block: the first half of the first one waits in registers.
TEST_F(StableCacheOnDevice, LongContextsGiveWhatWaitingLaunchesGive) {
  expect_stable_equals_waiting(shape_of({32768}, 4, 8), Method::kProp, 128, true);
  expect_stable_equals_waiting(shape_of({33025}, 4, 8), Method::kProp, 1024);
  expect_stable_equals_waiting(shape_of({10240}, 4, 8), Method::kProp, 128);
  Shape paged = shape_of({33000}, 4, 4);
  paged.page_size = 1;
  expect_stable_equals_waiting(paged, Method::kSystematic, 64);
  paged.page_size = 64;
  paged.head_dim = 64;
  paged.layout = KvLayout::kHnd;
  expect_stable_equals_waiting(paged, Method::kFlash, 512);
}

TEST_F(StableCacheOnDevice, RaggedBatchesGiveWhatWaitingLaunchesGive) {
  const std::vector<std::uint32_t> contexts{9000, 1, 257, 20000, 4096, 33, 12345, 700};
  for (const std::uint32_t budget : {16U, 1024U})
    expect_stable_equals_waiting(shape_of(contexts, 4), Method::kProp, budget, true);
  expect_stable_equals_waiting(shape_of({700, 33000, 2}, 7, 4), Method::kStratified, 300);
  expect_stable_equals_waiting(shape_of({33000, 16, 16}, 1, 4), Method::kTopK, 100);
}

}  // namespace
}  // namespace stoat::gpu
