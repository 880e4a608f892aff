// See run_limits.h.
#include "sim/run_limits.h"

#include <fmt/format.h>

#include <type_traits>

#include "models/error.h"

namespace stoat::sim {
namespace {

// A process without its trace: program, modules, channels (measured: 30 MB with 192 engines).
constexpr std::uint64_t kProcessBytes = std::uint64_t{64} << 20;
constexpr double kSecondsBeforeProjection = 1.0;

}  // namespace

RunLimits::RunLimits(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    const Place place{"--limit " + text};
    const bool is_size = !text.empty() && text.back() == 'B';
    try {
      if (is_size) {
        memory_ = parse_bytes(text, "--limit");
      } else {
        time_ = parse_time(text, "--limit");
      }
    } catch (const Error&) {
      throw usage_error(place, "neither a size nor a time", "memory or time with a unit",
                        "--limit '4 GiB' --limit '60 s'");
    }
  }
}

void RunLimits::check_memory(std::uint64_t slice, std::uint64_t processes) const {
  const std::uint64_t needed = processes * (kProcessBytes + 2 * slice);
  if (needed <= memory_.count()) return;
  throw resource_error(
      {"--limit"},
      fmt::format("about {:.1f} MiB in {} processes, {:.1f} MiB of it trace",
                  static_cast<double>(needed) / 1048576, processes,
                  static_cast<double>(2 * slice * processes) / 1048576),
      fmt::format("at most {:.1f} MiB", static_cast<double>(memory_.count()) / 1048576),
      "fewer datapaths at once (-d NAME), or a higher --limit");
}

void RunLimits::check_time(std::uint64_t done, std::uint64_t total) const {
  const double limit = static_cast<double>(time_.count()) * 1e-12;
  const double elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  const bool over = elapsed > limit;
  const bool can_tell = done > 0 && elapsed > kSecondsBeforeProjection;
  const double projected =
      can_tell ? elapsed * static_cast<double>(total) / static_cast<double>(done) : 0;
  if (!over && projected <= limit) return;
  throw resource_error({"--limit"},
                       fmt::format("{} of {} layer steps in {:.1f} s{}", done, total, elapsed,
                                   can_tell ? fmt::format(", {:.0f} s for all", projected) : ""),
                       fmt::format("at most {:.3g} s", limit),
                       "fewer steps or layers (--steps A:B, --layers A:B), or a higher --limit");
}

std::uint64_t bytes_of(const TraceRecords& r) {
  const auto bytes = [](const auto&... columns) {
    return (std::uint64_t{0} + ... +
            std::uint64_t{columns.size() *
                          sizeof(typename std::decay_t<decltype(columns)>::value_type)});
  };
  return bytes(r.seq, r.step, r.context, r.budget, r.layer, r.q_head, r.kv_head, r.kind,
               r.value_indptr, r.row, r.count, r.tile_indptr, r.tile, r.tile_mass, r.draw_indptr,
               r.key_mask, r.key_sign, r.score_record, r.score_indptr, r.score_code,
               r.score_tile_indptr, r.score_exponent, r.probe_error, r.token_id);
}

}  // namespace stoat::sim
