// A file written in pieces that appears whole or not at all: temporary name, fsync, rename.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace stoat {

// Refuses to replace the file that is being read: also by another name of it, also with --force.
// Throws Error (usage). Files that do not exist are different.
void ensure_not_input(const std::string& output, const std::string& input);

// Every failure throws Error (resource) that names the file; nothing is left under its name then.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void overwrite(std::uint64_t at, const void* data, std::size_t bytes);
  std::uint64_t bytes() const { return bytes_; }
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace stoat
