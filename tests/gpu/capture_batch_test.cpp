// Several sequences in one capture, on the CPU: each is recorded as it would be alone.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

#include "gpu/capture.h"
#include "models/error.h"
#include "tests/gpu/fixtures.h"
#include "traces/reader.h"

namespace stoat {
namespace {

using test::run_quietly;
using test::TempFolder;
using test::tiny_options;

// The records of one sequence of a trace, as a run of that sequence alone would hold them.
TraceRecords records_of_sequence(const TraceRecords& all, std::uint32_t sequence,
                                 std::uint32_t sequences) {
  TraceRecords own;
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all.seq[r] != sequence) continue;
    Selection selection;
    for (auto i = all.value_indptr[r]; i < all.value_indptr[r + 1]; ++i)
      selection.rows.push_back({all.row[i], all.count[i]});
    append_record(own, 0, all.step[r], all.layer[r], all.q_head[r], all.kv_head[r], all.context[r],
                  all.kind[r], all.budget[r], selection);
    own.stats.lse.push_back(all.stats.lse[r]);
    own.stats.output_error.push_back(all.stats.output_error[r]);
    own.stats.twin_total_variation.push_back(all.stats.twin_total_variation[r]);
  }
  for (std::size_t i = sequence; i < all.token_id.size(); i += sequences)
    own.token_id.push_back(all.token_id[i]);
  return own;
}

void expect_same(const TraceRecords& found, const TraceRecords& want) {
  EXPECT_EQ(found.token_id, want.token_id);
  EXPECT_EQ(found.context, want.context);
  EXPECT_EQ(found.layer, want.layer);
  EXPECT_EQ(found.q_head, want.q_head);
  EXPECT_EQ(found.row, want.row);
  EXPECT_EQ(found.count, want.count);
  EXPECT_EQ(found.value_indptr, want.value_indptr);
  EXPECT_EQ(found.stats.lse, want.stats.lse);
  EXPECT_EQ(found.stats.output_error, want.stats.output_error);
  EXPECT_EQ(found.stats.twin_total_variation, want.stats.twin_total_variation);
}

TEST(Capture, ABatchRecordsEverySequenceAsIfItWereAlone) {
  const TempFolder folder;
  CaptureOptions options = tiny_options(folder);
  options.full_stats = options.ignore_eos = true;
  const std::string other = folder.write("other.txt", test::sample_text(411).substr(100));
  for (const Method method : {Method::kProp, Method::kDense}) {
    options.method = method;
    options.budget = method == Method::kDense ? "" : "16";
    options.output = folder.path(std::string(method_name(method)) + "-alone.stoat");
    CaptureOptions batch = options;
    const TraceRecords first = TraceReader(run_quietly(options).path).read_all();
    options.prompt_files = {other};
    options.force = true;
    const TraceRecords second = TraceReader(run_quietly(options).path).read_all();
    batch.prompt_files.push_back(other);
    batch.batch = 3;  // the first prompt again
    batch.output = folder.path(std::string(method_name(method)) + "-batch.stoat");
    const CaptureResult result = run_quietly(batch);
    ASSERT_EQ(result.sequences.size(), 3U);
    EXPECT_EQ(result.sequences[1].prompt_tokens, 311U);
    const TraceRecords all = TraceReader(result.path).read_all();
    EXPECT_EQ(all.token_id.size(), 3 * first.token_id.size());
    expect_same(records_of_sequence(all, 0, 3), first);
    if (method != Method::kDense) {  // each sequence has draws of its own
      EXPECT_NE(records_of_sequence(all, 2, 3).row, first.row);
      continue;
    }
    expect_same(records_of_sequence(all, 1, 3), second);
    expect_same(records_of_sequence(all, 2, 3), first);
  }
}

TEST(Capture, RefusesBatchesAndPagesThatMakeNoSense) {
  const TempFolder folder;
  const CaptureOptions plain = tiny_options(folder);
  CaptureOptions fewer = plain, many = plain, asked = plain, pages = plain;
  fewer.prompt_files.push_back(plain.prompt_files[0]);
  fewer.batch = 1;
  many.batch = 257;
  asked.batch = 2;
  asked.questions_file = folder.write("q.jsonl", R"({"text": "a", "generate": 1})"
                                                 "\n");
  pages.page_size = 16;
  const std::pair<CaptureOptions, const char*> cases[] = {{fewer, "--batch"},
                                                          {many, "1 (one a prompt) to 256"},
                                                          {asked, "--questions"},
                                                          {pages, "--page-size"}};
  for (const auto& [options, words] : cases) {
    try {
      run_quietly(options);
      FAIL() << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
    EXPECT_FALSE(std::filesystem::exists(options.output));
  }
}

}  // namespace
}  // namespace stoat
