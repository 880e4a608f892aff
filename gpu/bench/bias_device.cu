// Runs one sampled launch a seed and adds the outputs up on the device, always in the same order.
#include <cmath>

#include "gpu/attention/decode_launch.h"
#include "gpu/bench/bias.h"
#include "gpu/bench/fill.cuh"

namespace stoat::gpu {

namespace {

constexpr std::uint32_t kBatches = 64;
constexpr std::uint32_t kSlots = 32;  // outputs that lie side by side before they are added up

// Adds `slots` outputs to a batch's sums. out: [slots, elements]; the rest [elements].
__global__ void add_up(const float* out, std::uint32_t slots, std::uint32_t elements,
                       const double* exact, double* sum, double* square_error) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= elements) return;
  double total = sum[i], squares = square_error[i];
  for (std::uint32_t s = 0; s < slots; ++s) {
    const double x = static_cast<double>(out[std::size_t{s} * elements + i]);
    total += x;
    squares += (x - exact[i]) * (x - exact[i]);
  }
  sum[i] = total;
  square_error[i] = squares;
}

std::vector<Bf16> to_host(const Block& block) {
  std::vector<Bf16> host(block.size() / sizeof(Bf16));
  check(cudaMemcpy(host.data(), block.as<void>(), block.size(), cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  return host;
}

}  // namespace

struct BiasDevice::Memory {
  Block q, k, v, context, status, workspace, out, exact, sum, square_error;
};

BiasDevice::BiasDevice(const BiasRegime& regime)
    : regime_(regime), memory_(std::make_unique<Memory>()) {
  Memory& m = *memory_;
  const std::size_t row = std::size_t{BiasRegime::kKvHeads} * BiasRegime::kHeadDim;
  m.q.allocate(2 * BiasRegime::kElements);
  m.k.allocate(2 * regime.context * row);
  m.v.allocate(2 * regime.context * row);
  fill(m.q, regime.skew, 3 * regime.key, nullptr);
  fill(m.k, 1, 3 * regime.key + 1, nullptr);
  fill(m.v, 1, 3 * regime.key + 2, nullptr);
  q = to_host(m.q);
  k = to_host(m.k);
  v = to_host(m.v);
  m.context.allocate(sizeof(std::uint32_t));
  m.status.allocate(sizeof(std::uint32_t));
  check(cudaMemcpy(m.context.as<void>(), &regime.context, sizeof(std::uint32_t),
                   cudaMemcpyHostToDevice),
        "cudaMemcpy");
  check(cudaMemset(m.status.as<void>(), 0, sizeof(std::uint32_t)), "cudaMemset");
  // Two halves, so that a launch that starts early cannot overwrite what is being added up.
  m.out.allocate(2 * kSlots * BiasRegime::kElements * sizeof(float));
  m.exact.allocate(BiasRegime::kElements * sizeof(double));
  m.sum.allocate(kBatches * BiasRegime::kElements * sizeof(double));
  m.square_error.allocate(m.sum.size());
}

BiasDevice::~BiasDevice() = default;

BiasSums BiasDevice::run(Method method, std::uint32_t budget, std::uint32_t draws,
                         const std::vector<double>& exact,
                         const std::function<std::uint64_t(std::uint64_t)>& seed_of) {
  Memory& m = *memory_;
  constexpr std::size_t kElements = BiasRegime::kElements;
  DecodeParams p;
  p.batch = 1;
  p.q_heads = BiasRegime::kQHeads;
  p.kv_heads = BiasRegime::kKvHeads;
  p.head_dim = BiasRegime::kHeadDim;
  p.max_context = p.kv_capacity = regime_.context;
  p.q = m.q.as<void>();
  p.k = m.k.as<void>();
  p.v = m.v.as<void>();
  p.context_len = m.context.as<std::uint32_t>();
  p.sm_scale = 1.0F / std::sqrt(static_cast<float>(p.head_dim));
  p.method = method;
  p.budget = budget;
  p.out = m.out.as<void>();
  p.out_is_float = true;
  p.kv_is_stable = true;
  p.status = m.status.as<std::uint32_t>();
  m.workspace.allocate(workspace_bytes(p, device_multiprocessors()));
  p.workspace = m.workspace.as<void>();
  p.workspace_size = m.workspace.size();
  prepare_workspace(p, nullptr);
  check(cudaMemset(m.out.as<void>(), 0xff, m.out.size()), "cudaMemset");  // NaN
  check(cudaMemset(m.sum.as<void>(), 0, m.sum.size()), "cudaMemset");
  check(cudaMemset(m.square_error.as<void>(), 0, m.square_error.size()), "cudaMemset");
  check(cudaMemcpy(m.exact.as<void>(), exact.data(), m.exact.size(), cudaMemcpyHostToDevice),
        "cudaMemcpy");

  BiasSums sums;
  sums.batches = kBatches;
  sums.draws_a_batch = draws / kBatches;
  sums.elements = kElements;
  std::uint64_t draw = 0, groups = 0;
  for (std::uint32_t b = 0; b < kBatches; ++b) {
    for (std::uint32_t done = 0; done < sums.draws_a_batch; ++groups) {
      const std::uint32_t slots = std::min(kSlots, sums.draws_a_batch - done);
      float* out = m.out.as<float>() + groups % 2 * kSlots * kElements;
      for (std::uint32_t s = 0; s < slots; ++s, ++draw) {
        p.seed = seed_of(draw);
        p.out = out + s * kElements;
        launch_decode(p, nullptr);
      }
      add_up<<<(kElements + 127) / 128, 128>>>(out, slots, kElements, m.exact.as<double>(),
                                               m.sum.as<double>() + b * kElements,
                                               m.square_error.as<double>() + b * kElements);
      check(cudaGetLastError(), "add_up");
      done += slots;
    }
  }
  sums.sum.resize(kBatches * kElements);
  std::vector<double> squares(kBatches * kElements);
  check(cudaMemcpy(sums.sum.data(), m.sum.as<void>(), m.sum.size(), cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  check(cudaMemcpy(squares.data(), m.square_error.as<void>(), m.square_error.size(),
                   cudaMemcpyDeviceToHost),
        "cudaMemcpy");
  for (std::uint32_t b = 0; b < kBatches; ++b) {
    double total = 0;
    for (std::size_t i = 0; i < kElements; ++i) total += squares[b * kElements + i];
    sums.square_error.push_back(total);
  }
  std::uint32_t bits = 0;
  check(cudaMemcpy(&bits, m.status.as<void>(), sizeof(bits), cudaMemcpyDeviceToHost), "cudaMemcpy");
  STOAT_ENSURE(bits == 0 && !std::isnan(sums.square_error[0]), "every head was computed");
  return sums;
}

}  // namespace stoat::gpu
