// Engine: buffers, and the steps in flight. Sizes are in engine_sizes.cpp, the kernels of a pass in
// passes.cpp.
#include "gpu/llm/engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/engine_state.h"
#include "models/error.h"
#include "models/llm/rope.h"

namespace stoat::gpu {
Engine::State::State(const ModelConfig& c, DeviceWeights w, const EngineOptions& o)
    : config(c),
      weights(std::move(w)),
      options(o),
      capacity(rounded_capacity(o)),
      chunk(pass_rows(o)),
      multiprocessors(device_multiprocessors()),
      sm_scale(1.0F / std::sqrt(static_cast<float>(c.head_dim))),
      layout(record_layout(c, o)),
      lengths(o.batch) {
  const std::string why = shape_refusal(attention_shape(c, o));
  if (!why.empty()) throw usage_error({"CUDA"}, why, "", "or use --backend cpu");
  ensure_device_memory(Engine::bytes(c, o), "a context of " + std::to_string(o.capacity) +
                                                " rows for " + std::to_string(o.batch) +
                                                " sequence(s)");
  const auto sizes = pass_bytes(c, o);
  DeviceMemory* const members[] = {
      &buffers.x,        &buffers.next,    &buffers.squares, &buffers.qkv,    &buffers.q,
      &buffers.attended, &buffers.gate_up, &buffers.act,     &buffers.logits, &buffers.prompt};
  for (std::size_t i = 0; i < sizes.size(); ++i) *members[i] = DeviceMemory(sizes[i]);
  keys = DeviceMemory(cache_bytes(c, o));
  values = DeviceMemory(cache_bytes(c, o));
  keys.clear(stream.get());
  values.clear(stream.get());
  rotary = DeviceMemory(rotary_bytes(c, o));
  const std::vector<float> frequencies = rope_frequencies(c.rope, c.head_dim);
  const DeviceMemory device_frequencies(frequencies.size() * sizeof(float));
  copy_to_device(device_frequencies.as<void>(), frequencies.data(),
                 frequencies.size() * sizeof(float), stream.get());
  launch_rotary_table(device_frequencies.as<float>(), rotary.as<float>(), capacity, c.head_dim / 2,
                      static_cast<float>(c.rope.attention_factor), stream.get());
  lut = DeviceMemory(kWeightLutSize * sizeof(std::uint32_t));
  copy_to_device(lut.as<void>(), weight_lut(), lut.size(), stream.get());
  tokens = DeviceMemory(o.batch * sizeof(std::int32_t));
  context = DeviceMemory(o.batch * sizeof(std::uint32_t));
  status = DeviceMemory(2 * sizeof(std::uint32_t));
  for (const DeviceMemory* memory : {&tokens, &context, &status, &buffers.logits})
    memory->clear(stream.get());
  const auto [own, scores] = workspaces(c, o);
  workspace = DeviceMemory(own);
  codes = DeviceMemory(code_bytes(c, o));
  exponents = DeviceMemory(code_bytes(c, o) / kTileRows * 2 + 256);
  for (DeviceMemory& record : records) {
    record = DeviceMemory(layout.bytes);
    record.clear(stream.get());
  }
  for (PinnedMemory& memory : host) memory = PinnedMemory(layout.bytes);
  staging = PinnedMemory(2 * o.batch * sizeof(std::int32_t));
  stream.wait();
  prepare_workspace(decode_params(0, 0), stream.get());
  if (scores > 0) {
    spare = DeviceMemory(std::size_t{o.batch} * q_width() * 2);
    score_workspace = DeviceMemory(scores);
    prepare_workspace(score_params(0, 0), stream.get());
  }
}

Blas& Engine::State::blas() {
  if (!blas_library) blas_library = std::make_unique<Blas>();
  return *blas_library;
}

Engine::Engine(const ModelConfig& config, DeviceWeights weights, const EngineOptions& options)
    : state_(std::make_unique<State>(config, std::move(weights), options)) {
  if (!state_->narrow()) state_->blas();  // not while a graph is recorded
}
Engine::~Engine() = default;

void Engine::prefill(std::uint32_t sequence, std::span<const std::int32_t> prompt,
                     const std::function<void(std::uint32_t)>& progress) {
  State& s = *state_;
  STOAT_ENSURE(sequence < s.options.batch && !prompt.empty(), "a prompt for one of the sequences");
  std::uint32_t& length = s.lengths[sequence];
  if (prompt.size() + length >= s.capacity + std::size_t{1})
    throw usage_error({"prompt"}, std::to_string(prompt.size() + length) + " tokens",
                      "at most " + std::to_string(s.capacity), "give the engine more capacity");
  for (std::size_t done = 0; done < prompt.size();) {
    const auto part = prompt.subspan(done, std::min<std::size_t>(s.chunk, prompt.size() - done));
    copy_to_device(s.buffers.prompt.as<void>(), part.data(), part.size_bytes(), s.stream.get());
    done += part.size();
    const auto rows = static_cast<std::uint32_t>(part.size());
    s.prefill_chunk(sequence, length, rows, done == prompt.size());
    length += rows;
    s.stream.wait();  // the prompt's memory is the caller's
    if (progress) progress(static_cast<std::uint32_t>(done));
  }
  // The choice counts one row more in every sequence: then all lengths are set.
  copy_to_device(s.context.as<void>(), s.lengths.data(), s.lengths.size() * sizeof(std::uint32_t),
                 s.stream.get());
  TokenParams choice = s.token_params();
  launch_choose_token(choice, s.stream.get());
  s.stream.wait();
}

void Engine::pretend_context(std::uint32_t rows, std::uint64_t seed) {
  State& s = *state_;
  STOAT_ENSURE(rows < s.capacity, "rows within the capacity");
  launch_fill_normal(s.keys.as<void>(), s.keys.size() / 2, 1.5F, seed, s.stream.get());
  launch_fill_normal(s.values.as<void>(), s.values.size() / 2, 1.0F, seed + 1, s.stream.get());
  s.lengths.assign(s.lengths.size(), rows);
  const std::vector<std::uint32_t> next(s.lengths.size(), rows + 1);
  copy_to_device(s.context.as<void>(), next.data(), next.size() * sizeof(std::uint32_t),
                 s.stream.get());
  s.stream.wait();
}

void Engine::submit(std::span<const std::int32_t> tokens) {
  State& s = *state_;
  const auto slot = static_cast<std::uint32_t>(s.submitted % 2);
  const Stream stream = s.stream.get();
  STOAT_ENSURE(!s.options.record || waiting() < 2, "at most two steps wait");
  for (std::uint32_t& length : s.lengths) {
    STOAT_ENSURE(length < s.capacity, "the KV cache has room for one more row");
    ++length;
  }
  if (s.submitted >= 2) s.copied[slot].make_wait(stream);
  if (!tokens.empty()) {
    STOAT_ENSURE(tokens.size() == s.options.batch, "one token a sequence");
    if (s.submitted >= 2) s.copied[slot].wait();
    auto* pinned = s.staging.as<std::int32_t>() + std::size_t{slot} * s.options.batch;
    std::copy(tokens.begin(), tokens.end(), pinned);
    copy_to_device(s.tokens.as<void>(), pinned, tokens.size_bytes(), stream);
  }
  const DeviceMemory& record = s.records[slot];
  const std::size_t bytes = s.options.batch * sizeof(std::int32_t);
  copy_on_device(record.as<void>(s.layout.fed), s.tokens.as<void>(), bytes, stream);
  copy_on_device(record.as<void>(s.layout.context), s.context.as<void>(), bytes, stream);
  // The first step of each kind runs without a graph: it loads the kernels.
  if (s.submitted < 2) {
    s.queue_step(slot);
  } else {
    // Without a recording both slots are the same.
    const bool recording = s.options.record || s.wants_codes();
    DeviceGraph& graph = s.graph[recording ? slot : 0];
    if (!graph.ready()) {
      graph.begin(stream);
      s.queue_step(slot);
      graph.end(stream);
    }
    graph.launch(stream);
  }
  copy_on_device(record.as<void>(s.layout.chosen), s.tokens.as<void>(), bytes, stream);
  copy_on_device(record.as<void>(s.layout.status), s.status.as<void>(), 8, stream);
  s.stepped[slot].record(stream);
  s.stepped[slot].make_wait(s.copies.get());
  copy_to_host(s.host[slot].as<void>(), record.as<void>(), s.layout.bytes, s.copies.get());
  s.copied[slot].record(s.copies.get());
  ++s.submitted;
}

std::uint32_t Engine::waiting() const {
  return static_cast<std::uint32_t>(state_->submitted - state_->collected);
}

StepRecord Engine::collect() {
  State& s = *state_;
  STOAT_ENSURE(waiting() > 0, "a step was submitted");
  if (!s.options.record) s.collected = std::max(s.collected, s.submitted - 1);
  const auto slot = static_cast<std::uint32_t>(s.collected % 2);
  s.copied[slot].wait();
  ++s.collected;
  const StepRecord record{&s.layout, &s.host[slot]};
  const std::uint32_t found = *record.part<std::uint32_t>(s.layout.status);
  if (found == 0) return record;
  std::string what;
  for (const auto& [bit, text] :
       {std::pair{static_cast<std::uint32_t>(kBadContext), "a context out of range"},
        std::pair{static_cast<std::uint32_t>(kDamagedScore), "NaN or infinity among the scores"},
        std::pair{static_cast<std::uint32_t>(kNoFiniteScore), "no finite score"},
        std::pair{static_cast<std::uint32_t>(kTraceOverflow), "rows that did not fit the trace"},
        std::pair{kBadLogits, "NaN or infinity among the logits"}}) {
    if (found & bit) what += (what.empty() ? "" : ", ") + std::string(text);
  }
  if (found & kTraceOverflow)
    what += " (" + std::to_string(*record.part<std::uint32_t>(s.layout.lost)) + " lost)";
  throw damaged_error({"CUDA"}, "the device reports " + what, "finite scores and logits",
                      "look for damaged weights");
}

std::vector<std::int32_t> Engine::chosen() {
  std::vector<std::int32_t> tokens(state_->options.batch);
  std::uint32_t found = 0;
  copy_to_host(tokens.data(), state_->tokens.as<void>(), tokens.size() * sizeof(std::int32_t),
               state_->stream.get());
  copy_to_host(&found, state_->status.as<void>(), sizeof(found), state_->stream.get());
  state_->stream.wait();
  if (found & kBadLogits)
    throw damaged_error({"logits"}, "NaN or infinity among the logits of the prompt",
                        "finite logits", "look for damaged weights");
  return tokens;
}

std::vector<float> Engine::logits(std::uint32_t sequence) {
  std::vector<float> values(state_->config.vocab_size);
  copy_to_host(values.data(),
               state_->buffers.logits.as<float>() + std::size_t{sequence} * values.size(),
               values.size() * sizeof(float), state_->stream.get());
  state_->stream.wait();
  return values;
}

double Engine::time_part(StepPart part, std::uint32_t repeats) {
  State& s = *state_;
  STOAT_ENSURE(s.narrow(), "parts are timed for up to 16 sequences");
  const Stream stream = s.stream.get();
  s.queue_part(part);
  DeviceGraph graph;
  graph.begin(stream);
  s.queue_part(part);
  graph.end(stream);
  graph.launch(stream);
  const DeviceEvent begin, end;
  begin.record(stream);
  for (std::uint32_t i = 0; i < repeats; ++i) graph.launch(stream);
  end.record(stream);
  end.wait();
  return 1000 * end.milliseconds_since(begin) / repeats;
}

void Engine::wait() const {
  state_->stream.wait();
  state_->copies.wait();
}
const ModelConfig& Engine::config() const { return state_->config; }
const EngineOptions& Engine::options() const { return state_->options; }
const DeviceWeights& Engine::weights() const { return state_->weights; }
Stream Engine::stream() const { return state_->stream.get(); }

}  // namespace stoat::gpu
