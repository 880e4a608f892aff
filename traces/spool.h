// The append-only spool that a trace is recorded into: one write(2) a frame, nothing is ever
// rewritten.
//
// Frame, little-endian: magic "STOATSPL", u16 version, u16 kind (1 header, 2 records), u32 frame
// number, u64 packed bytes, u64 raw bytes, u32 first step, u32 records, u32 CRC32C of the payload,
// u32 CRC32C of the 44 bytes before; then the payload (zstd -1). The first frame is the header. An
// acknowledged frame is with the kernel: it survives the death of the process; to survive the loss
// of power ask for fsync after every frame (SpoolSync::kEveryFrame).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/error.h"
#include "traces/payload.h"
#include "traces/trace.h"

namespace stoat {

enum class SpoolSync : std::uint8_t { kAtEnd, kEveryFrame };

inline constexpr std::uint16_t kSpoolVersion = 2;
inline constexpr std::size_t kFrameHeaderBytes = 48;
inline constexpr std::uint64_t kMaxFrameBytes = std::uint64_t{1}
                                                << 30;  // raw and packed: a cap against bombs
inline constexpr std::string_view kSpoolMagic = "STOATSPL";

// A frame of records, compressed, before it has a number and a place.
struct PackedFrame {
  std::vector<std::uint8_t> bytes;  // room for the frame's header, then the payload
  std::uint64_t raw = 0;
  std::uint32_t step = 0, records = 0;
  std::uint32_t payload_crc = 0;
};

// Safe to call on several threads at once. Throws Error (resource) when the frame is too large.
PackedFrame pack_frame(const TraceRecords& records);

class SpoolWriter {
 public:
  // Creates the file exclusively, locks it and writes the header frame. Throws Error.
  SpoolWriter(const std::string& path, const TraceHeader& header, const ToolStamp& tool,
              SpoolSync sync);
  ~SpoolWriter();
  SpoolWriter(const SpoolWriter&) = delete;
  SpoolWriter& operator=(const SpoolWriter&) = delete;

  // One frame. A short write truncates the file to the last whole frame and throws Error (resource)
  // naming the bytes needed.
  void append(const TraceRecords& records) { append(pack_frame(records)); }
  void append(PackedFrame frame);
  std::uint64_t bytes() const { return bytes_; }
  void sync();

 private:
  void write_frame(std::uint16_t kind, PackedFrame frame);

  std::string path_;
  int fd_ = -1;
  SpoolSync sync_;
  std::uint32_t frames_ = 0;
  std::uint64_t bytes_ = 0;  // whole frames
};

// Reads whole frames, one at a time.
class SpoolReader {
 public:
  // Reads the header frame. Throws Error: usage when it cannot be opened, resource when it is being
  // recorded, damaged when there is no whole header frame or the version is not known.
  explicit SpoolReader(const std::string& path);
  ~SpoolReader();
  SpoolReader(const SpoolReader&) = delete;
  SpoolReader& operator=(const SpoolReader&) = delete;

  const TraceHeader& header() const { return header_; }
  const ToolStamp& tool() const { return tool_; }

  // The next frame of records; false at the end of the whole frames. Then torn_bytes() says what is
  // left behind, and damage() whether that is more than a frame cut short: text, empty when it is
  // not.
  bool next(TraceRecords& records);
  std::uint64_t torn_bytes() const { return size_ - offset_; }
  const std::string& damage() const { return damage_; }
  // Takes the writer's lock: refuses a spool that is still being recorded. Throws Error (resource).
  void lock();

 private:
  struct Frame;
  bool read_frame(Frame& frame);

  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::uint64_t offset_ = 0;
  std::uint32_t frames_ = 0;
  std::string damage_;
  TraceHeader header_;
  ToolStamp tool_;
};

bool is_spool(const std::string& path);

// Why no new recording can start where this spool lies: another process records into it (resource),
// or an earlier recording left it (usage). `out` is the trace that it belongs to, for the advice.
Error spool_in_the_way(const std::string& spool, const std::string& out);

}  // namespace stoat
