#include "gpu/attention/params.h"

#include <algorithm>
#include <bit>

#include "models/error.h"

namespace stoat::gpu {

namespace {

std::string number(std::uint64_t value) { return std::to_string(value); }

std::string range_refusal(const char* what, std::uint64_t value, std::uint64_t low,
                          std::uint64_t high) {
  if (value >= low && value <= high) return "";
  return std::string(what) + " is " + number(value) + "; expected " + number(low) + " to " +
         number(high);
}

std::string method_refusal(const DecodeParams& params) {
  if (params.method == Method::kDense) return "";
  if (std::string why = range_refusal("budget", params.budget, 1, kMaxGpuBudget); !why.empty())
    return why;
  const std::uint64_t rows = std::uint64_t{max_tiles(params)} * kTileRows;
  // Z <= rows * 2^30, so this keeps S * Z <= 2^62.
  if (params.budget * rows > (std::uint64_t{1} << 32))
    return "budget " + number(params.budget) + " at a context of " + number(params.max_context) +
           " overflows the integer ruler; expected budget * rows of at most 2^32";
  if (params.method == Method::kFlash && params.budget < max_tiles(params))
    return "flash with a budget of " + number(params.budget) + " for up to " +
           number(max_tiles(params)) + " tiles of 256 rows; raise the budget, or use prop";
  return "";
}

std::string paging_refusal(const DecodeParams& params) {
  if (params.page_size == 0) {
    if (params.kv_capacity < params.max_context)
      return "kv_capacity is " + number(params.kv_capacity) + ", less than max_context " +
             number(params.max_context);
    return "";
  }
  if (!std::has_single_bit(params.page_size) || params.page_size > kMaxContext)
    return "page_size is " + number(params.page_size) + "; expected a power of two";
  return "";
}

std::string ternary_refusal(const DecodeParams& params) {
  const TernaryScore& ternary = params.ternary;
  if (ternary.draws == 0) return "";
  if (std::string why = range_refusal("ternary.draws", ternary.draws, 1, kMaxTernaryDraws);
      !why.empty())
    return why;
  if (params.method == Method::kDense)
    return "ternary scores are for sampled methods and topk; dense attention takes exact ones";
  if (params.page_size != 0 && params.page_size < kMinFeaturePage)
    return "pages of " + number(params.page_size) +
           " rows; ternary scores read a feature-major copy of K, which needs pages of at least " +
           number(kMinFeaturePage) + " (128 bytes of a feature)";
  if (params.page_size == 0 && (ternary.capacity < params.max_context || ternary.capacity % 8 != 0))
    return "ternary.capacity is " + number(ternary.capacity) +
           "; expected a multiple of 8 of at least max_context " + number(params.max_context);
  if (params.page_size == 0 && params.ternary.capacity > kMaxFeatureCapacity)
    return "ternary.capacity is " + number(params.ternary.capacity) + "; expected at most " +
           number(kMaxFeatureCapacity) + ", so that a feature's place fits 32 bits";
  return "";
}

// Of the places where results beyond the output go.
std::string sink_refusal(const DecodeParams& params) {
  const TraceSink& trace = params.trace;
  const bool dense = params.method == Method::kDense;
  if (trace.row && (!trace.count || !trace.lost || trace.capacity == 0))
    return "a trace needs row, count, lost and a capacity";
  if (trace.row && dense) return "dense attention draws no rows to trace";
  if (params.scores.code && !params.scores.exponent) return "score records need code and exponent";
  if (params.scores.code && dense) return "dense attention stores no scores to record";
  for (const void* pointer : {static_cast<const void*>(params.scores.code),
                              params.ternary.draws > 0 ? params.ternary.k_features : nullptr}) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0)
      return "scores.code and ternary.k_features must be aligned to 16 bytes";
  }
  if (params.ternary.draws > 0 && !params.ternary.k_features)
    return "ternary scores need k_features, the feature-major copy of K (kv_append.h)";
  if (params.ternary.draws > 0 && !params.ternary.sink.mask != !params.ternary.sink.sign)
    return "a record of ternary draws needs mask and sign";
  return "";
}

// `bytes` more at the end, aligned for 16-byte access.
std::size_t append(WorkspaceLayout& layout, std::size_t bytes) {
  const std::size_t begin = layout.bytes;
  layout.bytes += (bytes + 255) / 256 * 256;
  return begin;
}

}  // namespace

std::string shape_refusal(const DecodeParams& params) {
  for (std::string why : {range_refusal("batch", params.batch, 1, kMaxBatch),
                          range_refusal("kv_heads", params.kv_heads, 1, 65535),
                          range_refusal("q_heads", params.q_heads, 1, 65535),
                          range_refusal("score_splits", params.score_splits, 0, kMaxSplits),
                          range_refusal("gather_splits", params.gather_splits, 0, kMaxSplits),
                          range_refusal("layer", params.layer, 0, 65535),
                          range_refusal("max_context", params.max_context, 1, kMaxContext)}) {
    if (!why.empty()) return why;
  }
  if (params.batch * params.kv_heads > 65535)
    return "batch * kv_heads is " + number(params.batch * params.kv_heads) +
           "; expected at most 65535";
  if (params.batch * params.q_heads > 65535)
    return "batch * q_heads is " + number(params.batch * params.q_heads) +
           "; expected at most 65535";
  if (params.head_dim != 64 && params.head_dim != 128)
    return "head_dim is " + number(params.head_dim) + "; expected 64 or 128";
  if (params.q_heads % params.kv_heads != 0)
    return "q_heads " + number(params.q_heads) + " is no multiple of kv_heads " +
           number(params.kv_heads);
  if (params.q_heads / params.kv_heads > kMaxGroup)
    return "a group of " + number(params.q_heads / params.kv_heads) +
           " query heads a KV head; expected at most " + number(kMaxGroup);
  if (std::string why = paging_refusal(params); !why.empty()) return why;
  if (std::string why = ternary_refusal(params); !why.empty()) return why;
  return method_refusal(params);
}

std::string refusal(const DecodeParams& params) {
  if (std::string why = shape_refusal(params); !why.empty()) return why;
  if (!params.q || !params.k || !params.v || !params.out || !params.status)
    return "q, k, v, out and status must not be null";
  if (params.page_size == 0 && !params.context_len)
    return "context_len must not be null for a contiguous cache";
  if (params.page_size != 0 && (!params.indptr || !params.indices || !params.last_page_len))
    return "indptr, indices and last_page_len must not be null for a paged cache";
  for (const void* pointer : {params.q, params.k, params.v}) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0)
      return "q, k and v must be aligned to 16 bytes";
  }
  if (std::string why = sink_refusal(params); !why.empty()) return why;
  if (!params.workspace || reinterpret_cast<std::uintptr_t>(params.workspace) % 256 != 0)
    return "workspace must not be null and be aligned to 256 bytes";
  return "";
}

namespace {

// Of dense: one wave where it nearly fills the device, else blocks of 16 tiles or fewer in several
// waves, since not every multiprocessor is served equally fast.
std::uint32_t choose_dense_splits(const DecodeParams& params, std::uint32_t slots) {
  const std::uint32_t units = std::max(1U, params.batch * params.kv_heads);
  const std::uint32_t of_one_wave = slots / units;
  if (20 * of_one_wave * units >= 19 * slots) return of_one_wave;
  return std::max({1U, of_one_wave, max_tiles(params) / 16});
}

// Of the ternary score pass. A warp draws for every chunk that it takes: of two tiles where there
// are enough, but for the last sequences, so that all warps end at about the same time. Where there
// is hardly more than two tiles a warp the first chunks are all.
void choose_ternary_chunks(const DecodeParams& params, Splits& splits) {
  const std::uint32_t warps = 8 * splits.score, of_sequence = params.kv_heads * max_tiles(params);
  const std::uint32_t tiles = params.batch * of_sequence;
  if (2 * tiles <= 3 * warps) return;
  splits.chunk_tiles = 2;
  splits.chunked = params.batch;
  if (tiles > 2 * warps) splits.chunked -= std::min(params.batch, warps / of_sequence);
}

// Whether the gather pays beside the ternary score pass: where a warp takes several tiles, of many
// sequences. Larger groups and group-mean draws leave no room for its blocks.
bool pays_beside_ternary(const DecodeParams& params, std::uint32_t blocks) {
  return params.ternary.coupling != TernaryCoupling::kGroupMean &&
         params.q_heads <= 4 * params.kv_heads && params.batch >= 8 &&
         params.batch * params.kv_heads * max_tiles(params) >= 3 * 8 * blocks;
}

}  // namespace

Splits choose_splits(const DecodeParams& params, std::uint32_t multiprocessors) {
  // Two blocks of 256 threads fit on a multiprocessor; one wave of them.
  const std::uint32_t slots = std::max(1U, 2 * multiprocessors);
  Splits splits;
  // Blocks of the score passes walk through the whole batch; those of dense share a (sequence, KV
  // head).
  const bool dense = params.method == Method::kDense, ternary = params.ternary.draws > 0;
  const bool through_batch = !dense;
  splits.beside = through_batch && params.method != Method::kTopK &&
                  (!ternary || pays_beside_ternary(
                                   params, params.score_splits != 0 ? params.score_splits : slots));
  const bool beside = splits.beside;
  constexpr std::uint32_t kSmallBudget = 256, kLargeBudget = 1024, kFewTiles = 64,
                          kVeryFewTiles = 16;
  const std::uint32_t work =
      max_tiles(params) * (through_batch ? params.batch * params.kv_heads : 1);
  // A few multiprocessors with room for a second block of a gather that takes as long as the score
  // pass.
  const bool leaves_room = beside && params.batch >= 8 && params.budget >= kLargeBudget;
  splits.score = params.score_splits != 0 ? params.score_splits
                 : dense                  ? choose_dense_splits(params, slots)
                 : ternary                ? std::min(slots, (work + 7) / 8)
                 : leaves_room            ? slots - slots / 11
                                          : slots;
  splits.score = std::min({splits.score, work, kMaxSplits});
  if (ternary) {
    choose_ternary_chunks(params, splits);
    splits.signal_group = 2;  // its warps have tiles of several sequences at a time
  }
  // Two blocks of the gather a multiprocessor, four of a large budget; a block is worth its start
  // with 16 points or more. Beside the score pass eight blocks share a head sooner than four only
  // of one sequence and a large budget, where the score pass leaves room or takes long: a cluster
  // waits until so many multiprocessors have room.
  const bool roomy = max_tiles(params) <= kVeryFewTiles || max_tiles(params) > kFewTiles;
  const bool eight = !beside || (params.batch == 1 && roomy && params.budget >= kLargeBudget);
  const std::uint32_t room = beside && params.budget > kSmallBudget ? 4 * slots : slots;
  const std::uint32_t most = std::max(1U, std::min(eight ? 8U : 4U, params.budget / 16));
  const auto share = [&](std::uint32_t sequences) {
    return std::clamp(room / std::max(1U, sequences * params.q_heads), 1U, most);
  };
  splits.gather = params.gather_splits != 0 ? params.gather_splits : share(params.batch);
  // Beside the score pass there is time for whole heads; what counts is how soon the last sequences
  // are done after it. The longer a whole head takes, the more of them are shared; of short
  // contexts all, and with a very large budget where fewer than four blocks would share one.
  const bool small = params.budget <= kSmallBudget, large = params.budget > kLargeBudget;
  const std::uint32_t last = small && !ternary ? 1 : 3;
  const bool whole = small || (max_tiles(params) > kFewTiles && (!large || splits.gather == 4));
  const std::uint32_t of_last = large ? splits.gather : share(1);
  if (beside && whole && params.gather_splits == 0 && params.batch > last &&
      params.q_heads % of_last == 0) {
    splits.gather = of_last;
    splits.whole_sequences = params.batch - last;
  }
  return splits;
}

std::uint32_t code_places(const DecodeParams& params) {
  constexpr std::size_t kStaying = std::size_t{8} << 20;  // bytes; 16 MB do not stay on an H200
  const std::size_t codes = sizeof(std::uint16_t) * kTileRows * max_tiles(params) * params.q_heads;
  return std::bit_floor(std::max(2U, static_cast<std::uint32_t>(kStaying / codes)));
}

WorkspaceLayout workspace_layout(const DecodeParams& params, const Splits& splits) {
  const std::size_t heads = std::size_t{params.batch} * params.q_heads;
  const bool dense = params.method == Method::kDense;
  const std::size_t tiles = dense ? 0 : heads * max_tiles(params);
  const std::size_t parts = heads * (dense ? splits.score : splits.gather);
  WorkspaceLayout layout;
  layout.lut = append(layout, kWeightLutSize * sizeof(std::uint32_t));
  layout.counter = append(layout, heads * sizeof(std::uint32_t));
  layout.ready = append(layout, params.batch * sizeof(std::uint32_t));
  layout.next_tile = append(layout, sizeof(std::uint32_t));
  layout.seen = append(layout, params.batch * sizeof(std::uint32_t));
  layout.code = append(layout, tiles * kTileRows * sizeof(std::uint16_t));
  layout.exponent = append(layout, tiles * sizeof(std::int32_t));
  layout.mass = append(layout, tiles * sizeof(std::uint64_t));
  layout.part = append(layout, tiles * kTileParts * sizeof(std::uint32_t));
  layout.partial = append(layout, parts * params.head_dim * sizeof(float));
  layout.partial_max = append(layout, dense ? parts * sizeof(float) : 0);
  layout.partial_sum = append(layout, dense ? parts * sizeof(float) : 0);
  return layout;
}

std::size_t workspace_bytes(const DecodeParams& params, std::uint32_t multiprocessors) {
  const std::string why = shape_refusal(params);
  if (!why.empty()) throw usage_error({"GPU attention"}, why);
  return workspace_layout(params, choose_splits(params, multiprocessors)).bytes;
}

}  // namespace stoat::gpu
