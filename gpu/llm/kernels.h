// The kernels of a transformer on the device but for attention at decode (gpu/attention). Host
// interface; all pointers are device pointers, all launches are queued on a stream.
//
// Two shapes of work. A decode step has few rows (the batch): its matrices are read once by
// launch_skinny at the speed of the memory. A prefill has many rows: cuBLASLt (blas.h), and plain
// kernels between the products. Residual stream, products and norms are fp32, what is multiplied is
// bf16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/attention/params.h"
#include "gpu/llm/device.h"

namespace stoat::gpu {

inline constexpr std::uint32_t kSkinnyRows = 16;   // rows that launch_skinny takes at most
inline constexpr std::uint32_t kTileColumns = 16;  // output columns of one of its tiles

// Bias, norm of q and k (where not null), rotary embedding; q to bf16, K and V into the cache.
struct RotateParams {
  const float* qkv = nullptr;     // [rows, (q_heads + 2 kv_heads) * head_dim]
  const float* bias = nullptr;    // [(q_heads + 2 kv_heads) * head_dim]
  const float* q_norm = nullptr;  // [head_dim]
  const float* k_norm = nullptr;  // [head_dim]
  float norm_eps = 0;
  const float* cos_sin = nullptr;  // [positions, head_dim / 2, 2]
  std::uint32_t rows = 0, q_heads = 0, kv_heads = 0, head_dim = 0;
  // Decode: row r is the newest token of sequence r, at context_len[r] - 1. Else: row r stands at
  // start + r of `sequence`.
  const std::uint32_t* context_len = nullptr;
  std::uint32_t sequence = 0, start = 0;
  void* q = nullptr;           // bf16 [rows, q_heads, head_dim]
  void* k_cache = nullptr;     // bf16 [sequences, kv_heads, capacity, head_dim]
  void* v_cache = nullptr;     // the same
  std::uint32_t capacity = 0;  // rows a sequence has room for
  // Paged caches: bf16 [pages, kv_heads, 2^page_shift, head_dim].
  const std::int32_t* pages = nullptr;  // [sequences, capacity >> page_shift]; null: contiguous
  std::uint32_t page_shift = 0;
  // K a second time, feature by feature: bf16 [sequences, kv_heads, head_dim, capacity], or
  // [pages, kv_heads, head_dim, 2^page_shift]; null: not wanted.
  void* k_features = nullptr;
};

// What is done with a product of tile columns. `square_sums` of the input give the norm: x is
// stored times the norm's weight but not divided by its root mean square; the division is done to
// the product.
enum class SkinnyEnd : std::uint8_t {
  kStore,     // y[r, c] = product / rms
  kResidual,  // x[r, c] += product + bias[c]; then next[r, c] = bf16(x * next_norm[c]), square_sums
  kSwiGlu,    // columns come as 8 gates, 8 ups: next[r, c / 2] = bf16(silu(gate) * up)
  kRotate     // as launch_rotate() does it with y, of decode rows and without norms of q and k
};

struct SkinnyParams {
  const void* input = nullptr;   // bf16 [rows, k]
  const void* weight = nullptr;  // bf16 [columns, k]
  std::uint32_t rows = 0;        // 1 to 16
  std::uint32_t columns = 0;     // kSwiGlu: a multiple of 16
  std::uint32_t k = 0;           // a multiple of 8
  // Sums of squares of the rows before the norm, in tiles of 16; null: no norm.
  const float* square_sums = nullptr;  // [rows, square_tiles]
  std::uint32_t square_tiles = 0;
  float norm_width = 1, norm_eps = 0;
  SkinnyEnd end = SkinnyEnd::kStore;
  float* y = nullptr;                 // kStore fp32 [rows, columns]; kResidual: x
  const float* bias = nullptr;        // kResidual [columns]; may be null
  const float* next_norm = nullptr;   // kResidual [columns]
  void* next = nullptr;               // bf16 [rows, columns] or, kSwiGlu, [rows, columns / 2]
  float* next_square_sums = nullptr;  // kResidual [rows, ceil(columns / 16)]
  bool read_once = false;             // the matrix does not stay in the L2
  RotateParams turn;                  // kRotate; all but qkv
};
void launch_skinny(const SkinnyParams& params, std::uint32_t multiprocessors, Stream stream);

// x = embedding[token] in fp32; where wanted (next not null) also next = bf16(x * norm) and the
// sums of squares. token: [rows]; embedding: bf16 [vocab, hidden].
void launch_embed(const std::int32_t* token, const void* embedding, const float* norm, float* x,
                  void* next, float* square_sums, std::uint32_t rows, std::uint32_t hidden,
                  Stream stream);

// next = bf16(x / sqrt(mean(x^2) + eps) * norm). x: fp32 [rows, width]
void launch_rms_norm(const float* x, const float* norm, void* next, std::uint32_t rows,
                     std::uint32_t width, float eps, Stream stream);

// x[r, c] += bias[c]. [rows, columns]
void launch_add_bias(float* x, const float* bias, std::uint32_t rows, std::uint32_t columns,
                     Stream stream);

// next = bf16(silu(gate) * up). gate_up: fp32 [rows, 2 * width], 8 gates, 8 ups in turn.
void launch_swiglu(const float* gate_up, void* next, std::uint32_t rows, std::uint32_t width,
                   Stream stream);

// The rotation as a kernel of its own, behind a product that stores.
void launch_rotate(const RotateParams& params, Stream stream);

// cos and sin of position * frequency for every position. cos_sin: [positions, half, 2]
void launch_rotary_table(const float* frequencies, float* cos_sin, std::uint32_t positions,
                         std::uint32_t half, float scale, Stream stream);

// Exact causal attention of `rows` new tokens at positions start ... over their sequence's cache,
// which holds them already. q: bf16 [rows, q_heads, head_dim]; k, v: of one sequence, bf16
// [kv_heads, capacity, head_dim]; out: bf16 [rows, q_heads * head_dim]. head_dim 64 or 128.
struct PrefillParams {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* out = nullptr;
  std::uint32_t rows = 0, start = 0, q_heads = 0, kv_heads = 0, head_dim = 0, capacity = 0;
  float sm_scale = 0;
};
void launch_prefill_attention(const PrefillParams& params, Stream stream);

// Page lists as gpu/attention wants them, from fixed tables and the lengths of now.
struct PageListParams {
  const std::int32_t* pages = nullptr;         // [batch, capacity >> page_shift]
  const std::uint32_t* context_len = nullptr;  // [batch]
  std::uint32_t batch = 0, capacity = 0, page_shift = 0;
  std::int32_t* indptr = nullptr;         // [batch + 1] out
  std::int32_t* indices = nullptr;        // [batch * (capacity >> page_shift)] out
  std::int32_t* last_page_len = nullptr;  // [batch] out
};
void launch_page_lists(const PageListParams& params, Stream stream);
// Rows [0, rows) of a paged cache of one sequence side by side: to[head, row] = from[page, head].
// pages: [ceil(rows / 2^page_shift)]; to: [kv_heads, to_capacity, head_dim]
void launch_gather_pages(const void* from, void* to, const std::int32_t* pages,
                         std::uint32_t page_shift, std::uint32_t rows, std::uint32_t kv_heads,
                         std::uint32_t head_dim, std::uint32_t to_capacity, Stream stream);

// The next token of every sequence from its logits (models/llm/token_choice.h), and one more row of
// context. status: kBadLogits where a logit is not finite.
inline constexpr std::uint32_t kBadLogits = 1U << 8;
struct TokenParams {
  const float* logits = nullptr;  // [rows, vocab]
  std::uint32_t rows = 0, vocab = 0;
  float temperature = 0;  // 0: greedy
  float top_p = 1;
  std::uint64_t seed = 0;
  const std::uint32_t* sequence_id = nullptr;  // [rows]; null: the row
  std::int32_t* token = nullptr;               // [rows] out
  std::uint32_t* context_len = nullptr;        // [rows] counts the token that was fed; + 1
  const std::uint32_t* lut = nullptr;          // [2048]
  std::uint32_t* status = nullptr;             // [1]
  // What was fed, the rows that it saw and what follows, once more for a recording: [rows] each;
  // null: not wanted.
  std::int32_t* fed_out = nullptr;
  std::uint32_t* context_out = nullptr;
  std::int32_t* chosen_out = nullptr;
};
void launch_choose_token(const TokenParams& params, Stream stream);

// Statistics of one softmax row from its codes, in the order of the trace's columns.
inline constexpr std::uint32_t kFastStats = 6;  // lse max entropy mass_top1 mass_token0
                                                // participation
inline constexpr std::uint32_t kFullStats = 8;  // and mass_top8 mass_top32
struct StatsParams {
  const std::uint16_t* code = nullptr;     // [layers][heads, tiles, 256]
  const std::int32_t* exponent = nullptr;  // [layers][heads, tiles]
  std::uint32_t layers = 1;
  std::size_t layer_stride = 0;  // bytes from a layer's to the next one's, of both
  std::uint32_t tiles = 0;       // of max_context
  std::uint32_t sequences = 0, q_heads = 0;
  const std::uint32_t* context_len = nullptr;  // [sequences]
  float* stats = nullptr;                      // [layers, heads, columns]; null: not wanted
  std::uint32_t columns = kFastStats;          // or kFullStats
  bool forget = false;  // the codes are undefined afterwards, and not written to memory; not with
                        // kFullStats, and the codes are aligned to 128 bytes
  const std::uint32_t* lut = nullptr;  // [2048]
  // T_t of the ruler (models/sampling), 0 past the end; null: not wanted.
  std::uint64_t* tile_mass = nullptr;  // [layers, heads, tiles]
};
void launch_stats(const StatsParams& params, Stream stream);

// ||found - exact|| / ||exact|| of every head (0 where both are 0), and found in bf16.
struct CompareParams {
  const float* found = nullptr;  // [heads, head_dim]
  const float* exact = nullptr;  // [heads, head_dim]; null: no error wanted
  void* rounded = nullptr;       // bf16 [heads, head_dim]; null: not wanted
  float* error = nullptr;        // of head h at h * error_stride
  std::uint32_t heads = 0, head_dim = 0, error_stride = 1;
};
void launch_compare_outputs(const CompareParams& params, Stream stream);

// Half the sum of |p - q| of two softmax rows, and 1 where their largest logits agree, else 0.
// a, b: [rows, vocab]; out: [rows, 2]
void launch_compare_logits(const float* a, const float* b, float* out, std::uint32_t rows,
                           std::uint32_t vocab, Stream stream);

// bf16 normal numbers of standard deviation `spread`; n even. The same for the same key.
void launch_fill_normal(void* data, std::uint64_t n, float spread, std::uint64_t key,
                        Stream stream);
void launch_fill(float* data, std::uint64_t n, float value, Stream stream);
// Sets *flag to 1 when one of n bf16 numbers is NaN or infinite.
void launch_find_not_finite(const void* data, std::uint64_t n, std::uint32_t* flag, Stream stream);

}  // namespace stoat::gpu
