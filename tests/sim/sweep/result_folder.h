// Small result directories for the report's tests, written by hand but consistent: energies sum to
// their totals.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stoat::sim::test {

struct FakeEnergy {
  const char* stage;
  const char* component;
  const char* event;
  std::uint64_t count;
  std::uint64_t price_aj;
};

struct FakeTraffic {
  const char* part;
  std::uint64_t logical_rows, distinct_rows, logical_bytes, requested_bytes, moved_bytes, bursts;
};

struct FakeDatapath {
  std::string name, method, budget, score_kind = "exact";
  std::uint64_t steps = 100, context_max = 8192, time_ps = 0;
  std::vector<FakeEnergy> energy{};
  std::vector<FakeTraffic> traffic{};
  std::uint64_t energy_off_by = 0;  // added to the stated total
};

FakeDatapath fake_mac();
FakeDatapath fake_gather_add();
FakeDatapath fake_ternary();

// Writes summary.csv, energy.csv, traffic.csv and manifest.json into a new folder. `trace_hash`
// goes into the manifest.
void write_result_folder(const std::string& folder, const std::vector<FakeDatapath>& datapaths,
                         const std::string& trace_hash = {}, const std::string& model = "needle");

// A new empty folder below the tests' temporary folder.
std::string new_folder(const std::string& name);

}  // namespace stoat::sim::test
