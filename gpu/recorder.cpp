// Packing on threads, appending in order (recorder.h).
#include "gpu/recorder.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "models/error.h"
#include "traces/columns.h"

namespace stoat {
namespace {

// Of steps on their way, beside the decoder's own: records and compressed frames.
constexpr std::size_t kBytesOnTheWay = std::size_t{576} << 20;

void clear(TraceRecords& records) {
  visit_columns(records, [](const Column& column, auto& values) {
    values.clear();
    if (is_indptr(column.axis)) values.resize(1);  // a zero
  });
}

// Steps that wait, packed behind a late one or not yet begun, take little: so many may, so that the
// threads have work meanwhile.
constexpr std::size_t kPackedAhead = 2;

unsigned packing_threads(std::size_t bytes_a_step, unsigned threads) {
  if (bytes_a_step == 0) return 0;
  const unsigned beside = std::max(2U, threads) - 1;  // the caller's thread appends
  return static_cast<unsigned>(std::clamp<std::size_t>(kBytesOnTheWay / bytes_a_step, 2, beside));
}

// Of the threads that are left; counting unions is a small part of packing.
unsigned helping_threads(unsigned packing, unsigned threads) {
  const unsigned left = threads > packing + 1 ? threads - packing - 1 : 0;
  return std::min(left, (packing + 2) / 3);
}

// Waits for a result that reads what the caller is about to destroy.
template <class Result>
struct WaitAtEnd {
  std::future<Result>& result;
  ~WaitAtEnd() {
    if (result.valid()) result.wait();
  }
};

}  // namespace

StepPacker::StepPacker(const TraceHeader& header, unsigned threads, unsigned helpers)
    : header_(header) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { work(waiting_, ending_); });
  for (unsigned i = 0; i < helpers; ++i)
    helpers_.emplace_back([this] { work(unions_waiting_, helpers_end_); });
}

StepPacker::~StepPacker() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  // Those that pack have waited for their unions.
  {
    const std::lock_guard lock(mutex_);
    helpers_end_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : helpers_) thread.join();
}

template <class Result>
void StepPacker::work(std::deque<std::packaged_task<Result()>>& waiting, const bool& ending) {
  for (;;) {
    std::packaged_task<Result()> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return ending || !waiting.empty(); });
      if (ending) return;
      task = std::move(waiting.front());
      waiting.pop_front();
    }
    task();
  }
}

std::future<StepPacker::Unions> StepPacker::count_unions(const TraceRecords& records) {
  const auto count = [&records, group = header_.group()] { return group_unions(records, group); };
  std::packaged_task<Unions()> task(count);
  std::future<Unions> unions = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    unions_waiting_.push_back(std::move(task));
  }
  changed_.notify_all();  // those that wait for steps wait here, too
  return unions;
}

PackedStep StepPacker::pack(const std::function<void(TraceRecords&)>& read) {
  PackedStep packed;
  {
    const std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      packed.records = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  clear(packed.records);
  read(packed.records);
  std::future<Unions> unions;
  if (!helpers_.empty()) unions = count_unions(packed.records);
  const WaitAtEnd<Unions> wait{unions};
  packed.steps.emplace(packed.records, header_);  // checks the records
  packed.unions = unions.valid() ? unions.get() : group_unions(packed.records, header_.group());
  give_back_rows(packed.records);
  return packed;
}

std::future<PackedStep> StepPacker::push(std::function<void(TraceRecords&)> read) {
  std::packaged_task<PackedStep()> task([this, read = std::move(read)] { return pack(read); });
  std::future<PackedStep> result = task.get_future();
  if (threads_.empty()) {
    task();
    return result;
  }
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(task));
  }
  changed_.notify_all();
  return result;
}

// Rows and counts are most of a step's memory, and what is packed does not need them.
void StepPacker::give_back_rows(TraceRecords& records) {
  TraceRecords rows;
  rows.row.swap(records.row);
  rows.count.swap(records.count);
  const std::lock_guard lock(mutex_);
  if (spare_.size() < threads_.size()) spare_.push_back(std::move(rows));
}

Recorder::Recorder(const std::string& path, const TraceHeader& header, std::size_t bytes_a_step,
                   unsigned threads)
    : header_(header),
      threads_(packing_threads(bytes_a_step, threads)),
      packer_(header_, threads_, helping_threads(threads_, threads)),
      writer_(path, header),
      summary_(header) {}

void Recorder::add(DecodedStep step, const std::function<void(const StepSummary&)>& written) {
  packing_.push_back(packer_.push(std::move(step.records)));
  while (packing_.size() > (threads_ == 0 ? 0 : threads_ + kPackedAhead)) write_oldest(written);
  while (!packing_.empty() &&
         packing_.front().wait_for(std::chrono::seconds(0)) == std::future_status::ready)
    write_oldest(written);
}

void Recorder::write_oldest(const std::function<void(const StepSummary&)>& written) {
  std::future<PackedStep> oldest = std::move(packing_.front());
  packing_.pop_front();
  PackedStep packed;
  try {
    packed = oldest.get();
    writer_.append(std::move(*packed.steps));
  } catch (...) {
    packing_.clear();  // nothing is written behind a gap
    throw;
  }
  steps_.push_back(summary_.add_step(packed.records, packed.unions));
  if (written) written(steps_.back());
}

void Recorder::drain(const std::function<void(const StepSummary&)>& written) {
  while (!packing_.empty()) write_oldest(written);
}

void Recorder::keep_finished_steps() {
  try {
    drain();
  } catch (const std::exception&) {
    packing_.clear();
  }
}

}  // namespace stoat
