// Writing and reading frames (spool.h). Every byte read is under one of two checksums.
#include "traces/spool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>
#include <vector>

#include "models/error.h"
#include "models/hash.h"
#include "traces/validate.h"

namespace stoat {

namespace {

constexpr std::uint16_t kHeaderFrame = 1;
constexpr std::uint16_t kRecordsFrame = 2;
constexpr std::uint64_t kMaxHeaderFrame = std::uint64_t{1} << 22;

struct FrameHead {
  char magic[8];
  std::uint16_t version, kind;
  std::uint32_t number;
  std::uint64_t packed, raw;
  std::uint32_t step, records;
  std::uint32_t payload_crc, head_crc;
};
static_assert(sizeof(FrameHead) == kFrameHeaderBytes);

std::string reason(int error) { return std::strerror(error); }

// A thread's own. The payload is made and compressed in pieces, so that a frame in the making takes
// little more than its compressed bytes.
class Compressor {
 public:
  Compressor() : context_(ZSTD_createCCtx()), piece_(kPayloadPiece) {}
  ~Compressor() { ZSTD_freeCCtx(context_); }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  std::span<std::uint8_t, kPayloadPiece> piece() {
    return std::span<std::uint8_t, kPayloadPiece>(piece_);
  }
  void begin(PackedFrame& frame) {
    frame_ = &frame;
    frame.bytes.reserve(kFrameHeaderBytes + frame.raw / 6);  // what rows and counts come to
    frame.bytes.resize(kFrameHeaderBytes);
    check(ZSTD_CCtx_reset(context_, ZSTD_reset_session_only));
    check(ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, 1));
    check(ZSTD_CCtx_setParameter(context_, ZSTD_c_windowLog, 17));  // planes repeat nearby
    check(ZSTD_CCtx_setPledgedSrcSize(context_, frame.raw));
  }
  void add(std::span<const std::uint8_t> raw) {
    compress({raw.data(), raw.size(), 0}, ZSTD_e_continue);
  }
  void end() {
    compress({nullptr, 0, 0}, ZSTD_e_end);
    frame_->payload_crc =
        crc32c(frame_->bytes.data() + kFrameHeaderBytes, frame_->bytes.size() - kFrameHeaderBytes);
  }

 private:
  static std::size_t check(std::size_t code) {
    if (ZSTD_isError(code))
      throw resource_error({}, std::string("zstd: ") + ZSTD_getErrorName(code));
    return code;
  }
  void compress(ZSTD_inBuffer in, ZSTD_EndDirective how) {
    std::uint8_t out_memory[1 << 15];
    for (;;) {
      ZSTD_outBuffer out{out_memory, sizeof(out_memory), 0};
      const std::size_t left = check(ZSTD_compressStream2(context_, &out, &in, how));
      frame_->bytes.insert(frame_->bytes.end(), out_memory, out_memory + out.pos);
      if (how == ZSTD_e_end ? left == 0 : in.pos == in.size) return;
    }
  }

  ZSTD_CCtx* context_;
  std::vector<std::uint8_t> piece_;
  PackedFrame* frame_ = nullptr;
};

PackedFrame empty_frame(std::uint64_t raw_bytes, std::uint32_t step, std::uint32_t records) {
  if (raw_bytes > kMaxFrameBytes) {
    throw resource_error({}, fmt::format("step {} needs a frame of {} bytes", step, raw_bytes),
                         fmt::format("at most {}", kMaxFrameBytes),
                         "record scores of fewer layers (--scores)");
  }
  return {{}, raw_bytes, step, records, 0};
}

}  // namespace

PackedFrame pack_frame(const TraceRecords& records) {
  thread_local Compressor compressor;
  PackedFrame frame = empty_frame(encoded_bytes(records), records.step.front(),
                                  static_cast<std::uint32_t>(records.size()));
  compressor.begin(frame);
  encode_records(records, compressor.piece(),
                 [](std::span<const std::uint8_t> piece) { compressor.add(piece); });
  compressor.end();
  return frame;
}

SpoolWriter::SpoolWriter(const std::string& path, const TraceHeader& header, const ToolStamp& tool,
                         SpoolSync sync)
    : path_(path), sync_(sync) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) {
    const int error = errno;
    if (error == EEXIST) throw spool_in_the_way(path, "FILE");
    throw resource_error({path}, "the spool cannot be created: " + reason(error),
                         "a writable folder", "choose another -o");
  }
  ::flock(fd_, LOCK_EX | LOCK_NB);
  const std::string text = encode_header(header, tool);
  try {
    Compressor compressor;
    PackedFrame frame = empty_frame(text.size(), 0, 0);
    compressor.begin(frame);
    compressor.add({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    compressor.end();
    write_frame(kHeaderFrame, std::move(frame));
  } catch (...) {  // a spool without a header frame is of no use
    ::unlink(path_.c_str());
    ::close(fd_);
    throw;
  }
}

SpoolWriter::~SpoolWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void SpoolWriter::append(PackedFrame frame) { write_frame(kRecordsFrame, std::move(frame)); }

void SpoolWriter::write_frame(std::uint16_t kind, PackedFrame packed_frame) {
  std::vector<std::uint8_t>& frame = packed_frame.bytes;
  const std::size_t packed = frame.size() - kFrameHeaderBytes;
  FrameHead head{};
  std::memcpy(head.magic, kSpoolMagic.data(), kSpoolMagic.size());
  head.version = kSpoolVersion;
  head.kind = kind;
  head.number = frames_;
  head.packed = packed;
  head.raw = packed_frame.raw;
  head.step = packed_frame.step;
  head.records = packed_frame.records;
  head.payload_crc = packed_frame.payload_crc;
  head.head_crc = crc32c(&head, kFrameHeaderBytes - sizeof(head.head_crc));
  std::memcpy(frame.data(), &head, sizeof(head));

  const std::size_t bytes = frame.size();
  std::size_t done = 0;
  int error = 0;
  while (done < bytes && error == 0) {  // one call, unless it comes back short: the second says why
    const ssize_t wrote = ::write(fd_, frame.data() + done, bytes - done);
    if (wrote > 0) {
      done += static_cast<std::size_t>(wrote);
    } else if (wrote == 0 || errno != EINTR) {
      error = wrote == 0 ? ENOSPC : errno;
    }
  }
  if (error == 0 && sync_ == SpoolSync::kEveryFrame && ::fdatasync(fd_) != 0) error = errno;
  if (error != 0) {
    const bool cut = ::ftruncate(fd_, static_cast<off_t>(bytes_)) == 0;
    throw resource_error(
        {path_},
        fmt::format("frame {} needs {} bytes, {} were written: {}", frames_, bytes, done,
                    reason(error)),
        fmt::format("{} bytes free", bytes),
        frames_ <= 1
            ? "nothing was recorded yet; free space and start again"
            : fmt::format("{} whole frames ({} bytes) are kept{}; free space and run "
                          "'stoat trace recover {}'",
                          frames_, bytes_,
                          cut ? "" : " (the torn frame after them could not be cut off)", path_));
  }
  bytes_ += bytes;
  ++frames_;
}

void SpoolWriter::sync() {
  if (::fsync(fd_) != 0) throw resource_error({path_}, "fsync: " + reason(errno));
}

struct SpoolReader::Frame {
  FrameHead head{};
  std::vector<std::uint8_t> raw;
};

// What another version's frame says: it is whole, and not for this tool.
constexpr std::string_view kOtherVersion = "spool version";

SpoolReader::SpoolReader(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) throw usage_error({path}, "cannot be opened: " + reason(errno), "a spool");
  struct stat info {};
  if (::fstat(fd_, &info) == 0) size_ = static_cast<std::uint64_t>(info.st_size);
  try {
    Frame frame;
    if (!read_frame(frame)) {
      if (damage_.find(kOtherVersion) != std::string::npos)
        throw damaged_error({path}, damage_, {}, "nothing of it is lost, keep it until then");
      throw damaged_error({path}, damage_.empty() ? "no whole frame" : damage_, "a header frame",
                          "nothing was recorded that could be recovered");
    }
    if (frame.head.kind != kHeaderFrame) {
      throw damaged_error({path}, "the first frame is not the header", "a header frame");
    }
    header_ = parse_header({reinterpret_cast<const char*>(frame.raw.data()), frame.raw.size()},
                           path, &tool_);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

SpoolReader::~SpoolReader() { ::close(fd_); }

void SpoolReader::lock() {
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    throw resource_error({path_}, "another process is still recording into this spool", {},
                         "wait for its end, or stop it");
  }
}

namespace {

// All of [offset, offset + bytes), or what there is; returns the bytes read.
std::uint64_t read_at(int fd, void* to, std::uint64_t bytes, std::uint64_t offset) {
  std::uint64_t done = 0;
  while (done < bytes) {
    const ssize_t got =
        ::pread(fd, static_cast<char*>(to) + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<std::uint64_t>(got);
  }
  return done;
}

// Why a frame's head cannot be believed; empty when it can.
std::string head_problem(const FrameHead& head, std::uint32_t number) {
  if (std::memcmp(head.magic, kSpoolMagic.data(), kSpoolMagic.size()) != 0) return "no frame magic";
  if (crc32c(&head, kFrameHeaderBytes - sizeof(head.head_crc)) != head.head_crc) {
    return "the checksum of the frame's head is wrong";
  }
  if (head.version != kSpoolVersion) {
    return fmt::format("{} {}, this tool reads {}; use {} stoat", kOtherVersion, head.version,
                       kSpoolVersion, head.version > kSpoolVersion ? "a newer" : "an older");
  }
  if (head.number != number) return fmt::format("frame {} where {} belongs", head.number, number);
  if (head.raw > kMaxFrameBytes || head.packed > ZSTD_compressBound(kMaxFrameBytes) ||
      (head.kind == kHeaderFrame && head.raw > kMaxHeaderFrame)) {
    return fmt::format("a frame of {} bytes", head.raw);
  }
  return {};
}

}  // namespace

bool SpoolReader::read_frame(Frame& frame) {
  const std::uint64_t left = size_ - offset_;
  const auto bad = [&](const std::string& what) {
    damage_ = fmt::format("frame {} at byte {}: {}", frames_, offset_, what);
    return false;
  };
  if (left == 0 || !damage_.empty()) return false;
  const std::uint64_t got =
      read_at(fd_, &frame.head, std::min<std::uint64_t>(left, kFrameHeaderBytes), offset_);
  if (got < kFrameHeaderBytes) {
    const std::size_t known = std::min<std::size_t>(got, kSpoolMagic.size());
    if (std::memcmp(frame.head.magic, kSpoolMagic.data(), known) != 0) return bad("no frame magic");
    return false;  // torn
  }
  const std::string problem = head_problem(frame.head, frames_);
  if (!problem.empty()) return bad(problem);
  if (frame.head.packed > left - kFrameHeaderBytes) return false;  // torn
  std::vector<std::uint8_t> packed(frame.head.packed);
  if (read_at(fd_, packed.data(), packed.size(), offset_ + kFrameHeaderBytes) != packed.size()) {
    return bad("cannot be read: " + reason(errno));
  }
  if (crc32c(packed.data(), packed.size()) != frame.head.payload_crc) {
    return bad("the checksum of the payload is wrong");
  }
  if (ZSTD_getFrameContentSize(packed.data(), packed.size()) != frame.head.raw) {
    return bad("the payload's size is not the frame's");
  }
  frame.raw.resize(frame.head.raw);
  const std::size_t raw =
      ZSTD_decompress(frame.raw.data(), frame.raw.size(), packed.data(), packed.size());
  if (ZSTD_isError(raw) || raw != frame.head.raw) return bad("the payload does not decompress");
  offset_ += kFrameHeaderBytes + frame.head.packed;
  ++frames_;
  return true;
}

bool SpoolReader::next(TraceRecords& records) {
  const std::uint64_t begin = offset_;
  Frame frame;
  if (!read_frame(frame)) return false;
  const std::string what = fmt::format("{}, frame {}", path_, frames_ - 1);
  std::string problem;
  try {
    if (frame.head.kind != kRecordsFrame) throw damaged_error({what}, "not a frame of records");
    records = parse_records(frame.raw, what);
    const auto violations = find_violations(records, header_);
    if (!violations.empty()) throw damaged_error({what}, violations.front().sentence());
    if (records.empty() || records.size() != frame.head.records) {
      throw damaged_error({what}, fmt::format("{} records", records.size()),
                          fmt::format("{}", frame.head.records));
    }
    return true;
  } catch (const Error& e) {
    damage_ = e.what();
    offset_ = begin;
    return false;
  }
}

Error spool_in_the_way(const std::string& spool, const std::string& out) {
  const int fd = ::open(spool.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const bool in_use = fd >= 0 && ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (fd >= 0) ::close(fd);
  if (in_use) {
    return resource_error({spool}, "another process is recording into this spool", {},
                          "wait for its end, or choose another -o");
  }
  return usage_error(
      {spool}, "the spool of an earlier recording, still there", {},
      fmt::format("recover it with 'stoat trace recover {} -o {}', or delete it", spool, out));
}

bool is_spool(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char magic[8] = {};
  const bool yes = read_at(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
                   std::string_view(magic, sizeof(magic)) == kSpoolMagic;
  ::close(fd);
  return yes;
}

}  // namespace stoat
