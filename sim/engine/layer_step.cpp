// Dealing the records of a layer step to engines.
#include "sim/engine/layer_step.h"

#include <algorithm>
#include <bit>
#include <map>
#include <numeric>
#include <random>
#include <utility>

#include "models/error.h"
#include "models/sampling/ruler.h"

namespace stoat::sim {

namespace {
constexpr std::uint64_t kPageSeed = 1;  // of the order of pages: the same in every run
}  // namespace

AddressPlan make_address_plan(const EngineShape& shape, const DramStandard& dram,
                              std::uint32_t context_max, std::uint32_t sequences,
                              std::uint32_t first_layer, std::uint32_t end_layer,
                              std::uint32_t heads) {
  AddressPlan plan;
  plan.first_layer = first_layer;
  plan.layers = end_layer - first_layer;
  plan.engines = shape.engines;
  plan.stride = shape.stride;
  plan.dealing = shape.point.dealing;
  plan.tiles_max = static_cast<std::uint32_t>(ceil_div(std::max(context_max, 1U), kTileRows));
  plan.slots = static_cast<std::uint32_t>(ceil_div(plan.tiles_max, shape.engines));
  const std::uint64_t row = dram.row_size.count();
  std::uint64_t rows = std::uint64_t{plan.slots} * kTileRows, regions = sequences;
  if (shape.point.page_rows != 0) {
    plan.sequence_pages = static_cast<std::uint32_t>(ceil_div(rows, shape.point.page_rows));
    rows = std::uint64_t{plan.sequence_pages} * shape.point.page_rows * sequences;
    regions = 1;
  }
  plan.region_bytes = ceil_div(rows * shape.row_bytes().count(), row) * row;
  plan.spill_base = 2 * plan.region_bytes * regions * plan.layers;
  const std::uint64_t codes = std::uint64_t{plan.slots} * kTileRows * heads * kCodeBits / 8;
  plan.bytes_used = plan.spill_base + codes;
  const std::uint64_t capacity = dram.capacity().count();
  if (plan.bytes_used > capacity) {
    throw usage_error(
        {},
        "a KV cache of " + std::to_string(plan.bytes_used) + " bytes a pseudo-channel on " +
            dram.name,
        "at most " + std::to_string(capacity) + " bytes",
        "simulate fewer layers (--layers A:B), or a memory with more pseudo-channels");
  }
  if (shape.point.page_rows != 0) {
    plan.pages.resize(std::size_t{sequences} * plan.sequence_pages);
    std::iota(plan.pages.begin(), plan.pages.end(), 0U);
    std::mt19937_64 random(kPageSeed);
    for (std::size_t i = plan.pages.size(); i > 1; --i) {
      std::swap(plan.pages[i - 1], plan.pages[random() % i]);
    }
  }
  return plan;
}

std::vector<LayerStep> layer_steps(const TraceRecords& records, std::uint32_t first_layer,
                                   std::uint32_t end_layer) {
  std::map<std::pair<std::uint32_t, std::uint32_t>, LayerStep> groups;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (records.layer[i] < first_layer || records.layer[i] >= end_layer) continue;
    LayerStep& group = groups[{records.step[i], records.layer[i]}];
    group.step = records.step[i];
    group.layer = records.layer[i];
    group.records.push_back(static_cast<std::uint32_t>(i));
  }
  std::vector<LayerStep> steps;
  steps.reserve(groups.size());
  for (auto& [key, group] : groups) {
    std::stable_sort(group.records.begin(), group.records.end(), [&](auto a, auto b) {
      return std::pair(records.seq[a], records.q_head[a]) <
             std::pair(records.seq[b], records.q_head[b]);
    });
    steps.push_back(std::move(group));
  }
  return steps;
}

namespace {

using Indices = std::vector<std::uint32_t>;

bool bit(const std::uint8_t* bits, std::uint32_t index) {
  return ((bits[index / 8] >> (index % 8)) & 1U) != 0;
}

TernaryShare ternary_share(const TraceRecords& records, const TraceHeader& header,
                           const Indices& heads, std::uint32_t head_dim) {
  TernaryShare share;
  share.options = header.ternary;
  share.in_union.assign(head_dim, 0);
  const std::size_t stride = head_dim / 8;
  for (const std::uint32_t record : heads) {
    std::vector<std::uint32_t> times(head_dim, 0);
    std::uint64_t touches = 0, plain = 0, shifted = 0;
    for (std::uint64_t draw = records.draw_indptr[record]; draw < records.draw_indptr[record + 1];
         ++draw) {
      const std::uint8_t* mask = records.key_mask.data() + draw * stride;
      for (std::uint32_t d = 0; d < head_dim; ++d) {
        if (!bit(mask, d)) continue;
        ++touches;
        ++times[d];
        share.in_union[d] = 1;
      }
    }
    std::uint32_t touched = 0;
    for (const std::uint32_t n : times) {
      touched += n != 0 ? 1 : 0;
      plain += n & 1U;
      shifted += static_cast<std::uint64_t>(std::popcount(n)) - (n & 1U);
    }
    share.touches.push_back(touches);
    share.touched.push_back(touched);
    share.plain_bits.push_back(plain);
    share.shifted_bits.push_back(shifted);
  }
  share.union_size =
      static_cast<std::uint32_t>(std::count(share.in_union.begin(), share.in_union.end(), 1));
  return share;
}

struct Pick {
  std::uint32_t row, head;
  std::uint16_t count;
};

// All (row, head, count) of a group, by row.
std::vector<Pick> picks_of(const TraceRecords& records, const Indices& heads) {
  std::vector<Pick> picks;
  for (std::uint32_t head = 0; head < heads.size(); ++head) {
    const std::uint32_t record = heads[head];
    for (std::uint64_t k = records.value_indptr[record]; k < records.value_indptr[record + 1];
         ++k) {
      picks.push_back({records.row[k], head, records.count[k]});
    }
  }
  std::sort(picks.begin(), picks.end(), [](const Pick& a, const Pick& b) {
    return std::pair(a.row, a.head) < std::pair(b.row, b.head);
  });
  return picks;
}

struct Splitter {
  const TraceRecords& records;
  const TraceHeader& header;
  const EngineShape& shape;
  const AddressPlan& plan;
  LayerWork& work;

  [[noreturn]] void refuse(std::uint32_t record, const std::string& found,
                           const std::string& expected) const {
    throw damaged_error({},
                        "record " + std::to_string(record) + " (step " +
                            std::to_string(records.step[record]) + ", layer " +
                            std::to_string(records.layer[record]) + ", query head " +
                            std::to_string(records.q_head[record]) + "): " + found,
                        expected, "stoat trace check");
  }

  // Rows increase and lie in the context; counts sum to the budget (top-k: to the rows there are).
  void check_rows(std::uint32_t record) const {
    std::uint64_t sum = 0;
    const std::uint64_t begin = records.value_indptr[record],
                        end = records.value_indptr[record + 1];
    for (std::uint64_t k = begin; k < end; ++k) {
      if (records.row[k] >= records.context[record]) {
        refuse(record, "row " + std::to_string(records.row[k]),
               "a row of the context of " + std::to_string(records.context[record]));
      }
      if (k > begin && records.row[k] <= records.row[k - 1]) {
        refuse(record,
               "row " + std::to_string(records.row[k]) + " after row " +
                   std::to_string(records.row[k - 1]),
               "increasing rows");
      }
      sum += records.count[k];
    }
    if (records.kind[record] == RecordKind::kDense) return;
    const std::uint64_t expected = header.method == Method::kTopK
                                       ? std::min(records.budget[record], records.context[record])
                                       : records.budget[record];
    if (sum != expected) {
      refuse(record, "counts that sum to " + std::to_string(sum),
             "S = " + std::to_string(expected));
    }
  }

  void check_group(const Indices& heads) const {
    for (const std::uint32_t record : heads) {
      check_rows(record);
      if (records.context[record] != records.context[heads.front()] ||
          records.kv_head[record] >= header.n_kv_heads) {
        throw damaged_error({},
                            "record " + std::to_string(record) +
                                " disagrees with its KV group about the context or KV head",
                            "one context for the query heads of a group", "stoat trace check");
      }
    }
  }

  // Empty shares of the group's engines, with their tiles.
  std::vector<EngineWork> shares(const Indices& heads) const {
    const std::uint32_t first = heads.front();
    std::vector<EngineWork> out(plan.engines);
    const std::uint64_t base = plan.key_base(records.seq[first], records.layer[first]);
    for (std::uint32_t e = 0; e < plan.engines; ++e) {
      EngineWork& share = out[e];
      share.context = records.context[first];
      share.heads = static_cast<std::uint32_t>(heads.size());
      share.method = header.method;
      share.budget = records.budget[first];
      share.engine = e;
      share.key_base = base;
      share.value_base = base + plan.region_bytes;
      share.pages = plan.pages_of(records.seq[first]);
      share.spill_base = plan.spill_base;
    }
    const auto tiles = static_cast<std::uint32_t>(ceil_div(out[0].context, kTileRows));
    for (std::uint32_t tile = 0; tile < tiles; ++tile) {
      const std::uint32_t rows = std::min(kTileRows, out[0].context - tile * kTileRows);
      out[plan.engine_of(tile)].tiles.push_back({tile, plan.slot_of(tile), rows});
    }
    const auto active = std::count_if(out.begin(), out.end(),
                                      [](const EngineWork& share) { return !share.tiles.empty(); });
    for (EngineWork& share : out) share.active_engines = static_cast<std::uint32_t>(active);
    return out;
  }

  void deal_rows(const std::vector<Pick>& picks, std::vector<EngineWork>& out) const {
    for (std::size_t i = 0; i < picks.size();) {
      const std::uint32_t row = picks[i].row;
      EngineWork& share = out[plan.engine_of(row / kTileRows)];
      // Own tiles are in increasing order, so the tile's index is its slot.
      share.rows.push_back({row, plan.slot_of(row / kTileRows)});
      share.counts.resize(share.counts.size() + share.heads, 0);
      std::uint16_t* counts = share.counts.data() + share.counts.size() - share.heads;
      for (; i < picks.size() && picks[i].row == row; ++i) counts[picks[i].head] = picks[i].count;
    }
  }

  void count_group(const Indices& heads, const std::vector<Pick>& picks, bool dense,
                   const TernaryShare* ternary) {
    Recount& recount = work.recount;
    const std::uint64_t context = records.context[heads.front()];
    recount.context_max = std::max(recount.context_max, records.context[heads.front()]);
    ++recount.groups;
    recount.key_rows += context;
    recount.key_rows_logical += context * heads.size();
    const bool skips = ternary != nullptr && shape.point.k_layout == KLayout::kFeatureMajor;
    const std::uint64_t features = skips ? ternary->union_size : shape.head_dim;
    recount.key_requested += element_bytes(shape.point.element) * (features * context);
    if (dense) {
      recount.value_rows += context;
      recount.value_rows_logical += context * heads.size();
    } else {
      recount.value_rows_logical += picks.size();
      for (std::size_t i = 0; i < picks.size(); ++i) {
        recount.value_rows += i == 0 || picks[i].row != picks[i - 1].row ? 1 : 0;
        recount.draws += picks[i].count;
      }
    }
    if (ternary != nullptr) {
      for (const std::uint32_t touched : ternary->touched) recount.touched_by_heads += touched;
      recount.head_steps += heads.size();
      recount.touched_by_groups += ternary->union_size;
      recount.group_steps += 1;
    }
  }

  void add_group(const Indices& heads, bool dense, TernaryShare* ternary) {
    check_group(heads);
    std::vector<EngineWork> out = shares(heads);
    const std::vector<Pick> picks = dense ? std::vector<Pick>{} : picks_of(records, heads);
    deal_rows(picks, out);
    count_group(heads, picks, dense, ternary);
    const std::uint32_t kv_head = records.kv_head[heads.front()];
    for (std::uint32_t e = 0; e < plan.engines; ++e) {
      out[e].ternary = ternary;
      work.of_engine[std::size_t{kv_head} * plan.stride + e].push_back(std::move(out[e]));
    }
  }
};

}  // namespace

LayerWork split_layer_step(const TraceRecords& records, const TraceHeader& header,
                           const LayerStep& layer_step, const EngineShape& shape,
                           const AddressPlan& plan, bool dense, bool ternary) {
  LayerWork work;
  work.of_engine.resize(std::size_t{header.n_kv_heads} * plan.stride);
  work.ternary.reserve(layer_step.records.size());  // shares keep pointers into it
  Splitter splitter{records, header, shape, plan, work};
  const Indices& all = layer_step.records;
  for (std::size_t begin = 0; begin < all.size();) {
    std::size_t end = begin;
    const auto same_group = [&](std::uint32_t record) {
      return records.seq[record] == records.seq[all[begin]] &&
             records.kv_head[record] == records.kv_head[all[begin]];
    };
    while (end < all.size() && same_group(all[end])) ++end;
    const Indices heads(all.begin() + static_cast<std::ptrdiff_t>(begin),
                        all.begin() + static_cast<std::ptrdiff_t>(end));
    TernaryShare* share = nullptr;
    if (ternary) {
      work.ternary.push_back(ternary_share(records, header, heads, shape.head_dim));
      share = &work.ternary.back();
    }
    splitter.add_group(heads, dense, share);
    begin = end;
  }
  return work;
}

}  // namespace stoat::sim
