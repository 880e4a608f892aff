#include "models/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "models/error.h"

namespace stoat {

namespace {

// Owns a file descriptor; close errors are looked at by the caller through release().
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

}  // namespace

void write_file_whole(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  const auto fail = [&](const char* what) {
    const int code = errno;
    ::unlink(temporary.c_str());
    return resource_error({path}, std::string(what) + " failed: " + std::strerror(code),
                          std::to_string(content.size()) + " bytes of room in a writable folder",
                          "nothing was left under this name");
  };
  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (file.get() < 0) throw fail("creating the file");
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t written = ::write(file.get(), content.data() + done, content.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw fail("writing");
    done += static_cast<std::size_t>(written);
  }
  if (::fsync(file.get()) != 0) throw fail("writing to disk");
  if (::close(file.release()) != 0) throw fail("closing");
  if (::rename(temporary.c_str(), path.c_str()) != 0) throw fail("renaming");
}

std::string read_file(const std::string& path, std::uint64_t limit) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0)
    throw usage_error({path}, std::string("cannot be opened: ") + std::strerror(errno),
                      "a readable file");
  struct stat info {};
  if (::fstat(file.get(), &info) == 0 && S_ISDIR(info.st_mode))
    throw usage_error({path}, "is a folder", "a file");
  std::string content;
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw usage_error({path}, std::string("cannot be read: ") + std::strerror(errno),
                        "a readable file");
    if (count == 0) return content;
    content.append(buffer, static_cast<std::size_t>(count));
    if (content.size() > limit) {
      throw usage_error({path}, "is larger than " + std::to_string(limit) + " bytes",
                        "a smaller file");
    }
  }
}

void make_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    throw resource_error({path}, "the folder cannot be created: " + error.message(),
                         "a writable place");
}

}  // namespace stoat
