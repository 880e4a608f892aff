#include "traces/output_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "models/error.h"

namespace stoat {

void ensure_not_input(const std::string& output, const std::string& input) {
  std::error_code ignored;
  if (std::filesystem::equivalent(output, input, ignored))
    throw usage_error({output}, "the input itself", "the name of another file");
}

OutputFile::OutputFile(const std::string& path)
    : path_(path), temporary_(fmt::format("{}.tmp.{}", path, ::getpid())) {
  file_ = std::fopen(temporary_.c_str(), "wbx");
  if (file_ == nullptr) fail("cannot be created");
}

OutputFile::~OutputFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, std::size_t bytes) {
  if (bytes > 0 && std::fwrite(data, 1, bytes, file_) != bytes) fail("could not be written");
  bytes_ += bytes;
}

void OutputFile::overwrite(std::uint64_t at, const void* data, std::size_t bytes) {
  if (std::fseek(file_, static_cast<long>(at), SEEK_SET) != 0 ||
      std::fwrite(data, 1, bytes, file_) != bytes || std::fseek(file_, 0, SEEK_END) != 0) {
    fail("could not be written");
  }
}

void OutputFile::commit() {
  if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) fail("could not be written");
  std::fclose(std::exchange(file_, nullptr));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    errno = error;
    fail("could not be renamed");
  }
}

void OutputFile::fail(const char* what) const {
  throw resource_error(
      {path_},
      fmt::format("{}{}: {}", what,
                  bytes_ == 0 ? std::string() : fmt::format(" after {} bytes", bytes_),
                  std::strerror(errno)),
      "a writable folder with room", "nothing was left under this name");
}

}  // namespace stoat
