// What must survive: kill -9 while recording, a full disk, a folder that may not be written.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdint>
#include <functional>
#include <thread>

#include "tests/traces/trace_fixture.h"
#include "traces/payload.h"
#include "traces/reader.h"
#include "traces/spool.h"
#include "traces/writer.h"

namespace stoat {
namespace {

// Steps of one sequence with a few records each, made once: the recording below is bound by
// writing.
std::vector<TraceRecords> many_steps(const SynthOptions& options) {
  std::vector<TraceRecords> steps;
  synthesize(options, [&](const TraceRecords& step) { steps.push_back(step); });
  return steps;
}

SynthOptions recording_options() {
  SynthOptions options = small_options(Method::kProp, false, true);
  options.contexts = {400};
  options.steps = 400;
  return options;
}

TEST(Recording, LosesNoAcknowledgedFrameWhenKilled) {
  const TemporaryFolder folder;
  const SynthOptions options = recording_options();
  const TraceHeader header = synth_header(options);
  const auto steps = many_steps(options);
  std::mt19937 random(2024);
  int killed_midway = 0;
  for (int round = 0; round < 40; ++round) {
    const std::string path = folder / ("t" + std::to_string(round) + ".h5");
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      try {
        TraceWriter writer(path, header);
        for (std::uint32_t i = 0; i < steps.size(); ++i) {
          writer.append(steps[i]);
          if (::write(ends[1], &i, sizeof(i)) != sizeof(i)) ::_exit(1);  // acknowledged
        }
      } catch (...) {
        ::_exit(2);
      }
      ::pause();
    }
    ::close(ends[1]);
    std::uint32_t acknowledged = 0;
    std::uint32_t last = 0;
    ASSERT_EQ(::read(ends[0], &last, sizeof(last)),
              static_cast<ssize_t>(sizeof(last)));  // it is recording
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    acknowledged = last + 1;
    while (::read(ends[0], &last, sizeof(last)) == sizeof(last)) acknowledged = last + 1;
    ::close(ends[0]);
    killed_midway += acknowledged < steps.size() ? 1 : 0;

    std::uint64_t lost = 0;
    recover_spool(path + ".spool", path, &lost);
    const TraceReader reader(path);
    EXPECT_GE(reader.steps(), acknowledged);
    EXPECT_LE(reader.steps(), acknowledged + 1);  // written, not yet acknowledged
    TraceRecords expected;
    for (std::uint32_t i = 0; i < reader.steps(); ++i) append_steps(expected, steps[i]);
    EXPECT_EQ(first_difference(reader.read_all(), expected), "");
  }
  EXPECT_GT(killed_midway, 10) << "most kills must hit a recording in progress";
}

TEST(Recording, RecoveredIsByteForByteWhatANormalEndGives) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options(Method::kFlash, true);
  const TraceHeader header = synth_header(options);
  const TraceRecords records = synthesize_records(options);
  const std::string hash = write_trace(folder / "normal.h5", header, records);
  {
    TraceWriter writer(folder / "killed.h5", header);
    for (const StepRange& step : step_ranges(records))
      writer.append(slice_records(records, header, step, step));
    // no finish: what a killed process leaves
  }
  std::uint64_t lost = 1;
  EXPECT_EQ(recover_spool(folder / "killed.h5.spool", folder / "killed.h5", &lost), hash);
  EXPECT_EQ(lost, 0U);
  EXPECT_TRUE(bytes_of(folder / "killed.h5") == bytes_of(folder / "normal.h5"));
}

TEST(Recording, ASpoolBeingRecordedIsNotRecovered) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  TraceWriter writer(folder / "a.h5", synth_header(options));
  writer.append(synthesize_records(options));
  std::uint64_t lost = 0;
  expect_error(ExitCode::kResource, "still recording",
               [&] { recover_spool(folder / "a.h5.spool", folder / "b.h5", &lost); });
  expect_error(ExitCode::kResource, "another process is recording",
               [&] { TraceWriter second(folder / "a.h5", synth_header(options)); });
}

TEST(Recording, ASpoolLeftBehindIsNotWrittenOver) {
  const TemporaryFolder folder;
  const SynthOptions options = small_options();
  { TraceWriter writer(folder / "a.h5", synth_header(options)); }
  expect_error(ExitCode::kUsage, "stoat trace recover",
               [&] { TraceWriter second(folder / "a.h5", synth_header(options)); });
}

// Runs body in a child; its exit status, 99 for an exception, 100 + signal for a death.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 99;
    try {
      status = body();
    } catch (...) {
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

// Records until the disk is full, then proves that what was acknowledged is all there.
void record_into(const std::string& folder, const TemporaryFolder& elsewhere) {
  SynthOptions options = recording_options();
  options.contexts = {8000};
  const TraceHeader header = synth_header(options);
  const std::string path = folder + "/t.h5";
  TraceRecords expected;
  std::uint32_t acknowledged = 0;
  try {
    TraceWriter writer(path, header);
    synthesize(options, [&](const TraceRecords& step) {
      writer.append(step);
      append_steps(expected, step);
      ++acknowledged;
    });
    FAIL() << "the disk never became full";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kResource);
    EXPECT_NE(std::string(e.what()).find("needs"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("bytes"), std::string::npos) << e.what();
  }
  ASSERT_GT(acknowledged, 2U);
  EXPECT_FALSE(std::filesystem::exists(path));
  std::uint64_t lost = 1;
  // Finishing beside it must fail too, cleanly, and keep the spool.
  expect_error(ExitCode::kResource, "the recording is safe",
               [&] { recover_spool(path + ".spool", path, &lost); });
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    EXPECT_EQ(entry.path(), path + ".spool");
  recover_spool(path + ".spool", elsewhere / "t.h5", &lost);
  EXPECT_EQ(lost, 0U);
  EXPECT_EQ(first_difference(TraceReader(elsewhere / "t.h5").read_all(), expected), "");
}

TEST(FullDisk, StopsWithTheBytesNeededAndKeepsEveryWholeFrame) {
  const TemporaryFolder folder;
  const TemporaryFolder elsewhere;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=3m") == 0) {
    record_into(folder.path().string(), elsewhere);
    ::umount2(folder.path().c_str(), MNT_DETACH);
    return;
  }
  // Not allowed to mount: a limit on the size of files says the same with another errno.
  const int status = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{3 << 20, 3 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    SynthOptions options = recording_options();
    options.contexts = {8000};
    std::uint32_t acknowledged = 0;
    try {
      TraceWriter writer(folder / "t.h5", synth_header(options));
      synthesize(options, [&](const TraceRecords& step) {
        writer.append(step);
        ++acknowledged;
      });
    } catch (const Error& e) {
      if (e.code() != ExitCode::kResource ||
          std::string(e.what()).find("needs") == std::string::npos)
        return 2;
      SpoolReader spool(folder / "t.h5.spool");
      TraceRecords records;
      std::uint32_t whole = 0;
      while (spool.next(records)) ++whole;
      return whole == acknowledged && spool.torn_bytes() == 0 ? 0 : 3;
    }
    return 1;
  });
  EXPECT_EQ(status, 0);
}

TEST(FullDisk, WhileFinishingLeavesTheSpoolAndNothingElse) {
  const TemporaryFolder folder;
  const int status = in_child([&] {
    const SynthOptions options = small_options(Method::kFlash, true);
    TraceWriter writer(folder / "t.h5", synth_header(options));
    writer.append(synthesize_records(options));
    ::signal(SIGXFSZ, SIG_IGN);
    for (const rlim_t bytes : {1000UL, 20000UL, 40000UL}) {
      const rlimit limit{bytes, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      try {
        writer.finish();
        return 1;
      } catch (const Error& e) {
        if (e.code() != ExitCode::kResource) return 2;
        if (std::string(e.what()).find("t.h5.spool") == std::string::npos) return 3;
      }
      if (folder.files() != 1) return 4;
    }
    const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &none);
    writer.finish();  // space is back
    return 0;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(TraceReader(folder / "t.h5").steps(), 5U);
  EXPECT_EQ(folder.files(), 1U);
}

TEST(ReadOnlyFolder, IsAResourceErrorBeforeAnythingIsRecorded) {
  const TemporaryFolder folder;
  const std::string target = folder / "t.h5";
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  const int status = in_child([&] {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) return 1;
    try {
      TraceWriter writer(target, synth_header(small_options()));
    } catch (const Error& e) {
      return e.code() == ExitCode::kResource && std::string(e.what()).find(target) == 0 ? 0 : 2;
    }
    return 3;
  });
  ::chmod(folder.path().c_str(), 0755);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(folder.files(), 0U);
}

}  // namespace
}  // namespace stoat
