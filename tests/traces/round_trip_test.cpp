// Records to spool to HDF5 and back: every column, every method; equal records give equal bytes
// however they came in.
#include "tests/traces/trace_fixture.h"

#include <algorithm>
#include <cstdint>
#include "traces/file_hdf5.h"
#include "traces/payload.h"
#include "traces/reader.h"
#include "traces/writer.h"

namespace stoat {
namespace {

struct Case {
  Method method;
  bool ternary;
};

class RoundTrip : public testing::TestWithParam<Case> {};

TEST_P(RoundTrip, EveryColumnComesBackAsItWas) {
  const TemporaryFolder folder;
  SynthOptions options = small_options(GetParam().method, GetParam().ternary);
  if (options.method == Method::kDense) options.budgets.clear();
  TraceRecords records = synthesize_records(options);
  fill_optional_columns(records);
  TraceHeader header = synth_header(options);
  header.prompt_hash = "0123";
  header.weight_bytes_per_token = 0xfedcba9876543210ULL;
  const std::string path = folder / "a.h5";
  const std::string hash = write_trace(path, header, records);
  EXPECT_EQ(folder.files(), 1U) << "only the trace itself may be left";

  const TraceReader reader(path);
  EXPECT_EQ(reader.content_hash(), hash);
  EXPECT_EQ(header_json(reader.header()), header_json(header));
  EXPECT_EQ(reader.records(), records.size());
  EXPECT_EQ(reader.steps(), 5U);
  EXPECT_EQ(first_difference(reader.read_all(), records), "");
  reader.verify_checksums();
}

TEST_P(RoundTrip, StepSlicesAreTheSameAsSlicesInMemory) {
  const TemporaryFolder folder;
  SynthOptions options = small_options(GetParam().method, GetParam().ternary);
  if (options.method == Method::kDense) options.budgets.clear();
  TraceRecords records = synthesize_records(options);
  fill_optional_columns(records);
  const TraceHeader header = synth_header(options);
  write_trace(folder / "a.h5", header, records);
  const TraceReader reader(folder / "a.h5");
  const auto ranges = step_ranges(records);
  for (std::uint32_t first = 0; first < 5; ++first) {
    for (std::uint32_t count = 1; first + count <= 5; ++count) {
      const TraceRecords expected =
          slice_records(records, header, ranges[first], ranges[first + count - 1]);
      EXPECT_EQ(first_difference(reader.read_steps(first, count), expected), "")
          << first << " " << count;
      EXPECT_EQ(reader.first_record(first), ranges[first].first);
    }
    EXPECT_TRUE(reader.read_steps(first, 0).empty());
  }
}

INSTANTIATE_TEST_SUITE_P(All, RoundTrip,
                         testing::Values(Case{Method::kDense, false}, Case{Method::kDense, true},
                                         Case{Method::kIid, false},
                                         Case{Method::kStratified, false},
                                         Case{Method::kSystematic, true},
                                         Case{Method::kProp, false}, Case{Method::kFlash, false},
                                         Case{Method::kFlash, true}, Case{Method::kTopK, false}),
                         [](const auto& param) {
                           return std::string(method_name(param.param.method)) +
                                  (param.param.ternary ? "Ternary" : "Exact");
                         });

TEST(TraceFile, HasEqualBytesHoweverTheStepsCameInFrames) {
  const TemporaryFolder folder;
  for (const bool ternary : {false, true}) {
    // Long enough that several datasets fill several chunks.
    SynthOptions options = small_options(Method::kFlash, ternary);
    options.steps = 40;
    options.contexts = {900, 800};
    options.budgets = {300};
    const TraceHeader header = synth_header(options);
    TraceRecords records = synthesize_records(options);
    fill_optional_columns(records);
    ASSERT_GT(records.score_code.size(), 2 * kChunkElements);
    ASSERT_GT(records.row.size(), kChunkElements);
    const auto ranges = step_ranges(records);
    std::string first_bytes, first_hash;
    for (const std::size_t steps_a_frame : {1U, 3U, 7U, 40U}) {
      const std::string path = folder / "t.h5";
      TraceWriter writer(path, header);
      for (std::size_t i = 0; i < ranges.size(); i += steps_a_frame) {
        const std::size_t last = std::min(i + steps_a_frame, ranges.size()) - 1;
        writer.append(slice_records(records, header, ranges[i], ranges[last]));
      }
      const std::string hash = writer.finish();
      const std::string bytes = bytes_of(path);
      if (first_bytes.empty()) {
        first_bytes = bytes;
        first_hash = hash;
      }
      EXPECT_TRUE(bytes == first_bytes) << steps_a_frame << " steps a frame";
      EXPECT_EQ(hash, first_hash);
    }
    EXPECT_EQ(first_difference(TraceReader(folder / "t.h5").read_all(), records), "");
  }
}

TEST(TraceFile, OfNoStepsIsATrace) {
  const TemporaryFolder folder;
  for (const Method method : {Method::kDense, Method::kFlash}) {
    SynthOptions options = small_options(method, method == Method::kFlash);
    write_trace(folder / "a.h5", synth_header(options), {});
    const TraceReader reader(folder / "a.h5");
    EXPECT_EQ(reader.steps(), 0U);
    EXPECT_EQ(reader.records(), 0U);
    EXPECT_TRUE(reader.read_all().empty());
  }
}

TEST(TraceFile, ContentHashChangesWithOneCountAndWithTheHeader) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options(Method::kIid);
  TraceHeader header = synth_header(options);
  TraceRecords records = synthesize_records(options);
  const std::string hash = write_trace(folder / "a.h5", header, records);
  EXPECT_EQ(write_trace(folder / "b.h5", header, records), hash);
  std::size_t k = 0;  // move one draw to the next row: still a lawful record
  while (records.count[k] < 2) ++k;
  --records.count[k];
  ++records.count[k + 1];
  EXPECT_NE(write_trace(folder / "b.h5", header, records), hash);
  records = synthesize_records(options);
  header.row_bytes *= 2;
  EXPECT_NE(write_trace(folder / "b.h5", header, records), hash);
}

TEST(TraceFile, ScoresMayBeginAtALaterStep) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  const TraceHeader header = synth_header(options);
  TraceRecords records = synthesize_records(options);
  // Keep the scores of two records of the last step only.
  TraceRecords kept = records;
  kept.score_record = {records.size() - 5, records.size() - 2};
  kept.score_indptr = {0};
  kept.score_tile_indptr = {0};
  kept.score_code.clear();
  kept.score_exponent.clear();
  for (const auto i : kept.score_record) {
    kept.score_code.resize(kept.score_code.size() + records.context[i], 7);
    kept.score_indptr.push_back(kept.score_code.size());
    kept.score_exponent.resize(kept.score_exponent.size() + (records.context[i] + 255) / 256, -3);
    kept.score_tile_indptr.push_back(kept.score_exponent.size());
  }
  write_trace(folder / "a.h5", header, kept);
  const TraceReader reader(folder / "a.h5");
  EXPECT_EQ(first_difference(reader.read_all(), kept), "");
  EXPECT_EQ(reader.read_steps(0, 4).score_record.size(), 0U);
  EXPECT_EQ(reader.read_steps(4, 1).score_record.size(), 2U);
}

TEST(TraceWriterPromise, RefusesRecordsThatBreakTheRules) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  const TraceHeader header = synth_header(options);
  TraceWriter writer(folder / "a.h5", header);
  TraceRecords bad = synthesize_records(options);
  bad.count[3] = static_cast<std::uint16_t>(bad.count[3] + 1);
  EXPECT_THROW(writer.append(bad), Bug);
  bad = synthesize_records(options);
  bad.stats.lse[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(writer.append(bad), Bug);
  const TraceRecords good = synthesize_records(options);
  writer.append(good);
  EXPECT_THROW(writer.append(good), Bug) << "steps must rise";
}

TEST(Payload, ComesBackAndTakesAnyBytes) {
  const TraceRecords records = synthesize_records(small_options(Method::kFlash, true));
  const auto bytes = encode_records(records);
  EXPECT_EQ(first_difference(parse_records(bytes, "p"), records), "");
  std::mt19937 random(11);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {  // no checksum here: the parser alone must stay inside the bytes
    auto damaged = bytes;
    const int kind = i % 3;
    if (kind == 0) damaged.resize(random() % damaged.size());
    if (kind == 1)
      damaged[random() % std::min<std::size_t>(damaged.size(), 64)] ^=
          static_cast<std::uint8_t>(1U << (random() % 8));
    if (kind == 2) {
      for (auto& byte : damaged) byte = static_cast<std::uint8_t>(random());
      damaged[0] = static_cast<std::uint8_t>(random() % 40);
      damaged[1] = damaged[2] = damaged[3] = 0;
    }
    try {
      parse_records(damaged, "p");
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 2000);
}

}  // namespace
}  // namespace stoat
