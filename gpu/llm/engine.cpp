// Engine: buffers, and the steps in flight. Sizes are in engine_sizes.cpp, the kernels of a pass in
// passes.cpp.
#include "gpu/llm/engine.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "gpu/attention/decode_launch.h"
#include "gpu/llm/engine_state.h"
#include "models/error.h"
#include "models/llm/rope.h"

namespace stoat::gpu {
namespace {

// Page numbers of all sequences in an order that no kernel can guess.
std::vector<std::int32_t> shuffled_pages(std::uint32_t pages) {
  std::vector<std::int32_t> order(pages);
  std::iota(order.begin(), order.end(), 0);
  for (std::uint32_t i = pages; i > 1; --i) {
    const std::uint64_t bits = draw_u64(DrawSite{1, 0, i, 0, 0}, Purpose::kToken, 0);
    std::swap(order[i - 1], order[mulhi64(bits, i)]);
  }
  return order;
}

}  // namespace

Engine::State::State(const ModelConfig& c, DeviceWeights w, const EngineOptions& o)
    : config(c),
      weights(std::move(w)),
      options(o),
      capacity(rounded_capacity(o)),
      chunk(pass_rows(o)),
      multiprocessors(device_multiprocessors()),
      page_shift(static_cast<std::uint32_t>(std::countr_zero(o.page_size))),
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
  const std::size_t cache_size = cache_bytes(c, o);
  for (std::size_t lane = 0; lane < (o.full_stats ? 2 : 1); ++lane) {
    for (DeviceMemory* memory : {&caches[lane].keys, &caches[lane].values}) {
      *memory = DeviceMemory(cache_size);
      memory->clear(stream.get());
    }
  }
  if (o.ternary) {
    features = DeviceMemory(cache_size);
    features.clear(stream.get());
  }
  if (o.page_size > 0) {
    const std::vector<std::int32_t> order = shuffled_pages(o.batch * (capacity >> page_shift));
    page_table = DeviceMemory(order.size() * sizeof(std::int32_t));
    copy_to_device(page_table.as<void>(), order.data(), page_table.size(), stream.get());
    page_indptr = DeviceMemory((o.batch + 1) * sizeof(std::int32_t));
    page_indices = DeviceMemory(page_table.size());
    last_page_len = DeviceMemory(o.batch * sizeof(std::int32_t));
    for (DeviceMemory& memory : unpaged) memory = DeviceMemory(cache_size / c.n_layers / o.batch);
    stream.wait();
  }
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
  const WorkspaceSizes work = workspaces(c, o);
  together = layers_together(c, o);
  const auto side_by_side = [this](std::size_t bytes) {
    return DeviceMemory(together * ((bytes + 255) / 256 * 256));
  };
  workspace = side_by_side(work.method);
  record_slots = device_slots(c, o);
  for (std::size_t slot = 0; slot < record_slots; ++slot) {
    records[slot] = DeviceMemory(layout.bytes);
    records[slot].clear(stream.get());
  }
  slots = std::make_shared<RecordSlots>(recording() ? host_slots(layout) : 1, layout.bytes);
  staging = PinnedMemory(kMostSlots * o.batch * sizeof(std::int32_t));
  const std::size_t outputs = std::size_t{o.batch} * q_width() * sizeof(float);
  if (o.measures_outputs()) {
    found = DeviceMemory(outputs);
    exact = DeviceMemory(outputs);
  }
  if (o.full_stats) twin_logits = DeviceMemory(std::size_t{o.batch} * c.vocab_size * sizeof(float));
  stream.wait();
  if (work.scores > 0) {
    spare = DeviceMemory(outputs);
    score_workspace = side_by_side(work.scores);
  }
  for (std::uint32_t layer = 0; layer < together; ++layer) {
    prepare_workspace(decode_params(layer, 0), stream.get());
    if (work.scores > 0) prepare_workspace(score_params(layer, 0), stream.get());
  }
  if (wants_codes(o)) {
    const DecodeParams p = work.scores > 0 ? score_params(0, 0) : decode_params(0, 0);
    const WorkspaceLayout places = workspace_layout(p, choose_splits(p, multiprocessors));
    code_at = places.code;
    exponent_at = places.exponent;
  }
  if (work.exact > 0) {
    exact_workspace = DeviceMemory(work.exact);
    prepare_workspace(exact_params(0, Lane::kMethod), stream.get());
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
  STOAT_ENSURE(!s.twin_filled, "the twin follows from the first step on");
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
  const KvMemory& to = s.caches[0];
  launch_fill_normal(to.keys.as<void>(), to.keys.size() / 2, 1.5F, seed, s.stream.get());
  launch_fill_normal(to.values.as<void>(), to.values.size() / 2, 1.0F, seed + 1, s.stream.get());
  if (s.options.ternary)  // the numbers of other rows, but as many
    launch_fill_normal(s.features.as<void>(), s.features.size() / 2, 1.5F, seed, s.stream.get());
  s.lengths.assign(s.lengths.size(), rows);
  const std::vector<std::uint32_t> next(s.lengths.size(), rows + 1);
  copy_to_device(s.context.as<void>(), next.data(), next.size() * sizeof(std::uint32_t),
                 s.stream.get());
  s.stream.wait();
}

void Engine::submit(std::span<const std::int32_t> tokens) {
  State& s = *state_;
  const bool recording = s.recording();
  const auto turn = static_cast<std::uint32_t>(s.submitted % kMostSlots);
  const auto slot = static_cast<std::uint32_t>(s.submitted % s.record_slots);
  const Stream stream = s.stream.get();
  STOAT_ENSURE(!recording || waiting() < depth(), "not too many steps wait");
  for (std::uint32_t& length : s.lengths) {
    STOAT_ENSURE(length < s.capacity, "the KV cache has room for one more row");
    ++length;
  }
  if (s.options.full_stats && !s.twin_filled) {
    const std::size_t bytes = s.caches[0].keys.size();
    copy_on_device(s.caches[1].keys.as<void>(), s.caches[0].keys.as<void>(), bytes, stream);
    copy_on_device(s.caches[1].values.as<void>(), s.caches[0].values.as<void>(), bytes, stream);
    s.twin_filled = true;
  }
  if (!tokens.empty()) {
    STOAT_ENSURE(tokens.size() == s.options.batch, "one token a sequence");
    if (s.submitted >= kMostSlots) s.stepped[turn].wait();
    auto* pinned = s.staging.as<std::int32_t>() + std::size_t{turn} * s.options.batch;
    std::copy(tokens.begin(), tokens.end(), pinned);
    copy_to_device(s.tokens.as<void>(), pinned, tokens.size_bytes(), stream);
  }
  // The first step of each kind runs without a graph: it loads the kernels.
  if (s.submitted < 2) {
    s.queue_step(slot);
  } else {
    DeviceGraph& graph = s.graph[slot];
    if (!graph.ready()) {
      graph.begin(stream);
      s.queue_step(slot);
      graph.end(stream);
    }
    graph.launch(stream);
  }
  s.stepped[turn].record(stream);
  ++s.submitted;
}

// The recording of a step to the host, when it has ended; returns the place.
std::uint32_t Engine::State::fetch(std::uint64_t step) {
  const std::uint32_t place = slots->acquire();
  const PinnedMemory& memory = slots->memory(place);
  const DeviceMemory& record = records[step % record_slots];
  const Stream to = copies.get();
  stepped[step % kMostSlots].make_wait(to);
  copy_to_host(memory.as<void>(), record.as<void>(), layout.bytes, to);
  // Bits stay once set, so those of a later step do no harm.
  copy_to_host(memory.as<void>(layout.status), status.as<void>(), status.size(), to);
  slots->copied(place).record(to);
  slots->copied(place).wait();
  return place;
}

std::uint32_t Engine::waiting() const {
  return static_cast<std::uint32_t>(state_->submitted - state_->collected);
}
std::uint32_t Engine::depth() const { return state_->record_slots; }

StepRecord Engine::collect() {
  State& s = *state_;
  STOAT_ENSURE(waiting() > 0, "a step was submitted");
  if (!s.recording()) s.collected = s.submitted - 1;
  // Handed out before it is looked at: an error gives the place back.
  const StepRecord record{&s.layout, s.slots->hand_out(s.fetch(s.collected))};
  ++s.collected;
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

std::vector<std::uint16_t> Engine::cached(CachePart part, std::uint32_t layer,
                                          std::uint32_t sequence) {
  State& s = *state_;
  STOAT_ENSURE(part != CachePart::kKeyFeatures || s.options.ternary, "a feature-major copy");
  const bool by_feature = part == CachePart::kKeyFeatures;
  const DeviceMemory& memory = by_feature                 ? s.features
                               : part == CachePart::kKeys ? s.caches[0].keys
                                                          : s.caches[0].values;
  std::vector<std::uint16_t> all(memory.size() / 2 / s.config.n_layers);
  std::vector<std::int32_t> table(s.page_table.size() / sizeof(std::int32_t));
  s.stream.wait();
  copy_to_host(all.data(), s.cache(memory, layer, 0), 2 * all.size(), s.stream.get());
  copy_to_host(table.data(), s.page_table.as<void>(), s.page_table.size(), s.stream.get());
  s.stream.wait();
  const std::size_t rows = s.lengths[sequence], heads = s.config.n_kv_heads, d = s.config.head_dim;
  const std::size_t page_rows = table.empty() ? s.capacity : s.options.page_size;
  std::vector<std::uint16_t> found;
  for (std::size_t i = 0; i < heads * rows * d; ++i) {
    const std::size_t head = i / (rows * d), row = i / d % rows, feature = i % d;
    const std::size_t page =
        table.empty() ? sequence
                      : static_cast<std::size_t>(
                            table[sequence * (s.capacity / page_rows) + row / page_rows]);
    const std::size_t first = (page * heads + head) * page_rows * d, within = row % page_rows;
    found.push_back(
        all[first + (by_feature ? feature * page_rows + within : within * d + feature)]);
  }
  return found;
}

double Engine::time_part(StepPart part, std::uint32_t repeats) {
  State& s = *state_;
  STOAT_ENSURE(s.narrow(), "parts are timed for up to 16 sequences");
  if (part == StepPart::kRotate && s.rotates_in_product()) return 0;
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
