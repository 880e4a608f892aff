// Writers of export.h, step by step in bounded memory (npz: the chosen steps at once).
#include "traces/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "models/error.h"
#include "traces/export_npz.h"
#include "traces/output_file.h"

namespace stoat {

namespace {

void write_csv(const TraceRecords& r, OutputFile& out, ExportSummary& summary) {
  std::string text;
  for (std::size_t i = 0; i < r.size(); ++i) {
    const bool dense = r.kind[i] == RecordKind::kDense;
    const std::string head =
        fmt::format("{},{},{},{},{},{},{},{}", r.seq[i], r.step[i], r.layer[i], r.q_head[i],
                    r.kv_head[i], r.context[i], dense ? "dense" : "sampled", r.budget[i]);
    text.clear();
    if (dense) {
      text = head + ",,\n";
      ++summary.lines;
    }
    for (std::uint64_t k = r.value_indptr[i]; k < r.value_indptr[i + 1]; ++k) {
      fmt::format_to(std::back_inserter(text), "{},{},{}\n", head, r.row[k], r.count[k]);
      ++summary.lines;
    }
    out.write(text);
  }
}

void write_stl(const TraceRecords& r, const TraceHeader& header, const ExportOptions& options,
               std::uint64_t region, std::uint64_t cycle, OutputFile& out, ExportSummary& summary) {
  std::vector<std::uint32_t> rows;
  std::string text;
  for (std::size_t i = 0; i < r.size();) {
    std::size_t end = i;
    rows.clear();
    bool dense = false;
    for (; end < r.size() && r.seq[end] == r.seq[i] && r.layer[end] == r.layer[i] &&
           r.kv_head[end] == r.kv_head[i];
         ++end) {
      dense = dense || r.kind[end] == RecordKind::kDense;
      rows.insert(rows.end(), r.row.begin() + static_cast<std::ptrdiff_t>(r.value_indptr[end]),
                  r.row.begin() + static_cast<std::ptrdiff_t>(r.value_indptr[end + 1]));
    }
    if (dense) {
      rows.resize(r.context[i]);
      for (std::uint32_t row = 0; row < r.context[i]; ++row) rows[row] = row;
    }
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    text.clear();
    for (const std::uint32_t row : rows) {
      const std::uint64_t at =
          stl_value_address(header, region, r.seq[i], r.layer[i], r.kv_head[i], row);
      for (std::uint64_t byte = 0; byte < header.row_bytes; byte += options.access_bytes) {
        fmt::format_to(std::back_inserter(text), "{}: read 0x{:x}\n", cycle, at + byte);
        ++summary.lines;
      }
    }
    out.write(text);
    i = end;
  }
}

}  // namespace

ExportFormat export_format_from_name(std::string_view name) {
  if (name == "csv") return ExportFormat::kCsv;
  if (name == "stl") return ExportFormat::kStl;
  if (name == "npz") return ExportFormat::kNpz;
  throw usage_error({}, fmt::format("unknown format '{}'", name), "csv, stl or npz",
                    nearest_name_hint(name, {"csv", "stl", "npz"}));
}

std::uint64_t stl_region_bytes(std::uint32_t max_context, std::uint32_t row_bytes) {
  return std::bit_ceil(std::uint64_t{max_context} * row_bytes);
}

std::uint64_t stl_value_address(const TraceHeader& header, std::uint64_t region, std::uint32_t seq,
                                std::uint32_t layer, std::uint32_t kv_head, std::uint32_t row) {
  const std::uint64_t pair =
      (std::uint64_t{seq} * header.n_layers + layer) * header.n_kv_heads + kv_head;
  return (2 * pair + 1) * region + std::uint64_t{row} * header.row_bytes;
}

ExportSummary export_trace(const TraceReader& reader, const ExportOptions& options,
                           const std::string& out_path) {
  if (options.access_bytes == 0)
    throw usage_error({}, "accesses of 0 bytes", "at least 1 (--access-bytes)");
  if (options.first_step > 0 && options.first_step >= reader.steps()) {
    throw usage_error({reader.path()}, fmt::format("step {}", options.first_step),
                      fmt::format("below {}", reader.steps()));
  }
  const std::uint32_t steps = std::min(options.steps, reader.steps() - options.first_step);
  if (steps > 0 && options.step_cycles > ~std::uint64_t{0} / steps) {
    throw usage_error({}, fmt::format("steps of {} cycles", options.step_cycles),
                      "cycle numbers below 2^64 at the last step (--step-cycles)");
  }
  OutputFile out(out_path);
  ExportSummary summary;
  if (options.format == ExportFormat::kNpz) {
    write_npz(reader, options.first_step, steps, out);
  } else {
    std::uint32_t max_context = 1;
    if (options.format == ExportFormat::kStl) {  // addresses must not depend on the chosen steps
      for (std::uint32_t s = 0; s < reader.steps(); ++s) {
        const TraceRecords r = reader.read_steps(s, 1);
        max_context = std::max(max_context, *std::max_element(r.context.begin(), r.context.end()));
      }
    } else {
      out.write("seq,step,layer,q_head,kv_head,context,kind,S,row,count\n");
      ++summary.lines;
    }
    const std::uint64_t region = stl_region_bytes(max_context, reader.header().row_bytes);
    for (std::uint32_t s = 0; s < steps; ++s) {
      const TraceRecords r = reader.read_steps(options.first_step + s, 1);
      if (options.format == ExportFormat::kCsv) {
        write_csv(r, out, summary);
      } else {
        write_stl(r, reader.header(), options, region, s * options.step_cycles, out, summary);
      }
    }
  }
  out.commit();
  summary.bytes = out.bytes();
  return summary;
}

}  // namespace stoat
