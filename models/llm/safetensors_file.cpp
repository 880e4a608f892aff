// Mapping of safetensors files, and the files of a model folder (single or sharded).
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "models/error.h"
#include "models/llm/json_read.h"
#include "models/llm/safetensors.h"

namespace stoat {
namespace {

// The whole file, read-only. Null for an empty file.
std::pair<const std::byte*, std::uint64_t> map_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw usage_error({path}, std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  const bool plain = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (!plain || status.st_size < 8) {
    ::close(fd);
    throw damaged_error({path},
                        plain ? std::to_string(status.st_size) + " bytes" : "not a plain file",
                        "a safetensors file of at least 8 bytes", "fetch the file again");
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int failure = errno;
  ::close(fd);
  if (map == MAP_FAILED)
    throw resource_error({path}, std::string("cannot be mapped: ") + std::strerror(failure));
  return {static_cast<const std::byte*>(map), size};
}

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::uint64_t kIndexLimit = 100'000'000;

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  const auto [map, size] = map_file(path);
  try {
    std::uint64_t header = 0;
    for (int i = 7; i >= 0; --i) header = header << 8 | std::to_integer<std::uint64_t>(map[i]);
    if (header > kSafetensorsHeaderLimit || header > size - 8) {
      throw damaged_error(
          {path},
          "a header of " + std::to_string(header) + " bytes in a file of " + std::to_string(size),
          "at most the file and " + std::to_string(kSafetensorsHeaderLimit) + " bytes",
          "the file is cut short or is no safetensors file: fetch it again");
    }
    const std::string_view text(reinterpret_cast<const char*>(map + 8), header);
    tensors_ = parse_safetensors_header(text, size - 8 - header, path);
    map_ = map;
    map_bytes_ = size;
    data_ = map + 8 + header;
  } catch (...) {
    ::munmap(const_cast<std::byte*>(map), size);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) ::munmap(const_cast<std::byte*>(map_), map_bytes_);
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      tensors_(std::move(other.tensors_)),
      map_(std::exchange(other.map_, nullptr)),
      map_bytes_(other.map_bytes_),
      data_(other.data_) {}

std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& info) const {
  STOAT_ENSURE(
      info.begin <= info.end && info.end <= map_bytes_ - static_cast<std::uint64_t>(data_ - map_),
      "a tensor of another file");
  return {data_ + info.begin, info.end - info.begin};
}

ModelTensors::ModelTensors(const std::string& folder) {
  namespace fs = std::filesystem;
  const std::string single = folder + "/" + kSingle, index = folder + "/" + kIndex;
  std::error_code ignored;
  const bool one = fs::exists(single, ignored);
  if (one || !fs::exists(index, ignored)) {
    if (!one) {
      throw usage_error({folder}, std::string("neither ") + kSingle + " nor " + kIndex + " is here",
                        "a Hugging Face model folder",
                        "give the folder that holds config.json and the weights");
    }
    path_ = single;
    files_.push_back(std::make_unique<SafetensorsFile>(single));
    for (const auto& [name, info] : files_.back()->tensors())
      tensors_.emplace(name, Found{files_.back().get(), &info});
    return;
  }
  path_ = index;
  const nlohmann::json root = read_json_file(index, kIndexLimit);
  if (!root.is_object() || !json_has(root, "weight_map") || !root["weight_map"].is_object()) {
    throw damaged_error({index}, "'weight_map' is missing or not an object",
                        "tensor names and their files");
  }
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, value] : root["weight_map"].items()) {
    const std::string shard = json_text(root["weight_map"], name, index, "weight_map.");
    if (shard.empty() || shard.front() == '.' || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos) {
      throw damaged_error({index}, "tensor '" + name + "' is in file '" + shard + "'",
                          "a plain file name in this folder");
    }
    if (shards.count(shard) == 0) {
      files_.push_back(std::make_unique<SafetensorsFile>(folder + "/" + shard));
      shards[shard] = files_.back().get();
    }
    const auto& tensors = shards[shard]->tensors();
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      throw damaged_error({index}, "tensor '" + name + "' is not in " + shard,
                          "every tensor of weight_map in its file",
                          "fetch index and shards of the same revision");
    }
    tensors_.emplace(name, Found{shards[shard], &found->second});
  }
  for (const auto& [shard, file] : shards) {
    for (const auto& [name, info] : file->tensors()) {
      if (tensors_.count(name) == 0 || tensors_.at(name).file != file) {
        throw damaged_error({file->path()},
                            "tensor '" + name + "' is not listed for this file in " + kIndex,
                            "index and shards of the same revision", "fetch them again");
      }
    }
  }
}

ModelTensors::Found ModelTensors::get(const std::string& name,
                                      const std::vector<std::uint64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw damaged_error({path_}, "tensor '" + name + "' is missing",
                        "the tensors that config.json asks for",
                        "check that config.json and the weights belong together");
  }
  if (found->second.info->shape != shape) {
    TensorInfo expected;
    expected.shape = shape;
    throw damaged_error({found->second.file->path()},
                        "tensor '" + name + "' has shape " + found->second.info->shape_text(),
                        expected.shape_text() + " after config.json",
                        "check that config.json and the weights belong together");
  }
  return found->second;
}

}  // namespace stoat
