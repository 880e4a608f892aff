// An engine used again: another method on the rows that are cached, lengths rolled back. What
// measures many methods on the same prompts prefills once.
#include <utility>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/engine_state.h"
#include "models/error.h"

namespace stoat::gpu {

void Engine::use_method(Method method, std::vector<std::uint32_t> budgets,
                        std::optional<TernaryOptions> ternary, std::uint64_t seed) {
  State& s = *state_;
  STOAT_ENSURE(!s.recording() && !s.options.measures_outputs(),
               "methods change where nothing is recorded");
  STOAT_ENSURE(!ternary || s.features.size() > 0, "the engine was made with ternary scores");
  EngineOptions next = s.options;
  next.method = method;
  next.budgets = std::move(budgets);
  next.ternary = ternary;
  next.seed = seed;
  if (const std::string why = shape_refusal(attention_shape(s.config, next)); !why.empty())
    throw usage_error({"CUDA"}, why);
  wait();
  s.options = std::move(next);
  const std::size_t needed = workspaces(s.config, s.options).method;
  if (needed > s.workspace.size()) {
    s.workspace = DeviceMemory();
    ensure_device_memory(needed, "the workspace of another method");
    s.workspace = DeviceMemory(needed);
  }
  prepare_workspace(s.decode_params(0, 0), s.stream.get());
  // Kernels of this method are loaded by its first steps; the graph follows.
  for (DeviceGraph& graph : s.graph) graph = DeviceGraph();
  s.submitted = s.collected = 0;
  s.stream.wait();
}

void Engine::rewind(std::span<const std::uint32_t> lengths) {
  State& s = *state_;
  STOAT_ENSURE(lengths.size() == s.lengths.size(), "one length a sequence");
  std::vector<std::uint32_t> next;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    STOAT_ENSURE(lengths[i] <= s.lengths[i], "rows that are cached");
    s.lengths[i] = lengths[i];
    next.push_back(lengths[i] + 1);  // a step counts the token that it is fed
  }
  s.stream.wait();
  copy_to_device(s.context.as<void>(), next.data(), next.size() * sizeof(std::uint32_t),
                 s.stream.get());
  s.stream.wait();
}

void Engine::all_logits(std::vector<float>& values) {
  State& s = *state_;
  values.resize(std::size_t{s.options.batch} * s.config.vocab_size);
  copy_to_host(values.data(), s.buffers.logits.as<void>(), values.size() * sizeof(float),
               s.stream.get());
  s.stream.wait();
}

}  // namespace stoat::gpu
