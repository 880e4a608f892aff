// Content hashes (XXH64, XXH3-128) as hex text, and CRC32C. Non-cryptographic: they name content
// and find damage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace stoat {

std::uint64_t xxh64(const void* data, std::size_t bytes);
std::string xxh64_hex(const void* data, std::size_t bytes);  // 16 hex digits
std::string hash_text(std::string_view text);                // XXH3-128, 32 hex digits
std::string hash_file(
    const std::string& path);  // XXH3-128 of the content; throws Error when unreadable
// CRC-32C (Castagnoli), by the processor's instruction where there is one; by_table does without.
std::uint32_t crc32c(const void* data, std::size_t bytes);
std::uint32_t crc32c_by_table(const unsigned char* data, std::size_t bytes);

}  // namespace stoat
