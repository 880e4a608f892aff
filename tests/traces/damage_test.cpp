// Damage: flipped bits, cut files, files that lie. Never a crash, never other data than was
// recorded.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "models/hash.h"
#include "tests/traces/hdf5_forgery.h"
#include "tests/traces/trace_fixture.h"
#include "traces/file_hdf5.h"
#include "traces/payload.h"
#include "traces/reader.h"
#include "traces/spool.h"
#include "traces/writer.h"

namespace stoat {
namespace {

struct Made {
  TemporaryFolder folder;
  TraceHeader header;
  TraceRecords records;
  std::string trace, spool;

  explicit Made(const SynthOptions& options)
      : header(synth_header(options)), records(synthesize_records(options)) {
    trace = folder / "a.h5";
    write_trace(trace, header, records);
    TraceWriter writer(folder / "b.h5", header);
    for (const StepRange& step : step_ranges(records))
      writer.append(slice_records(records, header, step, step));
    spool = writer.spool_path();
  }
};

SynthOptions tiny_options() {
  SynthOptions options = small_options(Method::kFlash, true, true);
  options.contexts = {300};
  options.steps = 3;
  options.budgets = {9};
  return options;
}

// Reads a spool's whole frames; they must be a prefix of what was recorded. A cut between two
// frames looks like a shorter recording (`may_be_shorter`); a flipped bit never does.
void expect_prefix(const Made& made, const std::string& path, const std::string& what, int* intact,
                   int* detected, bool may_be_shorter = false) {
  try {
    SpoolReader spool(path);
    TraceRecords all, frame;
    while (spool.next(frame)) append_steps(all, frame);
    if (header_json(spool.header()) != header_json(made.header))
      ADD_FAILURE() << what << ": another header";
    const auto ranges = step_ranges(made.records);
    const std::size_t steps = step_ranges(all).size();
    ASSERT_LE(steps, ranges.size()) << what;
    if (steps > 0) {
      EXPECT_EQ(first_difference(
                    all, slice_records(made.records, made.header, ranges[0], ranges[steps - 1])),
                "")
          << what;
    }
    const bool clean = spool.torn_bytes() == 0 && spool.damage().empty();
    if (clean && (steps == ranges.size() || may_be_shorter)) {
      ++*intact;
    } else {
      ++*detected;
      EXPECT_GT(spool.torn_bytes(), 0U) << what;
    }
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kDamaged) << what << ": " << e.what();
    ++*detected;
  }
}

TEST(SpoolDamage, EveryFlippedBitIsFound) {
  const Made made(tiny_options());
  const std::string bytes = bytes_of(made.spool);
  std::mt19937 random(7);
  int intact = 0, detected = 0;
  const std::string path = made.folder / "flipped.spool";
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = bytes;
    // Frame heads are few bytes: aim every fourth flip at the first 200.
    const std::size_t at = random() % (i % 4 == 0 ? 200 : bytes.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    write_bytes(path, damaged);
    expect_prefix(made, path, "flip at byte " + std::to_string(at), &intact, &detected);
  }
  EXPECT_EQ(intact, 0);
  EXPECT_EQ(detected, 2000);
}

TEST(TraceDamage, IsToldInOneLine) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  write_trace(path, synth_header(tiny_options()), synthesize_records(tiny_options()));
  std::string bytes = bytes_of(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_bytes(path, bytes);
  try {
    const TraceReader reader(path);
    ADD_FAILURE() << "read";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kDamaged);
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
  }
}

TEST(SpoolDamage, EveryCutKeepsTheWholeFramesBeforeIt) {
  const Made made(tiny_options());
  const std::string bytes = bytes_of(made.spool);
  int intact = 0, detected = 0;
  const std::string path = made.folder / "cut.spool";
  int cuts = 0;
  for (std::size_t size = 0; size < bytes.size(); size += 1 + size / 200, ++cuts) {
    write_bytes(path, bytes.substr(0, size));
    int here = 0, torn = 0;
    expect_prefix(made, path, "cut at byte " + std::to_string(size), &here, &torn, true);
    intact += here;
    detected += torn;
  }
  EXPECT_EQ(intact + detected, cuts);
  EXPECT_LE(intact, 4) << "only cuts between frames look whole";
}

TEST(SpoolDamage, IsRecoveredOnlyWhenAskedFor) {
  const Made made(tiny_options());
  std::string bytes = bytes_of(made.spool);
  bytes[bytes.size() - 20] = static_cast<char>(bytes[bytes.size() - 20] ^ 1);  // in the last frame
  write_bytes(made.spool, bytes);
  const std::string out = made.folder / "out.h5";
  std::uint64_t lost = 0;
  expect_error(ExitCode::kDamaged, "--before-damage",
               [&] { recover_spool(made.spool, out, &lost); });
  EXPECT_FALSE(std::filesystem::exists(out));
  recover_spool(made.spool, out, &lost, true);
  EXPECT_GT(lost, 0U);
  EXPECT_EQ(TraceReader(out).steps(), 2U);
  bytes.resize(bytes.size() - 30);  // cut short: what a killed recording leaves
  write_bytes(made.spool, bytes);
  EXPECT_NO_THROW(recover_spool(made.spool, out, &lost));
  EXPECT_GT(lost, 0U);
}

TEST(SpoolDamage, AnotherVersionIsRefusedWithWhatToDo) {
  const Made made(tiny_options());
  std::string bytes = bytes_of(made.spool);
  const auto expect_version = [&](char version, const std::string& words) {
    bytes[8] = version;
    const std::uint32_t crc = crc32c(bytes.data(), 44);
    std::memcpy(bytes.data() + 44, &crc, 4);
    write_bytes(made.spool, bytes);
    expect_error(ExitCode::kDamaged, words, [&] { SpoolReader spool(made.spool); });
  };
  expect_version(9, "use a newer stoat; nothing of it is lost");
  expect_version(1, "use an older stoat; nothing of it is lost");
}

// Opens and reads in a child, so that a crash of the HDF5 library is seen and counted. 0: equal, 3:
// refused, else bad.
int read_in_child(const Made& made, const std::string& path, bool sealed) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    int status = 3;
    try {
      if (sealed) seal_file(path);
      const TraceReader reader(path);
      const TraceRecords all = reader.read_all();
      reader.verify_checksums();
      status = first_difference(all, made.records).empty() &&
                       header_json(reader.header()) == header_json(made.header)
                   ? 0
                   : 50;
    } catch (const Error&) {
    } catch (...) {
      status = 51;
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

TEST(TraceDamage, EveryFlippedBitIsRefusedBeforeTheLibrarySeesIt) {
  const Made made(tiny_options());
  const std::string bytes = bytes_of(made.trace);
  std::mt19937 random(8);
  const std::string path = made.folder / "flipped.h5";
  for (int i = 0; i < 1000; ++i) {
    std::string damaged = bytes;
    const std::size_t at = random() % (i % 4 == 0 ? 600 : bytes.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    write_bytes(path, damaged);
    try {
      const TraceReader reader(path);
      ADD_FAILURE() << "flip at byte " << at << " was not found";
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == ExitCode::kDamaged || e.code() == ExitCode::kUsage) << e.what();
    }
  }
}

TEST(TraceDamage, EveryCutIsRefused) {
  const Made made(tiny_options());
  const std::string bytes = bytes_of(made.trace);
  const std::string path = made.folder / "cut.h5";
  for (std::size_t size = 0; size < bytes.size(); size += 1 + size / 50) {
    write_bytes(path, bytes.substr(0, size));
    EXPECT_THROW(TraceReader reader(path), Error) << size;
  }
  write_bytes(path, bytes + "x");
  EXPECT_THROW(TraceReader reader(path), Error);
}

// A file whose seal is right but whose HDF5 bytes are not: only somebody who means harm makes one.
// The data must not change unseen; the library may not take the process with it more than we can
// help, so this runs in a child.
TEST(TraceDamage, ResealedFlipsNeverChangeTheDataUnseen) {
  const Made made(tiny_options());
  const std::string bytes = bytes_of(made.trace);
  std::mt19937 random(9);
  const std::string path = made.folder / "resealed.h5";
  int equal = 0, refused = 0, died = 0;
  for (int i = 0; i < 150; ++i) {
    std::string damaged = bytes;
    const std::size_t at = kUserBlockBytes + random() % (bytes.size() - kUserBlockBytes);
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    write_bytes(path, damaged);
    const int status = read_in_child(made, path, true);
    equal += status == 0 ? 1 : 0;
    refused += status == 3 ? 1 : 0;
    died += status > 100 ? 1 : 0;
    EXPECT_TRUE(status == 0 || status == 3 || status > 100)
        << "flip at byte " << at << ": status " << status;
  }
  RecordProperty("equal", equal);
  RecordProperty("refused", refused);
  RecordProperty("died", died);
  EXPECT_GT(refused, 0);
}

TEST(OtherFiles, AreNamedForWhatTheyAre) {
  const Made made(tiny_options());
  expect_error(ExitCode::kDamaged, "stoat trace recover", [&] { TraceReader reader(made.spool); });
  expect_error(ExitCode::kUsage, "cannot be opened",
               [&] { TraceReader reader(made.folder / "none.h5"); });
  write_bytes(made.folder / "text", "step,row\n1,2\n");
  expect_error(ExitCode::kUsage, "not a trace", [&] { TraceReader reader(made.folder / "text"); });
  write_bytes(made.folder / "plain.h5", bytes_of(made.trace).substr(kUserBlockBytes));
  expect_error(ExitCode::kUsage, "user block",
               [&] { TraceReader reader(made.folder / "plain.h5"); });
}

struct Lie {
  const char* name;
  const char* message;  // part of the error
  void (*tell)(const std::string& path);
};

class LyingFile : public testing::TestWithParam<Lie> {};

TEST_P(LyingFile, IsRefusedNamingTheDataset) {
  const Made made(tiny_options());
  GetParam().tell(made.trace);
  forgery::recompute_hashes(made.trace, made.header);
  seal_file(made.trace);
  expect_error(ExitCode::kDamaged, GetParam().message, [&] {
    const TraceReader reader(made.trace);
    reader.read_all();
  });
}

INSTANTIATE_TEST_SUITE_P(
    All, LyingFile,
    testing::Values(
        Lie{"RowBeyondTheContext", "/value/row, record 0",
            [](const std::string& f) { forgery::set_u32(f, "/value/row", 8, 4000000000U); }},
        Lie{"RowsNotIncreasing", "/value/row, record 0",
            [](const std::string& f) { forgery::set_u32(f, "/value/row", 1, 0); }},
        Lie{"IndptrFalls", "/value/indptr",
            [](const std::string& f) { forgery::set_u64(f, "/value/indptr", 2, ~0ULL); }},
        Lie{"IndptrEndsElsewhere", "/value/indptr: ends",
            [](const std::string& f) { forgery::set_u64(f, "/value/indptr", 24, 5); }},
        Lie{"ScoreIndptrFalls", "/scores/",
            [](const std::string& f) { forgery::set_u64(f, "/scores/indptr", 8, 1ULL << 60); }},
        Lie{"ScoreOfNoRecord", "/scores/record",
            [](const std::string& f) { forgery::set_u64(f, "/scores/record", 23, 1ULL << 40); }},
        Lie{"UnknownKind", "/records/kind, record 3",
            [](const std::string& f) { forgery::set_u8(f, "/records/kind", 3, 7); }},
        Lie{"WrongKvHead", "/records/kv_head, record 3",
            [](const std::string& f) { forgery::set_u16(f, "/records/kv_head", 3, 0); }},
        Lie{"LayerBeyondTheModel", "/records/layer, record 23",
            [](const std::string& f) { forgery::set_u16(f, "/records/layer", 23, 999); }},
        Lie{"StepsFall", "/records/step",
            [](const std::string& f) { forgery::set_u32(f, "/records/step", 9, 0); }},
        Lie{"ContextZero", "/records/context, record 0",
            [](const std::string& f) { forgery::set_u32(f, "/records/context", 0, 0); }},
        Lie{"NanStatistic", "/stats/lse, record 2",
            [](const std::string& f) { forgery::set_u32(f, "/stats/lse", 2, 0x7fc00000U); }},
        Lie{"MissingDataset", "/value/count",
            [](const std::string& f) { forgery::remove_link(f, "/value/count"); }},
        Lie{"MissingScores", "/scores/exponent",
            [](const std::string& f) { forgery::remove_link(f, "/scores/exponent"); }},
        Lie{"ShorterColumn", "/records/q_head",
            [](const std::string& f) { forgery::resize(f, "/records/q_head", 5); }},
        Lie{"HugeColumn", "/value/row: claims",
            [](const std::string& f) { forgery::resize(f, "/value/row", 1ULL << 50); }},
        Lie{"HugeRecords", "/records/step: claims",
            [](const std::string& f) { forgery::resize(f, "/records/step", 1ULL << 50); }},
        Lie{"MissingAttribute", "attribute head_dim is missing",
            [](const std::string& f) { forgery::remove_attribute(f, "head_dim"); }},
        Lie{"HeadsThatDoNotDivide", "attribute n_q_heads",
            [](const std::string& f) { forgery::set_attribute(f, "n_kv_heads", 3); }},
        Lie{"NotComplete", "attribute complete",
            [](const std::string& f) { forgery::remove_attribute(f, "complete"); }},
        Lie{"MoreDrawsThanTheHeader", "/key/draw_indptr",
            [](const std::string& f) { forgery::set_attribute(f, "ternary_draws", 2); }}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(LyingTrace, OfAFutureVersionIsRefusedWithWhatToDo) {
  const Made made(tiny_options());
  forgery::set_attribute(made.trace, "version", 2);
  seal_file(made.trace);
  expect_error(ExitCode::kUsage, "version 2", [&] { TraceReader reader(made.trace); });
}

TEST(LyingTrace, WithOtherDataThanItsChecksumsIsFoundByVerify) {
  const Made made(tiny_options());
  forgery::set_u16(made.trace, "/scores/code", 5, 1);
  seal_file(made.trace);
  const TraceReader reader(made.trace);
  expect_error(ExitCode::kDamaged, "/scores/code: checksum", [&] { reader.verify_checksums(); });
}

}  // namespace
}  // namespace stoat
