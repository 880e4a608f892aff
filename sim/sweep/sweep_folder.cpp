// Identity and lock of a results folder.
#include "sim/sweep/sweep_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "models/files.h"
#include "models/version.h"

namespace stoat::sim {
namespace {

constexpr int kFolderVersion = 1;
constexpr const char* kFormat = "stoat-sweep";

std::string identity(const std::string& path) { return path + "/sweep.json"; }

// Anything but what a run leaves that was killed while it made the folder.
bool holds_something_else(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) return false;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (!entry.path().filename().string().starts_with("sweep.json.tmp.")) return true;
    std::filesystem::remove(entry.path(), failure);
  }
  return false;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "this machine";
  return name.data();
}

}  // namespace

bool SweepFolder::is_one(const std::string& path) {
  std::error_code failure;
  return std::filesystem::is_regular_file(identity(path), failure);
}

SweepFolder SweepFolder::open(const std::string& path) {
  if (!is_one(path)) {
    throw usage_error(Place{path}, "no results folder of a sweep (no sweep.json)",
                      "the -o folder of stoat sweep run");
  }
  SweepFolder folder;
  folder.path_ = path;
  const std::string name = identity(path);
  try {
    const auto json = nlohmann::json::parse(read_file(name, std::uint64_t{4} << 20));
    if (json.at("format") != kFormat) {
      throw damaged_error(Place{name}, "not written by stoat sweep", kFormat);
    }
    if (json.at("version") != kFolderVersion) {
      throw damaged_error(Place{name}, "a results folder of version " + json.at("version").dump(),
                          "version " + std::to_string(kFolderVersion),
                          "use the stoat that wrote it, or another -o DIR");
    }
    folder.text_ = json.at("sweep").get<std::string>();
    folder.file_ = json.at("file").get<std::string>();
    folder.folder_ = json.at("folder").get<std::string>();
  } catch (const nlohmann::json::exception& error) {
    throw damaged_error(Place{name}, error.what(), "the identity of a sweep",
                        "stoat sweep run SWEEP.yaml -o DIR writes it again");
  }
  return folder;
}

SweepFolder SweepFolder::create(const std::string& path, const std::string& sweep_file) {
  const std::string text = read_file(sweep_file, std::uint64_t{1} << 20);
  if (is_one(path)) {
    try {
      const SweepFolder before = open(path);
      const std::filesystem::path file = std::filesystem::absolute(sweep_file).lexically_normal();
      const bool edited = before.file_ == file.filename().string() &&
                          before.folder_ == file.parent_path().lexically_normal().string();
      if (before.text_ != text && !edited) {
        throw usage_error(Place{path},
                          "this folder holds the results of another sweep, " + before.folder_ +
                              "/" + before.file_,
                          "a folder of this sweep, or a new one",
                          "choose another with -o DIR; --store shares finished points");
      }
    } catch (const Error& error) {
      // Only an identity that was cut short is written again.
      if (error.code() != ExitCode::kDamaged ||
          std::string(error.what()).find("version") != std::string::npos)
        throw;
    }
  } else {
    if (holds_something_else(path)) {
      throw usage_error(Place{path}, "this folder holds something else (no sweep.json)",
                        "a new or empty folder, or one of a sweep", "choose another with -o DIR");
    }
  }
  make_folders(path);
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["version"] = kFolderVersion;
  json["tool_version"] = tool_version();
  json["file"] = std::filesystem::path(sweep_file).filename().string();
  std::filesystem::path parent = std::filesystem::absolute(sweep_file).parent_path();
  json["folder"] = parent.lexically_normal().string();
  json["sweep"] = text;
  const std::string whole = json.dump(2) + "\n";
  std::error_code failure;
  if (!std::filesystem::exists(identity(path), failure) || read_file(identity(path)) != whole)
    write_file_whole(identity(path), whole);
  return open(path);
}

SweepSpec SweepFolder::spec() const {
  SweepSpec spec = parse_sweep(text_, file_);
  spec.folder = folder_;
  return spec;
}

FolderLock::FolderLock(const SweepFolder& folder) {
  const std::string path = folder.lock();
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file_ < 0) {
    throw resource_error(Place{path},
                         std::string("cannot be written (") + std::strerror(errno) + ")",
                         "a folder that can be written", "choose another with -o DIR");
  }
  // Workers of a run that was killed die with it, but not in the same instant.
  bool locked = ::flock(file_, LOCK_EX | LOCK_NB) == 0;
  for (int i = 0; !locked && i < 40; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    locked = ::flock(file_, LOCK_EX | LOCK_NB) == 0;
  }
  if (!locked) {
    ::close(file_);
    file_ = -1;
    throw resource_error(Place{folder.path()}, "another run works here: " + holder(folder),
                         "one run a folder", "wait for it, or watch it: stoat sweep watch DIR");
  }
  const std::time_t now = std::time(nullptr);
  std::tm calendar{};
  ::gmtime_r(&now, &calendar);
  std::array<char, 32> when{};
  std::strftime(when.data(), when.size(), "%Y-%m-%d %H:%M:%S UTC", &calendar);
  const std::string text = "process " + std::to_string(::getpid()) + " on " + host_name() +
                           ", since " + when.data() + "\n";
  const bool written = ::ftruncate(file_, 0) == 0 && ::pwrite(file_, text.data(), text.size(), 0) ==
                                                         static_cast<ssize_t>(text.size());
  if (!written) {
    const std::string reason = std::strerror(errno);
    ::close(file_);
    file_ = -1;
    throw resource_error(Place{path}, "cannot be written (" + reason + ")", "a disk with room");
  }
}

FolderLock::~FolderLock() {
  if (file_ < 0) return;
  if (::ftruncate(file_, 0) != 0) {
    // The name of a holder that is gone stays; the lock itself does not.
  }
  ::close(file_);
}

std::string FolderLock::holder(const SweepFolder& folder) {
  const int file = ::open(folder.lock().c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  const bool free = ::flock(file, LOCK_SH | LOCK_NB) == 0;
  std::array<char, 512> buffer{};
  const ssize_t n = free ? 0 : ::pread(file, buffer.data(), buffer.size() - 1, 0);
  ::close(file);
  if (free) return {};
  std::string text(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(0, n)));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "a process that has not said its name" : text;
}

}  // namespace stoat::sim
