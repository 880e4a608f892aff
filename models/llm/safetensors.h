// safetensors files: a JSON header of names, types, shapes and byte ranges, then the bytes. Read
// through mmap.
//
// Every lie of a header is refused with file and tensor: ranges that overlap, leave holes or pass
// the end, shapes that do not match their bytes, unknown or unsupported types, duplicate names.
// BF16, F16 and F32 are read; the header may hold other known types as long as nobody asks for
// them. A folder is model.safetensors or a sharded model.safetensors.index.json. Format:
// huggingface.co/docs/safetensors.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stoat {

enum class Dtype : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kBf16,
  kF16,
  kF32,
  kF64
};
std::string_view dtype_name(Dtype dtype);
std::uint64_t dtype_bytes(Dtype dtype);

inline constexpr std::uint64_t kSafetensorsHeaderLimit = 100'000'000;

struct TensorInfo {
  Dtype dtype = Dtype::kF32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  // bytes after the header
  std::uint64_t end = 0;

  std::uint64_t elements() const;
  std::string shape_text() const;  // "[4, 8]"
};

// The tensors a header describes, checked against the bytes that follow it. `file` is for messages.
std::map<std::string, TensorInfo> parse_safetensors_header(std::string_view header,
                                                           std::uint64_t data_bytes,
                                                           const std::string& file);

class SafetensorsFile {
 public:
  // Throws Error naming file and tensor.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  // The stored bytes of one of tensors(), in C order. Not aligned.
  std::span<const std::byte> bytes(const TensorInfo& info) const;

 private:
  std::string path_;
  std::map<std::string, TensorInfo> tensors_;
  const std::byte* map_ = nullptr;
  std::uint64_t map_bytes_ = 0;
  const std::byte* data_ = nullptr;
};

// elements [first, first + out.size()) of a tensor of BF16, F16 or F32, exactly. Throws Error for
// other types and, with file, tensor and element, for NaN and infinity.
void read_floats(const SafetensorsFile& file, const std::string& name, const TensorInfo& info,
                 std::uint64_t first, std::span<float> out);

// All tensors of a model folder, whatever the number of files.
class ModelTensors {
 public:
  explicit ModelTensors(const std::string& folder);

  struct Found {
    const SafetensorsFile* file;
    const TensorInfo* info;
  };
  // Throws Error naming the folder's file(s) when there is none of that name or its shape differs.
  Found get(const std::string& name, const std::vector<std::uint64_t>& shape) const;
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  const std::map<std::string, Found>& all() const { return tensors_; }
  const std::string& path() const { return path_; }  // of the file or of the index

 private:
  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Found> tensors_;
};

}  // namespace stoat
