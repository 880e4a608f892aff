// The header's checks and the conversion of elements. Mapping files and model folders:
// safetensors_file.cpp.
#include "models/llm/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "models/error.h"
#include "models/llm/json_read.h"

namespace stoat {
namespace {

using nlohmann::json;

struct DtypeRow {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::array<DtypeRow, 13> kDtypes{{{"BOOL", 1},
                                            {"U8", 1},
                                            {"I8", 1},
                                            {"U16", 2},
                                            {"I16", 2},
                                            {"U32", 4},
                                            {"I32", 4},
                                            {"U64", 8},
                                            {"I64", 8},
                                            {"BF16", 2},
                                            {"F16", 2},
                                            {"F32", 4},
                                            {"F64", 8}}};

Error lie(const std::string& file, const std::string& tensor, const std::string& found,
          const std::string& expected) {
  return damaged_error({file}, "tensor '" + tensor + "': " + found, expected,
                       "fetch or write the file again");
}

Dtype parse_dtype(const json& entry, const std::string& file, const std::string& name) {
  const auto member = entry.find("dtype");
  if (member == entry.end() || !member->is_string()) {
    throw lie(file, name, "'dtype' is missing or not a text", "\"BF16\", \"F16\" or \"F32\"");
  }
  const auto text = member->get<std::string>();
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == text) return static_cast<Dtype>(i);
  }
  throw damaged_error({file}, "tensor '" + name + "': dtype " + text + " is not supported",
                      "BF16, F16 or F32", "convert the weights to BF16");
}

std::vector<std::uint64_t> parse_numbers(const json& entry, const char* key,
                                         const std::string& file, const std::string& name) {
  const auto member = entry.find(key);
  const std::string quoted = std::string("'") + key + "'";
  if (member == entry.end() || !member->is_array()) {
    throw lie(file, name, quoted + " is missing or not a list", "a list of whole numbers");
  }
  std::vector<std::uint64_t> numbers;
  for (const json& value : *member) {
    if (!value.is_number_unsigned()) {
      throw lie(file, name,
                quoted + " holds " +
                    value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 40),
                "whole numbers from 0 to 2^64 - 1");
    }
    numbers.push_back(value.get<std::uint64_t>());
  }
  return numbers;
}

TensorInfo parse_tensor(const json& entry, std::uint64_t data_bytes, const std::string& file,
                        const std::string& name) {
  if (!entry.is_object())
    throw lie(file, name, "its entry is not an object", "dtype, shape and data_offsets");
  for (const auto& [key, value] : entry.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      throw lie(file, name, "unknown key '" + key + "'", "dtype, shape and data_offsets only");
    }
  }
  TensorInfo info;
  info.dtype = parse_dtype(entry, file, name);
  info.shape = parse_numbers(entry, "shape", file, name);
  if (info.shape.size() > 8) throw lie(file, name, "more than 8 dimensions", "at most 8");
  const auto offsets = parse_numbers(entry, "data_offsets", file, name);
  if (offsets.size() != 2) throw lie(file, name, "'data_offsets' is not a pair", "[begin, end]");
  info.begin = offsets[0];
  info.end = offsets[1];
  if (info.begin > info.end) throw lie(file, name, "data ends before it begins", "begin <= end");
  if (info.end > data_bytes) {
    throw lie(file, name, "data ends at byte " + std::to_string(info.end) + " after the header",
              "at most " + std::to_string(data_bytes) + " (the file ends there)");
  }
  std::uint64_t bytes = dtype_bytes(info.dtype);
  const bool empty = std::find(info.shape.begin(), info.shape.end(), 0U) != info.shape.end();
  for (const std::uint64_t extent : info.shape) {
    if (!empty && extent > std::numeric_limits<std::uint64_t>::max() / bytes) {
      throw lie(file, name, "shape " + info.shape_text() + " overflows", "a size below 2^64 bytes");
    }
    bytes = empty ? 0 : bytes * extent;
  }
  if (bytes != info.end - info.begin) {
    throw lie(file, name,
              "shape " + info.shape_text() + " of " + std::string(dtype_name(info.dtype)) + " is " +
                  std::to_string(bytes) + " bytes but data_offsets span " +
                  std::to_string(info.end - info.begin),
              "equal sizes");
  }
  return info;
}

// Every byte after the header belongs to exactly one tensor.
void check_cover(const std::map<std::string, TensorInfo>& tensors, std::uint64_t data_bytes,
                 const std::string& file) {
  std::vector<std::pair<const std::string*, const TensorInfo*>> order;
  for (const auto& [name, info] : tensors) order.emplace_back(&name, &info);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::uint64_t reached = 0;
  for (const auto& [name, info] : order) {
    if (info->begin < reached) {
      throw lie(file, *name, "its data overlaps the tensor before it",
                "begin at byte " + std::to_string(reached));
    }
    if (info->begin > reached) {
      throw lie(file, *name,
                "a hole of " + std::to_string(info->begin - reached) + " bytes before its data",
                "begin at byte " + std::to_string(reached));
    }
    reached = info->end;
  }
  if (reached != data_bytes) {
    throw damaged_error({file},
                        std::to_string(data_bytes - reached) + " bytes after the last tensor",
                        "none: tensors cover the file", "fetch or write the file again");
  }
}

float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16;
  const std::uint32_t exponent = (h >> 10) & 31U, mantissa = h & 1023U;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

}  // namespace

std::string_view dtype_name(Dtype dtype) {
  return kDtypes.at(static_cast<std::size_t>(dtype)).name;
}
std::uint64_t dtype_bytes(Dtype dtype) { return kDtypes.at(static_cast<std::size_t>(dtype)).bytes; }

std::uint64_t TensorInfo::elements() const {
  std::uint64_t n = 1;
  for (const std::uint64_t extent : shape) n *= extent;
  return n;
}

std::string TensorInfo::shape_text() const {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::map<std::string, TensorInfo> parse_safetensors_header(std::string_view header,
                                                           std::uint64_t data_bytes,
                                                           const std::string& file) {
  if (header.empty() || header.front() != '{') {
    throw damaged_error({file}, "the header does not start with '{'",
                        "a JSON object after 8 bytes of length",
                        "check that this is a safetensors file");
  }
  const json root = parse_json(header, file);
  std::map<std::string, TensorInfo> tensors;
  for (const auto& [name, entry] : root.items()) {
    if (name == "__metadata__") {
      bool texts = entry.is_object();
      for (const auto& [key, value] : entry.items()) texts = texts && value.is_string();
      if (!texts)
        throw damaged_error({file}, "__metadata__ is not a map of texts",
                            "text keys and text values");
      continue;
    }
    tensors.emplace(name, parse_tensor(entry, data_bytes, file, name));
  }
  check_cover(tensors, data_bytes, file);
  return tensors;
}

void read_floats(const SafetensorsFile& file, const std::string& name, const TensorInfo& info,
                 std::uint64_t first, std::span<float> out) {
  const std::uint64_t size = dtype_bytes(info.dtype);
  STOAT_ENSURE(first <= info.elements() && out.size() <= info.elements() - first,
               "elements outside a tensor");
  const std::byte* from = file.bytes(info).data() + first * size;
  if (info.dtype == Dtype::kBf16 || info.dtype == Dtype::kF16) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::uint16_t raw = 0;
      std::memcpy(&raw, from + 2 * i, 2);
      out[i] = info.dtype == Dtype::kF16
                   ? half_to_float(raw)
                   : std::bit_cast<float>(static_cast<std::uint32_t>(raw) << 16);
    }
  } else if (info.dtype == Dtype::kF32) {
    std::memcpy(out.data(), from, out.size() * sizeof(float));
  } else {
    throw damaged_error(
        {file.path()},
        "tensor '" + name + "': dtype " + std::string(dtype_name(info.dtype)) + " is not supported",
        "BF16, F16 or F32", "convert the weights to BF16");
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::isfinite(out[i])) continue;
    throw damaged_error({file.path()},
                        "tensor '" + name + "': element " + std::to_string(first + i) + " is " +
                            (std::isnan(out[i]) ? "NaN" : "infinite"),
                        "finite weights", "fetch the weights again");
  }
}

}  // namespace stoat
