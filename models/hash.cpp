#include "models/hash.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "models/error.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace stoat {

namespace {

std::string hex(const unsigned char* bytes, std::size_t count) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

std::string hex128(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return hex(canonical.digest, sizeof canonical.digest);
}

}  // namespace

std::uint64_t xxh64(const void* data, std::size_t bytes) { return XXH64(data, bytes, 0); }

std::string xxh64_hex(const void* data, std::size_t bytes) {
  XXH64_canonical_t canonical;
  XXH64_canonicalFromHash(&canonical, XXH64(data, bytes, 0));
  return hex(canonical.digest, sizeof canonical.digest);
}

std::string hash_text(std::string_view text) {
  return hex128(XXH3_128bits(text.data(), text.size()));
}

std::string hash_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    throw usage_error({path}, std::string("cannot be opened: ") + std::strerror(errno),
                      "a readable file");
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(1 << 20);
  ssize_t count = 0;
  while ((count = ::read(fd, buffer.data(), buffer.size())) != 0) {
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) break;
    XXH3_128bits_update(state.get(), buffer.data(), static_cast<std::size_t>(count));
  }
  const int code = errno;
  ::close(fd);
  if (count < 0)
    throw usage_error({path}, std::string("cannot be read: ") + std::strerror(code),
                      "a readable file");
  return hex128(XXH3_128bits_digest(state.get()));
}

namespace {

// Remainders of every byte with 0 to 7 bytes behind it: eight bytes are taken at once.
constexpr auto kCrcTables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ (rest & 1 ? 0x82F63B78U : 0U);
    tables[0][byte] = rest;
  }
  for (std::size_t behind = 1; behind < 8; ++behind) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t rest = tables[behind - 1][byte];
      tables[behind][byte] = rest >> 8 ^ tables[0][rest & 255];
    }
  }
  return tables;
}();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc32c_by_instruction(const unsigned char* at,
                                                                      std::size_t bytes) {
  std::uint64_t rest = 0xFFFFFFFF;
  for (; bytes >= 8; bytes -= 8, at += 8) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, at, 8);
    rest = _mm_crc32_u64(rest, eight);
  }
  auto low = static_cast<std::uint32_t>(rest);
  for (; bytes > 0; --bytes) low = _mm_crc32_u8(low, *at++);
  return ~low;
}
#endif

}  // namespace

std::uint32_t crc32c(const void* data, std::size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(data);
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  if (has_instruction) return crc32c_by_instruction(at, bytes);
#endif
  return crc32c_by_table(at, bytes);
}

std::uint32_t crc32c_by_table(const unsigned char* at, std::size_t bytes) {
  std::uint32_t rest = 0xFFFFFFFF;
  for (; bytes >= 8; bytes -= 8, at += 8) {
    std::uint32_t low = 0, high = 0;
    for (unsigned i = 4; i-- > 0;) {
      low = low << 8 | at[i];
      high = high << 8 | at[i + 4];
    }
    low ^= rest;
    rest = 0;
    for (unsigned i = 0; i < 4; ++i) {
      rest ^= kCrcTables[7 - i][low >> (8 * i) & 255];
      rest ^= kCrcTables[3 - i][high >> (8 * i) & 255];
    }
  }
  for (; bytes > 0; --bytes) rest = rest >> 8 ^ kCrcTables[0][(rest ^ *at++) & 255];
  return ~rest;
}

}  // namespace stoat
