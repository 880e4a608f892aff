// A transformer that prefills and decodes on the current CUDA device, with any attention method of
// gpu/attention.
//
// Prefill is exact, in chunks, on tensor cores. A decode step feeds one token to every sequence of
// the batch and is one CUDA graph: lengths, tokens and the choice of the next token live on the
// device, so the graph of the first step serves all. What a step is asked to record is copied to
// the host while the next one runs; collect() hands it out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gpu/llm/device.h"
#include "gpu/llm/weights.h"
#include "models/llm/config.h"
#include "models/llm/token_choice.h"
#include "models/sampling/selection.h"
#include "models/sampling/ternary.h"

namespace stoat::gpu {

struct EngineOptions {
  std::uint32_t batch = 1;     // sequences, 1 to 256
  std::uint32_t capacity = 0;  // rows of the KV cache a sequence: prompt and steps
  Method method = Method::kDense;
  std::vector<std::uint32_t> budgets;  // one, or [n_layers]; empty for dense
  std::uint64_t seed = 0;
  TokenChoice choice;
  std::optional<TernaryOptions> ternary;  // scores from ternary queries; the method is not dense
  std::uint32_t page_size = 0;            // rows of a page of the KV cache; 0: contiguous
  bool record = false;                    // rows and counts of every step
  bool stats = false;                     // and the fast statistics
  bool full_stats = false;  // and errors against exact attention, and a dense twin (needs stats)
  std::vector<std::uint32_t> probe_budgets;  // and the output's error at these budgets
  std::vector<bool> score_layers;            // [n_layers] and the codes of these layers
  bool queries = false;                      // and the queries, as attention got them

  std::uint32_t budget_of_layer(std::uint32_t layer) const;  // 0 for dense
  std::uint32_t largest_budget() const;
  bool any_scores() const;
  bool measures_outputs() const { return full_stats || !probe_budgets.empty(); }
  std::uint32_t stats_columns() const;
};

// Where the parts of a step's recording begin, in bytes.
struct RecordLayout {
  std::size_t fed = 0;        // i32 [batch] token that was fed
  std::size_t context = 0;    // u32 [batch] rows that it saw
  std::size_t chosen = 0;     // i32 [batch] token that follows
  std::size_t status = 0;     // u32 [1]
  std::size_t lost = 0;       // u32 [1]
  std::size_t row = 0;        // u32 [layers, batch, q_heads, slots]
  std::size_t count = 0;      // u16 the same
  std::size_t stats = 0;      // f32 [layers, batch, q_heads, stats_columns()]
  std::size_t exponent = 0;   // i32 [score layers, batch, q_heads, tiles]
  std::size_t code = 0;       // u16 [score layers, batch, q_heads, tiles, 256]
  std::size_t tile_mass = 0;  // u64 [layers, batch, q_heads, tiles] flash only
  std::size_t key_mask = 0;   // u8 [layers, batch, q_heads, draws, head_dim / 8] ternary only
  std::size_t key_sign = 0;   // u8 [layers, batch, q_heads, head_dim / 8]
  std::size_t error = 0;      // f32 [layers, batch, q_heads] full statistics only
  std::size_t twin = 0;       // f32 [batch, 2] total variation, top-1 agreement; the same
  std::size_t probe = 0;      // f32 [layers, batch, q_heads, probe budgets]
  std::size_t query = 0;      // bf16 [layers, batch, q_heads, head_dim]
  std::size_t bytes = 0;
  std::uint32_t slots = 0, tiles = 0;
};
RecordLayout record_layout(const ModelConfig& config, const EngineOptions& options);

// Kinds of kernels of a decode step, each over all layers. Rotating takes none of its own where q
// and K have no norm: the product does it.
enum class StepPart : std::uint8_t { kQkv, kRotate, kAttention, kO, kGateUp, kDown, kHead, kToken };
inline constexpr const char* kStepParts[] = {"qkv",     "rotate", "attention", "o",
                                             "gate_up", "down",   "head",      "token"};

enum class CachePart : std::uint8_t { kKeys, kValues, kKeyFeatures };

// What a step left on the host. Holds one of the engine's few places there: submit() waits until
// one is free.
struct StepRecord {
  const RecordLayout* layout = nullptr;
  std::shared_ptr<const std::byte> bytes;  // [layout->bytes]
  template <class T>
  const T* part(std::size_t offset) const {
    return reinterpret_cast<const T*>(bytes.get() + offset);
  }
};

class Engine {
 public:
  // Throws Error (resource) that names the missing bytes before anything is allocated; Error
  // (usage) for a method, budget or context that the kernels refuse.
  Engine(const ModelConfig& config, DeviceWeights weights, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Device memory beyond the weights.
  static std::size_t bytes(const ModelConfig& config, const EngineOptions& options);
  // Throws Error (resource) that names the missing bytes unless both fit: before there are weights.
  static void ensure_fits(const ModelConfig& config, const EngineOptions& options);

  // Appends tokens to a sequence's cache and chooses the token that follows. Progress: tokens done.
  void prefill(std::uint32_t sequence, std::span<const std::int32_t> tokens,
               const std::function<void(std::uint32_t)>& progress = {});
  // Pretends that every sequence holds `rows` rows (random numbers): for measuring.
  void pretend_context(std::uint32_t rows, std::uint64_t seed);

  // Queues a step. tokens: [batch] to feed; empty: those that were chosen. At most depth() steps
  // may wait for collect() when recording.
  void submit(std::span<const std::int32_t> tokens = {});
  // Waits for the oldest submitted step. Throws Error for what the device reports.
  StepRecord collect();
  std::uint32_t waiting() const;
  std::uint32_t depth() const;
  // After prefill: the chosen tokens. [batch]
  std::vector<std::int32_t> chosen();
  std::vector<float> logits(std::uint32_t sequence);  // of the last step or prefill; [vocab]

  // Other methods on the same cached rows (engine_reuse.cpp), where nothing is recorded.
  // Throws Error (usage) for what the kernels refuse.
  void use_method(Method method, std::vector<std::uint32_t> budgets,
                  std::optional<TernaryOptions> ternary, std::uint64_t seed);
  // Drops the rows past these lengths. [batch]
  void rewind(std::span<const std::uint32_t> lengths);
  void all_logits(std::vector<float>& values);  // of the last step; [batch, vocab]
  // What the cache holds of a sequence, in the order of its rows, wherever its pages lie: for
  // tests. bf16 [kv_heads, rows, head_dim]
  std::vector<std::uint16_t> cached(CachePart part, std::uint32_t layer, std::uint32_t sequence);
  void wait() const;
  // Microseconds a step spends in kernels of this kind, run by themselves (batch up to 16). Leaves
  // the sequences in no useful state.
  double time_part(StepPart part, std::uint32_t repeats);

  const ModelConfig& config() const;
  const EngineOptions& options() const;
  const DeviceWeights& weights() const;
  Stream stream() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoat::gpu
