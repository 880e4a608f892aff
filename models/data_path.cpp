#include "models/data_path.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "models/error.h"

namespace stoat {

namespace fs = std::filesystem;

std::string program_folder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return error ? std::string(".") : program.parent_path().string();
}

std::string data_path(std::string_view relative) {
  std::vector<fs::path> roots;
  if (const char* root = std::getenv("STOAT_DATA"); root != nullptr && *root != '\0')
    roots.emplace_back(root);
  roots.push_back(fs::path(program_folder()) / ".." / "share" / "stoat" / "models");
  roots.emplace_back(STOAT_SOURCE_DATA_DIR);
  for (const fs::path& root : roots) {
    std::error_code error;
    const fs::path path = root / relative;
    if (fs::exists(path, error)) return path.lexically_normal().string();
  }
  std::string tried;
  for (const fs::path& root : roots)
    tried += (tried.empty() ? "" : ", ") + root.lexically_normal().string();
  throw usage_error({std::string(relative)}, "this shipped file was not found",
                    "it in one of: " + tried, "set STOAT_DATA to the folder models/ of a checkout");
}

}  // namespace stoat
