// fork, a pipe for the answer, a shared page for progress.
#include "sim/sweep/children.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

#include "models/error.h"

namespace stoat::sim {
namespace {

// First byte of an answer.
constexpr char kAnswer = 'A', kBug = 'B', kError = 'E';

void write_all(int file, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(static_cast<int>(ExitCode::kResource));
    done += static_cast<std::size_t>(n);
  }
}

[[noreturn]] void be_child(const ChildTask& task, int out, std::atomic<std::uint64_t>& progress) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // does not outlive the parent
  std::string answer;
  try {
    answer = kAnswer + task.work(progress);
  } catch (const Error& error) {
    answer = std::string{kError, static_cast<char>(error.code())} + error.what();
  } catch (const std::bad_alloc&) {
    answer =
        std::string{kError, static_cast<char>(ExitCode::kResource)} + task.name + ": out of memory";
  } catch (const std::exception& error) {
    answer = kBug + std::string(error.what());
  }
  write_all(out, answer);
  ::_exit(0);
}

struct Child {
  pid_t pid = -1;
  int pipe = -1;
  std::string answer;
};

class Children {
 public:
  explicit Children(const std::vector<ChildTask>& tasks) : tasks_(tasks), children_(tasks.size()) {
    page_ = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page_ == MAP_FAILED) throw resource_error({}, "no memory for the progress page");
    if (tasks.size() > kPage / sizeof(std::atomic<std::uint64_t>)) throw Bug("too many children");
    counters_ = static_cast<std::atomic<std::uint64_t>*>(page_);
    for (std::size_t i = 0; i < tasks.size(); ++i)
      new (&counters_[i]) std::atomic<std::uint64_t>(0);
  }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children() {
    for (Child& child : children_) {
      if (child.pid > 0) {
        ::kill(child.pid, SIGKILL);
        ::waitpid(child.pid, nullptr, 0);
      }
      if (child.pipe >= 0) ::close(child.pipe);
    }
    ::munmap(page_, kPage);
  }

  std::vector<std::string> run(unsigned at_once, const std::function<void(std::uint64_t)>& tick) {
    std::size_t next = 0;
    std::size_t done = 0;
    while (done < tasks_.size()) {
      while (next < tasks_.size() && next - done < at_once) start(next++);
      done += wait_for_answers();
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < tasks_.size(); ++i) sum += counters_[i];
      tick(sum);
    }
    std::vector<std::string> answers;
    for (Child& child : children_) answers.push_back(std::move(child.answer));
    return answers;
  }

 private:
  static constexpr std::size_t kPage = 4096;

  void start(std::size_t index) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      throw resource_error({}, std::string("no pipe: ") + std::strerror(errno));
    }
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::close(ends[0]);
      be_child(tasks_[index], ends[1], counters_[index]);
    }
    ::close(ends[1]);
    children_[index].pipe = ends[0];
    if (pid < 0) throw resource_error({}, std::string("no child process: ") + std::strerror(errno));
    children_[index].pid = pid;
  }

  // Reads what is there; returns how many children finished.
  std::size_t wait_for_answers() {
    std::vector<pollfd> polls;
    std::vector<std::size_t> owner;
    for (std::size_t i = 0; i < children_.size(); ++i) {
      if (children_[i].pipe < 0) continue;
      polls.push_back({children_[i].pipe, POLLIN, 0});
      owner.push_back(i);
    }
    ::poll(polls.data(), polls.size(), 200);
    std::size_t finished = 0;
    for (std::size_t k = 0; k < polls.size(); ++k) {
      if (polls[k].revents != 0 && read_some(children_[owner[k]])) {
        finish(owner[k]);
        ++finished;
      }
    }
    return finished;
  }

  static bool read_some(Child& child) {
    char buffer[65536];
    const ssize_t n = ::read(child.pipe, buffer, sizeof buffer);
    if (n < 0) return errno != EINTR;
    child.answer.append(buffer, static_cast<std::size_t>(n));
    return n == 0;
  }

  void finish(std::size_t index) {
    Child& child = children_[index];
    ::close(child.pipe);
    child.pipe = -1;
    int status = 0;
    while (::waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
    }
    child.pid = -1;
    const std::string& name = tasks_[index].name;
    if (WIFSIGNALED(status)) {
      const int signal = WTERMSIG(status);
      throw resource_error({},
                           name + ": its process died of signal " + std::to_string(signal) + " (" +
                               ::strsignal(signal) + ")",
                           "a result", signal == SIGKILL ? "it may have run out of memory" : "");
    }
    std::string& answer = child.answer;
    if (answer.empty()) {
      throw resource_error({}, name + ": its process ended with status " +
                                   std::to_string(WEXITSTATUS(status)) + " and no result");
    }
    const char kind = answer[0];
    if (kind == kError && answer.size() >= 2) {
      throw Error(static_cast<ExitCode>(answer[1]), answer.substr(2));
    }
    if (kind != kAnswer) throw Bug(name + ": " + answer.substr(1));
    answer.erase(0, 1);
  }

  const std::vector<ChildTask>& tasks_;
  std::vector<Child> children_;
  void* page_ = nullptr;
  std::atomic<std::uint64_t>* counters_ = nullptr;
};

}  // namespace

std::vector<std::string> run_children(const std::vector<ChildTask>& tasks, unsigned at_once,
                                      const std::function<void(std::uint64_t)>& tick) {
  return Children(tasks).run(at_once == 0 ? 1 : at_once, tick);
}

}  // namespace stoat::sim
