// Every kernel on every class of shape, for compute-sanitizer (scripts/gpu-sanitize.sh): contexts
// 1, 257 and 32k + 1 in one ragged batch, pages of 1 and 16, groups 3 and 7. Outputs and workspace
// are allocated and not filled, so that initcheck sees what is read before it is written. Values
// are judged elsewhere; here they are finite and nothing is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "gpu/attention/select_check.h"
#include "tests/gpu/attention_case.h"

namespace stoat::gpu {
namespace {

// Device memory that nobody has written.
class RawMemory {
 public:
  explicit RawMemory(std::size_t bytes) { cuda_check(cudaMalloc(&data_, bytes > 0 ? bytes : 1)); }
  ~RawMemory() { cudaFree(data_); }
  RawMemory(const RawMemory&) = delete;
  RawMemory& operator=(const RawMemory&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

class EveryKernelForSanitizer : public testing::Test {
 protected:
  void SetUp() override {
    const std::string obstacle = device_obstacle();
    if (!obstacle.empty()) GTEST_SKIP() << obstacle;
  }
};

Shape ragged(std::uint32_t group, std::uint32_t page_size, std::uint32_t head_dim = 128) {
  Shape shape;
  shape.contexts = {257, 1, 32769};
  shape.group = group;
  shape.page_size = page_size;
  shape.head_dim = head_dim;
  return shape;
}

// Two launches, everything recorded that can be; the outputs are finite, the status is 0.
void run(const AttentionCase& on, DecodeParams p, bool trace) {
  if (!shape_refusal(p).empty()) {
    ADD_FAILURE() << method_name(p.method) << ": " << shape_refusal(p);
    return;
  }
  const std::size_t heads = std::size_t{on.batch()} * on.shape().q_heads();
  const std::size_t elements = heads * on.shape().head_dim;
  const RawMemory out(elements * sizeof(float)), lse(heads * sizeof(float));
  const RawMemory row(heads * p.budget * 4), count(heads * p.budget * 2);
  DeviceArray<std::uint32_t> status(std::vector<std::uint32_t>{0}), lost(status.to_host());
  p.out = out.as<float>();
  p.out_is_float = true;
  p.lse = lse.as<float>();
  p.status = status.get();
  if (trace)
    p.trace = TraceSink{row.as<std::uint32_t>(), count.as<std::uint16_t>(), p.budget, lost.get()};
  p.workspace_size = workspace_bytes(p, device_multiprocessors());
  const RawMemory workspace(p.workspace_size);
  p.workspace = workspace.as<void>();
  prepare_workspace(p, nullptr);
  for (int launch = 0; launch < 2; ++launch) launch_decode(p, nullptr);
  std::vector<float> host(elements);
  cuda_check(
      cudaMemcpy(host.data(), out.as<float>(), elements * sizeof(float), cudaMemcpyDeviceToHost));
  EXPECT_EQ(status.to_host()[0], 0U);
  for (const float x : host) {
    if (!std::isfinite(x)) {
      ADD_FAILURE() << method_name(p.method) << " left something out";
      return;
    }
  }
}

void run_all(const Shape& shape) {
  AttentionCase on(shape, 17);
  on.upload();
  for (const Method method : {Method::kDense, Method::kProp, Method::kIid, Method::kStratified,
                              Method::kFlash, Method::kTopK}) {
    DecodeParams p = on.params();
    p.method = method;
    p.budget = method == Method::kFlash ? 300 : 64;
    run(on, p, method != Method::kDense);
    if (method == Method::kDense || method == Method::kProp) {
      p.kv_is_stable = true;
      run(on, p, false);
    }
  }
}

TEST_F(EveryKernelForSanitizer, RaggedContiguousGroup3) { run_all(ragged(3, 0)); }
TEST_F(EveryKernelForSanitizer, RaggedPagesOfOneRowGroup7) { run_all(ragged(7, 1)); }
TEST_F(EveryKernelForSanitizer, RaggedPagesOf16Group4HeadDim64) { run_all(ragged(4, 16, 64)); }

TEST_F(EveryKernelForSanitizer, TernaryScoresGroup3) {
  AttentionCase on(ragged(3, 0), 18);
  on.upload();
  DecodeParams p = on.params();
  constexpr std::uint32_t kCapacity = 32776;  // a multiple of 8
  const std::size_t elements = std::size_t{on.batch()} * p.kv_heads * p.head_dim * kCapacity;
  std::vector<std::uint16_t> host(elements);
  for (std::size_t i = 0; i < elements; ++i)
    host[i] =
        to_bf16(static_cast<float>(static_cast<int>(i * 2654435761U >> 24 & 63) - 32) / 16).bits;
  const DeviceArray<std::uint16_t> features(host);
  p.method = Method::kProp;
  p.budget = 64;
  p.ternary.k_features = features.get();
  p.ternary.capacity = kCapacity;
  for (const TernaryCoupling coupling :
       {TernaryCoupling::kIndependent, TernaryCoupling::kCoupled, TernaryCoupling::kGroupMean}) {
    p.ternary.draws = coupling == TernaryCoupling::kCoupled ? 1 : 2;
    p.ternary.coupling = coupling;
    run(on, p, true);
  }
}

}  // namespace
}  // namespace stoat::gpu
