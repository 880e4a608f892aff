#include "models/streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "models/error.h"

namespace stoat {
namespace {

void refuse_unless_reader_left(int error) {
  if (error == EPIPE) return;
  throw resource_error(
      {"standard output"},
      std::string("the result could not be written: ") + std::strerror(error != 0 ? error : EIO),
      "an open stream with room");
}

}  // namespace

void guard_standard_streams() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(number, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is taken. Read-only: writing a result into it fails.
    const int fd = ::open("/dev/null", number == STDERR_FILENO ? O_WRONLY : O_RDONLY);
    if (fd >= 0 && fd != number) ::close(fd);
  }
}

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void print_result(std::string_view text) {
  errno = 0;
  const bool whole = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  const int error = errno;
  if (whole) return flush_results();
  std::clearerr(stdout);
  refuse_unless_reader_left(error);
}

void flush_results() {
  errno = 0;
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  const int error = errno;
  if (!failed) return;
  std::clearerr(stdout);
  refuse_unless_reader_left(error);
}

}  // namespace stoat
