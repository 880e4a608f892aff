// What a simulation found, and the files it is written to: integers and exact decimals only, so
// equal work gives equal bytes.
//
// DIR/summary.csv  one row a datapath     DIR/energy.csv  one row a datapath, stage and event
// DIR/traffic.csv  one row a datapath and part   DIR/steps.csv  one row a datapath and decode step
// DIR/manifest.json  command line, versions, hashes. Reports read these files and nothing of the
// simulator's insides.
//
// Columns (units in the names; times are simulated times; `decimal` = exact integer division, fixed
// digits):
//   summary.csv: datapath, score_stage, select_stage, gather_stage, arch, dram, price_list,
//   dram_energy_boundary, model,
//     method, budget ("128", "4;8;16" a layer, empty for dense), score_kind, ternary_draws,
//     ternary_coupling, ternary_normaliser, kv_element, k_layout, repeats, tile_dealing, layers,
//     query_heads, kv_heads, head_dim, steps, layer_steps, context_max, cycles, time_ps,
//     ps_per_step, energy_aJ, energy_per_step_aJ, score_energy_aJ, select_energy_aJ,
//     gather_energy_aJ, dram_energy_aJ, value_draws, value_rows_logical, value_rows_distinct,
//     key_rows_logical, key_rows_distinct, logical_bytes, requested_bytes, moved_bytes,
//     read_bursts, write_bursts, activates, row_hits, row_misses, row_hit_percent (decimal),
//     refreshes, achieved_bytes_per_second, peak_bytes_per_second, bandwidth_percent (decimal),
//     dense_kv_bytes (K and V of the same steps read densely), weight_bytes_per_token,
//     attention_share_percent (decimal; dense K+V bytes of K+V+weights; empty when not known),
//     token_saving_percent (decimal; bytes of the whole token that this datapath saves against
//     dense), score_busy_cycles, select_busy_cycles, gather_busy_cycles (summed over engines),
//     engines, touched_features_per_head (decimal, ternary), touched_features_per_group (decimal,
//     ternary), multiplications_score, multiplications_select, multiplications_gather,
//     (data_bus|row_bus|bank)_busy_percent, (score|exponential|select|gather)_(busy|starved|
//     blocked)_percent (decimal, of the time; the rest is idle), placement, stacks,
//     (dense|gather_add|ternary)_accumulator, topk_unit, ternary_draw_merging
//     Bytes of the append of the new token are in append_requested_bytes and append_moved_bytes
//     (after moved_bytes) and in no other byte column; its energy is append_energy_aJ (after
//     gather_energy_aJ) and part of energy_aJ.
//   energy.csv: datapath, stage (score|select|gather|append), component, event, count, price_aJ,
//   energy_aJ (count > 0 only) traffic.csv: datapath, part (key|value|spill_write|spill_read),
//   logical_rows, distinct_rows, logical_bytes,
//     requested_bytes, moved_bytes, bursts
//   steps.csv: datapath, step, context_len (largest), cycles, time_ps (of this step), key_bytes,
//   value_bytes (both
//     requested), moved_bytes, value_rows_logical, value_rows_distinct
// logical = as if every query head read its own rows once; distinct = after the union over the KV
// group; draws = the sum of counts; requested = what the stages ask for; moved = whole DRAM bursts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/energy/price_list.h"
#include "models/units.h"
#include "sim/engine/result.h"

namespace stoat::sim {

// For the pipe between a child that simulated and its parent.
nlohmann::json to_json(const DatapathResult& result);
DatapathResult result_from_json(const nlohmann::json& json);

// What is the same for all datapaths of a run.
struct RunDescription {
  std::string arch, dram, model, method, budget, score_kind;
  std::string ternary_draws, ternary_coupling, ternary_normaliser;  // empty for exact scores
  std::string kv_element, k_layout, repeats, tile_dealing;
  std::string placement, stacks, dense_accumulator, gather_add_accumulator, ternary_accumulator,
      topk_unit, ternary_draw_merging;
  std::uint32_t layers = 0, query_heads = 0, kv_heads = 0, head_dim = 0;
  std::uint64_t peak_bytes_per_second = 0;   // of all pseudo-channels
  std::uint64_t weight_bytes_per_token = 0;  // 0 = not known
};

// numerator / denominator * scale as a decimal with `digits` digits, rounded down; "0" digits
// exact. Denominator 0: "".
std::string ratio(Uint128 numerator, Uint128 denominator, int digits);
std::string percent(Uint128 numerator, Uint128 denominator);  // two digits

struct ResultTables {
  std::string summary, energy, traffic, steps;  // whole CSV files
};
ResultTables make_tables(const RunDescription& run, const std::vector<DatapathResult>& results,
                         const PriceList& prices);

// Multiplications left in a stage: products, and scalings that are not per key.
std::uint64_t multiplications(const DatapathResult& result, Stage stage);

}  // namespace stoat::sim
