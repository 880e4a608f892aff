// Token files: integers in text, or a NumPy .npy array (format 1 to 3, little-endian int32/int64,
// one dimension).
//
// Format of .npy: NEP 1, "A Simple File Format for NumPy Arrays".
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>

#include "gpu/inputs.h"
#include "models/error.h"
#include "models/files.h"

namespace stoat {
namespace {

constexpr std::string_view kNpyMagic("\x93NUMPY", 6);

std::int32_t checked_token(std::int64_t id, std::uint32_t vocab_size, const Place& place,
                           const std::string& where) {
  if (id < 0 || id >= static_cast<std::int64_t>(vocab_size)) {
    throw usage_error(place, "token id " + std::to_string(id) + where,
                      "0 to " + std::to_string(vocab_size - 1) + ", the model's vocabulary");
  }
  return static_cast<std::int32_t>(id);
}

// The text after "'key':" in the header dictionary, up to the next comma outside of parentheses.
std::string_view header_value(std::string_view header, std::string_view key,
                              const std::string& path) {
  const auto at = header.find(key);
  if (at == std::string_view::npos) {
    throw damaged_error({path}, "a .npy header without " + std::string(key),
                        "a file written by numpy.save");
  }
  std::string_view rest = header.substr(at + key.size());
  const auto begin = rest.find_first_not_of(" :");
  rest.remove_prefix(std::min(begin, rest.size()));
  const auto end = rest.find_first_of(rest.starts_with('(') ? ")" : ",}");
  return rest.substr(0, end);
}

struct NpyHeader {
  std::size_t data_offset = 0;
  std::size_t item_bytes = 0;
  std::uint64_t items = 0;
};

NpyHeader parse_npy_header(std::string_view bytes, const std::string& path) {
  const auto truncated = [&] {
    return damaged_error({path}, "a truncated .npy header", "a file written by numpy.save");
  };
  if (bytes.size() < 12) throw truncated();
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i]));
  };
  if (byte(6) < 1 || byte(6) > 3) {
    throw usage_error({path}, ".npy format " + std::to_string(byte(6)), "format 1, 2 or 3",
                      "write it with numpy.save");
  }
  const bool version1 = byte(6) == 1;
  const std::size_t prefix = version1 ? 10 : 12;
  std::size_t header_bytes = byte(8) | (byte(9) << 8);
  if (!version1) header_bytes |= (byte(10) << 16) | (byte(11) << 24);
  if (header_bytes > bytes.size() - std::min(prefix, bytes.size())) throw truncated();
  const std::string_view header = bytes.substr(prefix, header_bytes);

  NpyHeader result;
  result.data_offset = prefix + header_bytes;
  const std::string_view type = header_value(header, "'descr'", path);
  if (type == "'<i4'") result.item_bytes = 4;
  if (type == "'<i8'") result.item_bytes = 8;
  if (result.item_bytes == 0) {
    throw usage_error({path}, "elements of type " + std::string(type),
                      "int32 or int64 ('<i4', '<i8')");
  }
  std::string_view shape = header_value(header, "'shape'", path);
  if (shape.starts_with('(')) shape.remove_prefix(1);
  const auto parsed = std::from_chars(shape.data(), shape.data() + shape.size(), result.items);
  const std::string_view rest(parsed.ptr,
                              static_cast<std::size_t>(shape.data() + shape.size() - parsed.ptr));
  if (parsed.ec != std::errc{} || (rest != "," && !rest.empty())) {
    throw usage_error({path}, "shape (" + std::string(shape) + ")", "one dimension");
  }
  return result;
}

}  // namespace

std::vector<std::int32_t> parse_token_text(std::string_view text, const std::string& path,
                                           std::uint32_t vocab_size) {
  std::vector<std::int32_t> tokens;
  std::uint64_t line = 1;
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  for (std::size_t at = 0; at < text.size();) {
    if (is_space(text[at])) {
      line += text[at] == '\n' ? 1U : 0U;
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && !is_space(text[end])) ++end;
    std::int64_t id = 0;
    const auto result = std::from_chars(text.data() + at, text.data() + end, id);
    if (result.ec != std::errc{} || result.ptr != text.data() + end) {
      const std::string word(text.substr(at, std::min<std::size_t>(end - at, 40)));
      throw usage_error({path, line}, "'" + word + "'", "token ids separated by white space");
    }
    tokens.push_back(checked_token(id, vocab_size, {path, line}, ""));
    at = end;
  }
  return tokens;
}

std::vector<std::int32_t> parse_npy_tokens(std::string_view bytes, const std::string& path,
                                           std::uint32_t vocab_size) {
  const NpyHeader header = parse_npy_header(bytes, path);
  const std::uint64_t available = (bytes.size() - header.data_offset) / header.item_bytes;
  if (header.items > available ||
      bytes.size() - header.data_offset != header.items * header.item_bytes) {
    throw damaged_error({path},
                        std::to_string(bytes.size() - header.data_offset) + " bytes of data",
                        std::to_string(header.items) + " elements of " +
                            std::to_string(header.item_bytes) + " bytes, as its header says",
                        "write the file again");
  }
  std::vector<std::int32_t> tokens(header.items);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const char* at = bytes.data() + header.data_offset + i * header.item_bytes;
    std::int64_t id = 0;
    if (header.item_bytes == 8) {
      std::memcpy(&id, at, 8);
    } else {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, at, 4);
      id = narrow;
    }
    tokens[i] = checked_token(id, vocab_size, {path}, " at index " + std::to_string(i));
  }
  return tokens;
}

std::vector<std::int32_t> read_token_file(const std::string& path, std::uint32_t vocab_size) {
  const std::string content = read_file(path);
  if (std::string_view(content).starts_with(kNpyMagic))
    return parse_npy_tokens(content, path, vocab_size);
  if (path.ends_with(".npy")) {
    throw damaged_error({path}, "no .npy magic number", "a file written by numpy.save",
                        "name a text file of token ids differently");
  }
  return parse_token_text(content, path, vocab_size);
}

}  // namespace stoat
