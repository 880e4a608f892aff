// `check` proves honest traces and rejects their evil twins: each twin obeys every rule that can be
// seen without the scores, and differs from the truth by as little as possible.
#include "traces/check.h"

#include <algorithm>
#include <cstdint>
#include "tests/traces/trace_fixture.h"
#include "traces/diff.h"
#include "traces/writer.h"

namespace stoat {
namespace {

CheckReport check_of(const SynthOptions& options, const TraceRecords& records) {
  const TemporaryFolder folder;
  write_trace(folder / "t.h5", synth_header(options), records);
  return check_trace(TraceReader(folder / "t.h5"));
}

struct Kind {
  Method method;
  bool ternary;
};
class HonestTrace : public testing::TestWithParam<Kind> {};

TEST_P(HonestTrace, IsProvenRecordByRecord) {
  SynthOptions options = small_options(GetParam().method, GetParam().ternary);
  const bool dense = options.method == Method::kDense;
  const TraceRecords records = synthesize_records(options);
  const CheckReport report = check_of(options, records);
  EXPECT_TRUE(report.good()) << report.violations.front().sentence();
  const std::uint64_t n = records.size();
  const bool flash = options.method == Method::kFlash;
  const bool within = options.method == Method::kSystematic || options.method == Method::kProp;
  EXPECT_EQ(report.records, n);
  EXPECT_EQ(report.sampled, dense ? 0 : n);
  EXPECT_EQ(report.redrawn, dense ? 0 : n);
  EXPECT_EQ(report.floor_or_ceil, within ? n : 0);
  EXPECT_EQ(report.tile_masses, flash ? n : 0);
  EXPECT_EQ(report.ternary, GetParam().ternary ? n : 0);
  EXPECT_EQ(report.statistics, 6 * n);
}

INSTANTIATE_TEST_SUITE_P(All, HonestTrace,
                         testing::Values(Kind{Method::kDense, false}, Kind{Method::kIid, false},
                                         Kind{Method::kStratified, true},
                                         Kind{Method::kSystematic, false},
                                         Kind{Method::kProp, true}, Kind{Method::kFlash, true},
                                         Kind{Method::kTopK, false}),
                         [](const auto& param) {
                           return std::string(method_name(param.param.method));
                         });

// Moves the draw of record i's entry k to a neighbouring row that was not drawn: sums and order
// stay right.
void move_one_draw(TraceRecords& r, std::size_t i) {
  for (std::uint64_t k = r.value_indptr[i]; k < r.value_indptr[i + 1]; ++k) {
    const bool last = k + 1 == r.value_indptr[i + 1];
    if (r.count[k] == 1 && r.row[k] + 1 < (last ? r.context[i] : r.row[k + 1])) {
      ++r.row[k];
      return;
    }
  }
  FAIL() << "no draw can be moved";
}

TEST(EvilTwin, WithOneDrawOneRowFurtherIsRejectedForEveryMethod) {
  for (const Method method : {Method::kIid, Method::kStratified, Method::kSystematic, Method::kProp,
                              Method::kFlash, Method::kTopK}) {
    const SynthOptions options = small_options(method);
    TraceRecords records = synthesize_records(options);
    move_one_draw(records, 11);
    const CheckReport report = check_of(options, records);
    ASSERT_FALSE(report.good()) << method_name(method);
    EXPECT_EQ(report.violations.front().dataset, "/value/count");
    EXPECT_EQ(report.violations.front().record, 11U);
  }
}

TEST(EvilTwin, WithOneCountMovedBetweenItsRowsIsRejected) {
  SynthOptions options = small_options(Method::kProp);
  options.participation = 5;  // counts above one
  TraceRecords records = synthesize_records(options);
  std::size_t k = 0;
  while (records.count[k] < 2) ++k;
  --records.count[k];
  ++records.count[k + 1];
  EXPECT_FALSE(check_of(options, records).good());
}

TEST(EvilTwin, DrawnWithAnotherSeedIsRejected) {
  const SynthOptions options = small_options(Method::kSystematic);
  TraceHeader header = synth_header(options);
  header.seed ^= 1;
  const TemporaryFolder folder;
  write_trace(folder / "t.h5", header, synthesize_records(options));
  const CheckReport report = check_trace(TraceReader(folder / "t.h5"));
  ASSERT_FALSE(report.good());
  EXPECT_EQ(report.violations.size(), 10U) << "as many as asked for";
}

TEST(EvilTwin, WithAScoreCodeOrATileMassOffByOneIsRejected) {
  const SynthOptions options = small_options(Method::kFlash);
  TraceRecords records = synthesize_records(options);
  ++records.tile_mass[4];
  EXPECT_EQ(check_of(options, records).violations.at(0).dataset, "/tile/mass");
  records = synthesize_records(options);
  // The heaviest row of the first record: its code decides a tile mass.
  const auto begin = records.score_code.begin();
  const auto heaviest = std::min_element(begin, begin + 700);
  *heaviest = static_cast<std::uint16_t>(*heaviest + 1);
  EXPECT_FALSE(check_of(options, records).good());
}

TEST(EvilTwin, WithAFlippedKeyMaskIsRejected) {
  SynthOptions options = small_options(Method::kProp, true);
  options.ternary.draws = 16;  // enough draws that one flip contradicts the order of the uniforms
  const TraceRecords honest = synthesize_records(options);
  const std::uint32_t bytes = options.head_dim / 8;
  int rejected = 0, twins = 0;
  for (std::uint32_t feature = 0; feature < options.head_dim; ++feature) {
    for (std::uint32_t draw = 0; draw < 16; draw += 5) {
      TraceRecords records = honest;
      records.key_mask[draw * bytes + feature / 8] ^=
          static_cast<std::uint8_t>(1U << (feature % 8));
      CheckReport report;
      check_records(records, synth_header(options), 0, 10, report);
      ++twins;
      rejected += report.good() ? 0 : 1;
    }
  }
  EXPECT_GT(rejected, twins * 3 / 4) << "only the draw next to the threshold can go unseen";
}

TEST(Diff, OfEqualTracesIsEmptyAndOfOneChangedRowNamesIt) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options(Method::kIid, true);
  const TraceHeader header = synth_header(options);
  TraceRecords records = synthesize_records(options);
  write_trace(folder / "a.h5", header, records);
  write_trace(folder / "b.h5", header, records);
  move_one_draw(records, 30);
  write_trace(folder / "c.h5", header, records);
  const TraceReader a(folder / "a.h5"), b(folder / "b.h5"), c(folder / "c.h5");
  EXPECT_TRUE(diff_traces(a, b).equal());
  const DiffReport report = diff_traces(a, c);
  ASSERT_EQ(report.differences.size(), 1U);
  EXPECT_EQ(report.records_different, 1U);
  EXPECT_EQ(report.differences[0].place.find("/value/row, record 30 (step "), 0U)
      << report.differences[0].place;
}

TEST(Diff, NamesHeaderFieldsAndMissingSteps) {
  const TemporaryFolder folder;
  SynthOptions options = small_options(Method::kIid);
  write_trace(folder / "a.h5", synth_header(options), synthesize_records(options));
  options.seed = 3;
  options.steps = 4;
  write_trace(folder / "b.h5", synth_header(options), synthesize_records(options));
  const DiffReport report = diff_traces(TraceReader(folder / "a.h5"), TraceReader(folder / "b.h5"));
  ASSERT_GE(report.differences.size(), 3U);
  EXPECT_EQ(report.differences[0].place, "header seed");
  EXPECT_EQ(report.differences[1].place, "steps");
}

}  // namespace
}  // namespace stoat
