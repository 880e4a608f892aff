// What the verbs do (verbs.h): call the library, then say it as text or as one JSON object.
#include "traces/verbs.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/files.h"
#include "models/progress.h"
#include "traces/check.h"
#include "traces/diff.h"
#include "traces/file_hdf5.h"
#include "traces/output_file.h"
#include "traces/payload.h"
#include "traces/reader.h"
#include "traces/spool.h"
#include "traces/writer.h"

namespace stoat {

namespace {

using nlohmann::json;

// File names need not be UTF-8; JSON must be.
void print(const json& j) {
  fmt::print("{}\n", j.dump(2, ' ', false, json::error_handler_t::replace));
}

std::string budgets_text(const std::vector<std::uint32_t>& budgets) {
  if (budgets.empty()) return "-";
  std::string text;
  for (const std::uint32_t b : budgets) text += fmt::format("{}{}", text.empty() ? "" : ",", b);
  return text;
}

// While it lives, an interrupt removes these files: made again in seconds, nothing worth keeping.
class RemovedOnInterrupt {
 public:
  explicit RemovedOnInterrupt(std::vector<std::string> files) {
    files_ = std::move(files);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, end);
  }
  ~RemovedOnInterrupt() {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
  }
  RemovedOnInterrupt(const RemovedOnInterrupt&) = delete;
  RemovedOnInterrupt& operator=(const RemovedOnInterrupt&) = delete;

 private:
  static void end(int) {
    for (const std::string& file : files_) ::unlink(file.c_str());
    ::_exit(static_cast<int>(ExitCode::kInterrupted));
  }
  static inline std::vector<std::string> files_;
};

int spool_info(const std::string& path, bool as_json) {
  SpoolReader spool(path);
  std::uint64_t records = 0;
  std::uint64_t frames = 0;
  TraceRecords frame;
  while (spool.next(frame)) {
    records += frame.size();
    ++frames;
  }
  if (as_json) {
    print({{"kind", "spool"},
           {"path", path},
           {"frames", frames},
           {"records", records},
           {"torn_bytes", spool.torn_bytes()},
           {"damage", spool.damage()},
           {"header", json::parse(header_json(spool.header()))}});
  } else {
    fmt::print(
        "spool of a recording that was not finished: {} frames, {} records, {} bytes after the "
        "last whole frame{}{}\n"
        "turn it into a trace with: stoat trace recover {} -o FILE\n",
        frames, records, spool.torn_bytes(),
        spool.damage().empty() ? "" : "; damage: ", spool.damage(), path);
  }
  return 0;
}

}  // namespace

int verb_info(const std::string& path, bool as_json) {
  if (is_spool(path)) return spool_info(path, as_json);
  const TraceReader reader(path);
  const TraceHeader& h = reader.header();
  json datasets = json::array();
  for (const DatasetCheck& d : reader.datasets()) {
    datasets.push_back({{"path", d.path},
                        {"rows", d.rows},
                        {"width", d.width},
                        {"xxh64", fmt::format("{:016x}", d.hash)}});
  }
  std::uint32_t min_context = ~0U, max_context = 0;
  for (const std::uint32_t step : {0U, reader.steps() == 0 ? 0U : reader.steps() - 1}) {
    if (reader.steps() == 0) break;
    for (const std::uint32_t c : reader.read_steps(step, 1).context) {
      min_context = std::min(min_context, c);
      max_context = std::max(max_context, c);
    }
  }
  if (max_context == 0) min_context = 0;
  if (as_json) {
    print({{"kind", "trace"},
           {"path", path},
           {"content_hash", reader.content_hash()},
           {"tool_version", reader.tool_version()},
           {"build_id", reader.build_id()},
           {"steps", reader.steps()},
           {"records", reader.records()},
           {"selected_rows", reader.selected_rows()},
           {"score_records", reader.score_records()},
           {"min_context", min_context},
           {"max_context", max_context},
           {"header", json::parse(header_json(h))},
           {"datasets", datasets}});
    return 0;
  }
  fmt::print("{}\n", path);
  fmt::print("  content hash   {}\n", reader.content_hash());
  fmt::print("  made by        stoat {} ({}), {}\n", reader.tool_version(), reader.build_id(),
             h.origin);
  fmt::print("  model          {}: {} layers, {} query heads on {} KV heads of {}\n",
             h.model_name.empty() ? "unnamed" : h.model_name, h.n_layers, h.n_q_heads, h.n_kv_heads,
             h.head_dim);
  fmt::print("  KV rows        {} bytes each ({})\n", h.row_bytes, h.kv_dtype);
  fmt::print("  method         {}, S {}, seed {}\n", method_name(h.method), budgets_text(h.budgets),
             h.seed);
  if (h.score_kind == ScoreKind::kTernary) {
    fmt::print("  scores         ternary, {} draws, {}, {}\n", h.ternary.draws,
               coupling_name(h.ternary.coupling), normaliser_name(h.ternary.normaliser));
  }
  fmt::print("  steps          {} (context {} to {})\n", reader.steps(), min_context, max_context);
  fmt::print("  records        {} ({} with score codes), {} selected rows\n", reader.records(),
             reader.score_records(), reader.selected_rows());
  fmt::print("  datasets       rows      width  xxh64\n");
  for (const DatasetCheck& d : reader.datasets()) {
    fmt::print("    {:<26} {:>10} {:>4}  {:016x}\n", d.path, d.rows, d.width, d.hash);
  }
  return 0;
}

int verb_check(const std::string& path, std::size_t max_violations, bool as_json) {
  const TraceReader reader(path);
  const CheckReport report = check_trace(reader, max_violations);
  if (as_json) {
    json violations = json::array();
    for (const Violation& v : report.violations) {
      violations.push_back({{"dataset", v.dataset}, {"record", v.record}, {"text", v.text}});
    }
    print({{"path", path},
           {"good", report.good()},
           {"content_hash", reader.content_hash()},
           {"datasets", report.datasets},
           {"records", report.records},
           {"sampled", report.sampled},
           {"redrawn", report.redrawn},
           {"floor_or_ceil", report.floor_or_ceil},
           {"tile_masses", report.tile_masses},
           {"ternary", report.ternary},
           {"statistics", report.statistics},
           {"violations", violations}});
  } else {
    fmt::print("{}: {}\n", path, report.good() ? "good" : "BAD");
    fmt::print("  file hash, content hash, {} dataset checksums recomputed\n", report.datasets);
    fmt::print("  {} records in order, shapes and ranges right\n", report.records);
    fmt::print("  {} sampled records: rows increase, lie below the context, counts sum to S\n",
               report.sampled);
    fmt::print("  {} records drawn again from their scores: equal counts\n", report.redrawn);
    fmt::print("  {} of them with counts floor or ceil of S * p\n", report.floor_or_ceil);
    fmt::print("  {} flash records with the tile masses of their scores\n", report.tile_masses);
    fmt::print("  {} ternary records whose masks agree with the seed\n", report.ternary);
    fmt::print("  {} statistics finite\n", report.statistics);
    if (reader.score_records() == 0 && report.sampled > 0) {
      fmt::print("  (no score records: draws cannot be repeated; record them with --scores)\n");
    }
  }
  std::fflush(stdout);
  for (const Violation& v : report.violations) spdlog::error("{}: {}", path, v.sentence());
  return static_cast<int>(report.good() ? ExitCode::kOk : ExitCode::kDamaged);
}

int verb_recover(const std::string& spool, const std::string& out, const RecoverOptions& options,
                 bool as_json) {
  if (!is_spool(spool)) {
    std::error_code ignored;
    throw usage_error({spool},
                      std::filesystem::exists(spool, ignored) ? "not a spool" : "no such file",
                      "the .spool file of a recording");
  }
  ensure_not_input(out, spool);
  ensure_output_file(out, options.force);
  std::uint64_t lost = 0;
  const std::string hash = recover_spool(spool, out, &lost, options.before_damage);
  const TraceReader reader(out);
  if (lost != 0)
    spdlog::warn("{}: {} bytes after the last whole frame are not in the trace", spool, lost);
  if (lost == 0 && !options.keep) ::unlink(spool.c_str());
  if (as_json) {
    print({{"path", out},
           {"content_hash", hash},
           {"steps", reader.steps()},
           {"records", reader.records()},
           {"lost_bytes", lost}});
  } else {
    fmt::print("{}: {} steps, {} records, content hash {}\n", out, reader.steps(), reader.records(),
               hash);
  }
  return 0;
}

int verb_export(const std::string& path, const ExportOptions& options, const std::string& out,
                bool force, bool as_json) {
  const TraceReader reader(path);
  ensure_not_input(out, path);
  ensure_output_file(out, force);
  const ExportSummary summary = export_trace(reader, options, out);
  if (as_json) {
    print({{"path", out}, {"lines", summary.lines}, {"bytes", summary.bytes}});
  } else {
    fmt::print("{}: {} bytes{}\n", out, summary.bytes,
               summary.lines == 0 ? "" : fmt::format(", {} lines", summary.lines));
  }
  return 0;
}

int verb_synth(const SynthOptions& options, const std::string& out, bool force, bool as_json) {
  const TraceHeader header = synth_header(options);
  ensure_output_file(out, force);
  TraceWriter writer(out, header);
  const RemovedOnInterrupt guard({writer.spool_path(), fmt::format("{}.tmp.{}", out, ::getpid())});
  SynthSummary summary;
  std::string hash;
  try {
    Progress progress("synth", "steps", options.steps, false);
    std::uint64_t done = 0;
    summary = synthesize(options, [&](const TraceRecords& step) {
      writer.append(step);
      progress.at(++done);
    });
    hash = writer.finish();
  } catch (...) {  // made again in seconds: nothing worth recovering
    ::unlink(writer.spool_path().c_str());
    throw;
  }
  if (as_json) {
    print({{"path", out},
           {"content_hash", hash},
           {"records", summary.records},
           {"steps", options.steps},
           {"target_participation", options.participation},
           {"mean_participation", summary.mean_participation},
           {"min_participation", summary.min_participation},
           {"max_participation", summary.max_participation},
           {"mean_distinct_rows", summary.mean_distinct_rows},
           {"mean_union_rows", summary.mean_union_rows},
           {"mean_sigma", summary.mean_sigma},
           {"missed_records", summary.missed_records},
           {"clipped_sinks", summary.clipped_sinks}});
    return 0;
  }
  fmt::print("{}: {} steps, {} records, content hash {}\n", out, options.steps, summary.records,
             hash);
  fmt::print("  participation  {} (asked {}; {} to {} over records)\n",
             fmt::format("{:.1f}", summary.mean_participation),
             options.participation == 0 ? "flat" : fmt::format("{:g}", options.participation),
             fmt::format("{:.1f}", summary.min_participation),
             fmt::format("{:.1f}", summary.max_participation));
  fmt::print("  distinct rows  {:.1f} a query head, {:.1f} a KV group\n",
             summary.mean_distinct_rows, summary.mean_union_rows);
  if (summary.missed_records > 0) {
    fmt::print(
        "  clamped        {} of {} records cannot have a participation of {:g}: their contexts "
        "have fewer rows, or it is sharper than scores can say; they have {:.1f} to {:.1f}\n",
        summary.missed_records, summary.records, options.participation, summary.min_participation,
        summary.max_participation);
  }
  if (summary.clipped_sinks > 0) {
    fmt::print("  clamped        {} of {} records have fewer rows than the {} sinks\n",
               summary.clipped_sinks, summary.records, options.sinks);
  }
  return 0;
}

int verb_diff(const std::string& left, const std::string& right, std::size_t max_differences,
              bool as_json) {
  const TraceReader a(left);
  const TraceReader b(right);
  const DiffReport report = diff_traces(a, b, max_differences);
  if (as_json) {
    json differences = json::array();
    for (const Difference& d : report.differences) {
      differences.push_back({{"place", d.place}, {"left", d.left}, {"right", d.right}});
    }
    print({{"equal", report.equal()},
           {"records_compared", report.records_compared},
           {"records_different", report.records_different},
           {"differences", differences}});
  } else if (report.equal()) {
    fmt::print("equal: {} records, content hash {}\n", report.records_compared, a.content_hash());
  } else {
    for (const Difference& d : report.differences)
      fmt::print("{}: {} | {}\n", d.place, d.left, d.right);
    fmt::print("{} of {} compared records differ\n", report.records_different,
               report.records_compared);
  }
  return report.equal() ? 0 : 1;
}

}  // namespace stoat
