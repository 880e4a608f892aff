// Writing the trace at rest: HDF5 with CSR arrays (traces/README.md), streamed step by step in
// bounded memory.
//
// The file's first 512 bytes are a user block: text with the length and the XXH64 of everything
// after it, so that a reader refuses damage before the HDF5 library sees it. The bytes depend on
// the records only, not on how they came in frames.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "traces/payload.h"
#include "traces/trace.h"

namespace stoat {

inline constexpr std::string_view kTraceFormat = "stoat-trace";
inline constexpr std::uint32_t kTraceVersion = 1;
inline constexpr std::uint64_t kUserBlockBytes = 512;
inline constexpr std::uint64_t kChunkElements = 32768;

class TraceFileWriter {
 public:
  // Creates the HDF5 file (truncating). Throws Error (resource).
  TraceFileWriter(const std::string& path, const TraceHeader& header, const ToolStamp& tool);
  ~TraceFileWriter();
  TraceFileWriter(const TraceFileWriter&) = delete;
  TraceFileWriter& operator=(const TraceFileWriter&) = delete;

  // Whole steps, checked before; steps must rise from call to call.
  void append(const TraceRecords& records);
  // Writes what is left, /checks, content_hash and `complete`, closes, seals, fsyncs. Returns the
  // content hash.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// One line a dataset of the content hash: "path rows width xxh64".
struct DatasetCheck {
  std::string path;
  std::uint64_t rows = 0;
  std::uint64_t width = 1;
  std::uint64_t hash = 0;
};
std::string content_hash(const TraceHeader& header, const std::vector<DatasetCheck>& checks);

// Writes the user block of a closed file: its length and the XXH64 of the bytes after the block;
// then fsync.
void seal_file(const std::string& path);
// Empty when the user block is right; else what is wrong.
std::string seal_problem(const std::string& path);

}  // namespace stoat
