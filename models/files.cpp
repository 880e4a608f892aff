#include "models/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
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
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode) &&
      !S_ISDIR(info.st_mode)) {  // renaming would put a file in its place
    throw usage_error({path}, "a device, pipe or socket", "the name of a file to write");
  }
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

void ensure_output_file(const std::string& path, bool replace, const std::string& option) {
  constexpr std::size_t kLongestName = 255 - 24;  // ".run.json.tmp.4194304" must fit behind it
  if (path.empty()) throw usage_error({option}, "an empty name", "the name of the file to write");
  if (path == "-") {
    throw usage_error({option}, "'-'", "the name of the file to write",
                      "it is no stream; for a file of this name say ./-");
  }
  const std::filesystem::path target(path);
  const std::string name = target.filename().string();
  if (name.size() > kLongestName || path.size() >= PATH_MAX - 24) {
    throw usage_error({option}, "a name of " + std::to_string(name.size()) + " bytes",
                      "at most " + std::to_string(kLongestName), "choose a shorter one");
  }
  struct stat info {};
  const bool exists = ::lstat(path.c_str(), &info) == 0;
  if (name.empty() || (exists && S_ISDIR(info.st_mode)))
    throw usage_error({path}, "a folder", "the name of the file to write");
  if (exists && S_ISLNK(info.st_mode)) {
    throw usage_error({path}, "a symbolic link", "a file's own name",
                      "name the file that it points to");
  }
  if (exists && !S_ISREG(info.st_mode))
    throw usage_error({path}, "a device, pipe or socket", "the name of a file to write");
  if (exists && !replace) {
    throw usage_error({path}, "the file exists", "",
                      "choose another name or give --force to replace it");
  }
  const std::string folder = target.has_parent_path() ? target.parent_path().string() : ".";
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    throw usage_error({folder}, "no such folder", "the folder of the file to write",
                      "create it first");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw resource_error({folder}, std::string("cannot write here (") + std::strerror(errno) + ")",
                         "a folder that can be written");
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
