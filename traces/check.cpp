// The proofs of check.h, step by step in bounded memory.
#include "traces/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "models/error.h"
#include "traces/columns.h"
#include "traces/file_hdf5.h"

namespace stoat {

namespace {

ScoreCodes codes_of(const TraceRecords& r, std::size_t m) {
  ScoreCodes codes;
  codes.code.assign(r.score_code.begin() + static_cast<std::ptrdiff_t>(r.score_indptr[m]),
                    r.score_code.begin() + static_cast<std::ptrdiff_t>(r.score_indptr[m + 1]));
  codes.exponent.assign(
      r.score_exponent.begin() + static_cast<std::ptrdiff_t>(r.score_tile_indptr[m]),
      r.score_exponent.begin() + static_cast<std::ptrdiff_t>(r.score_tile_indptr[m + 1]));
  return codes;
}

Selection selection_of(const TraceRecords& r, std::size_t i) {
  Selection selection;
  for (std::uint64_t k = r.value_indptr[i]; k < r.value_indptr[i + 1]; ++k) {
    selection.rows.push_back({r.row[k], r.count[k]});
  }
  if (r.tile_indptr.size() > 1) {
    for (std::uint64_t k = r.tile_indptr[i]; k < r.tile_indptr[i + 1]; ++k) {
      selection.tiles.push_back({r.tile[k], r.tile_mass[k]});
    }
  }
  return selection;
}

std::string name_of(const TraceRecords& r, std::size_t i) {
  return fmt::format("step {}, sequence {}, layer {}, query head {}", r.step[i], r.seq[i],
                     r.layer[i], r.q_head[i]);
}

struct Checker {
  const TraceRecords& r;
  const TraceHeader& header;
  std::uint64_t first_record;
  std::size_t limit;
  CheckReport& report;

  bool full() const { return report.violations.size() >= limit; }
  void violation(const char* dataset, std::size_t i, const std::string& text) {
    if (!full())
      report.violations.push_back({dataset, first_record + i, name_of(r, i) + ": " + text});
  }

  DrawSite site(std::size_t i, std::uint32_t head) const {
    return {header.seed, r.seq[i], r.context[i] - 1, r.layer[i], static_cast<std::uint16_t>(head)};
  }

  void redraw(std::size_t m) {
    const std::size_t i = r.score_record[m];
    if (r.kind[i] == RecordKind::kDense) return;
    const ScoreCodes codes = codes_of(r, m);
    if (std::all_of(codes.exponent.begin(), codes.exponent.end(),
                    [](std::int32_t e) { return e == kMaskedTile; })) {
      return violation("/scores/exponent", i, "no tile has a score");
    }
    const Selection recorded = selection_of(r, i);
    try {
      const Ruler ruler(codes);
      if (ruler.total() == 0) return violation("/scores/code", i, "no row has a weight");
      const Selection fresh =
          select_rows(header.method, codes, ruler, r.budget[i], site(i, r.q_head[i]));
      compare(i, recorded, fresh);
      if (header.method == Method::kSystematic || header.method == Method::kProp) {
        if (!counts_within_one(ruler, recorded, r.budget[i])) {
          violation("/value/count", i, "a count is neither floor nor ceil of S * p");
        }
        ++report.floor_or_ceil;
      }
    } catch (const Error& e) {
      violation("/scores/code", i, std::string("cannot be drawn from: ") + e.what());
    }
  }

  void compare(std::size_t i, const Selection& recorded, const Selection& fresh) {
    ++report.redrawn;
    if (header.method == Method::kFlash) {
      ++report.tile_masses;
      if (recorded.tiles != fresh.tiles)
        violation("/tile/mass", i, "the masses are not those of the codes");
    }
    const auto [a, b] = std::mismatch(recorded.rows.begin(), recorded.rows.end(),
                                      fresh.rows.begin(), fresh.rows.end());
    if (a == recorded.rows.end() && b == fresh.rows.end()) return;
    const auto text = [](auto at, auto end) {
      return at == end ? std::string("nothing") : fmt::format("row {} x {}", at->row, at->count);
    };
    violation("/value/count", i,
              fmt::format("recorded {}, drawn again {}", text(a, recorded.rows.end()),
                          text(b, fresh.rows.end())));
  }

  // A feature is touched where its uniform is below a threshold that no draw changes: so the seed's
  // uniforms of the touched draws must all lie below those of the untouched ones.
  void keys(std::size_t i) {
    const std::uint32_t group = header.group();
    const bool own = header.ternary.coupling == TernaryCoupling::kIndependent;
    const DrawSite at = site(i, own ? r.q_head[i] : r.q_head[i] / group * group);
    const std::uint32_t bytes = header.head_dim / 8;
    const std::uint64_t first = r.draw_indptr[i];
    for (std::uint32_t d = 0; d < header.head_dim; ++d) {
      std::uint64_t touched_max = 0;  // one above the largest touched uniform
      std::uint64_t untouched_min = std::numeric_limits<std::uint64_t>::max();
      for (std::uint32_t b = 0; b < header.ternary.draws; ++b) {
        const std::uint64_t uniform = ternary_uniform(at, b, d, header.head_dim);
        const bool touched = (r.key_mask[(first + b) * bytes + d / 8] >> (d % 8) & 1) != 0;
        if (touched) touched_max = std::max(touched_max, uniform + 1);
        if (!touched) untouched_min = std::min(untouched_min, uniform);
      }
      if (touched_max > untouched_min) {
        return violation("/key/mask", i,
                         fmt::format("no threshold gives the touched draws of feature {}", d));
      }
    }
    ++report.ternary;
  }
};

}  // namespace

void check_records(const TraceRecords& records, const TraceHeader& header,
                   std::uint64_t first_record, std::size_t max_violations, CheckReport& report) {
  const std::size_t left = max_violations - std::min(max_violations, report.violations.size());
  if (left == 0) return;
  auto found = find_violations(records, header, left, first_record);
  report.records += records.size();
  if (!found.empty()) {
    report.violations.insert(report.violations.end(), found.begin(), found.end());
    return;  // what follows indexes by what was just refused
  }
  report.sampled += static_cast<std::uint64_t>(
      std::count(records.kind.begin(), records.kind.end(), RecordKind::kSampled));
  visit_columns(records, [&](const Column&, const auto& values) {
    if constexpr (std::is_same_v<typename std::decay_t<decltype(values)>::value_type, float>) {
      report.statistics += values.size();
    }
  });
  Checker checker{records, header, first_record, max_violations, report};
  for (std::size_t m = 0; m < records.score_record.size() && !checker.full(); ++m)
    checker.redraw(m);
  if (header.score_kind == ScoreKind::kTernary) {
    for (std::size_t i = 0; i < records.size() && !checker.full(); ++i) checker.keys(i);
  }
}

CheckReport check_trace(const TraceReader& reader, std::size_t max_violations) {
  CheckReport report;
  reader.verify_checksums();
  report.datasets = reader.datasets().size();
  for (std::uint32_t step = 0; step < reader.steps(); ++step) {
    const TraceRecords records = reader.read_steps_unchecked(step, 1);
    check_records(records, reader.header(), reader.first_record(step), max_violations, report);
    if (report.violations.size() >= max_violations) break;
  }
  return report;
}

}  // namespace stoat
