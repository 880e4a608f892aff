// The user block of a trace file: 512 bytes of text and zeros that name the length and XXH64 of all
// that follows.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>

#include "models/error.h"
#include "traces/file_hdf5.h"

namespace stoat {

namespace {

struct File {
  int fd;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
};

// The block that belongs to the file as it is. Reads it once, in pieces. Throws Error (resource) on
// a read error.
std::array<char, kUserBlockBytes> right_block(int fd, const std::string& path) {
  const std::unique_ptr<XXH64_state_t, XXH_errorcode (*)(XXH64_state_t*)> hash(XXH64_createState(),
                                                                               XXH64_freeState);
  XXH64_reset(hash.get(), 0);
  std::vector<char> piece(std::size_t{1} << 20);
  std::uint64_t at = kUserBlockBytes;
  for (;;) {
    const ssize_t got = ::pread(fd, piece.data(), piece.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      throw resource_error({path}, std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) break;
    XXH64_update(hash.get(), piece.data(), static_cast<std::size_t>(got));
    at += static_cast<std::uint64_t>(got);
  }
  std::array<char, kUserBlockBytes> block{};
  const std::string text = fmt::format("stoat-trace user block 1\nbytes {}\nxxh64 {:016x}\n", at,
                                       XXH64_digest(hash.get()));
  std::memcpy(block.data(), text.data(), text.size());
  return block;
}

// The block's text for a message: its lines joined by commas, at most 96 bytes, nothing
// unprintable.
std::string one_line(const char* block) {
  std::string text(block, strnlen(block, 96));
  while (text.ends_with('\n')) text.pop_back();
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += ", ";
    } else {
      out += c >= 0x20 && c < 0x7f ? c : '?';
    }
  }
  return out;
}

}  // namespace

void seal_file(const std::string& path) {
  const File file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  if (file.fd < 0)
    throw resource_error({path}, std::string("cannot be opened: ") + std::strerror(errno));
  const auto block = right_block(file.fd, path);
  if (::pwrite(file.fd, block.data(), block.size(), 0) != static_cast<ssize_t>(block.size()) ||
      ::fsync(file.fd) != 0) {
    throw resource_error(
        {path}, std::string("the user block could not be written: ") + std::strerror(errno));
  }
}

std::string seal_problem(const std::string& path) {
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return std::string("cannot be opened: ") + std::strerror(errno);
  std::array<char, kUserBlockBytes> found{};
  if (::pread(file.fd, found.data(), found.size(), 0) != static_cast<ssize_t>(found.size())) {
    return "shorter than its user block";
  }
  const auto right = right_block(file.fd, path);
  if (found == right) return {};
  return fmt::format("the user block says '{}', the bytes say '{}'", one_line(found.data()),
                     one_line(right.data()));
}

}  // namespace stoat
