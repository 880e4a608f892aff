#include "models/hash.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <boost/crc.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "models/error.h"

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

std::uint32_t crc32c(const void* data, std::size_t bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(data, bytes);
  return crc.checksum();
}

}  // namespace stoat
