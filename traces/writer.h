// Recording a trace: an append-only spool while the decode runs, an HDF5 file at the end (design
// section 5).
//
// What was appended survives kill -9: a frame is one write() of magic, length, step, CRC32C, zstd
// payload. A short write truncates to the last whole frame and raises an Error (resource) that
// names the bytes needed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "traces/trace.h"

namespace stoat {

// Whole steps, checked and compressed, that wait for their turn in the spool.
class PackedSteps {
 public:
  // Safe to call on several threads at once. Throws as TraceWriter::append does.
  PackedSteps(const TraceRecords& records, const TraceHeader& header);
  ~PackedSteps();
  PackedSteps(PackedSteps&&) noexcept;
  PackedSteps& operator=(PackedSteps&&) noexcept;

 private:
  friend class TraceWriter;
  struct State;
  std::unique_ptr<State> state_;
};

class TraceWriter {
 public:
  // Creates `path`.spool exclusively (an existing spool is an Error that says how to recover it).
  // `path` is not touched yet.
  // The kernel holds every acknowledged frame (kill -9 loses nothing); with fsync_every_frame the
  // disk does too, so that a loss of power loses nothing either, at the price of a disk's latency a
  // step.
  TraceWriter(const std::string& path, const TraceHeader& header, bool fsync_every_frame = false);
  ~TraceWriter();  // leaves the spool where it is unless finish() ran
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  // Appends whole steps. On return the frame is with the kernel (survives kill -9).
  void append(const TraceRecords& records);
  // The same for steps that were packed before: appending them is little work.
  void append(PackedSteps steps);

  // Turns the spool into the final file: temporary file, fsync, rename; then removes the spool.
  // Runs HDF5 in a forked child; its death is an Error (resource) with the spool kept. Returns the
  // content hash.
  std::string finish();

  std::uint64_t bytes_written() const;
  const std::string& spool_path() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// `stoat trace recover`: the spool's whole frames become the final file exactly as a normal end
// makes it; the spool stays. Returns the content hash; `lost_bytes` receives the bytes after the
// last whole frame. A frame cut short at the end is what a killed recording leaves; damage (a wrong
// checksum) is an Error (damaged), unless before_damage asks for what lies before it.
std::string recover_spool(const std::string& spool_path, const std::string& out_path,
                          std::uint64_t* lost_bytes, bool before_damage = false);

// Writes a trace that is already whole in memory (synth, tests) through the same finishing path.
// Returns the content hash.
std::string write_trace(const std::string& path, const TraceHeader& header,
                        const TraceRecords& records);

}  // namespace stoat
