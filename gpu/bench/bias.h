// Bias and per-draw error of the sampled kernels on the device, over many spread seeds, on inputs
// from flat to skewed. Outputs are taken in fp32, before the 16-bit cast; references in double.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "gpu/attention/params.h"
#include "gpu/bench/bias_statistics.h"
#include "models/bf16.h"

namespace stoat::gpu {

// q, K, V ~ N(0, 1) as bf16, q multiplied by skew; 32 query heads, 8 KV heads, head_dim 128.
struct BiasRegime {
  const char* name = "";
  std::uint32_t context = 0;
  float skew = 1;
  std::uint32_t key = 0;  // of the tensors
  bool flat = false;      // too noisy for a bound on the bias: at most 3 x the Monte-Carlo floor

  static constexpr std::uint32_t kQHeads = 32, kKvHeads = 8, kHeadDim = 128;
  static constexpr std::size_t kElements = std::size_t{kQHeads} * kHeadDim;
};

struct BiasPlan {
  std::uint32_t draws = 65536;
  std::uint64_t seed = 20261122;  // the seeds are Philox words of it
  std::vector<std::string> only;  // parts of names; empty: every case
};

struct BiasResult {
  BiasRegime regime;
  Method method = Method::kProp;
  std::uint32_t budget = 0, draws = 0;
  double participation = 0;      // median over heads of 1 / sum p^2
  BiasEstimate dense, codes;     // against dense in double; against the expectation of the codes
  DrawError error, systematic;   // per draw; of systematic sampling in double on the same tensors
  double largest_remainder = 0;  // exact bias of the published tile budgets on these tensors
  BiasEstimate reused;           // the twin: every batch repeats the seeds of the first
  std::vector<std::string> failures;

  std::string name() const;
};

// Bounds, checked in every result: bias at most 1e-3 of ||dense||; no sign of any bias against the
// codes (at most 6 standard errors: level 1e-6 and better); per-draw error of sys and prop within
// 3 % of systematic sampling; both twins rejected.
inline constexpr double kBiasBound = 1e-3, kBiasZ = 6, kFlatBound = 3, kErrorBound = 0.03;

void measure_bias(const BiasPlan& plan, const std::function<void(const BiasResult&)>& done);

std::string bias_table_head();
std::string bias_table_row(const BiasResult& result);
nlohmann::json bias_json(const BiasResult& result);
std::vector<std::string> bias_columns();

// The tensors of a regime on the device, copies of them on the host, and the sums of many draws.
class BiasDevice {
 public:
  explicit BiasDevice(const BiasRegime& regime);
  ~BiasDevice();
  BiasDevice(const BiasDevice&) = delete;
  BiasDevice& operator=(const BiasDevice&) = delete;

  std::vector<Bf16> q, k, v;  // q [q_heads, head_dim]; k, v [context, kv_heads, head_dim]

  // exact: [elements]. draws is cut to whole batches. seed_of(i): the seed of draw i.
  BiasSums run(Method method, std::uint32_t budget, std::uint32_t draws,
               const std::vector<double>& exact,
               const std::function<std::uint64_t(std::uint64_t)>& seed_of);

 private:
  struct Memory;
  BiasRegime regime_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace stoat::gpu
