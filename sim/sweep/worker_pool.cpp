// fork, a pipe for the answer, poll, waitpid.
#include "sim/sweep/worker_pool.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <deque>
#include <fstream>
#include <new>
#include <vector>

#include "models/error.h"
#include "models/progress.h"
#include "sim/sweep/sweep_value.h"

namespace stoat::sim {
namespace {

// duration_text counts whole seconds; a limit may be less than one.
std::string limit_text(double seconds) {
  if (seconds >= 1 && seconds == std::floor(seconds)) return duration_text(seconds);
  return number_text(seconds * 1e3) + " ms";
}

using Clock = std::chrono::steady_clock;

// First byte of an answer.
constexpr char kAnswer = 'A', kBug = 'B', kError = 'E', kUsage = 'U';

bool write_all(int file, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

std::uint64_t own_address_space() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0;
  file >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void limit_memory(std::uint64_t bytes) {
  if (bytes == 0) return;
  const rlim_t all = own_address_space() + bytes;
  const rlimit limit{all, all};
  ::setrlimit(RLIMIT_AS, &limit);
}

std::string answer_of(std::uint64_t task, const std::function<std::string(std::uint64_t)>& work,
                      std::uint64_t memory_bytes) {
  try {
    return kAnswer + work(task);
  } catch (const Error& error) {
    return (error.code() == ExitCode::kUsage ? kUsage : kError) + std::string(error.what());
  } catch (const std::bad_alloc&) {
    return kError + (memory_bytes == 0 ? std::string("out of memory")
                                       : "out of memory: more than the limit of " +
                                             std::to_string(memory_bytes >> 20) + " MiB");
  } catch (const std::exception& error) {
    return kBug + std::string(error.what());
  }
}

struct Worker {
  pid_t pid = -1;
  int pipe = -1;
  std::uint64_t task = 0;
  unsigned attempt = 0;
  bool timed_out = false;
  Clock::time_point begin;
  std::string answer;
};

class Pool {
 public:
  Pool(std::uint64_t count, const WorkerLimits& limits,
       const std::function<std::string(std::uint64_t)>& work,
       const std::function<void(std::uint64_t, TaskOutcome&&)>& done)
      : count_(count), limits_(limits), work_(work), done_(done) {
    limits_.jobs = std::max(1U, limits_.jobs);
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { end_all(); }

  std::uint64_t run(const std::function<void()>& idle, const std::atomic<bool>& stop) {
    while (!stop && (next_ < count_ || !again_.empty() || !workers_.empty())) {
      while (!stop && workers_.size() < limits_.jobs && (next_ < count_ || !again_.empty())) {
        start_next();
      }
      wait();
      enforce_time();
      idle();
    }
    end_all();
    return reported_;
  }

 private:
  struct Again {
    std::uint64_t task;
    unsigned attempt;
  };

  void start_next() {
    Worker worker;
    if (!again_.empty()) {
      worker.task = again_.front().task;
      worker.attempt = again_.front().attempt;
    } else {
      worker.task = next_;
      worker.attempt = 1;
    }
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      throw resource_error({}, std::string("no pipe for a worker: ") + std::strerror(errno));
    }
    const pid_t parent = ::getpid();
    worker.pid = ::fork();
    if (worker.pid == 0) be_worker(worker.task, ends[1], parent);
    const int failure = errno;
    ::close(ends[1]);
    if (worker.pid < 0) {
      ::close(ends[0]);
      throw resource_error({}, std::string("no process for a worker: ") + std::strerror(failure));
    }
    worker.pipe = ends[0];
    worker.begin = Clock::now();
    if (!again_.empty()) {
      again_.pop_front();
    } else {
      ++next_;
    }
    workers_.push_back(std::move(worker));
  }

  [[noreturn]] void be_worker(std::uint64_t task, int out, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // does not outlive the parent
    if (::getppid() != parent) ::_exit(1);
    ::signal(SIGINT, SIG_IGN);  // the parent decides
    ::signal(SIGTERM, SIG_DFL);
    for (const Worker& other : workers_) ::close(other.pipe);
    limit_memory(limits_.memory_bytes);
    const std::string answer = answer_of(task, work_, limits_.memory_bytes);
    ::_exit(write_all(out, answer) ? 0 : static_cast<int>(ExitCode::kResource));
  }

  void wait() {
    std::vector<pollfd> polls;
    for (const Worker& worker : workers_) polls.push_back({worker.pipe, POLLIN, 0});
    if (::poll(polls.data(), polls.size(), 100) <= 0) return;
    for (std::size_t i = polls.size(); i-- > 0;) {
      if (polls[i].revents == 0 || !read_some(workers_[i])) continue;
      Worker worker = std::move(workers_[i]);
      workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(i));
      finish(worker);
    }
  }

  static bool read_some(Worker& worker) {  // true at the end
    char buffer[65536];
    const ssize_t n = ::read(worker.pipe, buffer, sizeof buffer);
    if (n < 0) return errno != EINTR && errno != EAGAIN;
    worker.answer.append(buffer, static_cast<std::size_t>(n));
    return n == 0;
  }

  void finish(Worker& worker) {
    ::close(worker.pipe);
    int status = 0;
    while (::waitpid(worker.pid, &status, 0) < 0 && errno == EINTR) {
    }
    TaskOutcome outcome;
    outcome.attempts = worker.attempt;
    const char kind = worker.answer.empty() ? '\0' : worker.answer[0];
    if (worker.timed_out) {
      outcome.text = "took longer than the limit of " + limit_text(limits_.seconds);
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || kind == '\0') {
      outcome.text = death_text(status);
    } else {
      outcome.good = kind == kAnswer;
      outcome.usage = kind == kUsage;
      outcome.text = (kind == kBug ? "a bug in stoat: " : "") + worker.answer.substr(1);
    }
    if (!outcome.good && !outcome.usage && worker.attempt < limits_.attempts) {
      again_.push_back({worker.task, worker.attempt + 1});
      return;
    }
    ++reported_;
    done_(worker.task, std::move(outcome));
  }

  void enforce_time() {
    if (limits_.seconds <= 0) return;
    const Clock::time_point now = Clock::now();
    for (Worker& worker : workers_) {
      if (!worker.timed_out &&
          std::chrono::duration<double>(now - worker.begin).count() > limits_.seconds) {
        worker.timed_out = true;
        ::kill(worker.pid, SIGKILL);
      }
    }
  }

  void end_all() {
    for (Worker& worker : workers_) {
      ::kill(worker.pid, SIGKILL);
      while (::waitpid(worker.pid, nullptr, 0) < 0 && errno == EINTR) {
      }
      ::close(worker.pipe);
    }
    workers_.clear();
  }

  std::uint64_t count_, next_ = 0, reported_ = 0;
  WorkerLimits limits_;
  const std::function<std::string(std::uint64_t)>& work_;
  const std::function<void(std::uint64_t, TaskOutcome&&)>& done_;
  std::vector<Worker> workers_;
  std::deque<Again> again_;
};

}  // namespace

std::string death_text(int status) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    const char* name = ::strsignal(signal);
    std::string text = "killed by signal " + std::to_string(signal) + " (" +
                       (name != nullptr ? name : "unknown") + ")";
    return signal == SIGKILL ? text + "; the machine may have run out of memory" : text;
  }
  return "ended with exit code " + std::to_string(WEXITSTATUS(status)) + " and no result";
}

std::uint64_t run_workers(std::uint64_t count, const WorkerLimits& limits,
                          const std::function<std::string(std::uint64_t)>& work,
                          const std::function<void(std::uint64_t, TaskOutcome&&)>& done,
                          const std::function<void()>& idle, const std::atomic<bool>& stop) {
  return Pool(count, limits, work, done).run(idle, stop);
}

}  // namespace stoat::sim
