#include "models/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "models/error.h"

namespace stoat {

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::condition_variable done;
  const std::function<void(std::size_t)>* body = nullptr;
  std::size_t chunks = 0;
  std::atomic<std::size_t> next{0};
  std::size_t generation = 0;
  std::size_t working = 0;  // helpers still inside the current loop
  std::exception_ptr error;
  std::size_t error_chunk = 0;
  std::atomic<bool> busy{false};
  std::vector<std::jthread> helpers;

  // Takes chunks until none is left; keeps the exception of the lowest chunk.
  void work(const std::function<void(std::size_t)>& run, std::size_t count) {
    for (std::size_t chunk = next.fetch_add(1); chunk < count; chunk = next.fetch_add(1)) {
      try {
        run(chunk);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error || chunk < error_chunk) {
          error = std::current_exception();
          error_chunk = chunk;
        }
      }
    }
  }

  void help(const std::stop_token& stop) {
    std::size_t seen = 0;
    std::unique_lock lock(mutex);
    while (wake.wait(lock, stop, [&] { return generation != seen; })) {
      seen = generation;
      const std::function<void(std::size_t)>* run = body;
      const std::size_t count = chunks;
      lock.unlock();
      work(*run, count);
      lock.lock();
      if (--working == 0) done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(unsigned threads) : state_(std::make_unique<State>()) {
  if (threads == 0) threads = std::max(1U, std::thread::hardware_concurrency());
  for (unsigned i = 1; i < threads; ++i) {
    state_->helpers.emplace_back(
        [state = state_.get()](const std::stop_token& stop) { state->help(stop); });
  }
}

ThreadPool::~ThreadPool() = default;

unsigned ThreadPool::threads() const { return static_cast<unsigned>(state_->helpers.size()) + 1; }

void ThreadPool::for_chunks(std::size_t chunks, const std::function<void(std::size_t)>& body) {
  STOAT_ENSURE(!state_->busy.exchange(true), "parallel loops are not nested");
  {
    const std::lock_guard lock(state_->mutex);
    state_->body = &body;
    state_->chunks = chunks;
    state_->next = 0;
    state_->error = nullptr;
    state_->working = state_->helpers.size();
    ++state_->generation;
  }
  state_->wake.notify_all();
  state_->work(body, chunks);
  std::exception_ptr error;
  {
    std::unique_lock lock(state_->mutex);
    state_->done.wait(lock, [&] { return state_->working == 0; });
    error = state_->error;
    state_->error = nullptr;
  }
  state_->busy = false;
  if (error) std::rethrow_exception(error);
}

}  // namespace stoat
