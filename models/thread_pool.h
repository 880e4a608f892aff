// Fixed-chunk parallel loops: the same chunks whatever the number of threads, so floating-point
// results do not depend on it (design decision 4). A chunk is a unit of work that one thread does
// alone and in order.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace stoat {

class ThreadPool {
 public:
  // threads = 0: one per hardware thread.
  explicit ThreadPool(unsigned threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const;

  // Calls body(chunk) for every chunk in [0, chunks), in any order, on all threads; returns when
  // all are done. The first exception (lowest chunk) is rethrown. Calls may not be nested (Bug).
  void for_chunks(std::size_t chunks, const std::function<void(std::size_t)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoat
