// Output of the verbs, guarded: the folder before the work, the answer after it.
#include "sim/verb.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "models/streams.h"

namespace stoat::sim {

void ensure_output_folder(const std::string& path) {
  if (path.empty() || path == "-") {
    throw usage_error({"-o"}, path.empty() ? "an empty name" : "'-'",
                      "the name of the folder to write", "-o DIR");
  }
  // The folder itself, or the nearest one above it that exists.
  std::filesystem::path nearest(path);
  struct stat info {};
  while (::stat(nearest.c_str(), &info) != 0) {
    if (::lstat(nearest.c_str(), &info) == 0) {
      throw usage_error({nearest.string()}, "a symbolic link to nothing", "a folder",
                        "choose another with -o DIR");
    }
    if (!nearest.has_relative_path() || nearest == nearest.parent_path()) {
      nearest = ".";
      break;
    }
    nearest = nearest.parent_path();
    if (nearest.empty()) nearest = ".";
  }
  if (::stat(nearest.c_str(), &info) == 0 && !S_ISDIR(info.st_mode)) {
    throw usage_error({nearest.string()},
                      S_ISREG(info.st_mode) ? "this is a file" : "a device, pipe or socket",
                      "a folder, new or existing", "choose another with -o DIR");
  }
  if (::access(nearest.c_str(), W_OK | X_OK) != 0) {
    throw resource_error({nearest.string()},
                         std::string("cannot write here (") + std::strerror(errno) + ")",
                         "a folder that can be written", "choose another with -o DIR");
  }
}

void print_answer(const std::string& text, const std::string& whole) {
  try {
    print_result(text);
  } catch (const Error& error) {
    throw Error(error.code(), std::string(error.what()) + "; " + whole + " is whole");
  }
}

}  // namespace stoat::sim
