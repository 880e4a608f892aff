// Synthetic traces reach what was asked; the table of shapes agrees with its own weights; exports
// say what the trace says.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>

#include "tests/traces/trace_fixture.h"
#include "traces/export.h"
#include "traces/reader.h"
#include "traces/shapes.h"
#include "traces/writer.h"

namespace stoat {
namespace {

TEST(Synth, EveryRecordHasTheAskedParticipationWithinTwoInAThousand) {
  for (const double target : {4.0, 30.0, 500.0, 2000.0}) {
    SynthOptions options = small_options();
    options.contexts = {4096, 2500};
    options.steps = 2;
    options.participation = target;
    const TraceRecords records = synthesize_records(options);
    for (std::size_t m = 0; m < records.size(); ++m) {
      EXPECT_NEAR(records.stats.participation[m], target, 2e-3 * target);
      // Not taken from the generator's word: from the codes that the draws were made of.
      ScoreCodes codes;
      const auto i = static_cast<std::ptrdiff_t>(records.score_indptr[m]);
      const auto t = static_cast<std::ptrdiff_t>(records.score_tile_indptr[m]);
      codes.code.assign(records.score_code.begin() + i,
                        records.score_code.begin() + i + records.context[m]);
      codes.exponent.assign(records.score_exponent.begin() + t,
                            records.score_exponent.begin() +
                                static_cast<std::ptrdiff_t>(records.score_tile_indptr[m + 1]));
      const Ruler ruler(codes);
      double squares = 0;
      for (std::uint32_t row = 0; row < ruler.rows(); ++row) {
        const double p = static_cast<double>(ruler.end(row) - ruler.begin(row)) /
                         static_cast<double>(ruler.total());
        squares += p * p;
      }
      EXPECT_NEAR(1 / squares, target, 5e-3 * target);
    }
  }
}

TEST(Synth, FlatMeansEqualWeights) {
  SynthOptions options = small_options();
  options.participation = 0;
  options.contexts = {512};
  options.budgets = {512};
  options.steps = 1;
  SynthSummary summary;
  const TraceRecords records = synthesize_records(options, &summary);
  EXPECT_NEAR(summary.mean_participation, 512, 1e-9);
  for (const std::uint16_t count : records.count) EXPECT_EQ(count, 1);
}

TEST(Synth, SinksAndRecencyDrawAttention) {
  SynthOptions options = small_options(Method::kIid);
  options.contexts = {4000};
  options.steps = 1;
  options.participation = 100;
  options.budgets = {4000};
  const auto share = [&](std::uint32_t first, std::uint32_t last) {
    const TraceRecords r = synthesize_records(options);
    double inside = 0, all = 0;
    for (std::size_t k = 0; k < r.row.size(); ++k) {
      all += r.count[k];
      inside += r.row[k] >= first && r.row[k] < last ? r.count[k] : 0;
    }
    return inside / all;
  };
  options.sinks = 0;
  options.recency = 0;
  EXPECT_LT(share(0, 4), 0.01);
  EXPECT_LT(share(3900, 4000), 0.06);
  options.sinks = 4;
  EXPECT_GT(share(0, 4), 0.05);
  options.sinks = 0;
  options.recency = 50;
  EXPECT_GT(share(3900, 4000), 0.12);
}

TEST(Synth, SaysHowManyRecordsItHadToClamp) {
  SynthOptions options;
  options.n_q_heads = 4;
  options.n_kv_heads = 2;
  options.contexts = {64, 300};
  options.participation = 100;
  options.sinks = 80;
  SynthSummary summary;
  synthesize_records(options, &summary);
  EXPECT_EQ(summary.records, 8U);
  EXPECT_EQ(summary.missed_records, 4U);  // 64 rows cannot be as flat as 100
  EXPECT_EQ(summary.clipped_sinks, 4U);
  EXPECT_NEAR(summary.min_participation, 64, 1e-9);
}

TEST(Synth, HeadsOfAGroupShareRowsWhenTheirLogitsCorrelate) {
  SynthOptions options = small_options();
  options.contexts = {4000};
  options.participation = 10;
  options.n_q_heads = 8;
  SynthSummary apart, together;
  synthesize_records(options, &apart);
  options.group_correlation = 0.95;  // heads that draw from nearly the same few rows
  synthesize_records(options, &together);
  EXPECT_LT(together.mean_union_rows, 0.9 * apart.mean_union_rows);
}

TEST(Synth, GivesTheSameForTheSameSeedAndAnotherForAnother) {
  SynthOptions options = small_options(Method::kProp, true);
  const TraceRecords a = synthesize_records(options);
  EXPECT_EQ(first_difference(a, synthesize_records(options)), "");
  options.seed += 1;
  EXPECT_NE(first_difference(a, synthesize_records(options)), "");
}

TEST(Synth, ContextOneAndBudgetsAboveTheContextAreDefined) {
  for (const Method method : {Method::kIid, Method::kStratified, Method::kSystematic, Method::kProp,
                              Method::kFlash, Method::kTopK, Method::kDense}) {
    SynthOptions options = small_options(method);
    options.contexts = {1, 3};
    const TraceRecords records = synthesize_records(options);
    const TemporaryFolder folder;
    write_trace(folder / "t.h5", synth_header(options), records);
    EXPECT_EQ(first_difference(TraceReader(folder / "t.h5").read_all(), records), "")
        << method_name(method);
  }
}

TEST(Synth, RefusesOptionsThatMakeNoSense) {
  const auto refused = [](auto change) {
    SynthOptions options = small_options();
    change(options);
    expect_error(ExitCode::kUsage, "expected", [&] { synthesize_records(options); });
  };
  refused([](SynthOptions& o) { o.n_kv_heads = 3; });
  refused([](SynthOptions& o) { o.budgets = {0}; });
  refused([](SynthOptions& o) { o.budgets = {70000}; });
  refused([](SynthOptions& o) { o.budgets = {1, 2, 3}; });
  refused([](SynthOptions& o) { o.contexts = {0}; });
  refused([](SynthOptions& o) { o.contexts = {}; });
  refused([](SynthOptions& o) { o.contexts = {1U << 20}; });
  refused([](SynthOptions& o) { o.steps = 0; });
  refused([](SynthOptions& o) { o.participation = 0.5; });
  refused([](SynthOptions& o) { o.kv_dtype = "bf61"; });
  refused([](SynthOptions& o) { o.group_correlation = 2; });
  refused([](SynthOptions& o) { o.head_dim = 12, o.score_kind = ScoreKind::kTernary; });
}

TEST(Shapes, HaveThePublishedParameterCounts) {
  // From the models' own pages (safetensors index, total parameters).
  EXPECT_EQ(parameter_count(model_shape("llama-3.1-8b")), 8030261248U);
  EXPECT_EQ(parameter_count(model_shape("llama-3.1-70b")), 70553706496U);
  EXPECT_EQ(parameter_count(model_shape("qwen2.5-7b")), 7615616512U);
  EXPECT_EQ(parameter_count(model_shape("qwen3-8b")), 8190735360U);
  EXPECT_EQ(parameter_count(model_shape("mistral-7b")), 7248023552U);
  for (const ModelShape& shape : model_shapes())
    EXPECT_EQ(shape.weight_bytes, decode_weight_bytes(shape, 2));
  expect_error(ExitCode::kUsage, "llama-3.1-8b", [] { model_shape("lama-3.1-8b"); });
}

TEST(Export, CsvHoldsEveryRowAndOneLineADenseRecord) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  const TraceRecords records = synthesize_records(options);
  write_trace(folder / "t.h5", synth_header(options), records);
  const TraceReader reader(folder / "t.h5");
  const ExportSummary summary = export_trace(reader, {}, folder / "t.csv");
  EXPECT_EQ(summary.lines, records.row.size() + 1);
  const std::string text = bytes_of(folder / "t.csv");
  const std::string first = "0,0,0,0,0,700,sampled,33," + std::to_string(records.row[0]) + "," +
                            std::to_string(records.count[0]) + "\n";
  EXPECT_EQ(text.find("seq,step,layer,q_head,kv_head,context,kind,S,row,count\n" + first), 0U);
  EXPECT_EQ(static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n')), summary.lines);

  SynthOptions dense = small_options(Method::kDense);
  write_trace(folder / "d.h5", synth_header(dense), synthesize_records(dense));
  export_trace(TraceReader(folder / "d.h5"), {}, folder / "d.csv");
  EXPECT_NE(bytes_of(folder / "d.csv").find("\n0,0,0,1,0,700,dense,0,,\n"), std::string::npos);
}

TEST(Export, StlReadsEveryRowOfTheGroupsUnionOnceAtItsAddress) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  const TraceHeader header = synth_header(options);
  const TraceRecords records = synthesize_records(options);
  write_trace(folder / "t.h5", header, records);
  ExportOptions choice;
  choice.format = ExportFormat::kStl;
  choice.access_bytes = 16;
  choice.step_cycles = 100;
  export_trace(TraceReader(folder / "t.h5"), choice, folder / "t.stl");
  const std::uint64_t region = stl_region_bytes(704, header.row_bytes);
  EXPECT_EQ(region, 32768U);  // 704 rows of 32 bytes
  std::set<std::pair<std::uint64_t, std::uint64_t>> expected;
  for (std::size_t i = 0; i < records.size(); ++i) {
    for (std::uint64_t k = records.value_indptr[i]; k < records.value_indptr[i + 1]; ++k) {
      const std::uint64_t pair = (records.seq[i] * 2 + records.layer[i]) * 2 + records.kv_head[i];
      for (std::uint64_t byte = 0; byte < 32; byte += 16) {
        expected.insert(
            {records.step[i] * 100, (2 * pair + 1) * region + records.row[k] * 32 + byte});
      }
    }
  }
  std::set<std::pair<std::uint64_t, std::uint64_t>> found;
  std::istringstream lines(bytes_of(folder / "t.stl"));
  std::uint64_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    unsigned long long cycle = 0, address = 0;
    ASSERT_EQ(std::sscanf(line.c_str(), "%llu: read 0x%llx", &cycle, &address), 2) << line;
    found.insert({cycle, address});
  }
  EXPECT_EQ(count, found.size());
  EXPECT_EQ(found, expected);
}

TEST(Export, NpzHoldsTheArraysByteForByte) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options(Method::kFlash, true);
  const TraceRecords records = synthesize_records(options);
  write_trace(folder / "t.h5", synth_header(options), records);
  ExportOptions choice;
  choice.format = ExportFormat::kNpz;
  export_trace(TraceReader(folder / "t.h5"), choice, folder / "t.npz");
  const std::string bytes = bytes_of(folder / "t.npz");
  // Stored zip: name, then the .npy with magic, version, header and raw data.
  const std::size_t name = bytes.find("key/mask.npy");
  ASSERT_NE(name, std::string::npos);
  const std::size_t npy = name + 12;
  EXPECT_EQ(bytes.substr(npy, 6), "\x93NUMPY");
  const std::size_t head = 10 + static_cast<unsigned char>(bytes[npy + 8]) +
                           256 * static_cast<unsigned char>(bytes[npy + 9]);
  EXPECT_EQ(head % 64, 0U);
  EXPECT_NE(bytes.substr(npy, head).find("'|u1', 'fortran_order': False, 'shape': (" +
                                         std::to_string(records.draw_indptr.back()) + ", 2)"),
            std::string::npos);
  EXPECT_EQ(bytes.compare(npy + head, records.key_mask.size(),
                          reinterpret_cast<const char*>(records.key_mask.data()),
                          records.key_mask.size()),
            0);
}

TEST(Export, LeavesNothingUnderTheFinalNameWhenItFails) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  write_trace(folder / "t.h5", synth_header(options), synthesize_records(options));
  const TraceReader reader(folder / "t.h5");
  expect_error(ExitCode::kResource, "cannot be created",
               [&] { export_trace(reader, {}, folder / "none/t.csv"); });
  ExportOptions choice;
  choice.first_step = 99;
  expect_error(ExitCode::kUsage, "step 99",
               [&] { export_trace(reader, choice, folder / "t.csv"); });
  EXPECT_EQ(folder.files(), 1U);
}

}  // namespace
}  // namespace stoat
