// What the trace tests share: a folder that goes away, random records with every column, small
// synthetic traces.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "models/error.h"
#include "traces/columns.h"
#include "traces/synth.h"
#include "traces/trace.h"

namespace stoat {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "stoat-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }
  std::size_t files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      count += entry.exists() ? 1 : 0;
    return count;
  }

 private:
  std::filesystem::path path_;
};

inline std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A trace with real draws: 2 layers, 4 query heads of 2 KV heads, two sequences, all that the
// method can have.
inline SynthOptions small_options(Method method = Method::kProp, bool ternary = false,
                                  bool scores = true) {
  SynthOptions o;
  o.n_layers = 2;
  o.n_q_heads = 4;
  o.n_kv_heads = 2;
  o.head_dim = 16;
  o.contexts = {700, 300};
  o.steps = 5;
  o.method = method;
  o.budgets = {33, 20};
  o.participation = 50;
  o.sinks = 2;
  o.recency = 20;
  o.seed = 77;
  o.scores = scores;
  if (ternary) {
    o.score_kind = ScoreKind::kTernary;
    o.ternary.draws = 3;
    o.ternary.coupling = TernaryCoupling::kCoupled;
    o.ternary.normaliser = TernaryNormaliser::kPow2;
  }
  return o;
}

// Fills the columns that synth leaves empty with arbitrary numbers.
inline void fill_optional_columns(TraceRecords& r) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  for (auto* column : {&r.stats.mass_top8, &r.stats.mass_top32, &r.stats.output_error,
                       &r.stats.twin_total_variation, &r.stats.twin_top1_agreement}) {
    column->resize(r.size());
    for (float& x : *column) x = uniform(random);
  }
  r.probe_budget = {1, 8, 64};
  r.probe_error.resize(3 * r.size());
  for (float& x : r.probe_error) x = uniform(random);
  for (auto& id : r.token_id) id = static_cast<std::int32_t>(random());
}

// Name of the first column that differs; empty when all are equal.
inline std::string first_difference(const TraceRecords& a, const TraceRecords& b) {
  std::vector<const void*> others;
  visit_columns(b, [&](const Column&, const auto& values) { others.push_back(&values); });
  std::size_t number = 0;
  std::string found;
  visit_columns(a, [&](const Column& column, const auto& values) {
    const auto& other = *static_cast<const std::decay_t<decltype(values)>*>(others[number++]);
    if (values != other && found.empty()) found = std::string(column.path);
  });
  return found;
}

// Calls body, expects an Error of this code whose message holds `part`.
template <class Body>
void expect_error(ExitCode code, const std::string& part, Body&& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with '" << part << "'";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

}  // namespace stoat
