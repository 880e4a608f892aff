// The catalog of a trace's columns: one line a dataset, in file order. Everything that walks over
// columns (spool payload, HDF5 file, checksums, diff, export) walks over this list, so a new column
// is one line here and one in trace.h.
#pragma once

#include <cstdint>
#include <string_view>

#include "traces/trace.h"

namespace stoat {

// What a column has one row for. An indptr column has one row more than its records.
enum class Axis : std::uint8_t {
  kRecord,           // N
  kValueIndptr,      // N + 1 -> kValue
  kValue,            // selected rows
  kTileIndptr,       // N + 1 -> kTile
  kTile,             // tiles with mass
  kDrawIndptr,       // N + 1 -> kDraw
  kDraw,             // ternary draws
  kScore,            // M records with scores
  kScoreIndptr,      // M + 1 -> kCode
  kCode,             // codes
  kScoreTileIndptr,  // M + 1 -> kExponent
  kExponent,         // tiles of the records with scores
  kProbe,            // P, the same in every step
  kToken             // (step, sequence)
};

// Elements a row.
enum class Width : std::uint8_t { kOne, kFeatureBytes, kProbes };

struct Column {
  std::string_view path;
  Axis axis;
  Width width = Width::kOne;
};

inline constexpr std::uint8_t kColumnCount = 36;

// Calls visit(column, vector) for every column in order. Records is TraceRecords or const
// TraceRecords.
template <class Records, class Visit>
void visit_columns(Records& r, Visit&& visit) {
  visit(Column{"/records/seq", Axis::kRecord}, r.seq);
  visit(Column{"/records/step", Axis::kRecord}, r.step);
  visit(Column{"/records/layer", Axis::kRecord}, r.layer);
  visit(Column{"/records/q_head", Axis::kRecord}, r.q_head);
  visit(Column{"/records/kv_head", Axis::kRecord}, r.kv_head);
  visit(Column{"/records/context", Axis::kRecord}, r.context);
  visit(Column{"/records/kind", Axis::kRecord}, r.kind);
  visit(Column{"/records/S", Axis::kRecord}, r.budget);
  visit(Column{"/value/indptr", Axis::kValueIndptr}, r.value_indptr);
  visit(Column{"/value/row", Axis::kValue}, r.row);
  visit(Column{"/value/count", Axis::kValue}, r.count);
  visit(Column{"/tile/indptr", Axis::kTileIndptr}, r.tile_indptr);
  visit(Column{"/tile/tile", Axis::kTile}, r.tile);
  visit(Column{"/tile/mass", Axis::kTile}, r.tile_mass);
  visit(Column{"/key/draw_indptr", Axis::kDrawIndptr}, r.draw_indptr);
  visit(Column{"/key/mask", Axis::kDraw, Width::kFeatureBytes}, r.key_mask);
  visit(Column{"/key/sign", Axis::kRecord, Width::kFeatureBytes}, r.key_sign);
  visit(Column{"/stats/lse", Axis::kRecord}, r.stats.lse);
  visit(Column{"/stats/max", Axis::kRecord}, r.stats.max);
  visit(Column{"/stats/entropy", Axis::kRecord}, r.stats.entropy);
  visit(Column{"/stats/mass_top1", Axis::kRecord}, r.stats.mass_top1);
  visit(Column{"/stats/mass_token0", Axis::kRecord}, r.stats.mass_token0);
  visit(Column{"/stats/participation", Axis::kRecord}, r.stats.participation);
  visit(Column{"/stats/mass_top8", Axis::kRecord}, r.stats.mass_top8);
  visit(Column{"/stats/mass_top32", Axis::kRecord}, r.stats.mass_top32);
  visit(Column{"/stats/output_error", Axis::kRecord}, r.stats.output_error);
  visit(Column{"/stats/twin_total_variation", Axis::kRecord}, r.stats.twin_total_variation);
  visit(Column{"/stats/twin_top1_agreement", Axis::kRecord}, r.stats.twin_top1_agreement);
  visit(Column{"/scores/record", Axis::kScore}, r.score_record);
  visit(Column{"/scores/indptr", Axis::kScoreIndptr}, r.score_indptr);
  visit(Column{"/scores/code", Axis::kCode}, r.score_code);
  visit(Column{"/scores/tile_indptr", Axis::kScoreTileIndptr}, r.score_tile_indptr);
  visit(Column{"/scores/exponent", Axis::kExponent}, r.score_exponent);
  visit(Column{"/probe/budget", Axis::kProbe}, r.probe_budget);
  visit(Column{"/probe/error", Axis::kRecord, Width::kProbes}, r.probe_error);
  visit(Column{"/tokens/id", Axis::kToken}, r.token_id);
}

// Positions on every axis at a record boundary.
struct Positions {
  std::uint64_t records = 0, values = 0, tiles = 0, draws = 0;
  std::uint64_t scores = 0, codes = 0, exponents = 0, tokens = 0;
};

inline bool is_indptr(Axis axis) {
  return axis == Axis::kValueIndptr || axis == Axis::kTileIndptr || axis == Axis::kDrawIndptr ||
         axis == Axis::kScoreIndptr || axis == Axis::kScoreTileIndptr;
}

// The position on an axis; for an indptr, on the axis of its records.
inline std::uint64_t position_on(Axis axis, const Positions& at) {
  switch (axis) {
    case Axis::kRecord:
    case Axis::kValueIndptr:
    case Axis::kTileIndptr:
    case Axis::kDrawIndptr:
      return at.records;
    case Axis::kValue:
      return at.values;
    case Axis::kTile:
      return at.tiles;
    case Axis::kDraw:
      return at.draws;
    case Axis::kScore:
    case Axis::kScoreIndptr:
    case Axis::kScoreTileIndptr:
      return at.scores;
    case Axis::kCode:
      return at.codes;
    case Axis::kExponent:
      return at.exponents;
    case Axis::kToken:
      return at.tokens;
    case Axis::kProbe:
      return 0;
  }
  return 0;
}

// What an indptr points into.
inline Axis pointed_axis(Axis indptr) {
  switch (indptr) {
    case Axis::kValueIndptr:
      return Axis::kValue;
    case Axis::kTileIndptr:
      return Axis::kTile;
    case Axis::kDrawIndptr:
      return Axis::kDraw;
    case Axis::kScoreIndptr:
      return Axis::kCode;
    default:
      return Axis::kExponent;
  }
}

inline std::uint64_t width_of(Width width, const TraceHeader& header, std::uint64_t probes) {
  switch (width) {
    case Width::kFeatureBytes:
      return (header.head_dim + 7) / 8;
    case Width::kProbes:
      return probes;
    case Width::kOne:
      break;
  }
  return 1;
}

}  // namespace stoat
