// From decoded steps to the spool, beside the decode: steps are packed (records, checks,
// compression) on threads of their own and appended in order by whoever calls add(). What is on its
// way is bounded, so a disk or a processor that is too slow slows the decode instead of filling the
// memory.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gpu/decoder.h"
#include "gpu/summary.h"
#include "traces/writer.h"

namespace stoat {

// A step on its way to the spool.
struct PackedStep {
  TraceRecords records;  // without rows and counts
  std::optional<PackedSteps> steps;
  std::vector<std::uint64_t> unions;  // [KV groups]
};

// Threads that pack steps; rows whose memory is used again.
class StepPacker {
 public:
  // threads 0: steps are packed by push() itself. helpers: count unions beside those that pack,
  // whose number the memory limits.
  StepPacker(const TraceHeader& header, unsigned threads, unsigned helpers);
  ~StepPacker();  // what waits is dropped
  StepPacker(const StepPacker&) = delete;
  StepPacker& operator=(const StepPacker&) = delete;

  std::future<PackedStep> push(std::function<void(TraceRecords&)> read);

 private:
  using Unions = std::vector<std::uint64_t>;
  PackedStep pack(const std::function<void(TraceRecords&)>& read);
  std::future<Unions> count_unions(const TraceRecords& records);
  void give_back_rows(TraceRecords& records);
  template <class Result>
  void work(std::deque<std::packaged_task<Result()>>& waiting, const bool& ending);

  const TraceHeader& header_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false, helpers_end_ = false;
  std::deque<std::packaged_task<PackedStep()>> waiting_;
  std::deque<std::packaged_task<Unions()>> unions_waiting_;
  std::vector<TraceRecords> spare_;
  std::vector<std::thread> threads_, helpers_;
};

class Recorder {
 public:
  // Creates `path`.spool. bytes_a_step: what a step takes on its way; 0: it is packed at once.
  Recorder(const std::string& path, const TraceHeader& header, std::size_t bytes_a_step,
           unsigned threads);

  // Takes a step; appends those that are packed, in order. Throws what one of them failed of.
  void add(DecodedStep step, const std::function<void(const StepSummary&)>& written = {});
  void drain(const std::function<void(const StepSummary&)>& written = {});  // until all are written
  // Gives up what waits behind a failure, after writing what can be written before it.
  void keep_finished_steps();
  std::string finish() { return writer_.finish(); }

  const std::vector<StepSummary>& steps() const { return steps_; }
  CaptureSummary summary() const { return summary_.result(); }
  const std::string& spool_path() const { return writer_.spool_path(); }
  std::uint64_t spool_bytes() const { return writer_.bytes_written(); }

 private:
  void write_oldest(const std::function<void(const StepSummary&)>& written);

  TraceHeader header_;
  unsigned threads_;  // that pack; 0: add() does
  StepPacker packer_;
  TraceWriter writer_;
  SummaryBuilder summary_;
  std::vector<StepSummary> steps_;
  std::deque<std::future<PackedStep>> packing_;
};

}  // namespace stoat
