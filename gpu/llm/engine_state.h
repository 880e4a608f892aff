// Inside of Engine: the buffers and the passes over the layers. engine.cpp holds the interface,
// engine_sizes.cpp what is needed, passes.cpp the passes.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "gpu/llm/blas.h"
#include "gpu/llm/engine.h"
#include "gpu/llm/kernels.h"
#include "gpu/llm/record_slots.h"

namespace stoat::gpu {

// Device memory by purpose; sizes for `rows` rows of a pass at most.
struct PassBuffers {
  DeviceMemory x;         // fp32 [rows, hidden] residual stream
  DeviceMemory next;      // bf16 [rows, hidden]
  DeviceMemory squares;   // fp32 [16, ceil(hidden / 16)]
  DeviceMemory qkv;       // fp32 [rows, (q_heads + 2 kv_heads) * head_dim]
  DeviceMemory q;         // bf16 [rows, q_heads * head_dim]
  DeviceMemory attended;  // bf16 [rows, q_heads * head_dim]
  DeviceMemory gate_up;   // fp32 [rows, 2 * intermediate] many rows only
  DeviceMemory act;       // bf16 [rows, intermediate]
  DeviceMemory logits;    // fp32 [batch, vocab]
  DeviceMemory prompt;    // i32 [rows]
};

// A step goes through the layers with the method, and where the statistics ask for it a second time
// densely, over a cache of its own.
enum class Lane : std::uint8_t { kMethod, kTwin };
struct KvMemory {
  DeviceMemory keys, values;  // bf16 [layers, batch, kv_heads, capacity, head_dim], or
                              // [layers, pages, kv_heads, page_size, head_dim]
};

// Capacity in whole pieces of rows, rows of one pass, and bytes of the cache (K or V) and the
// rotary table.
std::uint32_t rounded_capacity(const EngineOptions& options);
std::uint32_t pass_rows(const EngineOptions& options);
std::size_t cache_bytes(const ModelConfig& config, const EngineOptions& options);
std::size_t rotary_bytes(const ModelConfig& config, const EngineOptions& options);
// The shape of an attention launch, for what needs no pointers.
DecodeParams attention_shape(const ModelConfig& config, const EngineOptions& options);
// Workspaces: of the method at its largest; of the sampled launch beside dense attention that finds
// its codes; of the dense launch beside a method, for its exact output. 0: not wanted.
struct WorkspaceSizes {
  std::size_t method = 0, scores = 0, exact = 0;
};
WorkspaceSizes workspaces(const ModelConfig& config, const EngineOptions& options);
bool wants_codes(const EngineOptions& options);
std::uint32_t layers_together(const ModelConfig& config, const EngineOptions& options);
// Recordings on the device and on the host.
inline constexpr std::uint32_t kMostSlots = 4;
std::uint32_t device_slots(const ModelConfig& config, const EngineOptions& options);
std::uint32_t host_slots(const RecordLayout& layout);
// Bytes of each of PassBuffers, in the order of the members.
std::vector<std::size_t> pass_bytes(const ModelConfig& config, const EngineOptions& options);

struct LayerProducts {
  SkinnyParams qkv, o, gate_up, down;
};

struct Engine::State {
  State(const ModelConfig& c, DeviceWeights w, const EngineOptions& o);

  // engine.cpp
  std::uint32_t fetch(std::uint64_t step);

  // passes.cpp
  void prefill_chunk(std::uint32_t sequence, std::uint32_t start, std::uint32_t rows, bool last);
  void queue_step(std::uint32_t slot);  // all kernels of one decode step
  void queue_part(StepPart part);
  void queue_forward(std::uint32_t slot, Lane lane);

  LayerProducts layer_products(std::uint32_t layer, Lane lane) const;
  void queue_head(Lane lane);
  RotateParams decode_rotation(std::uint32_t layer, Lane lane) const;
  bool rotates_in_product() const;
  void decode_layer(std::uint32_t layer, std::uint32_t slot, Lane lane);
  void wide_layer(const LayerPointers& w, std::uint32_t rows, const RotateParams& turn,
                  const std::function<void()>& attention);
  RotateParams rotation(std::uint32_t layer, std::uint32_t rows, Lane lane) const;
  void prefill_attention(std::uint32_t layer, std::uint32_t sequence, std::uint32_t start,
                         std::uint32_t rows);
  void queue_page_lists();
  TokenParams token_params();  // records nothing

  // step_attention.cpp
  void attend(std::uint32_t layer, std::uint32_t slot, Lane lane);
  void measure_outputs(std::uint32_t layer, std::uint32_t slot, const DecodeParams& params);
  void record_stats(std::uint32_t first_layer, std::uint32_t layers, std::uint32_t slot);
  void use_workspace(DecodeParams& params, const DeviceMemory& memory, std::uint32_t layer) const;
  DecodeParams cache_params(std::uint32_t layer, Lane lane) const;  // dense over the lane's cache
  DecodeParams decode_params(std::uint32_t layer, std::uint32_t slot) const;
  DecodeParams score_params(std::uint32_t layer, std::uint32_t slot) const;
  ScoreSink score_sink(std::uint32_t layer, std::uint32_t slot) const;
  DecodeParams exact_params(std::uint32_t layer, Lane lane) const;

  SkinnyParams product(const DeviceMemory& input, const void* weight, std::uint32_t rows,
                       std::uint32_t columns, std::uint32_t k, bool normed) const;
  Blas& blas();  // loaded when first needed

  std::byte* cache(const DeviceMemory& memory, std::uint32_t layer, std::uint32_t sequence) const;
  std::uint32_t qkv_width() const {
    return (config.n_q_heads + 2 * config.n_kv_heads) * config.head_dim;
  }
  std::uint32_t q_width() const { return config.n_q_heads * config.head_dim; }
  bool narrow() const { return options.batch <= kSkinnyRows; }
  bool recording() const { return options.record || gpu::wants_codes(options); }
  bool flash_trace() const { return options.record && options.method == Method::kFlash; }
  const KvMemory& lane_cache(Lane lane) const { return caches[static_cast<std::size_t>(lane)]; }

  ModelConfig config;
  DeviceWeights weights;
  EngineOptions options;
  std::uint32_t capacity = 0, chunk = 0, multiprocessors = 0, page_shift = 0, record_slots = 1;
  float sm_scale = 0;
  RecordLayout layout;

  DeviceStream stream, copies;
  PassBuffers buffers;
  KvMemory caches[2];       // of the lanes
  DeviceMemory features;    // keys feature by feature, for ternary scores
  DeviceMemory page_table;  // i32 [batch, capacity / page_size]
  DeviceMemory page_indptr, page_indices, last_page_len;  // as DecodeParams, of this step
  DeviceMemory unpaged[2];  // bf16 [kv_heads, capacity, head_dim] K and V for the prefill
  DeviceMemory rotary;      // fp32 [capacity, head_dim / 2, 2]
  DeviceMemory lut;         // u32 [2048]
  DeviceMemory tokens;      // i32 [batch]
  DeviceMemory context;     // u32 [batch]
  DeviceMemory status;      // u32 [2] status, lost
  DeviceMemory workspace, score_workspace;  // [layers_together]
  DeviceMemory exact_workspace;
  DeviceMemory spare;          // [batch, q_heads, head_dim] output that nobody reads
  DeviceMemory found, exact;   // fp32 [batch, q_heads, head_dim] outputs that are compared
  DeviceMemory twin_logits;    // fp32 [batch, vocab]
  std::uint32_t together = 1;  // layers_together()
  std::size_t code_at = 0, exponent_at = 0;  // of a layer's codes in its workspace
  DeviceMemory records[kMostSlots];  // layout, of the steps in turn; one where nothing is recorded
  std::shared_ptr<RecordSlots> slots;  // on the host
  DeviceEvent stepped[kMostSlots];     // of the steps in turn
  DeviceGraph graph[kMostSlots];
  PinnedMemory staging;  // tokens to feed, of kMostSlots steps
  std::unique_ptr<Blas> blas_library;
  std::vector<std::uint32_t> lengths;  // [batch] rows in the cache
  std::uint64_t submitted = 0, collected = 0;
  bool twin_filled = false;  // the twin's cache holds the prompt
};

}  // namespace stoat::gpu
