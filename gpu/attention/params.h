// One launch of decode attention on a GPU: what goes in, what comes out, what is refused.
//
// Words are those of the field (q, k, v, kv_layout, sm_scale, indptr, indices, last_page_len). All
// pointers are device pointers, except the struct itself. No CUDA header is needed to fill it in;
// gpu/attention/decode_launch.h runs it. Row counts, draws and codes: models/sampling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "models/sampling/selection.h"
#include "models/sampling/ternary.h"

namespace stoat::gpu {

enum class ElementType : std::uint8_t { kBf16, kFp16 };
enum class KvLayout : std::uint8_t { kNhd, kHnd };

inline constexpr std::uint32_t kMaxGroup = 8;
inline constexpr std::uint32_t kMaxContext = 1U << 20;
inline constexpr std::uint32_t kMaxGpuBudget = 4096;
inline constexpr std::uint32_t kMaxBatch = 256;
inline constexpr std::uint32_t kMaxSplits = 512;  // blocks that share a head
inline constexpr std::uint32_t kMaxTernaryDraws = 64;
inline constexpr std::uint32_t kTileParts = 8;        // of 32 rows, whose weights are kept
inline constexpr std::uint32_t kMinFeaturePage = 64;  // rows: 128 bytes of a feature
inline constexpr std::uint32_t kMaxFeatureCapacity = 1U << 24;  // rows of a contiguous feature

// What the device found wrong; bits of DecodeParams::status. The outputs of such a head are NaN
// (not for kTraceOverflow). Dense attention does not look for damaged scores: NaN comes out, no
// bit.
enum StatusBit : std::uint32_t {
  kBadContext = 1,     // a context of 0, or above max_context
  kDamagedScore = 2,   // NaN, plus infinity or |x| >= 2^30 among the scores
  kNoFiniteScore = 4,  // every score is minus infinity
  kTraceOverflow = 8   // rows were drawn that did not fit trace_capacity
};

// Rows and counts of every query head. Slot s belongs to point s: it holds a row and how many of
// the points from s on fell on it; slots inside such a run hold count 0. Rows increase with s.
struct TraceSink {
  std::uint32_t* row = nullptr;    // [batch, q_heads, capacity]
  std::uint16_t* count = nullptr;  // [batch, q_heads, capacity]
  std::uint32_t capacity = 0;      // slots a head; budget never overflows
  std::uint32_t* lost = nullptr;   // [1] rows that did not fit, added up by the device
};

// Score records: the stored scores of every query head of the chosen KV heads, from which any
// method and budget can be drawn again. tiles = max_tiles(params). Rows past a sequence's end
// inside its last tile hold 65535; its tiles beyond the last and the heads not chosen stay as they
// were.
struct ScoreSink {
  std::uint16_t* code = nullptr;     // [batch, q_heads, tiles, 256]; null: off
  std::int32_t* exponent = nullptr;  // [batch, q_heads, tiles] kMaskedTile, or 2^31 - 1: damaged
  const std::uint8_t* kv_head = nullptr;  // [kv_heads] on the device, not 0: chosen; null: all
};

// What the ternary draws were, as TernaryGroup of models/sampling holds it; for traces.
struct TernarySink {
  std::uint8_t* mask = nullptr;  // [batch, q_heads, draws, head_dim / 8]; null: off
  std::uint8_t* sign = nullptr;  // [batch, q_heads, head_dim / 8]
};

// Scores from Bernoulli queries (models/sampling/ternary.h) in place of exact ones. They read a
// second, feature-major copy of K (kv_append.h writes it), of it only features that a head of the
// group touches; any sampled method or top-k follows.
struct TernaryScore {
  std::uint32_t draws = 0;  // B, 1 to 64; 0: exact scores, and nothing of this struct is used
  TernaryCoupling coupling = TernaryCoupling::kCoupled;
  TernaryNormaliser normaliser = TernaryNormaliser::kMax;
  const void* k_features = nullptr;  // contiguous [batch, kv_heads, head_dim, capacity]
                                     // paged      [pages, kv_heads, head_dim, page_size]
  std::uint32_t capacity = 0;        // contiguous: rows, a multiple of 8, >= max_context
  TernarySink sink;
};

struct DecodeParams {
  // Shape.
  ElementType element = ElementType::kBf16;
  std::uint32_t batch = 0;    // 1 to 256
  std::uint32_t q_heads = 0;  // kv_heads * group, group 1 to 8
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;     // 64 or 128
  std::uint32_t max_context = 0;  // no sequence is longer; at most 2^20

  // Tensors.
  const void* q = nullptr;  // [batch, q_heads, head_dim]
  const void* k = nullptr;  // contiguous NHD [batch, kv_capacity, kv_heads, head_dim]
                            // contiguous HND [batch, kv_heads, kv_capacity, head_dim]
                            // paged      NHD [pages, page_size, kv_heads, head_dim]
                            // paged      HND [pages, kv_heads, page_size, head_dim]
  const void* v = nullptr;  // as k
  KvLayout kv_layout = KvLayout::kNhd;
  std::uint32_t kv_capacity = 0;  // contiguous: rows a sequence has room for, >= max_context

  // Lengths on the device: context_len when contiguous, the three arrays when paged.
  const std::uint32_t* context_len = nullptr;   // [batch]
  std::uint32_t page_size = 0;                  // 0: contiguous; else a power of two
  const std::int32_t* indptr = nullptr;         // [batch + 1] a sequence's first entry of indices
  const std::int32_t* indices = nullptr;        // [indptr[batch]] page numbers
  const std::int32_t* last_page_len = nullptr;  // [batch] rows used of the last page, 1..page_size

  // What is computed.
  float sm_scale = 0;  // multiplies q . k; usually 1 / sqrt(head_dim)
  Method method = Method::kDense;
  std::uint32_t budget = 0;  // S, 1 to 4096 (1: one-hot); rows of top-k; unused by dense
  std::uint64_t seed = 0;
  std::uint32_t layer = 0;                     // below 65536
  const std::uint32_t* sequence_id = nullptr;  // [batch] of the requests; null: the batch slot
  TernaryScore ternary;
  // A promise: rows [0, context - 1) of K and V, their page table and the lengths were written
  // before the kernel that directly precedes this launch in the stream, so the launch may begin to
  // read them before that kernel has ended.
  bool kv_is_stable = false;

  // Results.
  void* out = nullptr;              // [batch, q_heads, head_dim] elements, or floats
  bool out_is_float = false;        // before the 16-bit cast
  float* lse = nullptr;             // [batch, q_heads] natural log; null: not wanted. Of all
                                    // rows; top-k: of its own
  TraceSink trace;                  // row null: off
  ScoreSink scores;                 // code null: off
  bool keep_codes = false;          // codes stay in the workspace after the launch; else undefined
  std::uint32_t* status = nullptr;  // [1] StatusBits, set and never cleared by the kernels

  // Scratch memory of workspace_bytes(); prepare_workspace() fills it once before the first launch.
  // Launches that share one run one after the other.
  void* workspace = nullptr;
  std::size_t workspace_size = 0;

  // How many thread blocks share a head; 0: by the number of multiprocessors. Counts and codes do
  // not depend on it, the order of the final sums does.
  std::uint32_t score_splits = 0;
  std::uint32_t gather_splits = 0;
};

// How the work is cut into thread blocks.
struct Splits {
  std::uint32_t score = 1;   // dense: blocks of a (sequence, KV head); else of the launch
  std::uint32_t gather = 1;  // blocks of a query head
  // Of the first sequences a block of the gather takes a whole head: that is done beside the score
  // pass of the next ones.
  std::uint32_t whole_sequences = 0;
  // Sequences before the last one that share a signal of the score pass to the gather beside it.
  std::uint32_t signal_group = 1;
  // Node 2 runs beside node 1, which signals the sequences that are scored.
  bool beside = false;
  // Ternary: tiles that a warp takes at a time, of the first `chunked` sequences; then one.
  std::uint32_t chunk_tiles = 1, chunked = 0;
};
Splits choose_splits(const DecodeParams& params, std::uint32_t multiprocessors);

// Sequences whose codes stay in the L2 beside a stream of K; a power of two, at least 2.
std::uint32_t code_places(const DecodeParams& params);

// Where the parts of the workspace begin, in bytes.
struct WorkspaceLayout {
  std::size_t lut = 0;      // u32 [2048]
  std::size_t counter = 0;  // u32 [batch, q_heads] blocks that have finished; 0 between launches
  std::size_t ready =
      0;  // u32 [batch] tiles of all KV heads whose scores are there; 0 between launches
  std::size_t next_tile = 0;    // u32 [1] tiles handed out; 0 between launches
  std::size_t seen = 0;         // u32 [batch] blocks that have seen them all; so, too
  std::size_t code = 0;         // u16 [batch, q_heads, tiles, 256]
  std::size_t exponent = 0;     // i32 [batch, q_heads, tiles]
  std::size_t mass = 0;         // u64 [batch, q_heads, tiles]
  std::size_t part = 0;         // u32 [batch, q_heads, tiles, 8] weight of 32 rows
  std::size_t partial = 0;      // f32 [batch, q_heads, splits, head_dim]
  std::size_t partial_max = 0;  // f32 [batch, q_heads, splits] dense only
  std::size_t partial_sum = 0;  // f32 [batch, q_heads, splits] dense only
  std::size_t bytes = 0;
};
WorkspaceLayout workspace_layout(const DecodeParams& params, const Splits& splits);

inline std::uint32_t max_tiles(const DecodeParams& params) {
  return (params.max_context + kTileRows - 1) / kTileRows;
}

// Bytes that params needs on a device of that many multiprocessors. Only the shape is looked at.
std::size_t workspace_bytes(const DecodeParams& params, std::uint32_t multiprocessors);

// Why this launch is not supported, in one line with the remedy; empty when it is. Checks shape,
// method and missing pointers; what only the device knows is reported in status.
std::string refusal(const DecodeParams& params);
// The part of it that needs no pointers.
std::string shape_refusal(const DecodeParams& params);

}  // namespace stoat::gpu
