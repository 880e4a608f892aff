// Files that appear whole or not at all: write to a temporary name, fsync, rename.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace stoat {

// Writes text to path through path.tmp.PID + fsync + rename. Throws Error (resource) naming the
// bytes needed and the reason; nothing is left under the final name then, and the temporary file is
// removed.
void write_file_whole(const std::string& path, std::string_view content);

// The whole file. Throws Error (usage) when it cannot be opened; refuses more than `limit` bytes.
std::string read_file(const std::string& path, std::uint64_t limit = std::uint64_t{1} << 30);

// Looks before a long job whether a file can appear under this name. Refuses an empty name, "-", a
// folder, a device, a pipe, a symbolic link, a folder that is missing or cannot be written, a name
// too long for its side files (.spool, .run.json) and, unless `replace`, a file that exists. Throws
// Error (usage; resource for a folder that cannot be written). `option` names an empty path.
void ensure_output_file(const std::string& path, bool replace, const std::string& option = "-o");

// Creates the folder and its parents. Throws Error (resource) with the reason.
void make_folders(const std::string& path);

}  // namespace stoat
