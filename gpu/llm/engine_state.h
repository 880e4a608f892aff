// Inside of Engine: the buffers and the passes over the layers. engine.cpp holds the interface,
// engine_sizes.cpp what is needed, passes.cpp the passes.
#pragma once

#include <utility>
#include <vector>

#include "gpu/llm/blas.h"
#include "gpu/llm/engine.h"
#include "gpu/llm/kernels.h"

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

// Capacity in whole pieces of rows, rows of one pass, and bytes of the cache (K or V), the rotary
// table and the codes of one layer (0 where they are not wanted).
std::uint32_t rounded_capacity(const EngineOptions& options);
std::uint32_t pass_rows(const EngineOptions& options);
std::size_t cache_bytes(const ModelConfig& config, const EngineOptions& options);
std::size_t rotary_bytes(const ModelConfig& config, const EngineOptions& options);
std::size_t code_bytes(const ModelConfig& config, const EngineOptions& options);
// The shape of an attention launch, for what needs no pointers.
DecodeParams attention_shape(const ModelConfig& config, const EngineOptions& options);
// Workspaces: of the method, and of the sampled launch beside dense attention that finds its codes.
std::pair<std::size_t, std::size_t> workspaces(const ModelConfig& config,
                                               const EngineOptions& options);
// Bytes of each of PassBuffers, in the order of the members.
std::vector<std::size_t> pass_bytes(const ModelConfig& config, const EngineOptions& options);

struct LayerProducts {
  SkinnyParams qkv, o, gate_up, down;
};

struct Engine::State {
  State(const ModelConfig& c, DeviceWeights w, const EngineOptions& o);

  // passes.cpp
  void prefill_chunk(std::uint32_t sequence, std::uint32_t start, std::uint32_t rows, bool last);
  void queue_step(std::uint32_t slot);  // all kernels of one decode step

  void queue_part(StepPart part);

  LayerProducts layer_products(std::uint32_t layer) const;
  void queue_head();
  RotateParams decode_rotation(std::uint32_t layer) const;
  void decode_layer(std::uint32_t layer, std::uint32_t slot);
  void attend(std::uint32_t layer, std::uint32_t slot);
  void record_scores(std::uint32_t layer, std::uint32_t slot, const DecodeParams& params);
  void wide_layer(const LayerPointers& w, std::uint32_t rows, const RotateParams& turn,
                  const std::function<void()>& attention);
  RotateParams rotation(std::uint32_t layer, std::uint32_t rows) const;
  DecodeParams decode_params(std::uint32_t layer, std::uint32_t slot) const;
  DecodeParams score_params(std::uint32_t layer, std::uint32_t slot) const;
  TokenParams token_params();
  SkinnyParams product(const DeviceMemory& input, const void* weight, std::uint32_t rows,
                       std::uint32_t columns, std::uint32_t k, bool normed) const;
  Blas& blas();  // loaded when first needed

  std::byte* cache(const DeviceMemory& memory, std::uint32_t layer, std::uint32_t sequence) const;
  std::uint32_t qkv_width() const {
    return (config.n_q_heads + 2 * config.n_kv_heads) * config.head_dim;
  }
  std::uint32_t q_width() const { return config.n_q_heads * config.head_dim; }
  bool narrow() const { return options.batch <= kSkinnyRows; }
  bool wants_codes() const { return options.stats || options.any_scores() || flash_trace(); }
  bool flash_trace() const { return options.record && options.method == Method::kFlash; }

  ModelConfig config;
  DeviceWeights weights;
  EngineOptions options;
  std::uint32_t capacity = 0, chunk = 0, multiprocessors = 0;
  float sm_scale = 0;
  RecordLayout layout;

  DeviceStream stream, copies;
  PassBuffers buffers;
  DeviceMemory keys, values;  // bf16 [layers, batch, kv_heads, capacity, head_dim]
  DeviceMemory rotary;        // fp32 [capacity, head_dim / 2, 2]
  DeviceMemory lut;           // u32 [2048]
  DeviceMemory tokens;        // i32 [batch]
  DeviceMemory context;       // u32 [batch]
  DeviceMemory status;        // u32 [2] status, lost
  DeviceMemory workspace, score_workspace;
  DeviceMemory codes, exponents;  // of one layer, where they are wanted
  DeviceMemory spare;             // bf16 [batch, q_heads, head_dim] output that nobody reads
  DeviceMemory records[2];        // layout, of even and odd steps
  PinnedMemory host[2];
  DeviceEvent stepped[2], copied[2];
  DeviceGraph graph[2];
  PinnedMemory staging;  // tokens to feed, of two steps
  std::unique_ptr<Blas> blas_library;
  std::vector<std::uint32_t> lengths;  // [batch] rows in the cache
  std::uint64_t submitted = 0, collected = 0;
};

}  // namespace stoat::gpu
