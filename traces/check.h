// `stoat trace check`: proves again what a trace promises, from its own data.
//
// Always: file hash, content hash, one checksum a dataset, the rules of validate.h for every
// record. Where score codes exist: the recorded method, S and seed are drawn again and must give
// the recorded counts and tile masses with ==, and systematic and prop counts are floor or ceil of
// S * p. Where key masks exist: the seed's uniforms must order touched before untouched.
#pragma once

#include <cstdint>
#include <vector>

#include "traces/reader.h"
#include "traces/validate.h"

namespace stoat {

struct CheckReport {
  std::uint64_t datasets = 0;  // whose checksum was recomputed
  std::uint64_t records = 0;
  std::uint64_t sampled = 0;          // counts sum to S, rows increase, rows below context
  std::uint64_t redrawn = 0;          // counts equal a fresh draw from the codes
  std::uint64_t floor_or_ceil = 0;    // of S * p
  std::uint64_t tile_masses = 0;      // flash records whose masses equal the codes'
  std::uint64_t ternary = 0;          // records whose masks agree with the seed's uniforms
  std::uint64_t statistics = 0;       // finite numbers
  std::vector<Violation> violations;  // the first ones

  bool good() const { return violations.empty(); }
};

CheckReport check_trace(const TraceReader& reader, std::size_t max_violations = 10);

// The same rules for records in memory; adds to the report. first_record: of records.step[0].
void check_records(const TraceRecords& records, const TraceHeader& header,
                   std::uint64_t first_record, std::size_t max_violations, CheckReport& report);

}  // namespace stoat
