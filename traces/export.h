// `stoat trace export`: the same data for other tools. All are written to a temporary name and
// renamed when whole.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "traces/reader.h"

namespace stoat {

enum class ExportFormat : std::uint8_t { kCsv, kStl, kNpz };
ExportFormat export_format_from_name(std::string_view name);  // csv stl npz

struct ExportOptions {
  ExportFormat format = ExportFormat::kCsv;
  std::uint32_t first_step = 0;     // index
  std::uint32_t steps = ~0U;        // to the end
  std::uint32_t access_bytes = 32;  // stl: bytes of one memory access
  std::uint64_t step_cycles = 1;    // stl: cycle = step index * step_cycles
};

struct ExportSummary {
  std::uint64_t lines = 0;  // csv and stl
  std::uint64_t bytes = 0;
};

// csv: seq,step,layer,q_head,kv_head,context,kind,S,row,count; one line a selected row, one with
// empty row a dense record. stl: "cycle: read 0xADDRESS" for every access of every V row that a KV
// group reads in a step (its heads' union; all rows
//      when dense). Address = ((seq * n_layers + layer) * n_kv_heads + kv_head) * 2 * R + R + row *
//      row_bytes, where R, the room of one K or V region, is the first power of two that holds the
//      largest context: K lies at the even, V at the odd regions.
// npz: every dataset as DATASET.npy in an uncompressed zip; numpy.load(file)["value/row"];
// "header.json" beside them.
ExportSummary export_trace(const TraceReader& reader, const ExportOptions& options,
                           const std::string& out_path);

// Start of the V region and the region's room in bytes.
std::uint64_t stl_region_bytes(std::uint32_t max_context, std::uint32_t row_bytes);
std::uint64_t stl_value_address(const TraceHeader& header, std::uint64_t region, std::uint32_t seq,
                                std::uint32_t layer, std::uint32_t kv_head, std::uint32_t row);

}  // namespace stoat
