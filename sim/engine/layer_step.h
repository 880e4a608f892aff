// From trace records to shares: the work of every engine for one layer of one decode step. Plain
// C++.
//
// The map fixes which engine owns a tile and where its K and V rows lie; the splitter forms the
// union of selected rows over a KV group, deals rows to the engines that own their tiles, and keeps
// an independent recount for the checks.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "models/dram/standard.h"
#include "sim/datapath/work.h"
#include "sim/engine/result.h"
#include "traces/trace.h"

namespace stoat::sim {

// Where rows live. One engine = one pseudo-channel; KV head h owns engines [h * stride, h * stride
// + engines).
struct AddressPlan {
  std::uint32_t engines = 0;       // of a KV head
  std::uint32_t stride = 0;        // >= engines
  std::uint32_t tiles_max = 0;     // of the longest sequence
  std::uint32_t slots = 0;         // tiles of one sequence and layer in one engine
  std::uint64_t region_bytes = 0;  // of K (or V) of one sequence and layer; paged: of one layer
  // Paged: which page of the layer's region holds the i-th page of a sequence. Every page belongs
  // to one sequence; they lie in an order drawn at random (a cache that has been in use for long).
  std::vector<std::uint32_t> pages;  // [sequences, sequence_pages]
  std::uint32_t sequence_pages = 0;
  std::uint64_t spill_base = 0;
  std::uint32_t first_layer = 0, layers = 0;  // that are simulated
  std::uint64_t bytes_used = 0;
  Dealing dealing = Dealing::kRoundRobin;

  std::uint32_t engine_of(std::uint32_t tile) const {
    return dealing == Dealing::kRoundRobin ? tile % engines : tile / slots;
  }
  std::uint32_t slot_of(std::uint32_t tile) const {
    return dealing == Dealing::kRoundRobin ? tile / engines : tile % slots;
  }
  std::uint64_t key_base(std::uint32_t sequence, std::uint32_t layer) const {
    const std::uint64_t at = layer - first_layer;
    return (pages.empty() ? std::uint64_t{sequence} * layers + at : at) * 2 * region_bytes;
  }
  const std::uint32_t* pages_of(std::uint32_t sequence) const {
    return pages.empty() ? nullptr : pages.data() + std::size_t{sequence} * sequence_pages;
  }
};

// Throws Error when the KV cache of all sequences does not fit the pseudo-channels.
AddressPlan make_address_plan(const EngineShape& shape, const DramStandard& dram,
                              std::uint32_t context_max, std::uint32_t sequences,
                              std::uint32_t first_layer, std::uint32_t end_layer,
                              std::uint32_t heads);

// Records [begin, end) of one (step, layer) and how often what must be fetched: counted from the
// records alone.
struct LayerStep {
  std::uint32_t step = 0, layer = 0;
  std::vector<std::uint32_t> records;  // indices, sorted by sequence and query head
};

struct Recount {
  std::uint64_t key_rows = 0,
                key_rows_logical = 0;  // distinct rows of the context, KV groups summed
  std::uint64_t value_rows = 0, value_rows_logical = 0;  // of the selected rows
  std::uint64_t draws = 0;
  std::uint64_t groups = 0;  // KV heads of sequences
  std::uint64_t touched_by_heads = 0, head_steps = 0, touched_by_groups = 0, group_steps = 0;
  Bytes key_requested{0};
  std::uint32_t context_max = 0;
};

struct LayerWork {
  std::vector<std::vector<EngineWork>>
      of_engine;                      // [kv_heads * stride][groups, in order of sequence]
  std::vector<TernaryShare> ternary;  // owners of what the shares point to
  Recount recount;
};

// Cuts records into (step, layer) groups in order. Throws Error (damaged) for heads of a group with
// different contexts.
std::vector<LayerStep> layer_steps(const TraceRecords& records, std::uint32_t first_layer,
                                   std::uint32_t end_layer);
// dense: gather every row, whatever was selected.
LayerWork split_layer_step(const TraceRecords& records, const TraceHeader& header,
                           const LayerStep& layer_step, const EngineShape& shape,
                           const AddressPlan& plan, bool dense, bool ternary);

}  // namespace stoat::sim
