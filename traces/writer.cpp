// Recording and finishing (writer.h): spool frames while it runs, then a forked child that makes
// the HDF5 file. The child may die of a full disk, as the HDF5 library does; then the spool is
// whole and the temporary file is removed.
#include "traces/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "models/error.h"
#include "traces/columns.h"
#include "traces/file_hdf5.h"
#include "traces/payload.h"
#include "traces/spool.h"
#include "traces/validate.h"

namespace stoat {

namespace {

constexpr std::uint64_t kFrameTarget = std::uint64_t{64}
                                       << 20;  // raw bytes a frame, unless one step is larger

// In the child: the whole spool into `temporary`. Returns the content hash.
std::string spool_to_file(const std::string& spool_path, const std::string& temporary, bool whole) {
  SpoolReader spool(spool_path);
  TraceFileWriter file(temporary, spool.header(), spool.tool());
  TraceRecords records;
  while (spool.next(records)) file.append(records);
  if (whole && spool.torn_bytes() != 0) {
    throw damaged_error({spool_path}, spool.damage().empty() ? "a torn frame" : spool.damage(), {},
                        fmt::format("'stoat trace recover {}' saves what lies before", spool_path));
  }
  return file.finish();
}

void write_all(int fd, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
    if (wrote <= 0 && errno != EINTR) return;
    if (wrote > 0) done += static_cast<std::size_t>(wrote);
  }
}

[[noreturn]] void run_child(int to_parent, const std::string& spool_path,
                            const std::string& temporary, bool whole) {
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE}) ::signal(signal, SIG_DFL);
  int status = 0;
  try {
    write_all(to_parent, spool_to_file(spool_path, temporary, whole));
  } catch (const Error& e) {
    write_all(to_parent, e.what());
    status = static_cast<int>(e.code());
  } catch (const std::exception& e) {
    write_all(to_parent, e.what());
    status = 1;
  }
  ::_exit(status);
}

std::string read_until_closed(int fd) {
  std::string text;
  char piece[512];
  for (;;) {
    const ssize_t got = ::read(fd, piece, sizeof(piece));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(piece, static_cast<std::size_t>(got));
  }
}

void sync_folder(const std::filesystem::path& file) {
  const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

// Spool to final file: child, rename, fsync of the folder. The spool stays. `whole`: a torn frame
// is an error.
std::string make_file(const std::string& spool_path, const std::string& out_path, bool whole) {
  const std::string temporary = fmt::format("{}.tmp.{}", out_path, ::getpid());
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw resource_error({out_path}, std::strerror(errno));
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    run_child(ends[1], spool_path, temporary, whole);
  }
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    throw resource_error(
        {out_path}, std::string("fork: ") + std::strerror(errno), {},
        fmt::format("the recording is safe: 'stoat trace recover {}'", spool_path));
  }
  const std::string said = read_until_closed(ends[0]);
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    if (::rename(temporary.c_str(), out_path.c_str()) == 0) {
      sync_folder(out_path);
      return said;
    }
    const int error = errno;
    ::unlink(temporary.c_str());
    throw resource_error(
        {out_path}, std::string("rename: ") + std::strerror(error), {},
        fmt::format("the recording is safe: 'stoat trace recover {} -o FILE'", spool_path));
  }
  ::unlink(temporary.c_str());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
    throw Bug("finishing " + out_path + ": " + said);
  if (WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(ExitCode::kDamaged)) {
    throw Error(ExitCode::kDamaged, said);
  }
  std::error_code ignored;
  const std::uint64_t bytes = std::filesystem::file_size(spool_path, ignored);
  const std::string cause =
      !said.empty() ? said : fmt::format("the HDF5 writer died of signal {}", WTERMSIG(status));
  throw resource_error(
      {out_path}, "the trace could not be finished: " + cause,
      fmt::format("about {} bytes free", bytes + (std::uint64_t{1} << 20)),
      fmt::format("the recording is safe: free space, then 'stoat trace recover {} -o FILE'",
                  spool_path));
}

}  // namespace

struct TraceWriter::State {
  State(const std::string& out, const TraceHeader& head, SpoolSync sync)
      : path(out),
        spool_path(out + ".spool"),
        header(head),
        spool(spool_path, head, this_tool(), sync) {}
  std::string path;
  std::string spool_path;
  TraceHeader header;
  SpoolWriter spool;
  bool any = false;
  std::uint64_t columns = 0;  // bit set of the optional columns of the first step
  bool finished = false;
  std::uint32_t last_step = 0;
};

// Which of the optional columns that must be in all steps or in none are here.
static std::uint64_t optional_columns(const TraceRecords& records) {
  std::uint64_t bits = 0;
  std::uint64_t bit = 1;
  visit_columns(records, [&](const Column& column, const auto& values) {
    const bool scores = column.path.starts_with("/scores/") || column.path.starts_with("/value/");
    if (!scores && !values.empty()) bits |= bit;
    bit <<= 1;
  });
  return bits;
}

TraceWriter::TraceWriter(const std::string& path, const TraceHeader& header,
                         bool fsync_every_frame) {
  const std::string problem = header_problem(header);
  if (!problem.empty()) throw Bug("trace header: " + problem);
  state_ = std::make_unique<State>(path, header,
                                   fsync_every_frame ? SpoolSync::kEveryFrame : SpoolSync::kAtEnd);
}

TraceWriter::~TraceWriter() = default;

struct PackedSteps::State {
  std::vector<PackedFrame> frames;
  std::uint64_t columns = 0;
  std::uint32_t first_step = 0, last_step = 0;
};

PackedSteps::PackedSteps(const TraceRecords& records, const TraceHeader& header)
    : state_(std::make_unique<State>()) {
  if (records.empty()) return;
  ensure_consistent(records, header);
  state_->columns = optional_columns(records);
  state_->first_step = records.step.front();
  state_->last_step = records.step.back();
  if (payload_bytes(records) <= kFrameTarget) {
    state_->frames.push_back(pack_frame(records));
    return;
  }
  const std::vector<StepRange> ranges = step_ranges(records);
  const std::size_t mean = payload_bytes(records) / ranges.size();
  const std::size_t steps = std::max<std::size_t>(1, kFrameTarget / std::max<std::size_t>(1, mean));
  for (std::size_t i = 0; i < ranges.size(); i += steps) {
    const std::size_t last = std::min(i + steps, ranges.size()) - 1;
    state_->frames.push_back(pack_frame(slice_records(records, header, ranges[i], ranges[last])));
  }
}
PackedSteps::~PackedSteps() = default;
PackedSteps::PackedSteps(PackedSteps&&) noexcept = default;
PackedSteps& PackedSteps::operator=(PackedSteps&&) noexcept = default;

void TraceWriter::append(const TraceRecords& records) {
  append(PackedSteps(records, state_->header));
}

void TraceWriter::append(PackedSteps steps) {
  State& s = *state_;
  PackedSteps::State& packed = *steps.state_;
  STOAT_ENSURE(!s.finished, "append after finish");
  if (packed.frames.empty()) return;
  STOAT_ENSURE(!s.any || packed.first_step > s.last_step, "steps must rise from frame to frame");
  STOAT_ENSURE(!s.any || packed.columns == s.columns, "a column is recorded in some steps only");
  s.columns = packed.columns;
  for (PackedFrame& frame : packed.frames) s.spool.append(std::move(frame));
  s.any = true;
  s.last_step = packed.last_step;
}

std::string TraceWriter::finish() {
  State& s = *state_;
  STOAT_ENSURE(!s.finished, "finish twice");
  const std::string hash = make_file(s.spool_path, s.path, true);
  s.finished = true;
  ::unlink(s.spool_path.c_str());
  return hash;
}

std::uint64_t TraceWriter::bytes_written() const { return state_->spool.bytes(); }
const std::string& TraceWriter::spool_path() const { return state_->spool_path; }

std::string recover_spool(const std::string& spool_path, const std::string& out_path,
                          std::uint64_t* lost_bytes, bool before_damage) {
  SpoolReader spool(spool_path);
  spool.lock();
  TraceRecords records;
  while (spool.next(records)) {
  }
  if (!spool.damage().empty() && !before_damage) {
    throw damaged_error(
        {spool_path}, spool.damage(), "whole frames to the end",
        fmt::format("{} bytes from there on are lost; '--before-damage' keeps what lies before",
                    spool.torn_bytes()));
  }
  if (lost_bytes != nullptr) *lost_bytes = spool.torn_bytes();
  return make_file(spool_path, out_path, false);
}

std::string write_trace(const std::string& path, const TraceHeader& header,
                        const TraceRecords& records) {
  TraceWriter writer(path, header);
  try {
    writer.append(records);
    return writer.finish();
  } catch (...) {  // the records are still in memory: a spool left behind would only be in the way
    ::unlink(writer.spool_path().c_str());
    throw;
  }
}

}  // namespace stoat
